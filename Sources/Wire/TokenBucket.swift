/// How fast a `TokenBucket` fills, and how much it holds.
public struct TokenRate: Sendable, Equatable {
    /// Nanoseconds in which a token gathers.
    @usableFromInline let interval: Int64
    /// Nanoseconds in which all that a full bucket holds gathers.
    @usableFromInline let capacity: Int64

    /// So much that no sum of two and a time on the clock is too large.
    private static let longest = Int64.max / 4

    /// - Parameters:
    ///   - rate: tokens a second, at least 1.
    ///   - burst: tokens at once, at least 1.
    public init(perSecond rate: Int, burst: Int) {
        self.init(nanoseconds: 1_000_000_000 / Int64(max(1, rate)), burst: burst)
    }

    /// - Parameters:
    ///   - interval: in which a token gathers.
    ///   - burst: tokens at once, at least 1.
    public init(every interval: Duration, burst: Int) {
        self.init(nanoseconds: max(1, interval.nanoseconds), burst: burst)
    }

    private init(nanoseconds: Int64, burst: Int) {
        interval = min(nanoseconds, Self.longest)
        let (product, overflow) = interval.multipliedReportingOverflow(by: Int64(max(1, burst)))
        capacity = overflow ? Self.longest : min(product, Self.longest)
    }
}

/// Tokens that gather at a rate, as many as there is room for, and are taken. Full at first.
///
/// It is eight octets, so that there may be a table of them: all that is kept is when it would be full again, and its rate is named by
/// whoever takes.
public struct TokenBucket: Sendable, Equatable {
    /// In nanoseconds.
    @usableFromInline var fullAt = Int64.min / 2

    /// A full one.
    public init() {}

    /// Whether nothing is missing in it.
    @inlinable
    public func isFull(at now: Instant) -> Bool { fullAt <= now.nanoseconds }

    /// Whether there is a token.
    @inlinable
    public func hasToken(_ rate: TokenRate, at now: Instant) -> Bool {
        max(fullAt, now.nanoseconds) + rate.interval - now.nanoseconds <= rate.capacity
    }

    /// Takes a token, if there is one.
    @inlinable
    public mutating func take(_ rate: TokenRate, at now: Instant) -> Bool {
        take(rate.interval, ifMissing: rate.capacity - rate.interval, at: now)
    }

    /// Takes what gathers in `cost` nanoseconds, if no more is missing than what gathers in `most`: what is taken last may be more
    /// than there is.
    @inlinable
    public mutating func take(_ cost: Int64, ifMissing most: Int64, at now: Instant) -> Bool {
        let start = max(fullAt, now.nanoseconds)
        guard start - now.nanoseconds <= most else { return false }
        fullAt = start + cost
        return true
    }
}
