import QUIC
import Wire

/// A member of one flow. A slot is used again after its member has gone, with another epoch, so that a late event
/// for the one before is recognised and ignored.
public struct MemberID: Hashable, Sendable {
    /// Dense from 0: an index for the caller's own table.
    public var slot: Int
    /// Tells members of one slot apart: one more for each.
    public var epoch: UInt32
}

/// Why a receiver stopped being a member.
public enum LeaveReason: Sendable, Hashable, CaseIterable {
    /// The receiver sent LEAVE (draft section 6.1).
    case left
    /// The receiver sent JOIN again without LEAVE.
    case rejoined
    /// The connection ended: nothing is to be sent to it any more.
    case connectionClosed
    /// No acknowledgement for the member timeout.
    case silent
    /// It held back the release of more state than the flow may keep.
    case tooSlow
    /// Its rate stayed below the flow's floor (draft section 8).
    case belowRateFloor
    /// Its flow control credit does not cover what the flow sends until it can be renewed (draft section 9).
    case outOfCredit
    /// It acknowledged what was never sent, by its own doing or because someone forged a packet.
    case violation
    /// The flow was withdrawn.
    case withdrawn

    /// Whether the source decided: then the receiver is told by FC_STATE(LEAVE) (draft section 6.2).
    public var isEviction: Bool {
        switch self {
        case .silent, .tooSlow, .belowRateFloor, .outOfCredit, .violation: true
        case .left, .rejoined, .connectionClosed, .withdrawn: false
        }
    }
}

/// What the shell has to do for a `FlowSource`.
public enum FlowAction: Sendable {
    /// Send a part of a stream on the member's own connection (`Connection.sendStreamRange`). `octets` is the whole
    /// stream. `counted` is false when the range was sent on the flow to this member before, so that it is in its
    /// flow control account already. For a member that has gone this precedes its `memberRemoved`.
    case unicastRepair(
        member: MemberID, stream: StreamID, octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool)
    /// The member lacks something of a stream that is worth nothing any more: it gets RESET_STREAM instead, on its own connection,
    /// as what it has of it would wait for the rest. `octets` is the whole stream.
    case streamExpired(member: MemberID, stream: StreamID, octets: StreamOctets)
    /// The member is out of the table. When `reason.isEviction`, tell it (`SourceSession.evict`). `charge` is what
    /// the flow has sent it since the last `takeCharge`, for its connection's flow control account.
    case memberRemoved(MemberID, reason: LeaveReason, charge: FlowCharge)
    /// A key to seal with, for packets of this generation; its first packet comes later.
    case installKey(FlowKey)
    /// Give this key to every receiver that has joined (`SourceSession.sendKey`).
    case sendKey(FlowKey)
    /// No packet will be sealed with this generation again.
    case dropKey(generation: UInt64)
    /// The parameters have changed: announce them to every connection (`SourceSession.announce`).
    case announce(FlowParameters)
}

/// What a flow has sent to one member, in the terms of connection flow control (RFC 9000 section 4).
public struct FlowCharge: Hashable, Sendable {
    /// Octets of streams that count against its MAX_DATA.
    public var octets: UInt64
    /// Streams that count against its MAX_STREAMS.
    public var streams: UInt64
}

/// Counters since the flow began.
public struct FlowStatistics: Sendable, Equatable {
    /// Packets written, skipped numbers not.
    public var packetsSent: UInt64 = 0
    /// Octets of these packets, tags included.
    public var octetsSent: UInt64 = 0
    /// Packets with nothing but a PING.
    public var pings: UInt64 = 0
    /// Octets of stream data sent for the first time, and again.
    public var newOctets: UInt64 = 0
    /// Octets of stream data sent on the flow again.
    public var octetsRepairedOnFlow: UInt64 = 0
    /// Octets of stream data that the flow had lost for members and that were sent again on their connections.
    public var octetsRepairedOnUnicast: UInt64 = 0
    /// Datagrams sent, each once.
    public var datagramsSent: UInt64 = 0
    /// Datagrams dropped before they were sent: too many waited, or nobody was left to hear them.
    public var datagramsDropped: UInt64 = 0
    /// Reports of a lost packet by one member.
    public var lossReports: UInt64 = 0
    /// Packets repaired on the flow.
    public var flowRepairs: UInt64 = 0
    /// Loss reports answered on the member's connection.
    var unicastRepairs: UInt64 = 0
    /// Packets given up as lost because no acknowledgement came in time.
    public var timeoutRepairs: UInt64 = 0
    /// PATH_ACK frames taken in.
    public var acknowledgements: UInt64 = 0
    /// Acknowledgements of packets never sent.
    public var refusedAcknowledgements: UInt64 = 0
    /// Receivers that became members, each time they did.
    var membersAdded: UInt64 = 0
    /// Members that the source put out: `LeaveReason.isEviction`.
    public var evictions: UInt64 = 0
    /// Receivers that were not made members: see `FlowSource.add`.
    var admissionsRefused: UInt64 = 0
    /// Keys made, the first one left out.
    var keysMade: UInt64 = 0
    /// Streams that were given a number.
    public var streamsPublished: UInt64 = 0
    /// Of them those that did not go on the flow: no member, too long, or no room in the queue.
    var streamsOffFlow: UInt64 = 0
    /// Steps of work done for acknowledgements: ranges, lost packets, and tree nodes. For tests of their cost.
    public var acknowledgementSteps: UInt64 = 0
}
