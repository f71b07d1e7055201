/// A round-trip time and how much it varies, both smoothed over the samples (RFC 9002 section 5.3). Nanoseconds.
public struct SmoothedRTT: Sendable, Equatable {
    /// The time, by the name of `smoothed_rtt`.
    public var time: Int64
    /// Its variation, by the name of `rttvar`.
    public var variation: Int64

    /// After the first sample, or with a guess.
    @inlinable
    public init(first sample: Int64) {
        time = sample
        variation = sample / 2
    }

    /// Takes another sample, without what the acknowledgement was held back.
    @inlinable
    public mutating func add(_ sample: Int64) {
        variation = (3 * variation + abs(time - sample)) / 4
        time = (7 * time + sample) / 8
    }

    /// How long an answer takes at the most that is not held back, without back-off (RFC 9002 section 6.2.1).
    /// - Parameter granularity: what is added at the least.
    @inlinable
    public func probeTimeout(granularity: Int64) -> Int64 { time + max(4 * variation, granularity) }
}
