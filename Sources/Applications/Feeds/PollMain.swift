import Cryptography
import FoundationEssentials
import Glibc
import Logging
import Objects
import Operation
import Reactor
import Synchronization
import System
import Transport
import Wire

/// What `flexicast poll` was asked to do.
package struct PollOptions: Sendable {
    /// As of `SourceOptions`.
    package var feeds: [String]
    /// Where items are appended.
    package var log: LogPlace
    package var pollInterval: Duration = .seconds(5)
    /// How long the lease of who polls lasts without being renewed.
    package var lease = LogLease.usualLife
    package var wholeFeed = false
    /// Of a log that is made because there is none.
    package var retention = Retention(objects: 1_000_000, octets: 1 << 30)
    package var stateDirectory: String?
    package var json = false
    package var io: IOBackendChoice = .auto

    package init(feeds: [String], log: LogPlace) {
        self.feeds = feeds
        self.log = log
    }
}

/// Polls feeds and appends what is new to a log, whenever no other does, until SIGTERM or SIGINT.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
package func runPoll(_ options: PollOptions, log: Logger) throws -> Int32 {
    for feed in options.feeds { _ = try FeedLocation(feed) }
    if let obstacle = LogFollower.obstacle { throw EndpointError("--log: \(obstacle)") }
    let reactor = try Reactor(io: .init(options.io))
    defer { reactor.close() }
    let output = EventOutput(style: options.json ? .json : .text)
    let run = PollRun(options, output: output, on: reactor, log: log)
    for signal in [SIGTERM, SIGINT] { try reactor.onSignal(signal) { [unowned reactor] in reactor.stop() } }
    let manager = ServiceManager(on: reactor)
    run.start()
    manager?.ready("\(options.feeds.count) feeds")
    reactor.run()
    manager?.stopping("the lease is given back")
    run.stop()
    output.flush()
    return run.status
}

/// One that polls or stands by.
private final class PollRun {
    private let options: PollOptions
    private let output: EventOutput
    private unowned let reactor: Reactor
    private let log: Logger
    private var appender: LogAppender?
    private var lease: LogLease?
    /// While it polls.
    private var feeds: SourceFeeds?
    private var tellItems: Mailbox<Publication>?
    private var begin: Mailbox<Int>?
    /// Of the times that it has begun or ended to poll.
    private var number = 0
    private(set) var status: Int32 = 0

    init(_ options: PollOptions, output: EventOutput, on reactor: Reactor, log: Logger) {
        (self.options, self.output, self.reactor, self.log) = (options, output, reactor, log)
    }

    func start() {
        tellItems = reactor.mailbox(of: Publication.self) { [unowned self] publication in
            for event in publication.events { output.report(event) }
        }
        begin = reactor.mailbox(of: Int.self) { [unowned self] number in
            // It may have ended meanwhile.
            if number == self.number { feeds?.start() }
        }
        let problems = reactor.mailbox(of: LogProblem?.self) { [unowned self] problem in tell(problem) }
        let events = reactor.mailbox(of: LogLease.Event.self) { [unowned self] event in handle(event) }
        let appender = LogAppender(options.log) { problems.send($0) }
        self.appender = appender
        lease = LogLease(
            options.log, for: appender, retention: options.retention, life: options.lease,
            holder: "\(ProcessInfo.processInfo.hostName) \(ProcessInfo.processInfo.processIdentifier)"
        ) { events.send($0) }
        lease?.start()
    }

    func stop() {
        appender?.stop()
        end()
        lease?.stop()
    }

    private func handle(_ event: LogLease.Event) {
        end()
        switch event {
        case .held:
            log.notice("polling: the lease is ours", metadata: ["log": "\(options.log)"])
            output.report(SourceEvent.followed(state: "polling", reason: ""))
            poll()
        case .waiting:
            log.notice("standing by: another polls", metadata: ["log": "\(options.log)"])
            output.report(SourceEvent.followed(state: "standing_by", reason: ""))
        case .problem(let problem): tell(problem)
        }
    }

    private func tell(_ problem: LogProblem?) {
        if let problem { log.error("nothing is appended to the log", metadata: ["reason": "\(problem)"]) }
        output.report(SourceEvent.followed(state: problem?.kind.rawValue ?? "polling", reason: problem?.reason ?? ""))
    }

    private func poll() {
        guard let appender, let tellItems, let begin else { return }
        var source = SourceOptions(feeds: options.feeds, listen: SocketAddress(.v4(0), port: 0))
        source.stateDirectory = options.stateDirectory
        source.pollInterval = options.pollInterval
        source.wholeFeed = options.wholeFeed
        let feeds = SourceFeeds(source, log: log) { publication in
            for document in publication.documents where !appender.append(document) { return false }
            return tellItems.send(publication)
        }
        do {
            // What an earlier run recorded as sent and may not have appended.
            let recorded = try feeds.add(options.feeds)
            self.feeds = feeds
            number += 1
            let number = number
            startThread("recorded") {
                for document in recorded where !appender.append(document) { return }
                begin.send(number)
            }
        } catch {
            log.error("the feeds cannot be polled", metadata: ["reason": "\(error)"])
            status = 1
            reactor.stop()
        }
    }

    private func end() {
        guard let feeds else { return }
        self.feeds = nil
        number += 1
        feeds.stop()
        feeds.waitUntilStopped()
    }
}

extension LogAppender {
    /// Waits until the log has it; false when it gave up.
    fileprivate func append(_ document: Publication.Document) -> Bool {
        append(
            name: document.name, mediaType: document.mediaType, digest: "\(SHA256Digest(of: document.bytes))",
            body: document.bytes)
    }
}
