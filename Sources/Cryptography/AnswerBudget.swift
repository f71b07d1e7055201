import Wire

/// How many answers of one kind a server gives to datagrams of no connection.
///
/// Anybody can send these, with any address on them. So each kind has a budget of its own, and of that each network has a share
/// that nobody can spend without its address: who comes from a quiet one is answered whatever comes from others. Beyond
/// the shares there is a common part, for many receivers behind one address that come back together. Nothing is kept for a network but
/// a `TokenBucket`, which it may have in common with others: it is chosen by a secret number.
struct AnswerBudget: Sendable {
    /// What the shares are of.
    struct Limits: Sendable {
        /// How many shares there are, as a power of two.
        var shareBits: Int
        /// Answers a second to one share, as many at once.
        var perShare: Int

        /// Without it no client may have a connection while handshakes are many: a flood of 50 000 datagrams a second with
        /// addresses from everywhere leaves some of each share.
        static let retry = Limits(shareBits: 12, perShare: 16)
        static let others = Limits(shareBits: 10, perShare: 4)
    }

    private let shareRate: TokenRate
    private let commonRate: TokenRate
    private var shares: [TokenBucket]
    private var common = TokenBucket()
    private let shift: UInt64
    private let multiplier: UInt64

    /// `common`: answers a second beyond the shares, as many at once.
    init(_ limits: Limits, common: Int, random: inout SeededRandom) {
        shareRate = TokenRate(perSecond: limits.perShare, burst: limits.perShare)
        commonRate = TokenRate(perSecond: common, burst: common)
        shares = Array(repeating: TokenBucket(), count: 1 << limits.shareBits)
        shift = UInt64(64 - limits.shareBits)
        multiplier = random.next() | 1
    }

    /// Whether `address` may be answered now, for which it is charged.
    mutating func take(_ address: IPAddress, at now: Instant) -> Bool {
        shares[Int((Self.network(of: address) &* multiplier) >> shift)].take(shareRate, at: now)
            || common.take(commonRate, at: now)
    }

    /// The /24 of an IPv4 address or the /48 of an IPv6 address, which are what one party is given.
    private static func network(of address: IPAddress) -> UInt64 {
        switch address {
        case .v4(let bits): UInt64(bits >> 8) | 1 << 63
        case .v6(let bits): UInt64(truncatingIfNeeded: bits >> 80)
        }
    }
}
