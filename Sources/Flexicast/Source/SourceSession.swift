import QUIC
import Wire

/// What the shell has to do for a `SourceSession`, in this order.
public enum SourceAction: Sendable, Equatable {
    /// Send this frame on the connection (`Connection.sendExtensionFrame`).
    case send(frame: [UInt8], key: UInt64)
    /// The receiver has joined: give it `FlowSource.joined`'s keys with `SourceSession.sendKey`, and on its connection
    /// what `FlowSource.unfinishedStreams` lists from before it connected.
    case joined(FlowID)
    /// The receiver has opened a packet of the flow: if it `awaitsMembership` still, `FlowSource.add` it, then tell the
    /// session by `becameMember`, or by `evict` when it was not admitted.
    case ready(FlowID)
    /// The receiver is no member any more by its own doing: `FlowSource.leave`.
    case left(FlowID, MemberID, reason: LeaveReason)
    /// A receiver that was given a key but never became a member has gone: `FlowSource.keyHolderLeft`.
    case keyHolderLeft(FlowID)
    /// Acknowledged packets of the flow, highest first: `FlowSource.acknowledged`. When it throws, close the
    /// connection with that error.
    case acknowledged(FlowID, MemberID, ranges: [ClosedRange<UInt64>], ackDelay: Duration)
}

/// Keys for `Connection.sendExtensionFrame`: a newer frame with the same key replaces one that is lost or unsent.
/// The first JOIN has a key of its own, so that nothing replaces it and both ends count paths alike.
enum FrameKey {
    static func announce(_ ordinal: Int) -> UInt64 { UInt64(ordinal) << 4 }
    static func firstJoin(_ ordinal: Int) -> UInt64 { UInt64(ordinal) << 4 | 1 }
    static func state(_ ordinal: Int) -> UInt64 { UInt64(ordinal) << 4 | 2 }
    /// A key and the next one are both needed for a while.
    static func key(_ ordinal: Int, generation: UInt64) -> UInt64 { UInt64(ordinal) << 4 | 4 | generation & 1 }
}

/// The source's end of one connection's flexicast exchange: which flows the receiver knows, has joined and listens
/// to. One per connection; the flows themselves are shared `FlowSource`s.
///
///     announced --JOIN--> keyed --READY--> ready --becameMember--> member --LEAVE (either side)--> announced
///
/// Path IDs: a flow gets the lowest one not yet used on the connection when its first FC_STATE arrives, and keeps it
/// for good. The receiver has at most one first JOIN unanswered and never withdraws it, so both ends count alike.
public struct SourceSession: FrameExtension, Sendable {
    public struct Configuration: Sendable {
        /// JOINs at once, and the time that earns another.
        public var joinBurst = 5
        public var joinInterval = Duration.seconds(5)
        /// Flows that one connection may be told of over its life.
        public var maximumFlows = 64

        public init() {}
    }

    private enum Phase: Sendable {
        case announced
        case keyed
        /// The flow has been asked to take it in.
        case ready
        case member(MemberID)
        case withdrawn
    }

    private struct Flow: Sendable {
        let id: FlowID
        var parameters: FlowParameters
        var phase = Phase.announced
        var pathID: UInt64?
        var announceSequence: UInt64 = 0
        var keySequence: UInt64 = 0
        var stateSequence: UInt64 = 0
        /// The receiver's highest.
        var peerSequence: UInt64?
        /// The first JOIN is always answered, by FC_KEY or LEAVE: the receiver joins no other flow before.
        var owesAnswer = false
        var memberSince = Instant(nanoseconds: 0)
        var limiter: JoinLimiter

        /// A membership of this length earns the receiver its credit back.
        static var goodConduct: Duration { .seconds(60) }
    }

    /// The time of the datagram under way: set it before each `Connection.receive`.
    public var now: Instant
    /// The highest path ID that both ends allow (draft-ietf-quic-multipath-21 section 4.6).
    public var maximumPathID: UInt64
    /// Joins answered with LEAVE.
    public private(set) var joinsRefused: UInt64 = 0
    /// Frames ignored for being stale or for a flow that is no more.
    public private(set) var framesIgnored: UInt64 = 0

    private let configuration: Configuration
    private let support: FlexicastSupport?
    private var flows: [Flow] = []
    private var nextPathID: UInt64 = 1
    private var actions: [SourceAction] = []
    private var actionsTaken = 0

    /// `support` is the receiver's transport parameter; nil when flexicast or multipath was not negotiated, and then
    /// no frame of the extension is taken or sent.
    public init(
        support: FlexicastSupport?, maximumPathID: UInt64, configuration: Configuration = Configuration(),
        at now: Instant
    ) {
        self.support = support
        self.maximumPathID = maximumPathID
        self.configuration = configuration
        self.now = now
    }

    public var isNegotiated: Bool { support != nil }

