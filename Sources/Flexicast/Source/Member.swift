import QUIC
import Wire

/// One receiver that listens to the flow.
///
/// What it has settled (acknowledged, or lost and repaired) is everything in `first..<horizon` but the packets of
/// `pending`: a packet three behind an acknowledged one is lost (RFC 9002 section 6.1.1) and repaired at once, so
/// only the two before the horizon can be in doubt. The state of a member is therefore constant in size, however
/// many packets are in flight.
struct Member: Sendable {
    var epoch: UInt32 = 0
    var isActive = false
    /// The first packet number that counts for it.
    var first: UInt64 = 0
    /// The first stream that it gets from the flow; those before it are sent on its unicast path whole.
    var firstStream: UInt64 = 0
    /// Where the flow's count of new octets and streams stood when it joined.
    var octetsBefore: UInt64 = 0
    var streamsBefore: UInt64 = 0
    /// Up to where its connection's flow control account has been told of them.
    var octetsTaken: UInt64 = 0
    var streamsTaken: UInt64 = 0
    /// Where its credit ends, in the flow's count.
    var octetsEnd: UInt64?
    var streamsEnd: UInt64?
    /// Everything from here on is unsettled.
    var horizon: UInt64 = 0
    /// Bit i: packet horizon-1-i is unsettled.
    var pending: UInt64 = 0
    /// The highest packet number that it has acknowledged, plus 1; at first `first`.
    var acknowledged: UInt64 = 0
    var lastHeard = Instant(nanoseconds: 0)
    /// Nil before the first sample.
    private(set) var rtt: SmoothedRTT?
    var losses = LossHistory()
    var voter = Voter()
    /// Rounds of acknowledgements so far, up to those that a newcomer has to wait for, and which number ends the next.
    var rounds = 0
    var roundEnd: UInt64 = 0
    var window = LossWindow()
    /// Credit when it was last renewed.
    var octetsWindow = UInt64.max
    var streamsWindow = UInt64.max
    /// Since when it says that it can take less than half of what is sent.
    var slowSince: Instant?

    /// The lowest unsettled packet number.
    var floor: UInt64 {
        pending == 0 ? horizon : horizon - UInt64(UInt64.bitWidth - pending.leadingZeroBitCount)
    }

    func isPending(_ packetNumber: UInt64) -> Bool {
        packetNumber < horizon && horizon - 1 - packetNumber < 64
            && pending & (1 << (horizon - 1 - packetNumber)) != 0
    }

    mutating func setPending(_ packetNumber: UInt64, _ value: Bool) {
        let bit: UInt64 = 1 << (horizon - 1 - packetNumber)
        if value { pending |= bit } else { pending &= ~bit }
    }

    mutating func moveHorizon(to packetNumber: UInt64) {
        let distance = packetNumber - horizon
        pending = distance < 64 ? pending << distance : 0
        horizon = packetNumber
    }

    /// RFC 9002 section 5.3, without the minimum's guard: the delay is the source's own choice.
    mutating func sampled(_ sample: Duration) {
        let sample = max(sample.nanoseconds, 1000)
        if rtt?.add(sample) == nil { rtt = SmoothedRTT(first: sample) }
    }

    /// Smoothed, nil before the first sample.
    var roundTrip: Duration? { rtt.map { .nanoseconds($0.time) } }

    /// How long an answer takes at the most, without the delay of the acknowledgement.
    var wait: Duration { rtt.map { .nanoseconds($0.probeTimeout(granularity: 5_000_000)) } ?? .milliseconds(333) }
}
