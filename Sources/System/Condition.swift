import CShims
import Wire

/// A lock, and what is waited on with it. Locked and unlocked by the same thread.
@safe package final class Condition: @unchecked Sendable {
    private let handle: OpaquePointer

    package init() {
        guard let made = unsafe fc_condition_make() else { fatalError("no memory for a lock") }
        unsafe handle = made
    }

    deinit { unsafe fc_condition_free(handle) }

    package func lock() { unsafe fc_condition_lock(handle) }
    package func unlock() { unsafe fc_condition_unlock(handle) }

    /// All who wait look again.
    package func broadcast() { unsafe fc_condition_broadcast(handle) }

    /// Lets go of the lock until a broadcast; may also end without one.
    package func wait() { unsafe fc_condition_wait(handle) }

    /// The same, for at most `pause`.
    /// - Returns: false when that time has passed.
    package func wait(for pause: Duration) -> Bool {
        // A year is as good as for ever, and can be counted in nanoseconds.
        let bounded = min(pause, .seconds(365 * 86_400))
        return unsafe fc_condition_wait_for(handle, bounded.nanoseconds)
    }
}

/// Runs `body` on a thread of its own, which ends with it.
/// - Parameter name: how `top -H` and debuggers show it; at most 15 octets.
package func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let box = unsafe Unmanaged.passRetained(ThreadBody(body))
    let result = unsafe fc_thread_start(
        name,
        { argument in
            guard let argument = unsafe argument else { return }
            unsafe Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
        }, box.toOpaque())
    // Where the system has no thread left nothing of ours can go on.
    guard result == 0 else { fatalError("the thread '\(name)' cannot be started: \(systemText(result))") }
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
