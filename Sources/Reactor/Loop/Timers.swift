import Wire

/// One deadline of one owner. Made by `Reactor.timer`; moved as often as needed without allocation; given up when
/// the last reference goes. Timers due at the same instant fire in the order in which they were scheduled.
public final class TimerHandle {
    private weak var reactor: Reactor?
    let slot: Int

    init(reactor: Reactor, slot: Int) {
        self.reactor = reactor
        self.slot = slot
    }

    /// When the timer will fire; `distantFuture` when it is not scheduled.
    public var deadline: Instant { reactor?.timers.deadline(of: slot) ?? .distantFuture }

    /// Moves the timer to `deadline`, in either direction, from its own handler too. A deadline that has passed fires
    /// in the next turn; `distantFuture` cancels.
    public func schedule(at deadline: Instant) { reactor?.timers.schedule(slot, at: deadline) }

    /// Takes the timer out until it is scheduled again.
    public func cancel() { reactor?.timers.cancel(slot) }

    deinit {
        // The handler is let go after the table's change: it may hold other timers.
        let handler = reactor?.timers.remove(slot)
        withExtendedLifetime(handler) {}
    }
}

/// A binary heap of deadlines over a table of slots: plain integers move, handlers stay where they are.
struct Timers {
    private struct Entry {
        var deadline: Int64
        var sequence: UInt64
        var slot: Int

        func isBefore(_ other: Entry) -> Bool {
            deadline != other.deadline ? deadline < other.deadline : sequence < other.sequence
        }
    }

    private var heap: [Entry] = []
    /// Where in the heap a slot's entry lies; -1 when it is not scheduled.
    private var positions: [Int] = []
    private var handlers: [(() -> Void)?] = []
    private var free: [Int] = []
    /// The sequence number of the next entry.
    private(set) var nextSequence: UInt64 = 0

    mutating func add(_ handler: @escaping () -> Void) -> Int {
        if let slot = free.popLast() {
            handlers[slot] = handler
            return slot
        }
        handlers.append(handler)
        positions.append(-1)
        return handlers.count - 1
    }

    /// Frees a slot and returns its handler.
    mutating func remove(_ slot: Int) -> (() -> Void)? {
        guard slot < handlers.count else { return nil }
        cancel(slot)
        defer { handlers[slot] = nil }
        free.append(slot)
        return handlers[slot]
    }

    /// When the next timer is due, in nanoseconds; nil when none is scheduled.
    var next: Instant? { heap.first.map { Instant(nanoseconds: $0.deadline) } }

    func deadline(of slot: Int) -> Instant {
        guard slot < positions.count, positions[slot] >= 0 else { return .distantFuture }
        return Instant(nanoseconds: heap[positions[slot]].deadline)
    }

    mutating func schedule(_ slot: Int, at deadline: Instant) {
        guard slot < positions.count else { return }
        guard deadline < .distantFuture else { return cancel(slot) }
        let entry = Entry(deadline: deadline.nanoseconds, sequence: nextSequence, slot: slot)
        nextSequence += 1
        let position = positions[slot]
        if position < 0 {
            heap.append(entry)
            positions[slot] = heap.count - 1
            siftUp(heap.count - 1)
        } else {
            let earlier = entry.isBefore(heap[position])
            heap[position] = entry
            if earlier { siftUp(position) } else { siftDown(position) }
        }
    }

    mutating func cancel(_ slot: Int) {
        guard slot < positions.count else { return }
        let position = positions[slot]
        guard position >= 0 else { return }
        positions[slot] = -1
        let last = heap.removeLast()
        guard position < heap.count else { return }
        heap[position] = last
        positions[last.slot] = position
        siftUp(position)
        siftDown(positions[last.slot])
    }

    /// Takes out the next timer that is due at `now` and was scheduled before number `limit`, so that one which
    /// schedules itself for the past does not keep the turn from ending.
    mutating func popDue(at now: Instant, before limit: UInt64) -> (() -> Void)? {
        guard let first = heap.first, first.deadline <= now.nanoseconds, first.sequence < limit else { return nil }
        cancel(first.slot)
        return handlers[first.slot]
    }

    private mutating func siftUp(_ start: Int) {
        var position = start
        let entry = heap[position]
        while position > 0 {
            let parent = (position - 1) / 2
            guard entry.isBefore(heap[parent]) else { break }
            heap[position] = heap[parent]
            positions[heap[position].slot] = position
            position = parent
        }
        heap[position] = entry
        positions[entry.slot] = position
    }

    private mutating func siftDown(_ start: Int) {
        var position = start
        let entry = heap[position]
        while true {
            var child = 2 * position + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].isBefore(heap[child]) { child += 1 }
            guard heap[child].isBefore(entry) else { break }
            heap[position] = heap[child]
            positions[heap[position].slot] = position
            position = child
        }
        heap[position] = entry
        positions[entry.slot] = position
    }
}
