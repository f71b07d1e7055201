import Wire

/// Token buckets per sender, an IPv4 address or an IPv6 /64, in a table of fixed size: a flood from any number of forged
/// addresses takes no memory. Senders that fall into the same place share it, and the key keeps others from choosing
/// with whom.
struct RequestLimiter: Sendable {
    private let hash: SipHash
    private let rate: TokenRate
    private var buckets: [TokenBucket]

    /// - Parameters:
    ///   - rate: of each bucket.
    ///   - places: a power of two.
    init(rate: TokenRate, places: Int, key: SipHash) {
        precondition(places > 0 && places & (places - 1) == 0)
        hash = key
        self.rate = rate
        buckets = [TokenBucket](repeating: TokenBucket(), count: places)
    }

    /// Takes a token, if there is one.
    mutating func take(_ sender: IPAddress, at now: Instant) -> Bool {
        let words: InlineArray<4, UInt64> =
            switch sender {
            case .v4(let bits): [4, UInt64(bits), 0, 0]
            case .v6(let bits): [6, UInt64(truncatingIfNeeded: bits >> 64), 0, 0]
            }
        let place = Int(truncatingIfNeeded: hash.hash(words)) & (buckets.count - 1)
        return buckets[place].take(rate, at: now)
    }
}
