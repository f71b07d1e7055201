import QUIC
import Wire

/// Keys for `Connection.sendExtensionFrame`: a newer frame with the same key replaces one that is lost or unsent.
/// The first JOIN has a key of its own, so that nothing replaces it and both ends count paths alike.
enum FrameKey {
    static func announce(_ ordinal: Int) -> UInt64 { UInt64(ordinal) << 4 }
    static func firstJoin(_ ordinal: Int) -> UInt64 { UInt64(ordinal) << 4 | 1 }
    static func state(_ ordinal: Int) -> UInt64 { UInt64(ordinal) << 4 | 2 }
    /// A key and the next one are both needed for a while.
    static func key(_ ordinal: Int, generation: UInt64) -> UInt64 { UInt64(ordinal) << 4 | 4 | generation & 1 }
}

/// A frame of the extension for `Connection.sendExtensionFrame`.
struct ExtensionFrame: Sendable, Equatable {
    /// The whole frame, type included.
    var octets: [UInt8]
    /// A frame takes the place of an earlier one with this key that was not acknowledged.
    var key: UInt64
}

/// A receiver's part in a flow that has come to its end.
enum EndedMembership: Sendable, Equatable {
    /// It was a member: `FlowSource.leave`.
    case member(MemberID, LeaveReason)
    /// It was given a key and never became a member: `FlowSource.keyHolderLeft`.
    case keyHolder
}

/// What an FC_STATE frame asks of the source. What ended comes before what begins.
struct StateAnswer: Sendable, Equatable {
    /// What begins.
    enum Next: Sendable, Equatable {
        /// Nothing begins.
        case nothing
        /// The receiver has joined: give it the keys.
        case giveKeys(FlowID)
        /// The receiver has opened a packet of the flow: make it a member, or `evict` it.
        case admit(FlowID)
        /// The receiver was told to LEAVE instead of being given the keys: it has to wait.
        case joinRefused(FlowID)
    }

    /// What has ended before `next`; nil when nothing has.
    var ended: EndedMembership?
    /// What to do then.
    var next: Next

    static let nothing = StateAnswer(ended: nil, next: .nothing)
}

/// The source's end of one connection's flexicast exchange: which flows the receiver knows, has joined and listens
/// to. One per connection; the flows themselves are shared `FlowSource`s.
///
///     announced --JOIN--> keyed --READY--> ready --becameMember--> member --LEAVE (either side)--> announced
///
/// Path IDs: a flow gets the lowest one not yet used on the connection when its first FC_STATE arrives, and keeps it
/// for good (draft-ietf-quic-multipath-21 section 3.4). The receiver has at most one first JOIN unanswered and never
/// withdraws it, so both ends count alike.
struct SourceSession: Sendable {
    /// What one connection may ask for.
    struct Configuration: Sendable {
        /// JOINs at once (draft section 13.2.1).
        var joinBurst = 5
        /// The time that earns another.
        var joinInterval = Duration.seconds(5)
        /// Flows that one connection may be told of over its life.
        var maximumFlows = 64

        /// Five JOINs at once, and one more every five seconds.
        init() {}
    }

    private enum Phase: Sendable {
        case announced
        case keyed
        /// The flow has been asked to take it in.
        case ready
        case member(MemberID, since: Instant)
        case withdrawn
    }

    private struct Flow: Sendable {
        let id: FlowID
        var parameters: FlowParameters
        var phase = Phase.announced
        var pathID: UInt64?
        /// The receiver has abandoned that path, and gets no other one for the flow.
        var isPathAbandoned = false
        var announceSequence: UInt64 = 0
        var keySequence: UInt64 = 0
        var stateSequence: UInt64 = 0
        /// The receiver's highest.
        var peerSequence: UInt64?
        /// The first JOIN is always answered, by FC_KEY or LEAVE: the receiver joins no other flow before.
        var owesAnswer = false
        var limiter: JoinLimiter

        /// A membership of this length earns the receiver its credit back.
        static var goodConduct: Duration { .seconds(60) }
    }

    /// The highest path ID that both ends allow (draft-ietf-quic-multipath-21 section 4.6).
    var maximumPathID: UInt64
    /// Joins answered with LEAVE.
    private(set) var joinsRefused: UInt64 = 0
    /// Frames ignored for being stale or for a flow that is no more.
    private(set) var framesIgnored: UInt64 = 0

