import Flexicast
import Reactor
import Wire

/// Where a flow goes and how: plain values.
public struct FlowOptions: Sendable {
    /// The flow's destination; nil runs without a flow, every receiver on unicast.
    public var group: SocketAddress?
    /// Receivers that the group does not reach are sent copies of the flow's packets; without a group all are.
    public var replicates = false
    /// Octets of a full packet of the flow: UDP payload.
    public var packetSize = 1200
    /// Name of the interface the flow leaves through; nil lets the routing table choose.
    public var interface: String?
    /// IPv4 TTL or IPv6 hop limit of the flow's packets, 1 to 255. Each router on the way takes one, and so does a relay.
    public var timeToLive: UInt8 = 16
    /// The most the flow may send, in bits per second; nil leaves it to the members' reports.
    public var rate: UInt64?
    /// What the flow does not go below, in bits per second, or `rate` if that is less: who cannot take it is served on its
    /// connection.
    public var rateFloor: UInt64 = Self.usualFlow.rateFloor
    /// How many per cent of the members' addresses the flow's rate has to suit, 50 to 100.
    public var pacePercent = Self.usualFlow.pacePercent
    /// `rate` where it is nil.
    public static var usualRate: UInt64 { usualFlow.rateCeiling }
    private static let usualFlow = FlowConfiguration()
    /// How long members may hold acknowledgements back; nil chooses by the number of members.
    public var acknowledgementDelay: Duration?
    /// Whether the flow's packets leave without a copy, which takes io_uring.
    public var zeroCopy = ZeroCopyMode.auto

    /// The flow's key changes after a member has left.
    package var rotatesKeyAfterLeave = false

    /// No flow: neither a group nor copies.
    public init() {}
}
