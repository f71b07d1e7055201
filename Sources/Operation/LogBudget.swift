import Wire

/// How much is logged of something that others can cause at will: ten lines at once, unless it is to be fewer, then one a
/// second.
package struct LogBudget {
    /// Lines at once.
    package static let burst = 10
    package static let interval = Duration.seconds(1)

    /// Lines left out before the last one.
    package private(set) var untold = 0
    private var pending = 0
    private let rate: TokenRate
    private var lines = TokenBucket()

    package init(burst: Int = Self.burst) { rate = TokenRate(every: Self.interval, burst: burst) }

    /// Whether to log now.
    package mutating func take(at now: Instant) -> Bool {
        guard lines.take(rate, at: now) else {
            pending += 1
            return false
        }
        untold = pending
        pending = 0
        return true
    }
}
