import Objects
import QUIC
import Wire

// What a receiver's connection brings, and what is handed to it.
extension FlowServer {
    mutating func connected<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: inout C, at now: Instant
    ) {
        guard case .handshaking = seats[slot].phase else { return }
        seats[slot].remote = connection.remoteAddress
        seats[slot].local = connection.localAddress?.address
        seats[slot].phase = .plain
        if connection.isExtensionNegotiated, flow != nil, let peer = connection.peerParameters,
            let value = peer.others[FlexicastSupport.parameterID]
        {
            do throws(TransportError) {
                let limit = min(peer.initialMaxPathID ?? 0, connection.localParameters.initialMaxPathID ?? 0)
                seats[slot].phase = .flexicast(
                    SourceSession(support: try FlexicastSupport(parsing: value.span), maximumPathID: limit))
            } catch {
                seats[slot].phase = .closed
                connection.close(error, at: now)
                return
            }
        }
        receiverCount += 1
        tell(.connected(id(of: slot), speaksFlexicast: seats[slot].hasSession))
        seats[slot].nextDatagram = datagrams.end
        seats[slot].nextEnded = ended.end
        if seats[slot].hasSession, mayHearDatagrams(slot, connection.peerParameters) {
            seats[slot].way = configuration.hasGroup ? .group : .copies
            announce(slot, at: now)
        }
        seats[slot].position = .awaited(from: log.next)
        awaitPosition(slot, until: now + configuration.positionTime)
        touch(slot)
    }

    mutating func closed(_ slot: Int, at now: Instant) {
        guard seats[slot].isConnected else {
            seats[slot].phase = .closed
            return
        }
        receiverCount -= 1
        let ended = seats[slot].withSession { $0.connectionClosed() } ?? []
        for membership in ended { end(membership, at: now) }
        if flow != nil, let member = seats[slot].evictedMember { flow!.connectionEnded(member) }
        setAttached(slot, false, at: now)
        seats[slot].phase = .closed
        seats[slot].way = .none
        seats[slot].cursor = DeliveryCursor()
        seats[slot].repairs = []
        seats[slot].messages = []
        seats[slot].streams = [:]
        leaveReads(slot)
        leaveTurns(slot, at: now)
        settle(at: now)
    }

    mutating func take<C: ReceiverConnection & ~Copyable>(
        _ frame: ReceivedFrames.Frame, _ slot: Int, on connection: inout C, at now: Instant
    ) throws(TransportError) {
        isFlowTouched = true
        switch frame {
        case .state(let frame):
            let isPaused = !pauses.mayJoin(FlowAccount(seats[slot].remote.address), at: now)
            let answer = try seats[slot].withSession { session throws(TransportError) in
                try session.stateReceived(frame, isPaused: isPaused, at: now)
            }
            guard let answer else { return }
            if let ended = answer.ended { end(ended, at: now) }
            switch answer.next {
            case .nothing: break
            case .giveKeys(let id): giveKeys(slot, id, at: now)
            case .admit(let id): admit(slot, id, on: &connection, at: now)
            case .joinRefused:
                joinsRefused += 1
                tell(.joinRefused(id(of: slot)))
            }
            // What the flow hands to others, or back to this one, is in place before its next frame is looked at.
            settle(at: now)
            reviewWay(slot, hasLeft: answer.ended != nil, at: now)
        case .acknowledgement(let pathID, let ranges, let ackDelay):
            let member = try seats[slot].withSession { session throws(TransportError) in
                try session.pathAcknowledged(pathID: pathID)
            }
            guard flow != nil, let member, let member else { return }
            flow!.acknowledged(member, ranges: ranges, ackDelay: ackDelay, at: now)
            settle(at: now)
        }
    }

    /// As when the receiver leaves the flow, but for good.
    mutating func pathAbandoned(_ pathID: UInt64, _ slot: Int, at now: Instant) {
        guard let ended = seats[slot].withSession({ $0.pathAbandoned(pathID) }), let ended else { return }
        end(ended, at: now)
        settle(at: now)
        reviewWay(slot, hasLeft: true, at: now)
    }

    private mutating func end(_ membership: EndedMembership, at now: Instant) {
        guard flow != nil else { return }
        switch membership {
        case .member(let member, let reason): flow!.leave(member, reason: reason, at: now)
        case .keyHolder: flow!.keyHolderLeft()
        }
    }

    private mutating func giveKeys(_ slot: Int, _ id: FlowID, at now: Instant) {
        guard flow != nil else { return }
        let keys = flow!.joined(at: now)
        seats[slot].withSession { session in for key in keys { session.sendKey(id, key) } }
        // It will hear pieces of parts that it is not sent, and would wait for the rest for ever.
        let next = StreamID(initiator: .server, bidirectional: false, index: log.next)
        var given = seats[slot].given ?? Cursor()
        for old in flow!.unfinishedStreams(before: next) where !isServed(slot, old.stream.index) {
            repair(
                slot,
                Seat.Repair(
                    stream: old.stream, octets: old.octets, range: 0..<UInt64(old.octets.count), fin: true,
                    counted: true),
                at: now)
            given.settle(old.stream.index)
            seats[slot].given = given
        }
    }

    /// Whether the part is sent to the receiver on its connection, or was.
    private func isServed(_ slot: Int, _ sequence: UInt64) -> Bool {
        if seats[slot].cursor.contains(sequence) || seats[slot].given?.contains(sequence) == true { return true }
        if let first = seats[slot].servedFrom, sequence >= first { return true }
        guard sequence >= seats[slot].firstPart else { return false }
        return seats[slot].settledBefore?.contains(sequence) != true
    }

    private mutating func admit<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, _ id: FlowID, on connection: inout C, at now: Instant
    ) {
        guard flow != nil else { return }
        // Those from now on come by the flow.
        deliverDatagrams(slot, on: &connection, at: now)
        // Both spend the same credit: what waits to be charged comes first.
        payCharge(slot, on: &connection)
        let window = connection.peerParameters?.initialMaxStreamDataUni ?? 0
        let account = FlowAccount(connection.remoteAddress.address)
        guard
            let member = flow!.add(
                streamWindow: window, octets: connection.sendCredit, streams: connection.streamCredit,
                account: account, at: now)
        else {
            seats[slot].withSession { $0.evict(id, at: now) }
            flow!.keyHolderLeft()
            let least = flow!.configuration.maximumStreamLength
            let isFull = flow!.memberCount >= flow!.configuration.maximumMembers
            // A flow that is full is nobody's fault.
            if !isFull { pauses.evicted(account, at: now) }
            let reason =
                if window < least {
                    "its initial_max_stream_data_uni is \(window), the flow needs \(least)"
                } else if isFull {
                    "the flow takes no more than \(flow!.configuration.maximumMembers) members"
                } else {
                    "its flow control allows \(connection.sendCredit) octets and \(connection.streamCredit) streams, too little for the flow"
                }
            tell(.notAdmitted(self.id(of: slot), reason: reason))
            return
        }
        seats[slot].member = member
        seats[slot].account = account
        pauses.admitted(account)
        seats[slot].lastCredit = (connection.sendCredit, connection.streamCredit)
        seats[slot].withSession { $0.becameMember(id, member, at: now) }
        while receiverOfMember.count <= member.slot { receiverOfMember.append(-1) }
        receiverOfMember[member.slot] = slot
        seats[slot].cursor.stop(at: log.next)
        seats[slot].servedFrom = seats[slot].servedFrom ?? log.next
        tell(.listens(self.id(of: slot), members: flow!.memberCount))
    }

    // MARK: What goes on the connection

    mutating func deliver<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: inout C, at now: Instant
    ) {
        while let frame = seats[slot].withSession({ $0.nextFrame() }) ?? nil {
            connection.sendExtensionFrame(frame.octets, key: frame.key)
        }
        tellClock(slot, on: connection, at: now)
        resetEnded(slot, on: &connection)
        for repair in seats[slot].repairs {
            if repair.isOver {
                resetStream(repair, on: &connection)
                continue
            }
            connection.sendStreamRange(
                repair.stream, repair.octets, range: repair.range, fin: repair.fin, counted: repair.counted)
            unicast?.charge(repair.range.count, at: now)
        }
        if !seats[slot].repairs.isEmpty { seats[slot].repairs.removeAll() }
        deliverDatagrams(slot, on: &connection, at: now)
        // The flow and this connection spend the same credit.
        if flow != nil, let member = seats[slot].member {
            let charge = flow!.takeCharge(member)
            seats[slot].charge.octets += charge.octets
            seats[slot].charge.streams += charge.streams
        }
        payCharge(slot, on: &connection)
        advance(slot, on: &connection, at: now)
        writeMessages(slot, on: &connection)
        if flow != nil, let member = seats[slot].member {
            let credit = (octets: connection.sendCredit, streams: connection.streamCredit)
            if credit != seats[slot].lastCredit {
                seats[slot].lastCredit = credit
                flow!.setCredit(member, octets: credit.octets, streams: credit.streams)
                isFlowTouched = true
            }
        }
    }

    private mutating func payCharge<C: ReceiverConnection & ~Copyable>(_ slot: Int, on connection: inout C) {
        let charge = seats[slot].charge
        guard charge.octets > 0 || charge.streams > 0 else { return }
        connection.chargeExternal(octets: charge.octets, streams: charge.streams)
        seats[slot].charge = FlowCharge(octets: 0, streams: 0)
    }

    /// Opens streams for what the cursor has next, as far as the connection can send them now.
    private mutating func advance<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: inout C, at now: Instant
    ) {
        var isWanting = false
        defer { if unicast != nil, !isWanting { leaveTurns(slot, at: now) } }
        guard seats[slot].cursor.lowest(before: log.next) != nil else { return }
        // What it is told of gaps is written only after this.
        let held = connection.heldOctets(of: .control)
        let wasFull = held + seats[slot].messages.count >= Self.controlOctets
        var room = connection.sendRoom
        // What may be handed over now, of what all receivers share.
        var allowance = unicast == nil ? Int.max : unicast!.allowance(slot) ?? 0
        // What was read for it, in a turn that it gave back meanwhile.
        var granted = unicast != nil && seats[slot].reading == .ended ? StoredReads.octets : 0
        if seats[slot].reading == .ended { seats[slot].reading = .none }
        parts: while room.octets > 0 {
            guard held + seats[slot].messages.count < Self.controlOctets else {
                if !wasFull { controlWaits += 1 }
                break
            }
            let mayCharge = room.credit > 0 && room.streams > 0
            guard let next = seats[slot].cursor.next(before: log.next, mayCharge: mayCharge) else { break }
            let part: Part
            switch log.part(at: next.sequence) {
            case .beyond: return
            case .void(let gap):
                tellGap(slot, gap)
                room.octets -= Self.gapCost
                continue
            case .gone(let gap):
                // No more of them than wait here: others may be on their way, on the flow or on the connection.
                let end = seats[slot].cursor.endOfRun(from: next.sequence)
                tellGap(
                    slot, Gap(first: gap.first, count: min(gap.count, end - next.sequence), reason: gap.reason))
                room.octets -= Self.gapCost
                continue
            case .part(let found) where !seats[slot].wants.include(found.header.name):
                tellGap(slot, Gap(first: next.sequence, count: 1, reason: .unwanted))
                room.octets -= Self.gapCost
                continue
            case .part(let found): part = found
            case .stored(let stored):
                if let found = reads.part(next.sequence) {
                    guard seats[slot].wants.include(found.header.name) else {
                        tellGap(slot, Gap(first: next.sequence, count: 1, reason: .unwanted))
                        room.octets -= Self.gapCost
                        continue
                    }
                    part = found
                    break
                }
                guard seats[slot].reading != .asked else { break parts }
                // In its turn, which others have while the disk works.
                if Int(stored.octets) > allowance, takeTurn(slot, at: now) == nil {
                    isWanting = true
                    break parts
                }
                read(next.sequence, for: slot)
                break parts
            }
            // One that the receiver takes only piece by piece goes alone.
            guard UInt64(part.streamLength) <= room.streamWindow || room.openStreams == 0 else { break }
            let isGranted = part.streamLength <= granted
            if !isGranted, part.streamLength > allowance {
                guard let turn = takeTurn(slot, at: now) else {
                    isWanting = true
                    break
                }
                allowance = max(turn, part.streamLength)
            }
            if seats[slot].hasSession {
                connection.sendStreamRange(
                    StreamID(initiator: .server, bidirectional: false, index: next.sequence), part.octets,
                    range: 0..<UInt64(part.streamLength), fin: true, counted: !next.isCharged)
            } else {
                guard let stream = try? seats[slot].openedStream ?? connection.openStream(bidirectional: false) else {
                    break
                }
                seats[slot].openedStream = stream
                guard (try? connection.write(stream, part.octets, fin: true)) != nil else { break }
                seats[slot].openedStream = nil
                if log.nextLifetimeEnd != nil { seats[slot].streams[stream] = next.sequence }
            }
            if isGranted {
                granted -= part.streamLength
                unicast?.charge(part.streamLength, at: now)
            } else if unicast != nil {
                unicast!.spend(slot, part.streamLength)
                allowance -= part.streamLength
            }
            seats[slot].cursor.took(next.sequence)
            room.octets -= part.streamLength
            room.credit -= min(room.credit, UInt64(part.streamLength))
            room.streams -= min(room.streams, 1)
            room.openStreams += 1
        }
    }

    /// Has a part of a stream sent on the receiver's connection: with the cursor if it is a part of the log that nothing was
    /// sent of, else by itself.
    mutating func repair(_ slot: Int, _ repair: Seat.Repair, at now: Instant) {
        let sequence = repair.stream.index
        touch(slot)
        if repair.fin, repair.range.lowerBound == 0, case .part = log.part(at: sequence) {
            guard !seats[slot].cursor.contains(sequence) else { return }
            let before = seats[slot].cursor.sentAgain
            seats[slot].cursor.add(sequence..<(sequence + 1), isCharged: !repair.counted)
            countSentAgain(seats[slot].cursor.sentAgain - before)
            return
        }
        seats[slot].repairs.append(repair)
        if seats[slot].repairs.count > configuration.repairsPerReceiver {
            leaveFlow(slot, at: now)
        }
    }
}

extension Seat {
    var hasSession: Bool { if case .flexicast = phase { true } else { false } }
}
