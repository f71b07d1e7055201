import Synchronization
import Wire

/// State that threads share and wait on.
final class Monitor<State: Sendable>: Sendable {
    // The condition is what is waited on. The mutex is never contended, and shows the compiler that the state is safe.
    private let condition = Condition()
    private let state: Mutex<State>

    init(_ state: State) { self.state = Mutex(state) }

    /// Reads or changes the state. Nobody who waits notices before `wake`.
    func change<R: Sendable, E>(_ body: (inout State) throws(E) -> R) throws(E) -> R {
        condition.lock()
        defer { condition.unlock() }
        return try state.withLock { (state) throws(E) in try body(&state) }
    }

    /// All who wait look at the state again.
    func wake() {
        condition.lock()
        condition.broadcast()
        condition.unlock()
    }

    /// Waits until `body` has an answer. `body` is asked first now, then after each `wake`, and at the time that it gives.
    func wait<R: Sendable>(for body: (inout State) -> Answer<R>) -> R {
        condition.lock()
        defer { condition.unlock() }
        while true {
            switch state.withLock({ body(&$0) }) {
            case .done(let result): return result
            case .wait(until: nil): condition.wait()
            case .wait(until: let time?):
                _ = condition.wait(for: max(.zero, time - monotonicNow()))
            }
        }
    }

    enum Answer<R: Sendable>: Sendable {
        case done(R)
        case wait(until: Instant?)
    }
}

private let clockStart = ContinuousClock().now

/// The monotonic clock.
func monotonicNow() -> Instant { Instant(nanoseconds: (ContinuousClock().now - clockStart).nanoseconds) }