    /// The next thing to do; nil when all is done.
    public mutating func nextAction() -> SourceAction? {
        guard actionsTaken < actions.count else {
            actions.removeAll(keepingCapacity: true)
            actionsTaken = 0
            return nil
        }
        defer { actionsTaken += 1 }
        return actions[actionsTaken]
    }

    // MARK: What the source decides

    /// Tells the receiver of a flow, or of its new parameters. False, and nothing is sent, when the receiver cannot
    /// take part in it.
    @discardableResult
    public mutating func announce(_ id: FlowID, _ parameters: FlowParameters) -> Bool {
        guard let support, support.supports(parameters.group) else { return false }
        if let index = index(of: id) {
            if case .withdrawn = flows[index].phase { return false }
            guard flows[index].parameters != parameters else { return true }
            flows[index].parameters = parameters
            flows[index].announceSequence += 1
            sendAnnounce(index)
            return true
        }
        guard flows.count < configuration.maximumFlows else { return false }
        flows.append(
            Flow(
                id: id, parameters: parameters,
                limiter: JoinLimiter(
                    burst: configuration.joinBurst, interval: configuration.joinInterval, now: now)))
        sendAnnounce(flows.count - 1)
        return true
    }

    /// Tells the receiver that a flow is no more, for it at least. A member's `left` action follows.
    public mutating func withdraw(_ id: FlowID) {
        guard let index = index(of: id) else { return }
        if case .withdrawn = flows[index].phase { return }
        endMembership(index, reason: .withdrawn)
        flows[index].phase = .withdrawn
        flows[index].parameters = flows[index].parameters.withdrawn
        flows[index].announceSequence += 1
        sendAnnounce(index)
    }

    /// Gives the receiver a key of a flow, if it has joined it. `firstPacketNumber` is the first it has to take.
    public mutating func sendKey(_ id: FlowID, _ key: FlowKey) {
        guard let index = index(of: id) else { return }
        switch flows[index].phase {
        case .announced, .withdrawn: return
        case .keyed, .ready, .member: break
        }
        let frame = KeyFrame(
            flowID: id, sequence: flows[index].keySequence, packetNumber: key.firstPacketNumber, suite: key.suite,
            secret: key.secret)
        flows[index].keySequence += 1
        flows[index].owesAnswer = false
        actions.append(.send(frame: frame.encoded, key: FrameKey.key(index, generation: key.generation)))
    }

    /// The flow has taken the receiver in.
    public mutating func becameMember(_ id: FlowID, _ member: MemberID) {
        guard let index = index(of: id), case .ready = flows[index].phase else { return }
        flows[index].phase = .member(member)
        flows[index].memberSince = now
    }

    /// The flow has put the receiver out, or did not take it in: tells it to LEAVE and lets it wait before it may
    /// come back. No `left` action follows.
    public mutating func evict(_ id: FlowID) {
        guard let index = index(of: id) else { return }
        switch flows[index].phase {
        case .announced, .withdrawn: return
        case .keyed, .ready: actions.append(.keyHolderLeft(id))
        case .member: if now - flows[index].memberSince >= Flow.goodConduct { flows[index].limiter.behaved() }
        }
        flows[index].phase = .announced
        flows[index].limiter.evicted(at: now)
        sendLeave(index)
    }

    /// The connection has ended: `left` actions for what it was a member of.
    public mutating func connectionClosed() {
        for index in flows.indices {
            endMembership(index, reason: .connectionClosed)
            flows[index].phase = .withdrawn
        }
    }

    /// Whether the receiver still waits to be taken in: after a `ready` action it may have left, or joined anew.
    public func awaitsMembership(in id: FlowID) -> Bool {
        guard let index = index(of: id), case .ready = flows[index].phase else { return false }
        return true
    }

    /// The membership in a flow, if there is one.
    public func member(of id: FlowID) -> MemberID? {
        guard let index = index(of: id), case .member(let member) = flows[index].phase else { return nil }
        return member
    }

    /// Whether the receiver has joined the flow: it is given each new key.
    public func hasJoined(_ id: FlowID) -> Bool {
        guard let index = index(of: id) else { return false }
        switch flows[index].phase {
        case .keyed, .ready, .member: return true
        case .announced, .withdrawn: return false
        }
    }

    /// The path ID that the receiver acknowledges the flow under.
    public func pathID(of id: FlowID) -> UInt64? { index(of: id).flatMap { flows[$0].pathID } }

    // MARK: What the receiver says

    public mutating func frameReceived(type: UInt64, body: Span<UInt8>) throws(TransportError) -> Int? {
        guard isNegotiated else { return nil }
        switch type {
        case FlexicastFrameType.state:
            var reader = ByteReader(body)
            try stateReceived(StateFrame(parsing: &reader))
            return reader.offset
        case FlexicastFrameType.announce:
            throw .flexicast("FC_ANNOUNCE from a receiver", frameType: type)
        case FlexicastFrameType.key:
            throw .flexicast("FC_KEY from a receiver", frameType: type)
        default:
            return nil
        }
    }

