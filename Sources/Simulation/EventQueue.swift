import Wire

/// What happens when, on a virtual clock: a heap by time, and by order of arrival among equals, so that a run with the
/// same seed is the same run.
public struct EventQueue<Event> {
    fileprivate struct Entry {
        var at: Instant
        var order: UInt64
        var event: Event

        func precedes(_ other: Entry) -> Bool { at == other.at ? order < other.order : at < other.at }
    }

    private var heap: [Entry] = []
    private var order: UInt64 = 0

    /// A queue without events.
    public init() {}

    /// When the next event is due; `distantFuture` when there is none.
    public var next: Instant { heap.first?.at ?? .distantFuture }

    /// Has it happen at that time, after all that was scheduled for the same time before.
    public mutating func schedule(_ event: Event, at time: Instant) {
        heap.append(Entry(at: time, order: order, event: event))
        order += 1
        var child = heap.count - 1
        while child > 0, heap[child].precedes(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// Takes the next event that is due at `now`.
    public mutating func take(at now: Instant) -> Event? {
        guard let first = heap.first, first.at <= now else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var node = 0
        while true {
            var least = node
            for child in [2 * node + 1, 2 * node + 2] where child < heap.count && heap[child].precedes(heap[least]) {
                least = child
            }
            if least == node { return first.event }
            heap.swapAt(node, least)
            node = least
        }
    }
}

extension EventQueue: Sendable where Event: Sendable {}
extension EventQueue.Entry: Sendable where Event: Sendable {}
