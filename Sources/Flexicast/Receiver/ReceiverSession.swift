import QUIC
import Wire

/// The receiver's end of one connection's flexicast exchange: joins flows, takes their keys, says READY, notices
/// silence, falls back to unicast and returns. A pure value: what must happen comes out of `nextAction`.
///
/// READY means: this receiver has opened a packet of the flow. The tree and the key have both been seen to work by
/// then; the source keeps even an idle flow alive, so it does not take long.
///
/// Falling back is cheap (the source then sends on unicast what was not acknowledged) and returning is not urgent,
/// so the one is quick and the other waits: for packets heard steadily, and longer after each fall back.
///
/// **Who may inject.** Every receiver of a flow holds the key of its packets. One that can also send datagrams with the
/// source's address can make packets that all the others open and believe. The flow's key keeps outsiders out; it does
/// not prove that a packet comes from the source. Where receivers do not trust each other, the network must stop spoofed
/// source addresses, or the flow must not be joined. A scheme that authenticates the source would check a packet where
/// `flowPacketOpened` admits it.
public struct ReceiverSession: FrameExtension, Sendable {
    /// The highest path ID that both ends allow.
    public var maximumPathID: UInt64
    /// Counts since the connection began.
    public internal(set) var statistics = ReceiverStatistics()

    let configuration: ReceiverConfiguration
    private let isNegotiated: Bool
    var flows: [ReceiverFlow] = []
    private var nextPathID: UInt64 = 1
    private var nextOrdinal = 0
    /// The flow whose first JOIN has not been answered: no other flow is joined for the first time until it is.
    var unanswered: FlowID?
    /// A flow was forgotten: an unknown ID may be that one.
    private var hasForgotten = false
    var random: SeededRandom
    private var actions: [ReceiverAction] = []
    private var actionsTaken = 0

    /// `isNegotiated` tells whether both ends sent flexicast_support and negotiated multipath.
    public init(
        isNegotiated: Bool, maximumPathID: UInt64, configuration: ReceiverConfiguration = ReceiverConfiguration(),
        seed: SeededRandom
    ) {
        self.isNegotiated = isNegotiated
        self.maximumPathID = maximumPathID
        self.configuration = configuration
        random = seed
    }

    /// The next thing to do; nil when all is done. Call until nil after every other call.
    public mutating func nextAction() -> ReceiverAction? {
        guard actionsTaken < actions.count else {
            if actionsTaken > 0 { actions.removeAll(keepingCapacity: true) }
            actionsTaken = 0
            return nil
        }
        defer { actionsTaken += 1 }
        return actions[actionsTaken]
    }

    mutating func act(_ action: ReceiverAction) { actions.append(action) }

    // MARK: Frames

    /// Takes FC_ANNOUNCE, FC_STATE and FC_KEY (draft section 11); nil for others, and for all when flexicast was not negotiated.
    /// Throws FC_PROTOCOL_VIOLATION for what only receivers send, and for a flow that was never announced.
    public mutating func frameReceived(
        type: UInt64, body: Span<UInt8>, at now: Instant
    ) throws(TransportError) -> Int? {
        guard isNegotiated else { return nil }
        var reader = ByteReader(body)
        switch type {
        case FlexicastFrameType.announce: try announceReceived(AnnounceFrame(parsing: &reader))
        case FlexicastFrameType.state: try stateReceived(StateFrame(parsing: &reader), at: now)
        case FlexicastFrameType.key: try keyReceived(KeyFrame(parsing: &reader), at: now)
        default: return nil
        }
        joinNext(at: now)
        return reader.offset
    }

    /// Throws PROTOCOL_VIOLATION: a receiver sends on its connection's own path only.
    public mutating func pathAcknowledged(
        pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
    ) throws(TransportError) {
        throw TransportError(.protocolViolation, "PATH_ACK for path \(pathID), on which nothing was sent")
    }

    /// The source has abandoned a flow's path: on this connection the flow is over, as its path ID is its own for good
    /// (draft-ietf-quic-multipath-21 section 3.4).
    public mutating func pathAbandoned(_ pathID: UInt64) {
        guard let index = flows.firstIndex(where: { $0.pathID == pathID }) else { return }
        if unanswered == flows[index].id { unanswered = nil }
        flows[index].isPathAbandoned = true
        leaveFlow(index, reason: .sourceLeft)
    }

