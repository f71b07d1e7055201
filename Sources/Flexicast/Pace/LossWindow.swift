import Wire

/// What a member says of the packets of the last while: how many it has, and how many it has lost.
struct LossWindow: Sendable {
    var got: UInt64 = 0
    var lost: UInt64 = 0
    var since = Instant(nanoseconds: 0)
    /// The share in the window before, and what was usual at its end.
    private var before = (share: UInt64(0), usual: UInt64(0))
    /// Windows in a row in which it missed far more than is usual.
    private(set) var strikes = 0

    /// No window is shorter than that, than two round trips, or has fewer packets.
    static var shortest: Duration { .milliseconds(250) }
    static var fewestPackets: UInt64 { 16 }
    /// A share of one, and what the usual share may be exceeded by.
    static var whole: UInt64 { 1 << 16 }
    static var tolerance: UInt64 { 1 << 13 }
    /// Windows in a row after which a member counts as unable to follow.
    static var mostStrikes: Int { 2 }

    /// The share that is missing, when the window is over.
    func share(at now: Instant, roundTrip: Duration) -> UInt64? {
        guard got + lost >= Self.fewestPackets, now - since >= max(Self.shortest, roundTrip * 2) else { return nil }
        return lost * Self.whole / (got + lost)
    }

    /// Begins the next window, and judges the one before: when losses grow, those whose window ends first have more than is
    /// usual until the others' have ended too.
    mutating func end(share: UInt64, usual: UInt64, at now: Instant) {
        strikes = before.share > max(before.usual, usual) + Self.tolerance ? strikes + 1 : 0
        before = (share, usual)
        got = 0
        lost = 0
        since = now
    }

    var isLagging: Bool { strikes >= Self.mostStrikes }
    /// It reports far more losses than the others: they are its own business.
    var isOutlier: Bool { strikes > 0 }

    /// Bits per second that came through since the window began; nil before a round trip has passed.
    func delivered(packetSize: Int, roundTrip: Duration, at now: Instant) -> UInt64? {
        let time = now - since
        guard time >= max(roundTrip, .milliseconds(10)) else { return nil }
        return UInt64(Double(got) * Double(packetSize) * 8e9 / Double(time.nanoseconds))
    }
}
