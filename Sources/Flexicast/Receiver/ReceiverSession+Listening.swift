import QUIC
import Wire

/// Where a receiver stands with a flow, for display and tests.
public enum ReceiverState: Sendable, Hashable, CaseIterable {
    /// The flow was never announced, or is forgotten.
    case unaware
    /// Announced and not joined.
    case aware
    /// JOIN is sent, and FC_KEY awaited.
    case needsKey
    /// The key is in place, and no packet has been opened.
    case joined
    /// Packets are opened, and READY is sent: the source counts on the receiver.
    case listening
    /// It was joined, and its group still is: the receiver returns when it hears the flow steadily.
    case left
    /// Withdrawn.
    case retired
}

extension ReceiverSession {
    // MARK: Joining

    /// Where the receiver stands with the flow, whether it was announced or not.
    public func state(of id: FlowID) -> ReceiverState {
        guard let index = index(of: id) else { return .unaware }
        switch flows[index].phase {
        case .aware: return .aware
        case .needsKey: return .needsKey
        case .joined: return .joined
        case .listening: return .listening
        case .left: return .left
        case .retired: return .retired
        }
    }

    /// As last announced; nil for a flow that is not known.
    public func parameters(of id: FlowID) -> FlowParameters? { index(of: id).map { flows[$0].parameters } }
    /// The flow's path on this connection, its own for good from the first JOIN on; nil before that.
    public func pathID(of id: FlowID) -> UInt64? { index(of: id).flatMap { flows[$0].pathID } }
    /// The flows that are announced now.
    public var announcedFlows: [FlowID] {
        flows.compactMap { if case .retired = $0.phase { nil } else { $0.id } }
    }
    /// Whether any flow is listened to.
    public var isListening: Bool {
        flows.contains { if case .listening = $0.phase { true } else { false } }
    }

    /// Joins a flow that was announced, now or when the rules allow it. Ignored for others.
    public mutating func join(_ id: FlowID, at now: Instant) {
        guard let index = index(of: id) else { return }
        switch flows[index].phase {
        case .aware: flows[index].phase = .aware(.init(isWanted: true))
        case .left: flows[index].phase = .left(.init(steadyTime: configuration.steadyTime, notBefore: now))
        case .needsKey, .joined, .listening, .retired: break
        }
        joinNext(at: now)
    }

    /// Leaves a flow for good, its group too, until `join`: it is as if it had just been announced (draft section 6.1).
    public mutating func leave(_ id: FlowID, at now: Instant) {
        guard let index = index(of: id) else { return }
        leaveFlow(index, reason: .asked)
    }

    mutating func leaveFlow(_ index: Int, reason: FallBackReason) {
        if case .retired = flows[index].phase { return }
        if flows[index].hasJoined {
            send(.leave, index)
            endListening(index, reason: reason)
        }
        leaveGroup(index)
        flows[index].phase = .aware(.init(isWanted: false))
    }

    /// Joins what is wanted and possible: a first JOIN has to wait until the one before is answered.
    mutating func joinNext(at now: Instant) {
        var joined = flows.count { $0.hasJoined }
        for index in flows.indices {
            guard joined < configuration.maximumJoined else { return }
            guard case .aware(let state) = flows[index].phase, state.isWanted, flows[index].isJoinable else { continue }
            if startJoin(index, isReturn: false, at: now) { joined += 1 }
        }
    }

    @discardableResult
    private mutating func startJoin(_ index: Int, isReturn: Bool, at now: Instant) -> Bool {
        let isFirst = flows[index].pathID == nil
        if isFirst {
            guard let path = allocatePath(for: flows[index].id) else { return false }
            flows[index].pathID = path
        }
        joinGroup(index)
        statistics.joins += 1
        flows[index].phase = .needsKey(
            .init(
                isReturn: isReturn, keysAbove: flows[index].keySequence, warnAt: now + configuration.answerTimeout))
        send(.join, index, isFirst: isFirst)
        return true
    }

    /// Joins the tree and listens at its port, or for copies at the receiver's own address (draft section 5.1).
    mutating func joinGroup(_ index: Int) {
        guard !flows[index].isInGroup else { return }
        flows[index].isInGroup = true
        let flow = flows[index]
        act(
            .joinGroup(
                flow.id, source: flow.multicastSource, group: flow.parameters.group, port: flow.parameters.port))
    }

