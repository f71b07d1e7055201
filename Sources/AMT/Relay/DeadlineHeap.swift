import Wire

/// Which of many numbered things is due first. An entry may be stale: its owner has moved on, and says so when it is
/// popped. Refreshing a deadline to a later time therefore costs nothing.
struct DeadlineHeap: Sendable {
    struct Entry: Hashable, Sendable {
        var deadline: Instant
        var slot: Int
    }

    private var entries: [Entry] = []

    var count: Int { entries.count }
    var next: Instant { entries.first?.deadline ?? .distantFuture }

    mutating func push(_ deadline: Instant, _ slot: Int) {
        entries.append(Entry(deadline: deadline, slot: slot))
        var child = entries.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard entries[child].deadline < entries[parent].deadline else { return }
            entries.swapAt(child, parent)
            child = parent
        }
    }

    mutating func popDue(at now: Instant) -> Entry? {
        guard let first = entries.first, first.deadline <= now else { return nil }
        let last = entries.removeLast()
        if entries.isEmpty { return first }
        entries[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < entries.count else { return first }
            if child + 1 < entries.count, entries[child + 1].deadline < entries[child].deadline { child += 1 }
            guard entries[child].deadline < entries[parent].deadline else { return first }
            entries.swapAt(child, parent)
            parent = child
        }
    }
}
