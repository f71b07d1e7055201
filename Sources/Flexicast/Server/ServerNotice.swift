import Objects

/// What happened that an operator may want to know.
public enum ServerNotice: Sendable {
    /// A connection is there. `speaksFlexicast`: both ends have offered flexicast and multipath.
    case connected(ReceiverID, speaksFlexicast: Bool)
    /// The receiver is a member of the flow, which has so many now.
    case listens(ReceiverID, members: Int)
    /// The flow does not take the receiver: `reason` says what would do.
    case notAdmitted(ReceiverID, reason: String)
    /// The receiver has to wait before it may listen to the flow: it, or others of its address, were put out of it or have
    /// come and gone too often.
    case joinRefused(ReceiverID)
    /// The receiver is served on its connection from now on.
    case backOnUnicast(ReceiverID, LeaveReason)
    /// The group does not reach it.
    case offeredCopies(ReceiverID)
    /// A receiver of copies is told of the group again, in case that reaches it by now.
    case triedOnGroup(ReceiverID)
    /// What it said of its position, and from which sequence number on it is served.
    case stated(ReceiverID, LogMessage.Answer, first: UInt64)
    /// What it says of its reception. Nobody has verified it.
    case reported(ReceiverID, ReportMessage)
    /// It said nothing in time, and gets what is published from now on.
    case saidNothing(ReceiverID)
    /// What it lacks is not kept any more; it has been told.
    case told(ReceiverID, Gap)

    /// The receiver that it is of.
    public var receiver: ReceiverID {
        switch self {
        case .connected(let id, _), .listens(let id, _), .notAdmitted(let id, _), .joinRefused(let id),
            .backOnUnicast(let id, _), .offeredCopies(let id), .triedOnGroup(let id), .stated(let id, _, _),
            .saidNothing(let id), .told(let id, _), .reported(let id, _):
            id
        }
    }
}
