import CShims
import Glibc
import Wire

/// The service manager that started this process, as systemd is one, and what it wants to be told (sd_notify(3)): that the
/// process is ready, what it does, that it ends, and now and then that it is alive.
///
/// The sign of life comes from the reactor's loop: a loop that stands still gives none, and the process is started anew.
public final class ServiceManager {
    private let path: String
    private let watchdog: Duration?
    private unowned let reactor: Reactor
    private var timer: TimerHandle?

    /// Nil when nobody wants to be told: `NOTIFY_SOCKET` is not set. `WATCHDOG_USEC` and `WATCHDOG_PID` say how often it
    /// wants a sign of life, and whose.
    public init?(on reactor: Reactor) {
        guard let path = Self.variable("NOTIFY_SOCKET"), path.hasPrefix("/") || path.hasPrefix("@") else { return nil }
        self.path = path
        self.reactor = reactor
        let isMeant = Self.variable("WATCHDOG_PID").map { $0 == String(getpid()) } ?? true
        let limit = Self.variable("WATCHDOG_USEC").flatMap { Int64($0) } ?? 0
        // Twice as often as has to be, as sd_watchdog_enabled(3) asks.
        watchdog = isMeant && limit > 0 ? .microseconds(max(1000, limit / 2)) : nil
        guard let watchdog else { return }
        timer = reactor.timer(at: reactor.now + watchdog) { [unowned self] in
            tell("WATCHDOG=1")
            timer?.schedule(at: self.reactor.now + watchdog)
        }
    }

    /// The process does what it is for. `status`: one line for an operator.
    public func ready(_ status: String) { tell("READY=1\n\(Self.line(status))") }

    /// What the process does now, in one line for an operator.
    public func status(_ status: String) { tell(Self.line(status)) }

    /// Files are read again; `ready` says when that is done.
    public func reloading() {
        tell("RELOADING=1\nMONOTONIC_USEC=\(reactor.now.nanoseconds / 1000)")
    }

    /// The process ends, or begins to.
    public func stopping(_ status: String) { tell("STOPPING=1\n\(Self.line(status))") }

    private static func line(_ status: String) -> String {
        "STATUS=" + String(status.map { $0.isNewline ? " " : $0 })
    }

    private static func variable(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }

    /// A manager that does not listen is no reason to stop working.
    private func tell(_ text: String) { _ = unsafe fc_service_tell(path, text, text.utf8.count) }
}
