import Wire

/// Settled sequence numbers: all below `position`, and sorted, disjoint ranges above it that touch neither it nor each
/// other. How many ranges there may be is the owner's to see to.
struct SequenceSet: Sendable {
    /// The lowest number that is not settled.
    private(set) var position: UInt64
    // The ranges before `head` are done with. They are cut off when they are many, so that the position moves on over a
    // range in constant time, not in one that grows with the ranges behind it.
    private var storage: [Range<UInt64>] = []
    private var head = 0

    init(position: UInt64 = 0) { self.position = position }

    /// How many ranges there are above the position.
    var rangeCount: Int { storage.count - head }

    /// The `index`-th range above the position, ascending.
    subscript(index: Int) -> Range<UInt64> { storage[head + index] }

    /// One past the highest settled number.
    var end: UInt64 { rangeCount == 0 ? position : storage[storage.count - 1].upperBound }

    /// The ranges above the position, ascending.
    var ranges: ArraySlice<Range<UInt64>> { storage[head...] }

    func contains(_ number: UInt64) -> Bool { number < position || containsAbove(number..<(number + 1)) }

    /// Whether every number of `range` is settled.
    func contains(_ range: Range<UInt64>) -> Bool {
        range.upperBound <= position || containsAbove(max(range.lowerBound, position)..<range.upperBound)
    }

    private func containsAbove(_ range: Range<UInt64>) -> Bool {
        let index = firstIndex(endingAfter: range.lowerBound)
        return index < storage.count && storage[index].lowerBound <= range.lowerBound
            && storage[index].upperBound >= range.upperBound
    }

    /// Whether any number of `range` is settled.
    func intersects(_ range: Range<UInt64>) -> Bool {
        if range.isEmpty { return false }
        if range.lowerBound < position { return true }
        let index = firstIndex(endingAfter: range.lowerBound)
        return index < storage.count && storage[index].lowerBound < range.upperBound
    }

    /// The lowest number from `number` on that is not settled.
    func firstMissing(from number: UInt64) -> UInt64 {
        if number < position { return position }
        let index = firstIndex(endingAfter: number)
        return index < storage.count && storage[index].lowerBound <= number ? storage[index].upperBound : number
    }

    /// The first numbers of `range` without a break that are not settled; nil when all are.
    func firstMissing(in range: Range<UInt64>) -> Range<UInt64>? {
        let first = firstMissing(from: range.lowerBound)
        guard first < range.upperBound else { return nil }
        let index = firstIndex(endingAfter: first)
        let end = index < storage.count ? min(storage[index].lowerBound, range.upperBound) : range.upperBound
        return first..<end
    }

    /// How many numbers below `end` are not settled.
    func missingCount(below end: UInt64) -> UInt64 {
        guard end > position else { return 0 }
        var total = end - position
        for range in ranges {
            guard range.lowerBound < end else { break }
            total -= min(range.upperBound, end) - range.lowerBound
        }
        return total
    }

    /// Settles the numbers of `range`: constant time at the upper end and at the position, else a binary search and a shift.
    mutating func insert(_ range: Range<UInt64>) {
        guard range.upperBound > position, !range.isEmpty else { return }
        if range.lowerBound <= position {
            moveOn(to: range.upperBound)
            return
        }
        guard rangeCount > 0, range.lowerBound <= end else {
            storage.append(range)
            return
        }
        // Ranges that only touch merge as well.
        let low = firstIndex(endingAfter: range.lowerBound - 1)
        var high = low
        if low == storage.count - 1 {
            high = storage[low].lowerBound <= range.upperBound ? storage.count : low
        } else {
            high = firstIndex(startingAfter: range.upperBound)
        }
        if low == high {
            storage.insert(range, at: low)
            return
        }
        storage[low] =
            min(storage[low].lowerBound, range.lowerBound)..<max(storage[high - 1].upperBound, range.upperBound)
        storage.removeSubrange((low + 1)..<high)
    }

    /// Forgets that the numbers of the `index`-th range are settled.
    mutating func removeRange(at index: Int) { storage.remove(at: head + index) }

    private mutating func moveOn(to number: UInt64) {
        position = number
        if storage.isEmpty { return }
        while head < storage.count, storage[head].lowerBound <= position {
            position = max(position, storage[head].upperBound)
            head += 1
        }
        if head == storage.count {
            storage.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 32, head >= storage.count / 2 {
            storage.removeFirst(head)
            head = 0
        }
    }

    private func firstIndex(endingAfter number: UInt64) -> Int {
        return (head..<storage.count).partitionPoint { storage[$0].upperBound <= number }
    }

    private func firstIndex(startingAfter number: UInt64) -> Int {
        return (head..<storage.count).partitionPoint { storage[$0].lowerBound <= number }
    }

    /// What does not hold of it, in words; nil when all does.
    func checkInvariants() -> String? {
        var end = position
        for range in ranges {
            if range.isEmpty { return "the range at \(range.lowerBound) is empty" }
            if range.lowerBound <= end { return "the range at \(range.lowerBound) touches what ends at \(end)" }
            end = range.upperBound
        }
        return nil
    }
}

extension SequenceSet: Equatable {
    static func == (a: SequenceSet, b: SequenceSet) -> Bool {
        a.position == b.position && a.ranges.elementsEqual(b.ranges)
    }
}
