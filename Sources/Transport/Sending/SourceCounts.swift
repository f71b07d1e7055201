/// What a source has sent since it started, in UDP payload octets, each octet under one name only.
package struct SourceCounts: Sendable {
    /// The flow's packets, keep-alive included, repairs not.
    package var bytesFlow = 0
    /// Copies of the flow's packets for receivers that are sent them one by one.
    package var bytesReplicated = 0
    /// Receivers that copies go to now.
    package var replicated = 0
    /// Items on unicast paths: history, receivers without a flow, receivers that fell back.
    package var bytesUnicast = 0
    /// Parts of items that were lost on the flow, on the flow again or on a unicast path.
    package var bytesRepair = 0
    /// Everything else on unicast paths: handshakes, acknowledgements, announcements, keys.
    package var bytesControl = 0
    /// Connections that are open now.
    package var receivers = 0
    /// Receivers on the flow now.
    package var members = 0
    /// Items sent so far.
    package var items = 0
    /// Packets that came and were of no use: forged, damaged, of no connection, or against a rule.
    package var packetsRejected = 0
    /// Connections that were closed because too much waited for a slow receiver: none are, since nothing waits for one.
    package var receiversLetGo = 0
    /// Parts of items that receivers were told are not kept any more.
    package var partsGone = 0
    /// Clients that got no connection because of a limit.
    package var connectionsRefused = 0
    /// Receivers that wait now for their turn to be sent something on unicast, because of its limit.
    package var receiversWaiting = 0
    /// Parts of items sent again to receivers that had them, for want of room to remember which those were.
    package var partsSentAgain = 0
    /// Control streams that broke a rule; their connections were closed.
    package var controlErrors = 0
    /// Times that a receiver was handed nothing more until it takes what it is told on its control stream.
    package var controlWaits = 0
    /// Whether the flow's packets leave without a copy, and why; nil without a flow to a group.
    package var zeroCopy: String?

    package init() {}
}
