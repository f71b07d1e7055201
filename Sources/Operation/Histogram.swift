/// How often which values occurred: durations in seconds, or shares of a whole.
package struct Histogram: Sendable, Equatable {
    /// Upper bounds of all buckets but the last, which has none. No bucket is wider than its lower bound but for the first and the
    /// last: so far may a percentile be off.
    package static let bounds: [Double] = [
        0.0001, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1,
        0.2,
        0.3, 0.5, 0.7, 1, 2, 3, 5, 7, 10, 20, 30, 60,
    ]

    /// By bucket.
    package private(set) var counts = [UInt64](repeating: 0, count: bounds.count + 1)
    /// All values together.
    package private(set) var sum = 0.0

    package init() {}

    package var count: UInt64 { counts.reduce(0, +) }

    /// What is below zero, as a difference of two clocks may be, counts as zero.
    package mutating func add(_ value: Double) {
        let value = max(0, value)
        counts[Self.bounds.firstIndex { value <= $0 } ?? Self.bounds.count] += 1
        sum += value
    }

    /// A duration in seconds.
    package mutating func add(_ duration: Duration) { add(duration / .seconds(1)) }

    /// What was added since `earlier`, which is this histogram as it was.
    package func since(_ earlier: Histogram) -> Histogram {
        var difference = self
        for index in counts.indices { difference.counts[index] -= earlier.counts[index] }
        difference.sum -= earlier.sum
        return difference
    }

    /// The value that `percent` of all do not exceed, as far as the buckets tell; nil without any. In the last bucket it is the
    /// largest bound.
    package func percentile(_ percent: Double) -> Double? {
        let all = count
        guard all > 0 else { return nil }
        let rank = max(1, (Double(all) * percent / 100).rounded(.up))
        var below: UInt64 = 0
        for (index, number) in counts.enumerated() where number > 0 {
            guard Double(below + number) >= rank else {
                below += number
                continue
            }
            guard index < Self.bounds.count else { break }
            let lower = index == 0 ? 0 : Self.bounds[index - 1]
            return lower + (Self.bounds[index] - lower) * (rank - Double(below)) / Double(number)
        }
        return Self.bounds[Self.bounds.count - 1]
    }
}