    /// The error for a frame that a flow may not carry (draft sections 7 and 11).
    public func forbiddenOnFlow(type: UInt64) -> TransportError { .forbiddenOnFlow(type) }

    /// The newest announcement of a flow counts: older ones are ignored, newer ones change it (draft sections 5.1 and 11.1).
    private mutating func announceReceived(_ frame: AnnounceFrame) throws(TransportError) {
        let parameters = frame.parameters
        guard !parameters.group.isUnspecified || parameters.isWithdrawn else {
            throw .flexicast("FC_ANNOUNCE with a source and a null group", frameType: FlexicastFrameType.announce)
        }
        guard let index = index(of: frame.flowID) else {
            announceNew(frame)
            return
        }
        guard frame.sequence > flows[index].announceSequence else {
            statistics.framesIgnored += 1
            return
        }
        flows[index].announceSequence = frame.sequence
        if parameters.isWithdrawn {
            withdraw(index)
        } else {
            update(index, to: parameters)
        }
    }

    private mutating func announceNew(_ frame: AnnounceFrame) {
        guard liveFlows < configuration.maximumFlows else {
            statistics.flowsOverLimit += 1
            hasForgotten = true
            return
        }
        let isSupported = judge(frame.parameters)
        flows.append(
            ReceiverFlow(
                id: frame.flowID, ordinal: nextOrdinal, parameters: frame.parameters,
                phase: frame.parameters.isWithdrawn
                    ? .retired : .aware(.init(isWanted: configuration.joinsByItself)),
                announceSequence: frame.sequence, isSupported: isSupported))
        nextOrdinal += 1
        forgetOldest()
    }

    private mutating func judge(_ parameters: FlowParameters) -> Bool {
        guard !parameters.isWithdrawn else { return false }
        guard configuration.support.supports(parameters.group) else {
            statistics.unsupportedFlows += 1
            return false
        }
        return true
    }

    private mutating func update(_ index: Int, to parameters: FlowParameters) {
        let old = flows[index].parameters
        if case .retired = flows[index].phase {
            flows[index].phase = .aware(.init(isWanted: configuration.joinsByItself))
        }
        let hasMoved =
            old.group != parameters.group || old.source != parameters.source || old.port != parameters.port
        let wasInGroup = flows[index].isInGroup
        if hasMoved {
            leaveGroup(index)
            flows[index].isSupported = judge(parameters)
        }
        flows[index].parameters = parameters
        if hasMoved, wasInGroup {
            if flows[index].isJoinable {
                joinGroup(index)
                // What listens there now has none.
                for key in flows[index].keys { act(.installKey(flows[index].id, key)) }
            } else {
                leaveFlow(index, reason: .withdrawn)
            }
        }
        if old.ackDelay != parameters.ackDelay, flows[index].isPathOpen, let pathID = flows[index].pathID {
            act(.setAckDelay(flows[index].id, pathID: pathID, ackDelay: ownAckDelay(parameters.ackDelay)))
        }
    }

    /// A source says LEAVE and nothing else (draft section 11.2.1).
    private mutating func stateReceived(_ frame: StateFrame, at now: Instant) throws(TransportError) {
        guard frame.action == .leave else {
            throw .flexicast("FC_STATE(\(frame.action)) from a source", frameType: FlexicastFrameType.state)
        }
        guard let index = try known(frame.flowID, frameType: FlexicastFrameType.state) else { return }
        if unanswered == frame.flowID { unanswered = nil }
        if let highest = flows[index].peerStateSequence, frame.sequence <= highest {
            statistics.framesIgnored += 1
            return
        }
        flows[index].peerStateSequence = frame.sequence
        switch flows[index].phase {
        case .needsKey, .joined:
            statistics.joinsRefused += 1
            act(.joinRefused(frame.flowID))
            fallBack(index, reason: .sourceLeft, tellsSource: false, at: now)
        case .listening: fallBack(index, reason: .sourceLeft, tellsSource: false, at: now)
        case .aware, .left, .retired: statistics.framesIgnored += 1
        }
    }

