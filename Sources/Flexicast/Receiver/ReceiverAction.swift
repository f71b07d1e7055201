import QUIC
import Wire

/// Why a receiver stopped listening to a flow.
public enum FallBackReason: Sendable, Hashable {
    /// Nothing of the flow was opened for `silence`.
    case silence
    /// The key came but no packet did: there is no tree to this receiver.
    case nothingHeard
    /// The source sent LEAVE.
    case sourceLeft
    /// The source withdrew the flow.
    case withdrawn
    /// The application asked for it.
    case asked
    /// More packets failed to open than the cipher suite allows (RFC 9001 section 6.6).
    case forgeries
}

/// What the shell has to do for a `ReceiverSession`, in this order.
public enum ReceiverAction: Sendable, Equatable {
    /// Send this frame on the connection (`Connection.sendExtensionFrame`).
    case send(frame: [UInt8], key: UInt64)
    /// Find out whether the source is still there.
    case ask
    /// Join the group; `source` nil is any-source multicast. A `group` that is no multicast address is this receiver's
    /// own: the source sends copies of the flow's packets the way it sends those of the connection. Datagrams to `group`:`port` whose destination
    /// connection ID is the flow's go to `flowPacketHeard` and, once a key opens them, to `flowPacketOpened`.
    case joinGroup(FlowID, source: IPAddress?, group: IPAddress, port: UInt16)
    /// Leave the group that was joined with these parameters.
    case leaveGroup(FlowID, source: IPAddress?, group: IPAddress, port: UInt16)
    /// A key to open packets with, from its first packet number on. Its `generation` only names it. While there are
    /// two, try the newer one first: header protection differs as well.
    case installKey(FlowID, FlowKey)
    /// No packet will be opened with this key again.
    case dropKey(FlowID, generation: UInt64)
    /// Open the receive-only path on the connection; its ID must be the one the connection gives out.
    case openReceivePath(FlowID, pathID: UInt64, ackDelay: Duration)
    /// The path is open: acknowledge on it after this delay from now on.
    case setAckDelay(FlowID, pathID: UInt64, ackDelay: Duration)
    /// Acknowledge a last time what came on the path, and forget it.
    case closeReceivePath(FlowID, pathID: UInt64)
    /// READY has been sent for the first time, or again after a fall back.
    case listening(FlowID)
    /// As `listening`, which comes first: the receiver had fallen back before.
    case returned(FlowID)
    /// The receiver listened, and does not any more: the source serves it on its connection.
    case fellBack(FlowID, FallBackReason)
    /// The source has answered JOIN with LEAVE, or put the receiver out before it listened. LEAVE says nothing of the reason.
    case joinRefused(FlowID)
    /// The source has not answered JOIN for `answerTimeout`. Said once for each JOIN; an answer may still come.
    case joinUnanswered(FlowID)
}

/// What a receiver does with flows.
public struct ReceiverConfiguration: Sendable {
    /// Whether it joins flows by itself; otherwise by `ReceiverSession.join` only.
    public var joinsByItself = true
    /// What the endpoint declared in its transport parameter.
    public var support = FlexicastSupport()
    /// The time without an opened packet that means the tree is dead: three of the source's keep-alive intervals.
    public var silence = Duration.milliseconds(1500)
    /// The time without one after which the source is asked whether it is still there: one that was started anew says
    /// so at once, and nobody has to wait for `silence` to be over.
    public var questionTime = Duration.milliseconds(750)
    /// The time after FC_KEY without any packet that means there is no tree.
    public var joinTimeout = Duration.seconds(3)
    /// The time after JOIN without FC_KEY or LEAVE that is worth a warning: many round trips and probes.
    public var answerTimeout = Duration.seconds(5)
    /// A flow is heard steadily after this much time, up to twice as much after a fall back, and `steadyPackets`, without a
    /// gap of `silence`.
    public var steadyTime = Duration.seconds(1)
    /// Packets of a flow that must have been heard, opened or not, before the receiver returns to it.
    var steadyPackets = 3
    /// The wait before a return: it doubles with each fall back, and is forgotten after `stableTime` of listening. It is
    /// twice as long where the source has put the receiver out.
    public var firstBackOff = Duration.seconds(1)
    /// The longest wait before a return.
    var longestBackOff = Duration.seconds(60)
    /// Listening for so long makes up for all fall backs before.
    var stableTime = Duration.seconds(30)
    /// How long an old key is kept once the next is in use.
    public var keyRetention = Duration.seconds(3)
    /// Flows known at once that were not withdrawn. Announcements of more are ignored.
    public var maximumFlows = 16
    /// Flows joined at once. The others wait.
    var maximumJoined = 4
    /// Flows remembered after they were withdrawn; the oldest are forgotten first.
    var maximumRetired = 64

    /// Every flow that is announced is joined, over IPv4 and IPv6.
    public init() {}
}

/// Counters of a receiver's session.
public struct ReceiverStatistics: Sendable, Equatable {
    /// Datagrams with a known flow's ID that arrived, whether they could be opened or not.
    var packetsHeard: UInt64 = 0
    /// Packets that a key opened and that were to be processed.
    public var packetsOpened: UInt64 = 0
    /// Opened but not to be processed: before the first packet number of their key, or under the wrong one.
    public var packetsOutsideKey: UInt64 = 0
    /// Packets that no key opened.
    public var packetsRejected: UInt64 = 0
    /// JOINs sent, those to return included.
    public var joins: UInt64 = 0
    /// JOINs answered with LEAVE, or the receiver was put out before it listened.
    public var joinsRefused: UInt64 = 0
    /// JOINs not answered for `ReceiverConfiguration.answerTimeout`; the answer may have come later.
    var joinsUnanswered: UInt64 = 0
    /// Times that the receiver stopped listening, for whatever reason.
    public var fallBacks: UInt64 = 0
    /// Times that it listened to a flow again after a fall back.
    public var returns: UInt64 = 0
    /// Frames ignored: stale, or for a flow that is no more.
    public var framesIgnored: UInt64 = 0
    /// Announcements of flows of an IP version that was not declared: they cannot be joined.
    public var unsupportedFlows: UInt64 = 0
    /// Announcements ignored because of `ReceiverConfiguration.maximumFlows`.
    var flowsOverLimit: UInt64 = 0
}