    mutating func leaveGroup(_ index: Int) {
        guard flows[index].isInGroup else { return }
        flows[index].isInGroup = false
        let flow = flows[index]
        act(
            .leaveGroup(
                flow.id, source: flow.multicastSource, group: flow.parameters.group, port: flow.parameters.port))
    }

    /// Receivers send FC_STATE and no other frame of the extension (draft sections 11.1 and 11.3).
    private mutating func send(_ action: StateFrame.Action, _ index: Int, isFirst: Bool = false) {
        let frame = StateFrame(flowID: flows[index].id, sequence: flows[index].stateSequence, action: action)
        flows[index].stateSequence += 1
        let ordinal = flows[index].ordinal
        act(.send(frame: frame.encoded, key: isFirst ? FrameKey.firstJoin(ordinal) : FrameKey.state(ordinal)))
    }

    // MARK: Packets of a flow

    /// Datagrams with the flow's ID arrived; whether they can be opened is not known yet. May decide to return.
    public mutating func flowPacketHeard(_ id: FlowID, count: Int = 1, at now: Instant) {
        guard let index = index(of: id) else { return }
        statistics.packetsHeard += UInt64(count)
        guard case .left(var state) = flows[index].phase else { return }
        state.hearing.heard(count, at: now, gap: configuration.silence)
        flows[index].phase = .left(state)
        guard now >= state.notBefore, flows[index].isJoinable,
            state.hearing.isSteady(at: now, time: state.steadyTime, packets: configuration.steadyPackets),
            flows.count(where: { $0.hasJoined }) < configuration.maximumJoined
        else { return }
        startJoin(index, isReturn: true, at: now)
    }

    /// A key has opened a packet of the flow: returns the path ID under which the connection takes its frames
    /// (`Connection.flowPacketsReceived`), or nil when the packet must not be processed: it comes before the first
    /// packet number of its key, or the key has been replaced before it.
    public mutating func flowPacketOpened(
        _ id: FlowID, generation: UInt64, packetNumber: UInt64, at now: Instant
    ) -> UInt64? {
        if let path = flowPacketsOpened(
            id, generation: generation, packetNumbers: packetNumber...packetNumber, at: now)
        {
            return path
        }
        guard let index = index(of: id) else { return nil }
        switch flows[index].phase {
        case .listening(var state):
            guard let numbers = state.keys.numbers(of: generation), numbers.contains(packetNumber) else { break }
            state.keys.used(generation: generation, at: now, retention: configuration.keyRetention)
            if flows[index].backOffs > 0, now - state.since >= configuration.stableTime { flows[index].backOffs = 0 }
            flows[index].phase = .listening(state)
            flows[index].lastOpened = now
            // As long as there is something to forget after a while, time has to be looked at.
            if flows[index].backOffs == 0 { flows[index].usual = .init(generation: generation, numbers: numbers) }
            statistics.packetsOpened += 1
            return flows[index].pathID
        case .joined(var state):
            guard let numbers = state.keys.numbers(of: generation), numbers.contains(packetNumber) else { break }
            state.keys.used(generation: generation, at: now, retention: configuration.keyRetention)
            flows[index].phase = .listening(state.packetOpened(at: now))
            flows[index].lastOpened = now
            statistics.packetsOpened += 1
            send(.ready, index)
            act(.listening(id))
            if state.isReturn {
                statistics.returns += 1
                act(.returned(id))
            }
            return flows[index].pathID
        case .aware, .needsKey, .left, .retired:
            break
        }
        statistics.packetsOutsideKey += 1
        return nil
    }

    /// The same for packets with consecutive numbers that are like one before them; nil, and nothing done: ask for each.
    public mutating func flowPacketsOpened(
        _ id: FlowID, generation: UInt64, packetNumbers: ClosedRange<UInt64>, at now: Instant
    ) -> UInt64? {
        guard let index = index(of: id), let usual = flows[index].usual, usual.generation == generation,
            usual.numbers.contains(packetNumbers.lowerBound), usual.numbers.contains(packetNumbers.upperBound)
        else { return nil }
        flows[index].lastOpened = now
        statistics.packetsOpened += UInt64(packetNumbers.count)
        return flows[index].pathID
    }

