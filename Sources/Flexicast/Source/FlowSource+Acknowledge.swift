import QUIC
import Wire

extension FlowSource {
    /// How far behind an acknowledged packet a missing one is lost (RFC 9002 section 6.1.1).
    static var reorderingThreshold: UInt64 { 3 }

    /// A member's acknowledgement of packets of the flow, ranges highest first, disjoint. What every member has
    /// acknowledged is let go of (draft section 7), and losses that it reveals are repaired, on the flow or on unicast
    /// (draft section 5.2), by actions at once. Costs O(ranges + losses + log members
    /// + log packets).
    ///
    /// A member that acknowledges a number that was never sent leaves the flow, with `LeaveReason.violation`, and nothing that
    /// it says counts. Its connection stays: everybody who knows the key can forge a packet of such a number for it to
    /// acknowledge. An acknowledgement by a former member is ignored.
    public mutating func acknowledged(
        _ id: MemberID, ranges: Span<ClosedRange<UInt64>>, ackDelay: Duration, at now: Instant
    ) {
        guard isMember(id), !ranges.isEmpty else { return }
        let slot = id.slot
        guard hasSent(ranges) else {
            statistics.refusedAcknowledgements += 1
            remove(slot, reason: .violation)
            return
        }
        let oldFloor = members[slot].floor
        let horizon = members[slot].horizon
        let top = ranges[0].upperBound
        statistics.acknowledgements += 1
        statistics.acknowledgementSteps += UInt64(ranges.count)
        members[slot].lastHeard = now
        heard.set(slot, UInt64(max(0, now.nanoseconds)))

        members[slot].window.got += Self.count(ranges, from: horizon)
        var batch = RepairBatch(for: slot)
        settlePending(ranges, top: top, into: &batch)
        if top >= members[slot].acknowledged {
            members[slot].acknowledged = top + 1
            sampleRoundTrip(slot, top: top, ackDelay: ackDelay, at: now)
        }
        if top >= horizon {
            let known = horizon
            members[slot].moveHorizon(to: top + 1)
            settleGaps(ranges, from: known, top: top, into: &batch)
        }
        send(&batch)
        countRound(slot, top: top)
        judge(slot, at: now)
        if isMember(id) { moveFloor(slot, from: oldFloor, at: now) }
    }

    /// As above, for callers with an array.
    public mutating func acknowledged(
        _ id: MemberID, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
    ) {
        acknowledged(id, ranges: ranges.span, ackDelay: ackDelay, at: now)
    }

    /// RFC 9000 section 13.1: an acknowledgement of a packet that was not sent is a sign of an error; section 21.4: numbers
    /// are left out to find out who acknowledges what it has not received.
    private func hasSent(_ ranges: Span<ClosedRange<UInt64>>) -> Bool {
        guard ranges[0].upperBound < log.next else { return false }
        for index in ranges.indices where log.coversSkipped(ranges[index]) { return false }
        return true
    }

    /// How many packet numbers from `first` on the ranges hold.
    private static func count(_ ranges: Span<ClosedRange<UInt64>>, from first: UInt64) -> UInt64 {
        var count: UInt64 = 0
        for index in ranges.indices {
            guard ranges[index].upperBound >= first else { break }
            count += ranges[index].upperBound - max(first, ranges[index].lowerBound) + 1
        }
        return count
    }

    private static func covers(_ ranges: Span<ClosedRange<UInt64>>, _ packetNumber: UInt64) -> Bool {
        for index in ranges.indices where ranges[index].lowerBound <= packetNumber {
            return packetNumber <= ranges[index].upperBound
        }
        return false
    }

    /// The packets in doubt since the last acknowledgement: there are at most two, as those further back are lost.
    private mutating func settlePending(
        _ ranges: Span<ClosedRange<UInt64>>, top: UInt64, into batch: inout RepairBatch
    ) {
        let slot = batch.slot
        var bits = members[slot].pending
        let horizon = members[slot].horizon
        while bits != 0 {
            let bit = UInt64.bitWidth - 1 - bits.leadingZeroBitCount
            bits &= ~(1 << UInt64(bit))
            let packetNumber = horizon - 1 - UInt64(bit)
            statistics.acknowledgementSteps += 1
            if Self.covers(ranges, packetNumber) {
                members[slot].setPending(packetNumber, false)
            } else if top >= packetNumber + Self.reorderingThreshold {
                members[slot].setPending(packetNumber, false)
                lose(packetNumber, into: &batch)
            }
        }
    }

