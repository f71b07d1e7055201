import Wire

/// Bounds how often a receiver may go through JOIN and LEAVE (draft section 13.2.1): a bucket of `burst` joins that
/// fills by one per `interval`, and after an eviction a time to wait that doubles with each.
struct JoinLimiter: Sendable {
    private let burst: Int
    private let interval: Duration
    private var tokens: Int
    private var refilledAt: Instant
    private var evictions = 0
    private var notBefore: Instant

    static var firstWait: Duration { .seconds(2) }
    static var longestWait: Duration { .seconds(120) }

    init(burst: Int, interval: Duration, now: Instant) {
        self.burst = burst
        self.interval = interval
        tokens = burst
        refilledAt = now
        notBefore = now
    }

    mutating func allowsJoin(at now: Instant) -> Bool {
        let gained = (now - refilledAt).nanoseconds / max(1, interval.nanoseconds)
        if gained > 0 {
            tokens = Int(min(Int64(burst), Int64(tokens) + gained))
            refilledAt += interval * Int(gained)
        }
        guard tokens > 0, now >= notBefore else { return false }
        tokens -= 1
        return true
    }

    mutating func evicted(at now: Instant) {
        let wait = min(Self.longestWait, Self.firstWait * (1 << min(evictions, 10)))
        evictions += 1
        notBefore = now + wait
    }

    /// A member that has stayed for long has earned its credit back.
    mutating func behaved() { evictions = 0 }
}
