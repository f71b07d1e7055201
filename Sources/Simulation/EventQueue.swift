import Wire

/// What happens when, on a virtual clock: a heap by time, and by order of arrival among equals, so that a run with the
/// same seed is the same run.
public struct EventQueue<Event> {
    /// The heap moves these, not the events.
    private struct Entry: Sendable {
        var at: Instant
        var order: UInt64
        var place: Int

        func precedes(_ other: Entry) -> Bool { at == other.at ? order < other.order : at < other.at }
    }

    private var heap: [Entry] = []
    private var events: [Event?] = []
    private var free: [Int] = []
    private var order: UInt64 = 0

    /// A queue without events.
    public init() {}

    /// When the next event is due; `distantFuture` when there is none.
    public var next: Instant { heap.first?.at ?? .distantFuture }

    /// Has it happen at that time, after all that was scheduled for the same time before.
    public mutating func schedule(_ event: consuming Event, at time: Instant) {
        let place: Int
        if let last = free.popLast() {
            place = last
            events[place] = event
        } else {
            place = events.count
            events.append(event)
        }
        let entry = Entry(at: time, order: order, place: place)
        order += 1
        var child = heap.count
        heap.append(entry)
        while child > 0, case let parent = (child - 1) / 2, entry.precedes(heap[parent]) {
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = entry
    }

    /// Takes the next event that is due at `now`.
    public mutating func take(at now: Instant) -> Event? {
        guard let first = heap.first, first.at <= now, let last = heap.popLast() else { return nil }
        if !heap.isEmpty { sink(last) }
        free.append(first.place)
        return events[first.place].take()
    }

    /// Puts an entry in the place of the first.
    private mutating func sink(_ entry: Entry) {
        var node = 0
        while true {
            var child = 2 * node + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].precedes(heap[child]) { child += 1 }
            guard heap[child].precedes(entry) else { break }
            heap[node] = heap[child]
            node = child
        }
        heap[node] = entry
    }
}

extension EventQueue: Sendable where Event: Sendable {}
