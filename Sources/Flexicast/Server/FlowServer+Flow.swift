import QUIC
import Wire

// What the flow asks for, and the way that it takes to each receiver.
extension FlowServer {
    /// Does what the flow asked for since the last call. To be called before and after packets of the flow are written.
    public mutating func settle(at now: Instant) {
        // What is done here may ask for it again: the loop below sees to that.
        guard !isSettling, let hasActions = flow?.hasActions, hasActions || !crowded.isEmpty else { return }
        isSettling = true
        defer { isSettling = false }
        repeat {
            perform(at: now)
            while let slot = crowded.popLast() {
                if let member = seats[slot].member { flow!.evict(member, reason: .tooSlow, at: now) }
            }
        } while flow!.hasActions
    }

    private mutating func perform(at now: Instant) {
        while let action = flow!.nextAction() {
            switch action {
            case .unicastRepair(let member, let stream, let octets, let range, let fin, let counted):
                guard let slot = slot(of: member) else { continue }
                repair(
                    slot, Seat.Repair(stream: stream, octets: octets, range: range, fin: fin, counted: counted), at: now
                )
            case .streamExpired(let member, let stream, let octets):
                guard let slot = slot(of: member) else { continue }
                giveUp(slot, stream, octets)
            case .memberRemoved(let member, let reason, let charge):
                guard let slot = slot(of: member) else { continue }
                memberRemoved(slot, member, reason: reason, charge: charge, at: now)
            case .sendKey(let key):
                let id = flow!.flowID
                for slot in seats.indices where seats[slot].hasJoined(id) {
                    seats[slot].withSession { $0.sendKey(id, key) }
                    touch(slot)
                }
            case .announce:
                for slot in seats.indices { announce(slot, at: now) }
            case .installKey(let key): keyChanges.append(.install(key))
            case .dropKey(let generation): keyChanges.append(.drop(generation: generation))
            }
        }
    }

    // Inlined: the whole server would be copied for the call.
    @inline(__always)
    private func slot(of member: MemberID) -> Int? {
        guard member.slot < receiverOfMember.count, receiverOfMember[member.slot] >= 0 else { return nil }
        let slot = receiverOfMember[member.slot]
        return seats[slot].member == member ? slot : nil
    }

    private mutating func memberRemoved(
        _ slot: Int, _ member: MemberID, reason: LeaveReason, charge: FlowCharge, at now: Instant
    ) {
        guard flow != nil else { return }
        receiverOfMember[member.slot] = -1
        seats[slot].member = nil
        // Those before went to it on the flow.
        seats[slot].nextDatagram = datagrams.end
        pauses.left(seats[slot].account)
        if reason.isEviction { pauses.evicted(seats[slot].account, at: now) }
        seats[slot].charge.octets += charge.octets
        seats[slot].charge.streams += charge.streams
        if reason.isEviction {
            let id = flow!.flowID
            seats[slot].withSession { $0.evict(id, at: now) }
            seats[slot].evictedMember = member
        }
        guard seats[slot].isConnected else { return }
        // The flow has handed back what it was given and had not sent. It may not have been given all of an object yet.
        seats[slot].cursor.follow(from: flow!.nextStream.index)
        tell(.backOnUnicast(id(of: slot), reason))
        touch(slot)
        reviewWay(slot, hasLeft: true, at: now)
    }

    /// Takes a receiver off the flow for which more would wait than may.
    mutating func leaveFlow(_ slot: Int, at now: Instant) {
        isCrowded(slot)
        settle(at: now)
    }

    /// The same, once `settle` is called.
    mutating func isCrowded(_ slot: Int) {
        guard seats[slot].member != nil, !crowded.contains(slot) else { return }
        crowded.append(slot)
    }

    // MARK: Ways

    mutating func announce(_ slot: Int, at now: Instant) {
        // A copy of the flow would have its tables copied at its next change.
        guard flow != nil, seats[slot].hasSession else { return }
        let id = flow!.flowID
        let parameters: FlowParameters
        let isGroup: Bool
        switch seats[slot].way {
        case .none: return
        case .group: (parameters, isGroup) = (flow!.parameters, true)
        case .copies: (parameters, isGroup) = (parametersOfCopies(slot), false)
        }
        guard seats[slot].withSession({ $0.announce(id, parameters, at: now) }) == true else {
            // Of another IP version, or more flows than one connection is told of.
            if isGroup, !seats[slot].isAttached { seats[slot].way = .none }
            return
        }
        touch(slot)
        // A group's tree is kept alive for all who may come to hear it; copies go to those who have joined.
        if isGroup { setAttached(slot, true, at: now) }
    }

    /// For copies, the receiver's own address takes the place of the group.
    private func parametersOfCopies(_ slot: Int) -> FlowParameters {
        let to = seats[slot].remote
        let unknown: IPAddress = to.address.isIPv4 ? .v4(0) : .v6(0)
        return FlowParameters(
            source: seats[slot].local ?? unknown, group: to.address, port: to.port,
            ackDelay: flow?.parameters.ackDelay ?? .zero)
    }

    mutating func setAttached(_ slot: Int, _ isAttached: Bool, at now: Instant) {
        guard flow != nil, seats[slot].isAttached != isAttached else { return }
        seats[slot].isAttached = isAttached
        if case .copies = seats[slot].way { setCopied(slot, isAttached) }
        if isAttached { flow!.attach(at: now) } else { flow!.detach() }
        isFlowTouched = true
    }

    /// Copies go to a receiver as long as it has joined; one that has left a group that it could not hear is offered them.
    mutating func reviewWay(_ slot: Int, hasLeft: Bool, at now: Instant) {
        guard flow != nil, seats[slot].isConnected else { return }
        let hasJoined = seats[slot].hasJoined(flow!.flowID)
        switch seats[slot].way {
        case .none: break
        case .copies: setAttached(slot, hasJoined, at: now)
        case .group:
            guard configuration.replicates, hasLeft, !hasJoined else { return }
            setAttached(slot, false, at: now)
            let spread = Double.random(in: 0...1, using: &random)
            if seats[slot].trial?.failed(at: now, spread: spread) == nil {
                seats[slot].trial = GroupTrial(first: configuration.groupRetry, at: now, spread: spread)
            }
            seats[slot].way = .copies
            tell(.offeredCopies(id(of: slot)))
            announce(slot, at: now)
        }
    }

    /// A network may have learnt to carry the group meanwhile. What a receiver misses while it listens in vain is repaired.
    mutating func retryGroup(at now: Instant) {
        for slot in copied where seats[slot].member != nil {
            guard let trial = seats[slot].trial, trial.next <= now else { continue }
            tell(.triedOnGroup(id(of: slot)))
            setAttached(slot, false, at: now)
            seats[slot].way = .group
            announce(slot, at: now)
        }
    }
}