    /// No key opened the packet. Each receiver bounds the forgeries it takes (RFC 9001 section 6.6).
    public mutating func flowPacketRejected(_ id: FlowID, at now: Instant) {
        guard let index = index(of: id) else { return }
        statistics.packetsRejected += 1
        flows[index].rejected += 1
        guard let limit = flows[index].keys.map(\.suite.integrityLimit).min() else { return }
        if flows[index].rejected >= limit { leaveFlow(index, reason: .forgeries) }
    }

    // MARK: Falling back

    /// Leaves the membership but not the group, so as to hear when the flow is well again.
    mutating func fallBack(_ index: Int, reason: FallBackReason, tellsSource: Bool, at now: Instant) {
        if tellsSource { send(.leave, index) }
        endListening(index, reason: reason)
        let usual = min(
            configuration.longestBackOff, configuration.firstBackOff * (1 << min(flows[index].backOffs, 16)))
        // A source that has put a receiver out refuses it for two seconds, then four, and so on up to 120.
        let wait = reason == .sourceLeft ? usual * 2 : usual
        flows[index].backOffs += 1
        // All that lose a tree together hear it together again: each returns at a time of its own.
        let spread = Int64.random(in: 0...max(0, configuration.steadyTime.nanoseconds), using: &random)
        flows[index].phase = .left(
            .init(steadyTime: configuration.steadyTime + .nanoseconds(spread), notBefore: now + wait))
    }

    /// Gives up the keys and what the path has received (draft section 6.1). Its ID stays the flow's own, so that both ends go
    /// on counting alike, and a key that comes to another JOIN begins behind every packet that came before. The caller sets
    /// the phase that follows.
    mutating func endListening(_ index: Int, reason: FallBackReason) {
        let id = flows[index].id
        for key in flows[index].keys { act(.dropKey(id, generation: key.generation)) }
        if flows[index].isPathOpen, let pathID = flows[index].pathID {
            flows[index].isPathOpen = false
            act(.closeReceivePath(id, pathID: pathID))
        }
        if case .listening = flows[index].phase {
            statistics.fallBacks += 1
            act(.fellBack(id, reason))
        }
    }

    // MARK: Time

    /// When to call `timerFired`, unless something happens before.
    public var nextDeadline: Instant {
        var deadline = Instant.distantFuture
        for flow in flows {
            switch flow.phase {
            case .needsKey(let state): deadline = min(deadline, state.warnAt)
            case .joined(let state): deadline = min(deadline, state.deadline, state.keys.dropAt)
            case .listening(let state):
                let wait = flow.askedAfter == flow.lastOpened ? configuration.silence : configuration.questionTime
                deadline = min(deadline, flow.lastOpened + min(wait, configuration.silence), state.keys.dropAt)
            case .left(let state) where flow.isReplicated: deadline = min(deadline, state.notBefore)
            case .aware, .left, .retired: break
            }
        }
        return deadline
    }

    /// Does what is due: warns of a JOIN without an answer, falls back, drops old keys, returns to copies.
    public mutating func timerFired(at now: Instant) {
        for index in flows.indices {
            switch flows[index].phase {
            case .needsKey(var state):
                guard now >= state.warnAt else { break }
                state.warnAt = .distantFuture
                flows[index].phase = .needsKey(state)
                statistics.joinsUnanswered += 1
                act(.joinUnanswered(flows[index].id))
            case .joined(var state):
                if let old = state.keys.expired(at: now) {
                    act(.dropKey(flows[index].id, generation: old.generation))
                    flows[index].phase = .joined(state)
                }
                if now >= state.deadline { fallBack(index, reason: .nothingHeard, tellsSource: true, at: now) }
            case .listening(var state):
                if let old = state.keys.expired(at: now) {
                    act(.dropKey(flows[index].id, generation: old.generation))
                    flows[index].phase = .listening(state)
                }
                if now >= flows[index].lastOpened + configuration.silence {
                    fallBack(index, reason: .silence, tellsSource: true, at: now)
                } else if now >= flows[index].lastOpened + configuration.questionTime,
                    flows[index].askedAfter != flows[index].lastOpened
                {
                    flows[index].askedAfter = flows[index].lastOpened
                    act(.ask)
                }
            case .left(var state) where flows[index].isReplicated && now >= state.notBefore:
                if flows.count(where: { $0.hasJoined }) < configuration.maximumJoined {
                    startJoin(index, isReturn: true, at: now)
                } else {
                    state.notBefore = now + configuration.firstBackOff
                    flows[index].phase = .left(state)
                }
            case .aware, .left, .retired: break
            }
        }
        joinNext(at: now)
    }
}