    private let configuration: Configuration
    private let support: FlexicastSupport
    private var flows: [Flow] = []
    private var nextPathID: UInt64 = 1
    /// Frames to be sent, at most one for each `FrameKey` of a flow.
    private var outbox: [ExtensionFrame] = []

    /// `support` is the receiver's transport parameter. Only for a connection that negotiated flexicast and multipath.
    init(support: FlexicastSupport, maximumPathID: UInt64, configuration: Configuration = Configuration()) {
        self.support = support
        self.maximumPathID = maximumPathID
        self.configuration = configuration
    }

    /// The next frame to send on the connection; nil when there is none.
    mutating func nextFrame() -> ExtensionFrame? { outbox.isEmpty ? nil : outbox.removeFirst() }

    // MARK: What the source decides

    /// Tells the receiver of a flow, or of its new parameters. False, and nothing is sent, when the receiver cannot
    /// take part in it.
    @discardableResult
    mutating func announce(_ id: FlowID, _ parameters: FlowParameters, at now: Instant) -> Bool {
        guard support.supports(parameters.group) else { return false }
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

    /// Tells the receiver that a flow is no more, for it at least. Returns what that ended.
    mutating func withdraw(_ id: FlowID) -> EndedMembership? {
        guard let index = index(of: id) else { return nil }
        if case .withdrawn = flows[index].phase { return nil }
        let ended = membership(index, endedBy: .withdrawn)
        flows[index].phase = .withdrawn
        flows[index].parameters = flows[index].parameters.withdrawn
        flows[index].announceSequence += 1
        sendAnnounce(index)
        return ended
    }

    /// Gives the receiver a key of a flow, if it has joined it. `firstPacketNumber` is the first it has to take.
    mutating func sendKey(_ id: FlowID, _ key: FlowKey) {
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
        send(frame.encoded, key: FrameKey.key(index, generation: key.generation))
    }

    /// The flow has taken the receiver in.
    mutating func becameMember(_ id: FlowID, _ member: MemberID, at now: Instant) {
        guard let index = index(of: id), case .ready = flows[index].phase else { return }
        flows[index].phase = .member(member, since: now)
    }

    /// The flow has put the receiver out, or did not take it in: tells it to LEAVE and lets it wait before it may
    /// come back. True when the receiver held a key and never became a member.
    @discardableResult
    mutating func evict(_ id: FlowID, at now: Instant) -> Bool {
        guard let index = index(of: id) else { return false }
        var heldKey = false
        switch flows[index].phase {
        case .announced, .withdrawn: return false
        case .keyed, .ready: heldKey = true
        case .member(_, let since): if now - since >= Flow.goodConduct { flows[index].limiter.behaved() }
        }
        flows[index].phase = .announced
        flows[index].limiter.evicted(at: now)
        sendLeave(index)
        return heldKey
    }

    /// The connection has ended. Returns what that ended, of each flow.
    mutating func connectionClosed() -> [EndedMembership] {
        var ended: [EndedMembership] = []
        for index in flows.indices {
            if let membership = membership(index, endedBy: .connectionClosed) { ended.append(membership) }
            flows[index].phase = .withdrawn
        }
        outbox.removeAll()
        return ended
    }

    /// The membership in a flow, if there is one.
    func member(of id: FlowID) -> MemberID? {
        guard let index = index(of: id), case .member(let member, _) = flows[index].phase else { return nil }
        return member
    }

    /// Whether the receiver has joined the flow: it is given each new key.
    func hasJoined(_ id: FlowID) -> Bool {
        guard let index = index(of: id) else { return false }
        switch flows[index].phase {
        case .keyed, .ready, .member: return true
        case .announced, .withdrawn: return false
        }
    }

    /// The path ID that the receiver acknowledges the flow under.
    func pathID(of id: FlowID) -> UInt64? { index(of: id).flatMap { flows[$0].pathID } }

    // MARK: What the receiver says

    /// Whose packets a PATH_ACK acknowledges; nil when it is nobody's concern: packets opened before READY has arrived,
    /// or acknowledged after LEAVE. Throws PROTOCOL_VIOLATION for a path that does not exist
    /// (draft-ietf-quic-multipath-21 section 4).
    func pathAcknowledged(pathID: UInt64) throws(TransportError) -> MemberID? {
        guard pathID != 0, pathID < nextPathID, let flow = flows.first(where: { $0.pathID == pathID }) else {
            throw TransportError(.protocolViolation, "PATH_ACK for path \(pathID), which does not exist")
        }
        guard case .member(let member, _) = flow.phase else { return nil }
        return member
    }

    /// Takes an FC_STATE frame (draft section 11.2). Throws FC_PROTOCOL_VIOLATION for a flow never announced
    /// (draft section 11), PROTOCOL_VIOLATION for a JOIN that needs more paths than are allowed.
    ///
    /// - Parameter isPaused: whether the receiver's account has to wait before one of it may JOIN.
    mutating func stateReceived(
        _ frame: StateFrame, isPaused: Bool = false, at now: Instant
    ) throws(TransportError) -> StateAnswer {
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
            return .nothing
        }
        flows[index].peerSequence = frame.sequence
        switch frame.action {
        case .join: return joinReceived(index, isPaused: isPaused, at: now)
        case .ready: return readyReceived(index)
        case .leave: return leaveReceived(index)
        }
    }

