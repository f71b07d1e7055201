import Wire

/// Bounds how often a receiver may go through JOIN and LEAVE (draft section 13.2.1): a bucket of `burst` joins that
/// fills by one per `interval`, and after an eviction a time to wait that doubles with each.
struct JoinLimiter: Sendable {
    private let rate: TokenRate
    private var joins = TokenBucket()
    private var evictions = 0
    private var notBefore: Instant

    static var firstWait: Duration { .seconds(2) }
    static var longestWait: Duration { .seconds(120) }

    init(burst: Int, interval: Duration, now: Instant) {
        rate = TokenRate(every: interval, burst: burst)
        notBefore = now
    }

    mutating func allowsJoin(at now: Instant) -> Bool {
        now >= notBefore && joins.take(rate, at: now)
    }

    mutating func evicted(at now: Instant) {
        let wait = min(Self.longestWait, Self.firstWait * (1 << min(evictions, 10)))
        evictions += 1
        notBefore = now + wait
    }

    /// A member that has stayed for long has earned its credit back.
    mutating func behaved() { evictions = 0 }
}
