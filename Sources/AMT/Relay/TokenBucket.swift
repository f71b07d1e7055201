import Wire

/// One token bucket.
struct TokenBucket: Sendable {
    private let interval: Int64
    private let burst: Int64
    /// When it would be full again, in nanoseconds.
    private var fullAt = Int64.min / 2

    /// - Parameters:
    ///   - rate: tokens a second.
    ///   - burst: tokens at once.
    init(rate: Int, burst: Int) {
        interval = 1_000_000_000 / Int64(max(1, rate))
        self.burst = interval * Int64(max(1, burst))
    }

    /// Takes a token, if there is one.
    mutating func take(at now: Instant) -> Bool {
        let next = max(fullAt, now.nanoseconds) + interval
        guard next - now.nanoseconds <= burst else { return false }
        fullAt = next
        return true
    }
}
