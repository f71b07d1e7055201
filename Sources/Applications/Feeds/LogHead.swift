import Logging
import Objects
import Operation
import Reactor
import System
import Transport
import Wire

/// A source's end of a distributed log: what comes of it goes to receivers under the log's own numbers.
///
///     stream ──> LogFollower (a thread) ──mailbox──> LogHead ──> Broadcaster
final class LogHead {
    private let follower: LogFollower
    private let place: LogPlace
    private let retention: Retention
    private let output: EventOutput
    private unowned let reactor: Reactor
    private let log: Logger
    /// Until all that was there has come.
    private var loading: ObjectLog?
    private var broadcaster: Broadcaster?
    private var isStopped = false
    /// Parts of the object that has begun, and their octets.
    private var octets = 0
    /// The exit status.
    private(set) var status: Int32 = 0
    private(set) var counters = Counters()

    struct Counters: Sendable {
        /// What is wrong with the log now; nil when it is followed.
        var problem: String?
        /// Messages that were no object.
        var refused: UInt64 = 0
        /// Numbers of messages that the log has no more, and that were not read before.
        var lost: UInt64 = 0
    }

    /// Begins to read.
    /// - Throws: when NATS cannot be used on this machine.
    init(
        _ place: LogPlace, _ retention: Retention, output: EventOutput, on reactor: Reactor, log: Logger
    ) throws {
        if let obstacle = LogFollower.obstacle { throw EndpointError("--log: \(obstacle)") }
        (self.place, self.retention, self.output, self.reactor, self.log) = (place, retention, output, reactor, log)
        let target = Target()
        let mailbox = reactor.mailbox(of: LogFollower.Event.self) { event in target.head?.handle(event) }
        follower = LogFollower(place, retention: retention) { mailbox.send($0) }
        target.head = self
        follower.start()
    }

    /// The mailbox is made before its owner.
    private final class Target { weak var head: LogHead? }

    /// Waits until the log has been read. Whether it was: false when the program is to end.
    func load() -> Bool {
        reactor.run()
        return isLoaded
    }

    private var isLoaded = false

    /// What was read.
    func takeLog() -> ObjectLog? {
        // Held twice, it would be copied when it changes.
        defer { loading = nil }
        return loading
    }

    /// What comes from now on goes to its receivers.
    func publish(by broadcaster: Broadcaster) { self.broadcaster = broadcaster }

    func stop() {
        guard !isStopped else { return }
        isStopped = true
        follower.stop()
    }

    private func handle(_ event: LogFollower.Event) {
        switch event {
        case .began(let epoch, let first):
            log.info("the log is read", metadata: ["log": "\(place)", "epoch": "\(epoch)", "from": "\(first)"])
            do { loading = try ObjectLog(following: epoch, from: first, retention: retention) } catch { fail(error) }
        case .entries(let entries, let octets):
            for entry in entries { take(entry) }
            follower.took(octets)
        case .caughtUp:
            guard broadcaster == nil else { return }
            isLoaded = true
            reactor.stop()
        case .state(nil):
            counters.problem = nil
            log.notice("the log is followed", metadata: ["log": "\(place)"])
            output.report(SourceEvent.followed(state: "following", reason: ""))
        case .state(let problem?):
            counters.problem = problem.kind.rawValue
            log.error("the log is not followed: it is tried again", metadata: ["reason": "\(problem)"])
            output.report(SourceEvent.followed(state: problem.kind.rawValue, reason: problem.reason))
        case .refused(let reason):
            counters.refused += 1
            log.warning("a message of the log is left out", metadata: ["reason": "\(reason)"])
        case .replaced:
            output.report(SourceEvent.followed(state: "replaced", reason: ""))
            log.error("the log was deleted and made anew: this source ends, and is to be started again")
            status = 1
            reactor.stop()
        }
    }

    func add(to text: inout MetricsText) {
        text.add(
            "flexicast_source_log_followed", .gauge, "Whether the distributed log is followed now, 1 or 0.",
            counters.problem == nil ? 1 : 0)
        text.add(
            "flexicast_source_log_refused_messages_total", .counter, "Messages of the log that were no object.",
            counters.refused)
        text.add(
            "flexicast_source_log_lost_messages_total", .counter, "Messages that the log lost before they were read.",
            counters.lost)
    }

    private func take(_ entry: FollowedEntry) {
        do throws(LogError) {
            if let broadcaster {
                try broadcaster.follow(entry)
            } else {
                _ = try loading?.follow(entry)
            }
        } catch {
            fail(error)
            return
        }
        switch entry {
        case .lost(let range):
            counters.lost += UInt64(range.count)
            log.warning(
                "the log has lost messages: receivers are told of a gap",
                metadata: ["first": "\(range.lowerBound)", "count": "\(range.count)"])
        case .void: octets = 0
        case .part(let part):
            octets = part.header.index == 0 ? part.body.count : octets + part.body.count
            guard broadcaster != nil, part.header.count == part.header.index + 1 else { return }
            output.report(
                SourceEvent.object(
                    sequence: part.header.object, name: part.header.name, bytes: octets, parts: part.header.index + 1))
        }
    }

    private func fail(_ error: LogError) {
        log.error("the log cannot be followed", metadata: ["reason": "\(error)"])
        status = 1
        reactor.stop()
    }
}
