import Wire

/// What a tunnel or a channel may still send: a token bucket that holds a quarter of a second's worth.
struct RateBudget: Sendable {
    /// Until when, in nanoseconds, what was sent has used up the rate.
    private var busyUntil = Int64.min / 2

    /// Takes `octets` at `rate` bits per second if the bucket is not empty; the send that empties it goes in whole.
    mutating func spend(_ octets: Int, rate: UInt64, at now: Instant) -> Bool {
        let start = max(busyUntil, now.nanoseconds)
        guard start - now.nanoseconds <= 250_000_000 else { return false }
        busyUntil = start + Int64(octets) * 8_000_000_000 / Int64(clamping: max(1, rate))
        return true
    }
}