    /// The packets between the old horizon and the new one that `ranges` leaves out, lowest first.
    private mutating func settleGaps(
        _ ranges: Span<ClosedRange<UInt64>>, from known: UInt64, top: UInt64, into batch: inout RepairBatch
    ) {
        let slot = batch.slot
        var index = 0
        while index + 1 < ranges.count, ranges[index + 1].upperBound >= known { index += 1 }
        // Below ranges[index] nothing at or above `known` is acknowledged.
        var packetNumber = known
        while index >= 0 {
            while packetNumber < ranges[index].lowerBound {
                statistics.acknowledgementSteps += 1
                let record = log[packetNumber]
                if record.skipped {
                    packetNumber = max(packetNumber + 1, min(record.skippedUpTo, ranges[index].lowerBound))
                    continue
                }
                if top >= packetNumber + Self.reorderingThreshold {
                    lose(packetNumber, into: &batch)
                } else {
                    members[slot].setPending(packetNumber, true)
                }
                packetNumber += 1
            }
            packetNumber = ranges[index].upperBound + 1
            index -= 1
        }
    }

    /// An answer that comes too late counts all the same (RFC 9002 section 5.1). Without it nobody would be waited for longer
    /// whose path has become longer, and each of its packets would be repaired in vain.
    private mutating func sampleRoundTrip(_ slot: Int, top: UInt64, ackDelay: Duration, at now: Instant) {
        if top >= log.base {
            // A skipped number has been refused.
            let sample = now - log[top].sentAt
            members[slot].sampled(sample > ackDelay ? sample - ackDelay : sample)
        } else {
            // It was forgotten when the member had not been heard for so long.
            members[slot].sampled(silence(slot))
        }
        electorate.vote(wait: members[slot].wait, by: &members[slot].voter)
    }

    // MARK: Loss and repair

    /// Reports among which a packet may be judged lost by most, long before a tenth of a large group has reported.
    static var earlyReports: UInt32 { 3 }

    /// What the flow may carry again at once at the most: an eighth of a second of what it sends, or a few packets.
    var mostRepairAllowance: UInt64 {
        max(sendMeter.bitsPerSecond / 64, UInt64(configuration.packetSize * configuration.burstPackets))
    }

    /// Members that must miss a packet for its repair to go on the flow.
    var flowRepairThreshold: UInt32 {
        UInt32(max(2, (memberCount * configuration.flowRepairPercent + 99) / 100))
    }

    /// Settles a packet that the member has lost: its frames go to the member, on the way that the number of others
    /// who miss them suggests. `isCongestion` is false when it only was not heard of: a member that has died must not
    /// slow the others down.
    mutating func lose(_ packetNumber: UInt64, into batch: inout RepairBatch, isCongestion: Bool = true) {
        let slot = batch.slot
        let record = log[packetNumber]
        guard !record.skipped else { return }
        statistics.lossReports += 1
        statistics.acknowledgementSteps += 1
        members[slot].window.lost += 1
        if isCongestion { noteLoss(slot, packetNumber, sentAt: record.sentAt) }
        // Who reports far more losses than the others, or nothing at all, does not have them all hear the packet again.
        let reports =
            members[slot].window.isOutlier || !isCongestion
            ? (missing: 0, of: 1) : log.markReported(packetNumber, acknowledgements: statistics.acknowledgements)
        // Lost near the root: at least every other of the acknowledgements that came since reports it too.
        let isCommon = reports.missing >= Self.earlyReports && reports.missing >= reports.of / 2
        sharedLoss.reported(missing: reports.missing, of: memberCount)
        let isShared =
            reports.missing >= SharedLoss.most(of: memberCount) || (reports.missing > 0 && sharedLoss.isUsual)
        guard record.frameCount > 0 else { return }
        if log.isRepairedOnFlow(packetNumber) {
            // The repair was, or is to be, on the flow; what had expired before that is not in it.
            for index in 0..<record.frameCount { _ = giveUpExpired(log.frame(index, of: record), in: &batch) }
            return
        }
        let octets = UInt64(configuration.packetSize)
        if isShared || ((reports.missing >= flowRepairThreshold || isCommon) && octets <= repairAllowance) {
            repairAllowance -= min(octets, repairAllowance)
            log.markRepairedOnFlow(packetNumber)
            statistics.flowRepairs += 1
            for index in 0..<record.frameCount {
                let frame = log.frame(index, of: record)
                if frame.stream >= members[slot].firstStream, giveUpExpired(frame, in: &batch) { continue }
                streams.retain(frame.stream)
                repairs.append(frame)
            }
        } else {
            statistics.unicastRepairs += 1
            for index in 0..<record.frameCount {
                repair(log.frame(index, of: record), into: &batch)
            }
        }
    }

