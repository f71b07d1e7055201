import Wire

/// A set of 64-bit numbers kept as sorted, disjoint closed ranges that never touch: packet numbers that arrived, octets
/// of a stream that were acknowledged.
public struct RangeSet: Sendable, Equatable {
    private var ranges: [ClosedRange<UInt64>] = []

    /// The empty set.
    public init() {}

    /// Whether no number is in the set.
    public var isEmpty: Bool { ranges.isEmpty }
    /// How many ranges, not how many numbers.
    public var count: Int { ranges.count }
    /// The lowest range; nil when the set is empty.
    public var first: ClosedRange<UInt64>? { ranges.first }
    /// The highest range; nil when the set is empty.
    public var last: ClosedRange<UInt64>? { ranges.last }

    /// The `index`-th range, ascending.
    public subscript(index: Int) -> ClosedRange<UInt64> { ranges[index] }

    /// Whether the number is in the set.
    public func contains(_ value: UInt64) -> Bool {
        guard let last = ranges.last, value <= last.upperBound else { return false }
        let index = firstIndex(endingAtOrAfter: value)
        return index < ranges.count && ranges[index].lowerBound <= value
    }

    /// Whether every number of `range` is in the set.
    public func contains(_ range: ClosedRange<UInt64>) -> Bool {
        let index = firstIndex(endingAtOrAfter: range.lowerBound)
        return index < ranges.count && ranges[index].lowerBound <= range.lowerBound
            && ranges[index].upperBound >= range.upperBound
    }

    /// Whether any number of `range` is in the set.
    public func intersects(_ range: ClosedRange<UInt64>) -> Bool {
        guard let last = ranges.last, range.lowerBound <= last.upperBound else { return false }
        let index = firstIndex(endingAtOrAfter: range.lowerBound)
        return ranges[index].lowerBound <= range.upperBound
    }

    /// False when `value` was there already.
    @discardableResult
    public mutating func insert(_ value: UInt64) -> Bool {
        if contains(value) { return false }
        insert(value...value)
        return true
    }

    /// Constant time at the upper end, otherwise a binary search and a shift.
    public mutating func insert(_ range: ClosedRange<UInt64>) {
        guard let last = ranges.last, range.lowerBound <= last.upperBound else {
            if let last = ranges.last, last.upperBound + 1 == range.lowerBound {
                ranges[ranges.count - 1] = last.lowerBound...range.upperBound
            } else {
                ranges.append(range)
            }
            return
        }
        // Ranges that only touch merge as well, hence the search one number to either side.
        let low = firstIndex(endingAtOrAfter: range.lowerBound == 0 ? 0 : range.lowerBound - 1)
        let high = range.upperBound == .max ? ranges.count : firstIndex(startingAfter: range.upperBound + 1)
        guard low < high else {
            ranges.insert(range, at: low)
            return
        }
        let lower = min(ranges[low].lowerBound, range.lowerBound)
        let upper = max(ranges[high - 1].upperBound, range.upperBound)
        ranges[low] = lower...upper
        if high - low > 1 { ranges.removeSubrange((low + 1)..<high) }
    }

    /// Takes every number of `range` out, whichever of them are in the set.
    public mutating func remove(_ range: ClosedRange<UInt64>) {
        let low = firstIndex(endingAtOrAfter: range.lowerBound)
        let high = firstIndex(startingAfter: range.upperBound)
        guard low < high else { return }
        let first = ranges[low]
        let last = ranges[high - 1]
        let keepsLower = first.lowerBound < range.lowerBound
        let keepsUpper = last.upperBound > range.upperBound
        let left = keepsLower ? first.lowerBound...(range.lowerBound - 1) : first
        let right = keepsUpper ? (range.upperBound + 1)...last.upperBound : last
        if keepsLower && keepsUpper && high - low == 1 {
            ranges[low] = left
            ranges.insert(right, at: low + 1)
            return
        }
        if keepsLower { ranges[low] = left }
        if keepsUpper { ranges[high - 1] = right }
        ranges.removeSubrange((keepsLower ? low + 1 : low)..<(keepsUpper ? high - 1 : high))
    }

    /// Removes the lowest range; the set must not be empty.
    public mutating func removeFirst() { ranges.removeFirst() }

    /// Empties the set.
    /// - Parameter keepingCapacity: whether its memory is kept, for as many ranges again.
    public mutating func removeAll(keepingCapacity: Bool = false) {
        ranges.removeAll(keepingCapacity: keepingCapacity)
    }

    /// Calls `body` with each part of `range` that is not in the set, ascending.
    public func forEachGap(in range: ClosedRange<UInt64>, _ body: (ClosedRange<UInt64>) -> Void) {
        var next = range.lowerBound
        var index = firstIndex(endingAtOrAfter: next)
        while index < ranges.count, ranges[index].lowerBound <= range.upperBound {
            let present = ranges[index]
            if present.lowerBound > next { body(next...(present.lowerBound - 1)) }
            guard present.upperBound < range.upperBound else { return }
            next = present.upperBound + 1
            index += 1
        }
        body(next...range.upperBound)
    }

    private func firstIndex(endingAtOrAfter value: UInt64) -> Int {
        return (0..<ranges.count).partitionPoint { ranges[$0].upperBound < value }
    }

    private func firstIndex(startingAfter value: UInt64) -> Int {
        return (0..<ranges.count).partitionPoint { ranges[$0].lowerBound <= value }
    }
}

extension RangeSet: CustomStringConvertible {
    public var description: String {
        "[" + ranges.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: " ") + "]"
    }
}
