/// Which octets of a stream: a set of half-open ranges. The lowest range is held inline, because nearly always it is the
/// only one and then the set costs no allocation.
struct OctetSet: Sendable, Equatable {
    private var lower: UInt64 = 0
    private var upper: UInt64 = 0
    /// The ranges above the lowest one; none of them touches it.
    private var more = RangeSet()

    init() {}

    var isEmpty: Bool { lower == upper }

    /// The lowest range.
    var first: Range<UInt64>? { isEmpty ? nil : lower..<upper }

    /// One past the highest octet, 0 when empty.
    var end: UInt64 {
        if let last = more.last { return last.upperBound + 1 }
        return upper
    }

    /// How far the set reaches without a hole from octet 0.
    var prefix: UInt64 { lower == 0 ? upper : 0 }

    var rangeCount: Int { isEmpty ? 0 : 1 + more.count }

    /// The `index`-th range from below.
    subscript(index: Int) -> Range<UInt64> {
        if index == 0 { return lower..<upper }
        let range = more[index - 1]
        return range.lowerBound..<(range.upperBound + 1)
    }

    /// How many octets.
    var octetCount: UInt64 {
        var total: UInt64 = 0
        for index in 0..<rangeCount { total += UInt64(self[index].count) }
        return total
    }

    func contains(_ octet: UInt64) -> Bool {
        octet >= lower && octet < upper || !isEmpty && more.contains(octet)
    }

    mutating func insert(_ range: Range<UInt64>) {
        guard !range.isEmpty else { return }
        if isEmpty {
            (lower, upper) = (range.lowerBound, range.upperBound)
        } else if range.upperBound < lower {
            more.insert(lower...(upper - 1))
            (lower, upper) = (range.lowerBound, range.upperBound)
        } else if range.lowerBound <= upper {
            lower = min(lower, range.lowerBound)
            upper = max(upper, range.upperBound)
            absorb()
        } else {
            more.insert(range.lowerBound...(range.upperBound - 1))
        }
    }

    mutating func remove(_ range: Range<UInt64>) {
        guard !range.isEmpty, !isEmpty, range.upperBound > lower else { return }
        if more.count > 0 { more.remove(range.lowerBound...(range.upperBound - 1)) }
        guard range.lowerBound < upper else { return }
        let rest = min(range.upperBound, upper)..<upper
        if range.lowerBound > lower {
            upper = range.lowerBound
            if !rest.isEmpty { more.insert(rest.lowerBound...(rest.upperBound - 1)) }
        } else if !rest.isEmpty {
            lower = rest.lowerBound
        } else if let next = more.first {
            more.remove(next)
            (lower, upper) = (next.lowerBound, next.upperBound + 1)
        } else {
            (lower, upper) = (0, 0)
        }
    }

    mutating func removeAll() { self = OctetSet() }

    /// The octets of `range` that are in the set.
    func intersection(_ range: Range<UInt64>) -> OctetSet {
        var out = OctetSet()
        for index in 0..<rangeCount {
            let here = self[index]
            if here.lowerBound >= range.upperBound { break }
            out.insert(here.clamped(to: range))
        }
        return out
    }

    mutating func formUnion(_ other: OctetSet) {
        for index in 0..<other.rangeCount { insert(other[index]) }
    }

    mutating func subtract(_ other: OctetSet) {
        if isEmpty { return }
        for index in 0..<other.rangeCount { remove(other[index]) }
    }

    /// Takes in the ranges of `more` that the lowest one has grown to.
    private mutating func absorb() {
        while let next = more.first, next.lowerBound <= upper {
            upper = max(upper, next.upperBound + 1)
            more.remove(next)
        }
    }
}
