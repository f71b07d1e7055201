import QUIC
import Wire

extension FlowSource {
    /// Whether `id` is still a member.
    public func isMember(_ id: MemberID) -> Bool {
        members.indices.contains(id.slot) && members[id.slot].isActive && members[id.slot].epoch == id.epoch
    }

    /// The first stream that the flow brings a member; nil for one that is none any more.
    func firstStream(of id: MemberID) -> UInt64? { isMember(id) ? members[id.slot].firstStream : nil }

    /// Makes a receiver that has sent READY a member: the packets and the streams from now on are its own.
    /// `streamWindow` is its initial_max_stream_data_uni; `octets` and `streams` are as in `setCredit`.
    /// `account` has one vote on the flow's rate, the median of its members': their address, where that is known. Without
    /// one the member has an account of its own.
    /// Nil when the flow is full or withdrawn, the window is smaller than the longest stream, or there is no credit at all: it
    /// stays on unicast.
    public mutating func add(
        streamWindow: UInt64, octets: UInt64, streams granted: UInt64, account: FlowAccount? = nil, at now: Instant
    ) -> MemberID? {
        guard !isWithdrawn, memberCount < configuration.maximumMembers,
            streamWindow >= configuration.maximumStreamLength, octets > 0, granted > 0
        else {
            statistics.admissionsRefused += 1
            return nil
        }
        sendMeter.note(octets: octetPosition, streams: streamPosition, packetOctets: log.octetsSent, at: now)
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slot = members.count
            members.append(Member())
        }
        var member = Member(epoch: members[slot].epoch &+ 1)
        member.isActive = true
        member.first = log.next
        member.horizon = log.next
        member.acknowledged = log.next
        member.firstStream = streams.next
        member.octetsBefore = octetPosition + streams.queuedOctets
        member.streamsBefore = streamPosition + queuedStreams
        member.octetsTaken = member.octetsBefore
        member.streamsTaken = member.streamsBefore
        member.lastHeard = now
        member.roundEnd = log.next
        member.window.since = now
        if account == nil { accountsMade += 1 }
        member.voter.account = electorate.enter(account ?? FlowAccount(number: accountsMade))
        // Those who come first are asked at once: there is nobody else.
        if electorate.active == 0 || slowStart.isFresh { electorate.admit(&member.voter) }
        electorate.vote(rate: .max, by: &member.voter)
        members[slot] = member
        // Nothing is known of the way to it. Later ones have to take the flow as it is.
        if memberCount == 0 {
            slowStart = SlowStart(rate: configuration.firstRate, from: log.next)
            progress = Progress(from: log.next)
        }
        memberCount += 1
        floors.set(slot, log.next)
        heard.set(slot, UInt64(max(0, now.nanoseconds)))
        statistics.membersAdded += 1
        let id = MemberID(slot: slot, epoch: member.epoch)
        setCredit(id, octets: octets, streams: granted)
        return id
    }

    /// The member's flow control credit: what its connection would still allow (`Connection.sendCredit` and
    /// `streamCredit`), when all that `takeCharge` has returned was charged to it. The flow and the connection's own
    /// path spend the same credit, so before the connection sends anything:
    ///
    ///     let charge = flow.takeCharge(member)
    ///     connection.chargeExternal(octets: charge.octets, streams: charge.streams)
    ///     ... connection.transmit ...
    ///     flow.setCredit(member, octets: connection.sendCredit, streams: connection.streamCredit)
    public mutating func setCredit(_ id: MemberID, octets: UInt64, streams granted: UInt64) {
        guard isMember(id) else { return }
        let slot = id.slot
        let trip = reserveTime(slot)
        let ends = (
            Self.sum(members[slot].octetsTaken, octets), Self.sum(members[slot].streamsTaken, granted)
        )
        // The same limit again says nothing new: what is left of it is not to be halved each time.
        if ends.0 != members[slot].octetsEnd {
            if ends.0 > members[slot].octetsEnd ?? 0 { members[slot].octetsWindow = octets }
            members[slot].octetsEnd = ends.0
            octetLimits.set(
                slot, ends.0 - CreditReserve.units(of: octets, perSecond: sendMeter.octetsPerSecond, for: trip))
        }
        if ends.1 != members[slot].streamsEnd {
            if ends.1 > members[slot].streamsEnd ?? 0 { members[slot].streamsWindow = granted }
            members[slot].streamsEnd = ends.1
            streamLimits.set(
                slot, ends.1 - CreditReserve.units(of: granted, perSecond: sendMeter.streamsPerSecond, for: trip))
        }
    }

    /// The time that new credit takes to come, three times over: the flow's round trip and the delay of acknowledgements.
    private func reserveTime(_ slot: Int) -> Duration {
        (members[slot].roundTrip ?? CreditReserve.firstRoundTrip) * 3 + parameters.ackDelay
    }

    /// Whether a member's credit, less what is kept in reserve, ends here. The flow does not wait for it.
    @inline(__always)
    var isOutOfCredit: Bool { memberCount > 0 && !streams.isDrained && !hasCredit }

    /// Removes the members whose credit ends here: the flow goes on without them at once. What it sends a member is never
    /// more than the member has allowed, since no frame passes the least of the limits (draft section 9).
    mutating func removeOutOfCredit() {
        while hasRoomForRemovals, isOutOfCredit {
            let isOctets = streams.currentCount > 0 && octetLimits.minimum <= octetPosition
            guard let slot = isOctets ? octetLimits.slotOfMinimum : streamLimits.slotOfMinimum else { return }
            remove(slot, reason: .outOfCredit)
        }
    }

    /// What the flow has sent the member since the last call: charge it to its connection's flow control.
    public mutating func takeCharge(_ id: MemberID) -> FlowCharge {
        guard isMember(id) else { return FlowCharge(octets: 0, streams: 0) }
        return takeCharge(id.slot)
    }

    private mutating func takeCharge(_ slot: Int) -> FlowCharge {
        let octets = max(octetPosition, members[slot].octetsTaken)
        let streams = max(streamPosition, members[slot].streamsTaken)
        defer {
            members[slot].octetsTaken = octets
            members[slot].streamsTaken = streams
        }
        return FlowCharge(octets: octets - members[slot].octetsTaken, streams: streams - members[slot].streamsTaken)
    }

    private static func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let (sum, overflow) = a.addingReportingOverflow(b)
        return overflow ? .max - 1 : min(sum, .max - 1)
    }

    /// Takes a member out: everything that it has not settled, and everything published that is not sent yet, comes
    /// back as unicast repairs, then `memberRemoved`. A former member is ignored.
    public mutating func leave(_ id: MemberID, reason: LeaveReason, at now: Instant) {
        guard isMember(id) else { return }
        remove(id.slot, reason: reason)
    }

    /// As `leave`, when the source decides.
    public mutating func evict(_ id: MemberID, reason: LeaveReason, at now: Instant) {
        leave(id, reason: reason, at: now)
    }

    /// Takes a member out. With `slowAt`, the time, what it can take still counts for a while.
    mutating func remove(_ slot: Int, reason: LeaveReason, slowAt now: Instant? = nil) {
        let id = memberID(slot)
        if reason != .connectionClosed { handOver(slot) }
        if reason.isEviction { statistics.evictions += 1 }
        act(.memberRemoved(id, reason: reason, charge: takeCharge(slot)))
        members[slot].isActive = false
        freeSlots.append(slot)
        memberCount -= 1
        floors.clear(slot)
        octetLimits.clear(slot)
        streamLimits.clear(slot)
        if let now {
            electorate.depart(&members[slot].voter, id: id, at: now)
        } else {
            electorate.leave(&members[slot].voter)
        }
        heard.clear(slot)
        if memberCount == 0 { dropEverything() }
        releaseSettled()
        if configuration.rotatesKeyAfterLeave { keys.wanted = true }
    }

    /// Sends everything that the member lacks on its unicast path.
    private mutating func handOver(_ slot: Int) {
        var batch = RepairBatch(for: slot)
        // What it may have lost and was to get on the flow: nobody remembers who asked, so it gets all of it.
        for index in repairs.indices { repair(repairs[index], into: &batch) }
        let horizon = members[slot].horizon
        var packetNumber = members[slot].floor
        while packetNumber < log.next {
            let record = log[packetNumber]
            if record.skipped {
                packetNumber = record.skippedUpTo
                continue
            }
            if packetNumber >= horizon || members[slot].isPending(packetNumber) {
                for index in 0..<record.frameCount {
                    repair(log.frame(index, of: record), into: &batch)
                }
            }
            packetNumber += 1
        }
        send(&batch)
        for (stream, offset) in streams.unsent(from: members[slot].firstStream) {
            let range = UInt64(offset)..<UInt64(streams.octets(stream).count)
            send(RepairBatch.Part(stream: stream, range: range, fin: true, counted: true), to: slot)
        }
    }

    /// The last member has gone: nothing is left to be sent to anyone.
    private mutating func dropEverything() {
        while !repairs.isEmpty {
            streams.release(repairs[repairs.base].stream)
            repairs.removeFirst()
        }
        dropDatagrams()
        octetPosition += streams.queuedOctets
        streamPosition += queuedStreams
        queuedStreams = 0
        streams.dropUnsent()
    }
}