    /// Sends a frame that a packet has carried to the batch's member, unless it gets the stream otherwise.
    mutating func repair(_ frame: FrameRecord, into batch: inout RepairBatch) {
        guard frame.stream >= members[batch.slot].firstStream, !giveUpExpired(frame, in: &batch) else { return }
        let range = UInt64(frame.offset)..<(UInt64(frame.offset) + UInt64(frame.length))
        let part = RepairBatch.Part(stream: frame.stream, range: range, fin: frame.fin, counted: false)
        if let whole = batch.add(part) { send(whole, to: batch.slot) }
    }

    /// Sends what is left of the batch: it is empty then.
    mutating func send(_ batch: inout RepairBatch) {
        if let whole = batch.take() { send(whole, to: batch.slot) }
    }

    func memberID(_ slot: Int) -> MemberID { MemberID(slot: slot, epoch: members[slot].epoch) }

    mutating func send(_ part: RepairBatch.Part, to slot: Int) {
        if !part.counted { statistics.octetsRepairedOnUnicast += UInt64(part.range.count) }
        act(
            .unicastRepair(
                member: memberID(slot),
                stream: StreamID(initiator: .server, bidirectional: false, index: part.stream),
                octets: streams.octets(part.stream), range: part.range, fin: part.fin, counted: part.counted))
    }

    private mutating func noteLoss(_ slot: Int, _ packetNumber: UInt64, sentAt: Instant) {
        let member = members[slot]
        let roundTrip = member.roundTrip ?? CreditReserve.firstRoundTrip
        if isHeeded(member.voter), !member.window.isOutlier { slowStart.lost(by: member.voter.account) }
        let target = firstTarget(member, roundTrip: roundTrip)
        _ = members[slot].losses.lost(
            packetNumber, sentAt: sentAt, roundTrip: roundTrip,
            synthetic: Throughput.interval(
                size: configuration.packetSize, roundTrip: roundTrip, bitsPerSecond: target))
    }

    /// What a member's first loss suggests that it can take: what came through, if the flow went as fast as it may, but half
    /// of the present rate at most (RFC 5348 section 6.3.1).
    private func firstTarget(_ member: Member, roundTrip: Duration) -> UInt64 {
        let half = rate / 2
        guard sendMeter.bitsPerSecond >= half else { return half }
        let delivered = member.window.delivered(
            packetSize: configuration.packetSize, roundTrip: roundTrip, at: member.lastHeard)
        return min(half, delivered ?? half)
    }

    // MARK: Floor

    mutating func moveFloor(_ slot: Int, from oldFloor: UInt64, at now: Instant) {
        let floor = members[slot].floor
        guard floor != oldFloor else { return }
        floors.set(slot, floor)
        let voter = members[slot].voter
        if isHeeded(voter) {
            let many = electorate.many
            progress.settled(below: floor, by: voter.account, many: many, next: log.next)
            slowStart.settled(
                below: floor, by: voter.account, all: electorate.active, many: many, patience: longestPatience,
                tolerated: electorate.tolerated, next: log.next, rate: rate, ceiling: configuration.rateCeiling,
                at: now)
        }
        if oldFloor == log.base { releaseSettled() }
    }

    /// Forgets what every member has settled. Each packet is forgotten once, whoever acknowledges it last.
    mutating func releaseSettled() {
        let floor = min(floors.minimum, log.next)
        if floor > log.base { log.forget(below: floor, releasing: &streams) }
        if let generation = keys.retire(below: log.base) { act(.dropKey(generation: generation)) }
    }
}
