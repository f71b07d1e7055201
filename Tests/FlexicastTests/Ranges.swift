/// Sets of octet or packet number ranges, merged.
struct Ranges {
    private(set) var list: [Range<UInt64>] = []

    mutating func insert(_ range: Range<UInt64>) {
        guard !range.isEmpty else { return }
        var low = range.lowerBound
        var high = range.upperBound
        list.removeAll { old in
            guard old.upperBound >= low, old.lowerBound <= high else { return false }
            low = min(low, old.lowerBound)
            high = max(high, old.upperBound)
            return true
        }
        let place = list.firstIndex { $0.lowerBound > low } ?? list.count
        list.insert(low..<high, at: place)
    }

    var count: UInt64 { list.reduce(0) { $0 + UInt64($1.count) } }
    func covers(upTo end: UInt64) -> Bool { end == 0 || (list.count == 1 && list[0] == 0..<end) }
}