    private mutating func keyReceived(_ frame: KeyFrame, at now: Instant) throws(TransportError) {
        guard let index = try known(frame.flowID, frameType: FlexicastFrameType.key) else { return }
        guard flows[index].pathID != nil else {
            throw .flexicast("FC_KEY for a flow never joined", frameType: FlexicastFrameType.key)
        }
        if unanswered == frame.flowID { unanswered = nil }
        let key = FlowKey(
            generation: frame.sequence, suite: frame.suite, secret: frame.secret,
            firstPacketNumber: frame.packetNumber)
        let highest = flows[index].keySequence
        flows[index].keySequence = max(highest ?? 0, frame.sequence)
        switch flows[index].phase {
        case .needsKey(let state):
            if let bound = state.keysAbove, frame.sequence <= bound {
                statistics.framesIgnored += 1
                return
            }
            flows[index].phase = .joined(state.keyReceived(key, timeout: configuration.joinTimeout, at: now))
            act(.installKey(frame.flowID, key))
            openPath(index)
        case .joined(var state):
            takeKey(index, key, into: &state.keys)
            flows[index].phase = .joined(state)
        case .listening(var state):
            takeKey(index, key, into: &state.keys)
            flows[index].phase = .listening(state)
        case .aware, .left, .retired:
            statistics.framesIgnored += 1
        }
    }

    private mutating func takeKey(_ index: Int, _ key: FlowKey, into keys: inout ReceiverKeys) {
        guard let gone = keys.insert(key) else {
            statistics.framesIgnored += 1
            return
        }
        if !gone.contains(key) { act(.installKey(flows[index].id, key)) }
        for old in gone where old != key { act(.dropKey(flows[index].id, generation: old.generation)) }
    }

    private mutating func openPath(_ index: Int) {
        guard let pathID = flows[index].pathID else { return }
        let delay = ownAckDelay(flows[index].parameters.ackDelay)
        if flows[index].isPathOpen {
            act(.setAckDelay(flows[index].id, pathID: pathID, ackDelay: delay))
        } else {
            flows[index].isPathOpen = true
            act(.openReceivePath(flows[index].id, pathID: pathID, ackDelay: delay))
        }
    }

    /// Receivers hear the same packets at the same time: each waits a delay of its own in the last quarter of the
    /// announced one, so that their acknowledgements do not arrive together.
    private mutating func ownAckDelay(_ announced: Duration) -> Duration {
        let quarter = max(0, announced.nanoseconds / 4)
        return announced - .nanoseconds(Int64.random(in: 0...quarter, using: &random))
    }

    /// The flow's place in the table; nil for a flow that is no more. Throws for one never announced (draft section 11).
    private mutating func known(_ id: FlowID, frameType: UInt64) throws(TransportError) -> Int? {
        if let index = index(of: id) { return index }
        guard hasForgotten else {
            throw .flexicast("frame for a flow never announced", frameType: frameType)
        }
        statistics.framesIgnored += 1
        return nil
    }

    // MARK: Table

    func index(of id: FlowID) -> Int? {
        for index in flows.indices where flows[index].id == id { return index }
        return nil
    }

    private var liveFlows: Int {
        flows.count { if case .retired = $0.phase { false } else { true } }
    }

    private mutating func forgetOldest() {
        guard flows.count - liveFlows > configuration.maximumRetired else { return }
        let oldest = flows.firstIndex {
            if case .retired = $0.phase { $0.id != unanswered } else { false }
        }
        if let oldest {
            flows.remove(at: oldest)
            hasForgotten = true
        }
    }

    /// From now on nothing of the flow is listened to (draft section 5.1).
    private mutating func withdraw(_ index: Int) {
        if flows[index].hasJoined { endListening(index, reason: .withdrawn) }
        leaveGroup(index)
        flows[index].phase = .retired
        flows[index].parameters = flows[index].parameters.withdrawn
        forgetOldest()
    }

    /// The path ID for a flow that is joined for the first time; nil when it has to wait.
    mutating func allocatePath(for id: FlowID) -> UInt64? {
        guard unanswered == nil, nextPathID <= maximumPathID else { return nil }
        unanswered = id
        defer { nextPathID += 1 }
        return nextPathID
    }
}
