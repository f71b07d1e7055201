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
        if seats[slot].hasSession {
            seats[slot].way = configuration.hasGroup ? .group : .copies
            announce(slot, at: now)
        }
        seats[slot].firstObject = log.historyStart
        seats[slot].cursor.follow(from: log.historyStart)
        notePosition(slot)
        touch(slot)
    }

    mutating func closed(_ slot: Int, at now: Instant) {
        guard seats[slot].isConnected else { return }
        receiverCount -= 1
        let ended = seats[slot].withSession { $0.connectionClosed() } ?? []
        for membership in ended { end(membership, at: now) }
        setAttached(slot, false, at: now)
        seats[slot].phase = .closed
        seats[slot].way = .none
        seats[slot].cursor = DeliveryCursor()
        seats[slot].repairs = []
        notePosition(slot)
        settle(at: now)
    }

    mutating func take<C: ReceiverConnection & ~Copyable>(
        _ frame: ReceivedFrames.Frame, _ slot: Int, on connection: inout C, at now: Instant
    ) throws(TransportError) {
        isFlowTouched = true
        switch frame {
        case .state(let frame):
            let answer = try seats[slot].withSession { session throws(TransportError) in
                try session.stateReceived(frame, at: now)
            }
            guard let answer else { return }
            if let ended = answer.ended { end(ended, at: now) }
            switch answer.next {
            case .nothing: break
            case .giveKeys(let id): giveKeys(slot, id, at: now)
            case .admit(let id): admit(slot, id, on: &connection, at: now)
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
        // It will hear parts of objects that began before it connected, and would wait for the rest for ever.
        let first = StreamID(initiator: .server, bidirectional: false, index: seats[slot].firstObject)
        for old in flow!.unfinishedStreams(before: first) {
            repair(
                slot,
                Seat.Repair(
                    stream: old.stream, bytes: old.bytes, range: 0..<UInt64(old.bytes.count), fin: true, counted: true),
                at: now)
            seats[slot].firstObject = min(seats[slot].firstObject, old.stream.index)
        }
    }

    private mutating func admit<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, _ id: FlowID, on connection: inout C, at now: Instant
    ) {
        guard flow != nil else { return }
        // Both spend the same credit: what waits to be charged comes first.
        payCharge(slot, on: &connection)
        let window = connection.peerParameters?.initialMaxStreamDataUni ?? 0
        guard
            let member = flow!.add(
                streamWindow: window, octets: connection.sendCredit, streams: connection.streamCredit,
                account: FlowAccount(connection.remoteAddress.address), at: now)
        else {
            seats[slot].withSession { $0.evict(id, at: now) }
            flow!.keyHolderLeft()
            let least = flow!.configuration.maximumStreamLength
            tell(
                .notAdmitted(
                    self.id(of: slot),
                    reason: window < least
                        ? "its initial_max_stream_data_uni is \(window), the flow needs \(least)"
                        : "the flow takes no more than \(flow!.configuration.maximumMembers) members"))
            return
        }
        seats[slot].member = member
        seats[slot].lastCredit = (connection.sendCredit, connection.streamCredit)
        seats[slot].withSession { $0.becameMember(id, member, at: now) }
        while receiverOfMember.count <= member.slot { receiverOfMember.append(-1) }
        receiverOfMember[member.slot] = slot
        seats[slot].cursor.stop(at: log.end)
        notePosition(slot)
        tell(.listens(self.id(of: slot), members: flow!.memberCount))
    }

    // MARK: What goes on the connection

    mutating func deliver<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: inout C, at now: Instant
    ) {
        while let frame = seats[slot].withSession({ $0.nextFrame() }) ?? nil {
            connection.sendExtensionFrame(frame.octets, key: frame.key)
        }
        for repair in seats[slot].repairs {
            connection.sendStreamRange(
                repair.stream, bytes: repair.bytes, range: repair.range, fin: repair.fin, counted: repair.counted)
        }
        if !seats[slot].repairs.isEmpty { seats[slot].repairs.removeAll() }
        // The flow and this connection spend the same credit.
        if flow != nil, let member = seats[slot].member {
            let charge = flow!.takeCharge(member)
            seats[slot].charge.octets += charge.octets
            seats[slot].charge.streams += charge.streams
        }
        payCharge(slot, on: &connection)
        advance(slot, on: &connection, at: now)
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
        guard seats[slot].cursor.lowest(before: log.end) != nil else { return }
        var room = connection.sendRoom
        while room.octets > 0 {
            let mayCharge = room.credit > 0 && room.streams > 0
            guard let next = seats[slot].cursor.next(before: log.end, mayCharge: mayCharge) else { break }
            guard let bytes = log[next.sequence] else {
                letGo(slot, on: &connection, at: now)
                return
            }
            // One that the receiver takes only piece by piece goes alone.
            guard UInt64(bytes.count) <= room.streamWindow || room.openStreams == 0 else { break }
            if seats[slot].hasSession {
                connection.sendStreamRange(
                    StreamID(initiator: .server, bidirectional: false, index: next.sequence), bytes: bytes,
                    range: 0..<UInt64(bytes.count), fin: true, counted: !next.isCharged)
            } else {
                guard let stream = try? seats[slot].openedStream ?? connection.openStream(bidirectional: false) else {
                    break
                }
                seats[slot].openedStream = stream
                guard (try? connection.write(stream, bytes, fin: true)) != nil else { break }
                seats[slot].openedStream = nil
            }
            seats[slot].cursor.took(next.sequence)
            room.octets -= max(1, bytes.count)
            room.credit -= min(room.credit, UInt64(bytes.count))
            room.streams -= min(room.streams, 1)
            room.openStreams += 1
        }
        notePosition(slot)
    }

    /// What the receiver has still to be sent is gone.
    private mutating func letGo<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: inout C, at now: Instant
    ) {
        countLetGo()
        tell(.letGo(id(of: slot)))
        connection.close(applicationCode: 1, reason: "too many items are waiting for this receiver", at: now)
        closed(slot, at: now)
    }

    /// Has a part of a stream sent on the receiver's connection: with the cursor if it is an object that nothing was sent
    /// of, else by itself.
    mutating func repair(_ slot: Int, _ repair: Seat.Repair, at now: Instant) {
        let sequence = repair.stream.index
        touch(slot)
        if repair.fin, repair.range.lowerBound == 0, log[sequence] != nil {
            guard !seats[slot].cursor.contains(sequence) else { return }
            let before = seats[slot].cursor.sentAgain
            seats[slot].cursor.add(sequence..<(sequence + 1), isCharged: !repair.counted)
            countSentAgain(seats[slot].cursor.sentAgain - before)
            notePosition(slot)
            return
        }
        seats[slot].repairs.append(repair)
        if seats[slot].repairs.count > configuration.repairsPerReceiver {
            leaveFlow(slot, reason: .tooSlow, at: now)
        }
    }
}

extension Seat {
    var hasSession: Bool { if case .flexicast = phase { true } else { false } }
}
