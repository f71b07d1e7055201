/// What a source has sent since it started, in UDP payload octets, each octet under one name only.
public struct SourceCounts: Sendable {
    /// The flow's packets, keep-alive included, repairs not.
    public var bytesFlow = 0
    /// Copies of the flow's packets for receivers that are sent them one by one.
    public var bytesReplicated = 0
    /// Receivers that copies go to now.
    public var replicated = 0
    /// Items on unicast paths: history, receivers without a flow, receivers that fell back.
    public var bytesUnicast = 0
    /// Parts of items that were lost on the flow, on the flow again or on a unicast path.
    public var bytesRepair = 0
    /// Everything else on unicast paths: handshakes, acknowledgements, announcements, keys.
    public var bytesControl = 0
    /// Connections that are open now.
    public var receivers = 0
    /// Receivers on the flow now.
    public var members = 0
    /// Bits per second that the flow may send now; nil without a flow.
    public var flowRate: UInt64?
    /// Packets of the flow that a member has lost, counted for each member; nil without a flow.
    public var flowPacketsLost: UInt64?
    /// Items sent so far.
    public var items = 0
    /// Packets that came and were of no use: forged, damaged, of no connection, or against a rule.
    public var packetsRejected = 0
    /// Connections that were closed because too much waited for a slow receiver: none are, since nothing waits for one.
    public var receiversLetGo = 0
    /// Parts of items that receivers were told are not kept any more.
    public var partsGone = 0
    /// Objects whose lifetime has ended.
    public var objectsExpired = 0
    /// Parts of objects that receivers were told are not sent any more, because the lifetime had ended.
    public var partsExpired = 0
    /// Clients that got no connection because of a limit.
    public var connectionsRefused = 0
    /// Receivers that wait now for their turn to be sent something on unicast, because of its limit.
    public var receiversWaiting = 0
    /// Parts of items sent again to receivers that had them, for want of room to remember which those were.
    public var partsSentAgain = 0
    /// Control streams that broke a rule; their connections were closed.
    public var controlErrors = 0
    /// Times that a receiver was handed nothing more until it takes what it is told on its control stream.
    public var controlWaits = 0
    /// Datagrams sent on the flow, each once for all who hear it.
    public var datagramsOnFlow = 0
    /// Datagrams that did not leave because newer ones took their place: on the flow, and for one receiver each on connections.
    public var datagramsDropped = 0
    /// Times that a datagram was not sent to a receiver, because it takes none of that size.
    public var datagramsRefused = 0
    /// Whether the flow's packets leave without a copy, and why; nil without a flow to a group.
    public var zeroCopy: String?

    /// All zero.
    public init() {}
}
