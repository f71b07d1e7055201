/// How fast a flow may be that nobody has complained of yet (TFMCC's slow start, RFC 4654; RFC 9002 section 7.3.1).
///
/// It begins at a rate that does little harm anywhere. Each round of acknowledgements after which nobody misses anything
/// doubles it, if the flow wanted all of it meanwhile: a rate that was not used has proved nothing. A round is over when
/// every member has settled a packet that was sent in it. A loss only ends the round; from then on the members' own rates
/// bound the flow.
struct SlowStart: Sendable {
    /// Bits per second.
    private(set) var limit: UInt64
    private var roundStart: UInt64
    private var wasUsedUp = false
    private var hasLost = false

    init(rate: UInt64, from packetNumber: UInt64) {
        limit = rate
        roundStart = packetNumber
    }

    /// A packet had to wait for the pacer.
    mutating func usedUp() { wasUsedUp = true }
    /// A member lost a packet.
    mutating func lost() { hasLost = true }

    /// Every member has settled what is below `floor`, and packets below `next` have been sent at `rate`.
    mutating func settled(below floor: UInt64, next: UInt64, rate: UInt64, ceiling: UInt64) {
        guard floor > roundStart else { return }
        if wasUsedUp, !hasLost { limit = max(limit, rate > ceiling / 2 ? ceiling : rate * 2) }
        roundStart = next
        wasUsedUp = false
        hasLost = false
    }
}
