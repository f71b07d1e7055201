import Objects
import QUIC
import Wire

/// How a source runs one multicast flow. The defaults suit a feed on a local network.
public struct FlowConfiguration: Sendable {
    /// How often receivers are asked to acknowledge.
    public enum AckDelay: Sendable, Equatable {
        /// From the number of members and `feedbackBudget`; see `AckDelayBudget`.
        case automatic
        /// The same for any number of members.
        case fixed(Duration)
    }

    /// What packets of the flow are sealed with.
    public var suite = CipherSuite.aes128GCM
    /// Octets of a full packet, tag included: the UDP payload. 1200 passes everywhere that QUIC does; all full
    /// packets have this size so that a batch leaves as one segmented send.
    public var packetSize = 1200
    /// The longest time without a packet. A receiver takes three of these without a packet for a dead tree.
    public var keepAliveInterval = Duration.milliseconds(500)
    /// The first of the PINGs that follow the last data packet and reveal its loss; they back off by doubling up to
    /// `keepAliveInterval`.
    public var tailProbeInterval = Duration.milliseconds(30)
    /// Bits per second of the flow's UDP payload at most.
    public var rateCeiling: UInt64 = 100_000_000
    /// Bits per second of UDP payload that the flow is not slowed below. A member that cannot keep up with it leaves
    /// (draft section 8).
    public var rateFloor: UInt64 = 256_000
    /// Bits per second of a new flow, before slow start has raised it: QUIC's initial window (RFC 9002 section 7.2) in each
    /// 30 ms.
    public var initialRate: UInt64 = 4_000_000
    /// How many per cent of the accounts the flow's rate has to suit. The others, and at least one of two or more, may be
    /// left behind: they leave and are served on their connections. It is also how many must be strangers of good will: a
    /// fifth that lies about losses, say 25 beside 100, changes nothing for the others at 75, and would rule at 90.
    public var pacePercent = 75
    /// How long a member must say that it can take less than half of what is sent before it leaves.
    public var floorPatience = Duration.seconds(2)
    /// Packets that may leave in one go, after a pause. A paced flow leaves in runs of half of it, if that is no more than ten
    /// milliseconds: 54 packets of 1200 octets are what one segmented send takes. From 5 Gbit/s on up to eight runs leave
    /// together, and twice that after a pause.
    public var burstPackets = 108

    /// How long receivers may gather packets before they acknowledge; announced to them (draft section 11.1).
    public var ackDelay = AckDelay.automatic
    /// Bits per second of acknowledgements that all members together may send.
    public var feedbackBudget: UInt64 = 10_000_000

    /// A member that has acknowledged nothing for this long, keep-alives included, is evicted.
    public var memberTimeout = Duration.seconds(3)
    /// Members of one flow at most.
    public var maximumMembers = 100_000
    /// Octets of packets sent and not yet settled by every member. At three quarters of it late members are evicted.
    public var maximumUnsettledOctets: UInt64 = 16 << 20
    /// Octets of streams that may wait to be sent; beyond it a stream goes out on the unicast paths instead.
    public var maximumQueuedOctets: UInt64 = 64 << 20
    /// The longest stream the flow carries: a member must have granted this much stream flow control in its
    /// transport parameters (initial_max_stream_data_uni), or it stays on unicast.
    public var maximumStreamLength = UInt64(ObjectLimits.streamOctets)

    /// A loss goes on the flow again when this many per cent of the members, and at least two, report it; the draft leaves the
    /// choice to the source (section 7).
    public var flowRepairPercent = 10

    /// Whether a new key is made after a member has left, so that it cannot read on. That serves only where receivers are
    /// admitted by who they are: else the one that has left joins again and is given the new key.
    public var rotatesKeyAfterLeave = false
    /// The shortest time between two keys that are made because members have left. A key that wears out is replaced when
    /// that is due, at the earliest `keyActivationDelay` after its first packet: so often is a receiver sent FC_KEY at most.
    public var keyRotationInterval = Duration.seconds(10)
    /// The time between telling the receivers a new key and its first packet.
    public var keyActivationDelay = Duration.milliseconds(500)
    /// Packets sealed with one key before the next is made; half of what the suite allows for packets of this size
    /// (`CipherSuite.sealingLimit`) bounds it anyway.
    public var packetsPerKey: UInt64 = 1 << 27
    /// Packets that a key may seal, in place of what the suite allows: for tests.
    var sealingLimit: UInt64?

    /// The mean distance of skipped packet numbers (RFC 9000 section 21.4).
    public var skipInterval: UInt64 = 512

    /// What suits a feed on a local network.
    public init() {}

    /// Where slow start begins.
    var firstRate: UInt64 { min(rateCeiling, max(rateFloor, initialRate)) }
}

/// The ack delay that keeps N members' acknowledgements within a budget of B bits per second.
///
/// A receiver acknowledges once per delay D at the most, at a random phase in the last quarter of it, with about
/// 80 octets on the wire (IP, UDP, short header, PATH_ACK, tag). N members then send at most N x 640 / (7/8 D) bits
/// per second, so D = N x 640 x 8/7 / B, clamped to 5 ms ... 1 s.
enum AckDelayBudget {
    /// The least delay that is asked for.
    static let shortest = Duration.milliseconds(5)
    /// The longest delay that is asked for.
    static let longest = Duration.seconds(1)
    static let bitsPerAcknowledgement = 640.0

    /// - Parameters:
    ///   - members: how many there are, 0 or more.
    ///   - budget: bits per second of all acknowledgements together; 0 counts as 1.
    static func delay(members: Int, bitsPerSecond budget: UInt64) -> Duration {
        let seconds = Double(members) * bitsPerAcknowledgement * 8 / 7 / Double(max(1, budget))
        let milliseconds = (min(seconds, 1) * 1000).rounded(.up)
        return max(shortest, min(longest, .milliseconds(Int64(milliseconds))))
    }
}
