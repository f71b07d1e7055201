/// How many values lie in which of 1024 logarithmic buckets, sixteen to each doubling: a value is known to a sixteenth.
/// Adding, removing and finding the one of a given rank cost the same however many there are.
struct LogHistogram: Sendable {
    private static var groupSize: Int { 32 }
    private var counts = [UInt32](repeating: 0, count: 1024)
    private var groups = [UInt32](repeating: 0, count: 1024 / 32)
    private(set) var total = 0

    /// The bucket of a value; zero counts as one.
    static func bucket(of value: UInt64) -> Int {
        let value = max(1, value)
        let octave = UInt64.bitWidth - 1 - value.leadingZeroBitCount
        let fraction = octave >= 4 ? value >> UInt64(octave - 4) : value << UInt64(4 - octave)
        return octave * 16 + Int(fraction & 15)
    }

    /// The least value of a bucket.
    static func least(of bucket: Int) -> UInt64 {
        let octave = bucket / 16
        let value = UInt64(16 + bucket % 16)
        return octave >= 4 ? value << UInt64(octave - 4) : value >> UInt64(4 - octave)
    }

    mutating func add(_ bucket: Int) {
        counts[bucket] += 1
        groups[bucket / Self.groupSize] += 1
        total += 1
    }

    mutating func remove(_ bucket: Int) {
        counts[bucket] -= 1
        groups[bucket / Self.groupSize] -= 1
        total -= 1
    }

    /// The bucket of the value that as many are not above, in order; nil when there are no more than these.
    func bucket(skipping skipped: Int) -> Int? {
        guard skipped < total else { return nil }
        var left = skipped
        var group = 0
        while left >= Int(groups[group]) {
            left -= Int(groups[group])
            group += 1
        }
        var bucket = group * Self.groupSize
        while left >= Int(counts[bucket]) {
            left -= Int(counts[bucket])
            bucket += 1
        }
        return bucket
    }
}
