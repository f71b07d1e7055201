import Wire

/// Token buckets per sender, an IPv4 address or an IPv6 /64, in a table of fixed size: a flood from any number of forged
/// addresses takes no memory. Senders that fall into the same place share it, and the key keeps others from choosing
/// with whom.
struct RequestLimiter: Sendable {
    private let hash: SipHash
    private let interval: Int64
    private let burst: Int64
    /// When each bucket would be full again, in nanoseconds.
    private var fullAt: [Int64]

    /// - Parameters:
    ///   - rate: tokens a second.
    ///   - burst: tokens at once.
    ///   - places: a power of two.
    init(rate: Int, burst: Int, places: Int, key: SipHash) {
        precondition(places > 0 && places & (places - 1) == 0)
        hash = key
        interval = 1_000_000_000 / Int64(max(1, rate))
        self.burst = interval * Int64(max(1, burst))
        fullAt = [Int64](repeating: .min / 2, count: places)
    }

    /// Takes a token, if there is one.
    mutating func take(_ sender: IPAddress, at now: Instant) -> Bool {
        let words: InlineArray<4, UInt64> =
            switch sender {
            case .v4(let bits): [4, UInt64(bits), 0, 0]
            case .v6(let bits): [6, UInt64(truncatingIfNeeded: bits >> 64), 0, 0]
            }
        let place = Int(truncatingIfNeeded: hash.hash(words)) & (fullAt.count - 1)
        let next = max(fullAt[place], now.nanoseconds) + interval
        guard next - now.nanoseconds <= burst else { return false }
        fullAt[place] = next
        return true
    }
}
