import Wire

/// What a tunnel or a channel may still send: a token bucket that holds a quarter of a second's worth.
struct RateBudget: Sendable {
    /// Nanoseconds in which it gathers what it holds.
    private static let capacity: Int64 = 250_000_000

    private var bucket = TokenBucket()

    /// Takes `octets` at `rate` bits per second if the bucket is not empty; the send that empties it goes in whole.
    mutating func spend(_ octets: Int, rate: UInt64, at now: Instant) -> Bool {
        bucket.take(
            Int64(octets) * 8_000_000_000 / Int64(clamping: max(1, rate)), ifMissing: Self.capacity, at: now)
    }
}
