import Dispatch
import Feed
import Synchronization

/// What can happen while the demo runs.
enum DemoEvent: Sendable {
    /// Child `index` printed a line.
    case line(Int, String)
    /// Child `index` closed its standard output: no more lines.
    case closed(Int)
    /// Child `index` ended; a negative status is the signal that ended it.
    case exited(Int, status: Int32)
    /// A real feed brought items, oldest first.
    case items([FeedItem])
    /// Something to show.
    case message(String)
    /// Somebody wants the demo to stop.
    case interrupted
}

/// Events from any thread, taken one at a time by the thread that drives the demo.
///
/// That one is the main thread on purpose: children are told to die with the thread that started them.
final class DemoEventQueue: Sendable {
    private let waiting = Mutex<[DemoEvent]>([])
    private let signal = DispatchSemaphore(value: 0)

    func push(_ event: DemoEvent) {
        waiting.withLock { $0.append(event) }
        signal.signal()
    }

    /// The next event, or nil when `deadline` comes first.
    func next(before deadline: DispatchTime) -> DemoEvent? {
        guard signal.wait(timeout: deadline) == .success else { return nil }
        return waiting.withLock { $0.removeFirst() }
    }
}
