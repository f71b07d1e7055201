import Wire

/// How much is logged of something that others can cause at will: ten lines at once, unless it is to be fewer, then one a
/// second.
package struct LogBudget {
    package static let burst = 10
    /// Lines at once.
    package var burst = Self.burst
    package static let interval = Duration.seconds(1)

    /// Lines left out before the last one.
    package private(set) var untold = 0
    private var pending = 0
    private var fullAt = Instant(nanoseconds: .min / 2)

    package init(burst: Int = Self.burst) { self.burst = burst }

    /// Whether to log now.
    package mutating func take(at now: Instant) -> Bool {
        let next = max(fullAt, now) + Self.interval
        guard next - now <= Self.interval * burst else {
            pending += 1
            return false
        }
        fullAt = next
        untold = pending
        pending = 0
        return true
    }
}
