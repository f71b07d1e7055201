import Objects
import Synchronization
import Wire

/// Reads a distributed log from a thread of its own, from what retention keeps on, and goes on with it for as long as it runs. What stops
/// it is told once, and tried again with longer and longer pauses.
package final class LogFollower: Sendable {
    /// What it has to say, in order. All numbers of `entries` are in a row.
    package enum Event: Sendable {
        /// First of all: in which epoch it reads, and from which number on.
        case began(Epoch, first: UInt64)
        /// `octets`: to be given back with `took`.
        case entries([FollowedEntry], octets: Int)
        /// All that was in the log when it began has been told.
        case caughtUp
        /// It follows the log; nil before: it has a problem.
        case state(LogProblem?)
        /// A message was no object.
        case refused(String)
        /// The log has another beginning than it had: its numbers mean something else, and no more is told.
        case replaced
    }

    private struct Shared: Sendable {
        var isStopped = false
        var hasEnded = false
        /// Octets that were told and not given back.
        var untaken = 0
    }

    private let place: LogPlace
    private let retention: Retention
    private let send: @Sendable (Event) -> Bool
    private let shared = Monitor(Shared())

    /// Octets that are told before what was told is taken.
    static let mostUntaken = 16 << 20
    /// Octets that are told at a time.
    static let batchOctets = 1 << 20
    /// After so long without a message it is asked whether there is none.
    private static let quiet = Duration.seconds(1)
    /// The least and the longest pause after a problem.
    private static let pauses = (first: Duration.milliseconds(100), longest: Duration.seconds(5))

    /// - Parameters:
    ///   - retention: how much of what is there already is read.
    ///   - send: gets every event, on a thread of its own; false when nothing more can be taken.
    package init(_ place: LogPlace, retention: Retention, send: @escaping @Sendable (Event) -> Bool) {
        self.place = place
        self.retention = retention
        self.send = send
    }

    /// Why no log can be used on this machine; nil when one can.
    package static var obstacle: String? { NATSConnection.obstacle }

    package func start() {
        startThread("log reader") { [self] in
            var reading = Reading()
            var pause = Self.pauses.first
            while !isStopped {
                do throws(LogProblem) {
                    try follow(&reading)
                    break
                } catch {
                    if reading.state != .problem(error.kind) { tell(.state(error)) }
                    pause = reading.state == .following ? Self.pauses.first : min(pause * 2, Self.pauses.longest)
                    reading.state = .problem(error.kind)
                    sleep(pause)
                }
            }
            shared.change { $0.hasEnded = true }
            shared.wake()
        }
    }

    /// So many octets of what was told have been taken.
    package func took(_ octets: Int) {
        shared.change { $0.untaken -= octets }
        shared.wake()
    }

    package func stop() {
        shared.change { $0.isStopped = true }
        shared.wake()
    }

    /// After `stop`.
    package func waitUntilStopped() { shared.wait { $0.hasEnded ? .done(()) : .wait(until: nil) } }

    private var isStopped: Bool { shared.change { $0.isStopped } }

    private func sleep(_ pause: Duration) {
        let end = monotonicNow() + pause
        shared.wait { $0.isStopped || monotonicNow() >= end ? .done(()) : .wait(until: end) }
    }

    private func tell(_ event: Event) {
        if !send(event) { stop() }
    }

    // MARK: Reading

    private enum State: Equatable {
        case begins
        case following
        case problem(LogProblem.Kind)
    }

    private struct Reading {
        var state = State.begins
        var epoch: Epoch?
        var messages = MessageReader(from: 1)
        /// The newest message as it began; nil once it has been told.
        var target: UInt64?
    }

    /// Until it is stopped, or the log is another.
    private func follow(_ reading: inout Reading) throws(LogProblem) {
        let connection = try NATSConnection(place)
        while !isStopped {
            let stream = try connection.stream()
            let epoch = Self.epoch(of: place.stream, created: stream.created)
            if reading.epoch == nil {
                reading.epoch = epoch
                let first = Self.start(in: stream, retention)
                reading.messages = MessageReader(from: first)
                reading.target = stream.last
                tell(.began(epoch, first: first))
            }
            guard reading.epoch == epoch else {
                tell(.replaced)
                return
            }
            guard stream.last + 1 >= reading.messages.next else {
                throw LogProblem(
                    .setBack,
                    "the log ends at \(stream.last), and had \(reading.messages.next - 1): its newest messages are lost, or it is restored from a copy"
                )
            }
            if let loss = reading.messages.skip(to: stream.first) { tell(.entries([loss], octets: 0)) }
            if reading.state != .following { tell(.state(nil)) }
            reading.state = .following
            noteTarget(&reading)
            let messages = try connection.read(from: reading.messages.next)
            try read(messages, &reading, connection)
        }
    }

    /// Until something is there that does not come.
    private func read(
        _ messages: NATSMessages, _ reading: inout Reading, _ connection: NATSConnection
    ) throws(LogProblem) {
        var lastHeard = monotonicNow()
        while !isStopped {
            guard let first = try messages.next(within: 250) else {
                guard monotonicNow() - lastHeard >= Self.quiet else { continue }
                lastHeard = monotonicNow()
                let stream = try connection.stream()
                guard stream.last + 1 == reading.messages.next, stream.first <= reading.messages.next,
                    Self.epoch(of: place.stream, created: stream.created) == reading.epoch
                else { return }
                continue
            }
            lastHeard = monotonicNow()
            var entries: [FollowedEntry] = []
            var octets = 0
            take(first.0, &reading, &entries, &octets)
            while octets < Self.batchOctets, entries.count < 256, let more = try messages.next(within: 0) {
                take(more.0, &reading, &entries, &octets)
            }
            let told = octets
            shared.change { $0.untaken += told }
            tell(.entries(entries, octets: octets))
            noteTarget(&reading)
            shared.wait { $0.isStopped || $0.untaken < Self.mostUntaken ? .done(()) : .wait(until: nil) }
        }
    }

    private func take(
        _ message: LoggedMessage, _ reading: inout Reading, _ entries: inout [FollowedEntry], _ octets: inout Int
    ) {
        octets += message.body.count
        let refused = reading.messages.refused
        entries += reading.messages.read(message)
        // Where it began to read inside of an object nothing is wrong.
        if reading.messages.refused != refused, reading.target == nil, let reason = reading.messages.lastRefusal {
            tell(.refused(reason))
        }
    }

    private func noteTarget(_ reading: inout Reading) {
        guard let target = reading.target, reading.messages.next > target else { return }
        reading.target = nil
        tell(.caughtUp)
    }

    // MARK: What a stream is

    /// A stream that is made anew under its name numbers from 1 on again: it is another log.
    static func epoch(of name: String, created: Int64) -> Epoch {
        // FNV-1a: it tells names apart, and nobody who can choose one gains by a collision.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for octet in name.utf8 { hash = (hash ^ UInt64(octet)) &* 0x100_0000_01b3 }
        return Epoch(high: hash, low: UInt64(bitPattern: created))
    }

    /// From where about so much is kept as retention asks for.
    static func start(in stream: NATSConnection.Stream, _ retention: Retention) -> UInt64 {
        var count = stream.messages
        if let objects = retention.objects { count = min(count, UInt64(objects)) }
        if let octets = retention.octets, stream.messages > 0 {
            // An object that begins before is left out: twice as much is enough, and what is too much is forgotten.
            let size = max(1, stream.octets / stream.messages)
            count = min(count, UInt64(octets) / size * 2 + 1)
        }
        return max(stream.first, stream.last + 1 - min(count, stream.last + 1))
    }
}
