import Objects
import Wire

/// Lets one of several programs append at a time: the one that holds a lease in the log's bucket. It holds it for as long as it renews it,
/// by its own clock for less long than others think it does.
package final class LogLease: Sendable {
    package enum Event: Sendable {
        /// It is ours, and the appender knows what the log has.
        case held
        /// It is another's.
        case waiting
        /// Nobody can tell; nil: it goes on.
        case problem(LogProblem)
    }

    private struct Shared: Sendable {
        var isStopped = false
        var hasEnded = false
    }

    private let place: LogPlace
    private let appender: LogAppender
    private let retention: Retention
    private let life: Duration
    private let holder: String
    private let send: @Sendable (Event) -> Void
    private let shared = Monitor(Shared())

    /// How long a lease lasts that is not renewed; those who renew do so five times as often. Above what the log itself takes to get over
    /// the loss of one of its servers.
    package static let usualLife = Duration.seconds(15)
    /// Within this time the same object is not taken twice.
    package static let window = Duration.seconds(3600)
    private static let key = "poller"
    private static let longestPause = Duration.seconds(5)

    /// - Parameters:
    ///   - holder: tells programs apart, for those who look.
    ///   - retention: of a log that is made because there is none.
    package init(
        _ place: LogPlace, for appender: LogAppender, retention: Retention, life: Duration = usualLife, holder: String,
        send: @escaping @Sendable (Event) -> Void
    ) {
        (self.place, self.appender, self.retention, self.life) = (place, appender, retention, life)
        (self.holder, self.send) = (holder, send)
    }

    package func start() {
        startThread("lease") { [self] in
            var pause = Duration.milliseconds(100)
            var told: Told?
            while !isStopped {
                do throws(LogProblem) {
                    try keep(&told, &pause)
                } catch {
                    appender.allow(until: nil)
                    if told != .problem(error.kind) { send(.problem(error)) }
                    told = .problem(error.kind)
                    sleep(pause)
                    pause = min(pause * 2, Self.longestPause)
                }
            }
            appender.allow(until: nil)
            shared.change { $0.hasEnded = true }
            shared.wake()
        }
    }

    /// Gives the lease back and ends.
    package func stop() {
        shared.change { $0.isStopped = true }
        shared.wake()
        shared.wait { $0.hasEnded ? .done(()) : .wait(until: nil) }
    }

    private enum Told: Equatable {
        case held
        case waiting
        case problem(LogProblem.Kind)
    }

    /// It counts as ours for so long, which is less than others think.
    private var ownLife: Duration { life - life / 5 }

    private var isStopped: Bool { shared.change { $0.isStopped } }

    private func sleep(_ pause: Duration) {
        let end = monotonicNow() + pause
        shared.wait { $0.isStopped || monotonicNow() >= end ? .done(()) : .wait(until: end) }
    }

    /// Takes the lease and renews it, until it is stopped or lost.
    private func keep(_ told: inout Told?, _ pause: inout Duration) throws(LogProblem) {
        var connection = try NATSConnection(place)
        try connection.makeStream(retention, window: Self.window)
        var revision: UInt64 = 0
        var renewed = monotonicNow()
        while !isStopped {
            renewed = monotonicNow()
            do throws(LogProblem) {
                try connection.lease(Self.key, by: holder, for: life, revision: &revision)
                break
            } catch {
                guard error.kind == .taken else { throw error }
                if told != .waiting { send(.waiting) }
                told = .waiting
                pause = .milliseconds(100)
                sleep(life / 10)
            }
        }
        defer { connection.endLease(Self.key, revision: &revision) }
        guard !isStopped else { return }
        try appender.learn(from: connection)
        appender.allow(until: renewed + ownLife)
        send(.held)
        told = .held
        pause = .milliseconds(100)
        while !isStopped {
            sleep(life / 5)
            guard !isStopped else { break }
            let asked = monotonicNow()
            do throws(LogProblem) {
                try connection.lease(Self.key, by: holder, for: life, revision: &revision)
                renewed = asked
                appender.allow(until: renewed + ownLife)
            } catch {
                // Another has it, or it has ended: whether it can be had again is seen anew.
                guard error.kind != .taken, monotonicNow() < renewed + ownLife else {
                    revision = 0
                    throw error
                }
                if let other = try? NATSConnection(place) { connection = other }
            }
        }
    }
}