    public mutating func pathAcknowledged(
        pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration
    ) throws(TransportError) {
        guard pathID != 0, pathID < nextPathID, let flow = flows.first(where: { $0.pathID == pathID }) else {
            throw TransportError(.protocolViolation, "PATH_ACK for path \(pathID), which does not exist")
        }
        // Packets opened before READY has arrived, or acknowledged after LEAVE, are nobody's concern.
        guard case .member(let member) = flow.phase else { return }
        actions.append(.acknowledged(flow.id, member, ranges: ranges, ackDelay: ackDelay))
    }

    private mutating func stateReceived(_ frame: StateFrame) throws(TransportError) {
        guard let index = index(of: frame.flowID) else {
            throw .flexicast("FC_STATE for a flow never announced", frameType: FlexicastFrameType.state)
        }
        let isFirst = flows[index].pathID == nil
        if isFirst, frame.action == .join {
            guard nextPathID <= maximumPathID else {
                throw TransportError(
                    .protocolViolation, "JOIN needs path \(nextPathID), beyond the maximum path id",
                    frameType: FlexicastFrameType.state)
            }
            flows[index].pathID = nextPathID
            flows[index].owesAnswer = true
            nextPathID += 1
        }
        let isStale = flows[index].peerSequence.map { frame.sequence <= $0 } ?? false
        if isStale {
            framesIgnored += 1
            // A first JOIN overtaken by its LEAVE still waits for an answer.
            if flows[index].owesAnswer { sendLeave(index) }
            return
        }
        flows[index].peerSequence = frame.sequence
        switch frame.action {
        case .join: joinReceived(index)
        case .ready: readyReceived(index)
        case .leave: leaveReceived(index)
        }
    }

    private mutating func joinReceived(_ index: Int) {
        if case .withdrawn = flows[index].phase {
            framesIgnored += 1
            sendLeave(index)
            return
        }
        endMembership(index, reason: .rejoined)
        guard flows[index].limiter.allowsJoin(at: now) else {
            joinsRefused += 1
            flows[index].phase = .announced
            sendLeave(index)
            return
        }
        flows[index].phase = .keyed
        actions.append(.joined(flows[index].id))
    }

    private mutating func readyReceived(_ index: Int) {
        // Otherwise it has crossed a LEAVE of ours.
        guard case .keyed = flows[index].phase else {
            framesIgnored += 1
            return
        }
        flows[index].phase = .ready
        actions.append(.ready(flows[index].id))
    }

    private mutating func leaveReceived(_ index: Int) {
        switch flows[index].phase {
        case .withdrawn: framesIgnored += 1
        case .announced: break
        case .keyed, .ready, .member:
            endMembership(index, reason: .left)
            flows[index].phase = .announced
        }
        if flows[index].owesAnswer { sendLeave(index) }
    }

    /// Lets go of a member, or of one who was to become one. The caller sets the phase that follows.
    private mutating func endMembership(_ index: Int, reason: LeaveReason) {
        switch flows[index].phase {
        case .announced, .withdrawn: break
        case .keyed, .ready: if reason != .rejoined { actions.append(.keyHolderLeft(flows[index].id)) }
        case .member(let member): actions.append(.left(flows[index].id, member, reason: reason))
        }
    }

    private mutating func sendAnnounce(_ index: Int) {
        let flow = flows[index]
        let frame = AnnounceFrame(flowID: flow.id, sequence: flow.announceSequence, parameters: flow.parameters)
        actions.append(.send(frame: frame.encoded, key: FrameKey.announce(index)))
    }

    private mutating func sendLeave(_ index: Int) {
        let frame = StateFrame(flowID: flows[index].id, sequence: flows[index].stateSequence, action: .leave)
        flows[index].stateSequence += 1
        flows[index].owesAnswer = false
        actions.append(.send(frame: frame.encoded, key: FrameKey.state(index)))
    }

    private func index(of id: FlowID) -> Int? { flows.firstIndex { $0.id == id } }

    public func forbiddenOnFlow(type: UInt64) -> TransportError { .forbiddenOnFlow(type) }
}

extension TransportError {
    /// Frames of the extension never travel on a flow (draft section 8); of QUIC's own, few do.
    static func forbiddenOnFlow(_ type: UInt64) -> TransportError {
        switch type {
        case FlexicastFrameType.announce, FlexicastFrameType.state, FlexicastFrameType.key, 0x3e, 0x3f:
            .flexicast("frame 0x\(String(type, radix: 16)) on a multicast flow", frameType: type)
        default:
            TransportError(
                .protocolViolation, "frame 0x\(String(type, radix: 16)) on a multicast flow", frameType: type)
        }
    }
}
