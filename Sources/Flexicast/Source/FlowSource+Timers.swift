import QUIC
import Wire

extension FlowSource {
    /// The least time between two looks for packets that nobody acknowledges.
    static var lossCheckInterval: Duration { .milliseconds(25) }
    /// No packet is given up for lack of an acknowledgement before this.
    static var shortestPatience: Duration { .milliseconds(50) }

    /// When to call `timerFired` and `transmit` next, unless something happens before.
    public var nextDeadline: Instant {
        guard !isWithdrawn else { return .distantFuture }
        var deadline = Instant.distantFuture
        if audience > 0 {
            // Data that waits for the pacer takes the place of a keep-alive.
            deadline = hasData || isOutOfCredit ? pacer.resumes(rate: rate) : nextPing
            // A key that may seal no more is replaced at once.
            if keys.isWornOut(at: log.next) { deadline = lastLossCheck }
            deadline = min(deadline, keys.rotationDue, electorate.nextToForget)
            if ackDelayIsDue { deadline = min(deadline, ackDelayChangeableAt) }
        }
        if memberCount > 0 {
            deadline = min(deadline, lossCheckDue, silenceDue)
        }
        return deadline
    }

    private var lossCheckDue: Instant {
        let floor = floors.minimum
        guard floor < log.next else { return .distantFuture }
        return max(lastLossCheck + Self.lossCheckInterval, log[floor].sentAt + Self.shortestPatience)
    }

    private var silenceDue: Instant {
        guard heard.minimum != MinimumTree.none else { return .distantFuture }
        return Instant(nanoseconds: Int64(heard.minimum)) + configuration.memberTimeout
    }

    /// Does what time alone brings about. Call at `nextDeadline`, or at any time, then `nextAction` and `transmit`.
    public mutating func timerFired(at now: Instant) {
        guard !isWithdrawn else { return }
        electorate.forgetOld(at: now)
        evictSilent(at: now)
        if memberCount > 0, now >= lossCheckDue { checkLosses(at: now) }
        relieveMemory(at: now)
        if audience > 0, now >= keys.rotationDue || keys.isWornOut(at: log.next) { rotate(at: now) }
        if audience > 0, ackDelayIsDue, now >= ackDelayChangeableAt {
            parameters.ackDelay = wantedAckDelay
            ackDelayChangeableAt = now + Self.ackDelayHold
            act(.announce(parameters))
        }
    }

    private mutating func evictSilent(at now: Instant) {
        while hasRoomForRemovals, now >= silenceDue, let slot = heard.slotOfMinimum { remove(slot, reason: .silent) }
    }

    /// Repairs what has gone unacknowledged for too long. Such a loss is seldom the first to be seen: the PINGs after
    /// the last data packet reveal most of them through the acknowledgements that they draw. A packet before the
    /// member's last acknowledgement is given up after one patience, one after it after three, since the
    /// acknowledgement may be what was lost.
    private mutating func checkLosses(at now: Instant) {
        lastLossCheck = now
        let bound = log.first(sentAfter: now - Self.shortestPatience, from: log.base)
        slotScratch.removeAll(keepingCapacity: true)
        floors.slots(below: bound, into: &slotScratch)
        for slot in slotScratch {
            let oldFloor = members[slot].floor
            let patience = patience(slot)
            let inDoubt = log.first(sentAfter: now - patience, from: oldFloor)
            var batch = RepairBatch(for: slot)
            var packetNumber = oldFloor
            while packetNumber < min(inDoubt, members[slot].horizon) {
                if members[slot].isPending(packetNumber) {
                    members[slot].setPending(packetNumber, false)
                    giveUp(packetNumber, into: &batch, isCongestion: true)
                }
                packetNumber += 1
            }
            let horizon = members[slot].horizon
            let unheard = log.first(sentAfter: now - silence(slot), from: horizon)
            if unheard > horizon {
                // A pending packet is older than these and has been given up above.
                var packetNumber = horizon
                while packetNumber < unheard {
                    let record = log[packetNumber]
                    if record.skipped {
                        packetNumber = record.skippedUpTo
                    } else {
                        giveUp(packetNumber, into: &batch, isCongestion: false)
                        packetNumber += 1
                    }
                }
                members[slot].moveHorizon(to: unheard)
            }
            send(&batch)
            moveFloor(slot, from: oldFloor, at: now)
        }
    }

    private mutating func giveUp(_ packetNumber: UInt64, into batch: inout RepairBatch, isCongestion: Bool) {
        guard !log[packetNumber].skipped else { return }
        statistics.timeoutRepairs += 1
        lose(packetNumber, into: &batch, isCongestion: isCongestion)
    }

    // MARK: Keys

    /// Makes a new key as soon as the configured interval allows.
    public mutating func rotateKey() { keys.wanted = true }

    /// A receiver that knows the key and was not a member has gone.
    public mutating func keyHolderLeft() {
        if configuration.rotatesKeyAfterLeave { keys.wanted = true }
    }

    /// Numbers left to the old key at most, whatever the flow could send. Leaving them out costs nothing; a receiver decodes
    /// packet numbers of four octets as long as it misses fewer than 2^31.
    static var longestKeyLead: UInt64 { 1 << 24 }

    /// The numbers left to the old key: what the flow can send while receivers are told, whatever its rate is by then.
    private var keyLead: UInt64 {
        let seconds = Double(configuration.keyActivationDelay.nanoseconds) / 1e9
        let packets = seconds * Double(configuration.rateCeiling) / 8 / Double(configuration.packetSize)
        return UInt64(min(Double(Self.longestKeyLead), max(8, packets)))
    }

    /// Makes a new key and has receivers told.
    private mutating func rotate(at now: Instant) {
        // Its packets are more than a key ago: nothing waits for who has not settled them.
        if keys.previousGeneration != nil {
            slotScratch.removeAll(keepingCapacity: true)
            floors.slots(below: keys.current.firstPacketNumber, into: &slotScratch)
            for slot in slotScratch { remove(slot, reason: .tooSlow) }
            releaseSettled()
        }
        let key = keys.rotate(
            from: log.next + keyLead, interval: configuration.keyRotationInterval, random: &random, at: now)
        statistics.keysMade += 1
        act(.installKey(key))
        act(.sendKey(key))
    }

    /// The next key is to be used from the next packet on: its first packet number or its time has come.
    @inline(__always)
    func isKeyDue(at now: Instant) -> Bool { log.next >= keys.endsAt || now >= keys.switchAt }

    /// Brings the next key into use.
    mutating func switchKey(at now: Instant) {
        guard let next = keys.next else { return }
        log.skip(upTo: next.firstPacketNumber, at: now)
        if skipAt <= log.next { drawSkip() }
        keys.activateNext(at: now)
        releaseSettled()
    }
}