    private mutating func joinReceived(_ index: Int, isPaused: Bool, at now: Instant) -> StateAnswer {
        if case .withdrawn = flows[index].phase {
            framesIgnored += 1
            sendLeave(index)
            return .nothing
        }
        let allows = flows[index].limiter.allowsJoin(at: now) && !isPaused && !flows[index].isPathAbandoned
        var ended = membership(index, endedBy: .rejoined)
        // Whoever asks again for the key that it has goes on having it.
        if allows, ended == .keyHolder { ended = nil }
        guard allows else {
            joinsRefused += 1
            flows[index].phase = .announced
            sendLeave(index)
            return StateAnswer(ended: ended, next: .joinRefused(flows[index].id))
        }
        flows[index].phase = .keyed
        return StateAnswer(ended: ended, next: .giveKeys(flows[index].id))
    }

    private mutating func readyReceived(_ index: Int) -> StateAnswer {
        // Otherwise it has crossed a LEAVE of ours.
        guard case .keyed = flows[index].phase else {
            framesIgnored += 1
            return .nothing
        }
        flows[index].phase = .ready
        return StateAnswer(ended: nil, next: .admit(flows[index].id))
    }

    /// The receiver is no member any more (draft section 6.1).
    private mutating func leaveReceived(_ index: Int) -> StateAnswer {
        var ended: EndedMembership?
        switch flows[index].phase {
        case .withdrawn: framesIgnored += 1
        case .announced: break
        case .keyed, .ready, .member:
            ended = membership(index, endedBy: .left)
            flows[index].phase = .announced
        }
        if flows[index].owesAnswer { sendLeave(index) }
        return StateAnswer(ended: ended, next: .nothing)
    }

    /// The receiver has abandoned a flow's path (draft-ietf-quic-multipath-21 section 3.4): it is no member any more. Returns
    /// what that ended.
    mutating func pathAbandoned(_ pathID: UInt64) -> EndedMembership? {
        guard let index = flows.firstIndex(where: { $0.pathID == pathID }) else { return nil }
        flows[index].isPathAbandoned = true
        return leaveReceived(index).ended
    }

    /// What ends with the phase that the flow is in. The caller sets the phase that follows.
    private func membership(_ index: Int, endedBy reason: LeaveReason) -> EndedMembership? {
        switch flows[index].phase {
        case .announced, .withdrawn: nil
        case .keyed, .ready: .keyHolder
        case .member(let member, _): .member(member, reason)
        }
    }

    private mutating func sendAnnounce(_ index: Int) {
        let flow = flows[index]
        let frame = AnnounceFrame(flowID: flow.id, sequence: flow.announceSequence, parameters: flow.parameters)
        send(frame.encoded, key: FrameKey.announce(index))
    }

    /// The only action that a source may send (draft section 11.2.1).
    private mutating func sendLeave(_ index: Int) {
        let frame = StateFrame(flowID: flows[index].id, sequence: flows[index].stateSequence, action: .leave)
        flows[index].stateSequence += 1
        flows[index].owesAnswer = false
        send(frame.encoded, key: FrameKey.state(index))
    }

    private mutating func send(_ octets: [UInt8], key: UInt64) {
        outbox.removeAll { $0.key == key }
        outbox.append(ExtensionFrame(octets: octets, key: key))
    }

    private func index(of id: FlowID) -> Int? { flows.firstIndex { $0.id == id } }
}
