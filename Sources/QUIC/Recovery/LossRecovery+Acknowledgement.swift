import Wire

extension LossRecovery {
    /// What one acknowledgement newly acknowledged.
    private struct Tally {
        var packets = 0
        var isEliciting = false
        /// Sent after the recovery period began.
        var growth = 0
        var newestSent: Int64 = .min
        var largestSent: Int64?
        var marked: UInt64 = 0
    }

    /// An ACK arrived (RFC 9002 A.7). `ranges` are the acknowledged numbers, highest first; `ackDelay` is already
    /// scaled. Appends what newly acknowledged and newly lost packets carried. Throws PROTOCOL_VIOLATION for a packet
    /// that was never sent (RFC 9000 section 13.1).
    mutating func acknowledged(
        _ level: ProtectionLevel, ranges: [ClosedRange<UInt64>], ackDelay: Duration,
        ecnCounts: (ect0: UInt64, ect1: UInt64, ce: UInt64)?, at instant: Instant, ackedFrames: inout [SentFrame],
        lostFrames: inout [SentFrame]
    ) throws(TransportError) {
        let index = level.rawValue
        let now = instant.nanoseconds
        guard let largest = ranges.first?.upperBound, !spaces[index].isDiscarded else { return }
        guard largest < spaces[index].nextPacketNumber else {
            throw TransportError(.protocolViolation, "packet \(largest) was acknowledged but not sent", frameType: 2)
        }
        if level == .application {
            for range in ranges where skipper.isSkipped(in: range) {
                throw TransportError(.protocolViolation, "a skipped packet number was acknowledged", frameType: 2)
            }
        }
        if level == .handshake { peerCompletedAddressValidation = true }
        let isNewLargest = spaces[index].largestAcknowledged.map { largest > $0 } ?? true
        if isNewLargest { spaces[index].largestAcknowledged = largest }
        noteSpuriousLosses(level, ranges)

        let wasLimiting = congestion.isLimiting(inFlight: bytesInFlight)
        let tally = settle(index, ranges, largest: largest, &ackedFrames)
        guard tally.packets > 0 else { return }
        lastEvent = now

        // RFC 9002 section 5.1.
        if let sent = tally.largestSent, tally.isEliciting {
            rtt.sample(now - sent, ackDelay: credible(ackDelay, level), at: now)
        }
        // Older ones prove nothing (RFC 9000 section 13.4.2.1).
        if isNewLargest, ecn.acknowledged(level, marked: tally.marked, reported: ecnCounts),
            let sent = tally.largestSent
        {
            congestion.congestionEvent(sentTime: sent, at: now)
            // What the path marked no reordering explains away.
            lostInEvent += 1
        }
        isPersistentlyCongested = false
        detectLosses(index, at: now, lostFrames: &lostFrames)
        // A decrease just now was for what was in flight together with these packets.
        if tally.growth > 0, !congestion.isInRecovery(sentTime: tally.newestSent) {
            congestion.acknowledged(
                tally.growth, newestSent: tally.newestSent, rtt: rtt, isLimiting: wasLimiting, at: now)
        }
        // Until the server is known to have validated us the back-off must not start over (section 6.2.1).
        if peerCompletedAddressValidation { ptoCount = 0 }
    }

    private mutating func settle(
        _ index: Int, _ ranges: [ClosedRange<UInt64>], largest: UInt64, _ ackedFrames: inout [SentFrame]
    ) -> Tally {
        var tally = Tally()
        let pathStart = spaces[index].pathStart
        let recoveryStart = congestion.recoveryStart
        var eliciting = 0
        var quiet = 0
        var bytes = 0
        var largeNumber: UInt64?
        spaces[index].ledger.acknowledge(ranges, frames: &ackedFrames) { packet in
            tally.packets += packet.count
            if packet.ackEliciting {
                tally.isEliciting = true
                eliciting += packet.count
            } else if !packet.inFlight {
                quiet += 1
            }
            if packet.ecn == .ect0 { tally.marked += UInt64(packet.count) }
            guard packet.packetNumber >= pathStart else { return }
            if packet.lastPacketNumber == largest { tally.largestSent = packet.sentTime }
            guard packet.inFlight else { return }
            let octets = packet.count * packet.size
            bytes += octets
            if packet.sentTime > recoveryStart {
                tally.growth += octets
                tally.newestSent = max(tally.newestSent, packet.sentTime)
            }
            if packet.size > PathMTU.floor { largeNumber = max(largeNumber ?? 0, packet.lastPacketNumber) }
        }
        spaces[index].elicitingInFlight -= eliciting
        spaces[index].nonEliciting -= quiet
        bytesInFlight -= bytes
        if let largeNumber, largeNumber >= largestLargeAcknowledged ?? 0 {
            largestLargeAcknowledged = largeNumber
            largeLosses = 0
        }
        return tally
    }

    /// RFC 9002 section 5.3: how much of the delay the peer claims may be taken off a sample.
    private func credible(_ ackDelay: Duration, _ level: ProtectionLevel) -> Int64 {
        if level == .initial { return 0 }
        let claimed = max(0, ackDelay.nanoseconds)
        return handshakeConfirmed ? min(claimed, peerDelay) : claimed
    }

    // MARK: Beginnings and ends

    /// The keys of `level` are gone, and with them all that was in flight there and the back-off (RFC 9002 sections 6.2.2
    /// and 6.4).
    mutating func discard(_ level: ProtectionLevel) {
        forget(level)
        spaces[level.rawValue].isDiscarded = true
        ptoCount = 0
    }

    /// A Retry arrived: the Initial packets so far count for nothing, but their numbers stay used
    /// (RFC 9000 section 17.2.5.3).
    mutating func retryReceived() {
        forget(.initial)
        ptoCount = 0
    }

    /// Appends what the oldest `packets` open packets of `level` that elicit an acknowledgement carry, to be sent again
    /// in a probe. The packets stay open: any of them may still be acknowledged (RFC 9002 section 6.2.4).
    func reclaim(_ level: ProtectionLevel, packets: Int = .max, lostFrames: inout [SentFrame]) {
        let ledger = spaces[level.rawValue].ledger
        var left = packets
        ledger.forEachOpen { packet in
            guard left > 0, packet.ackEliciting, !packet.isPathProbe else { return }
            let packet = packet.prefix(left)
            left -= packet.count
            ledger.appendFrames(of: packet, to: &lostFrames)
        }
    }

    /// The peer's address changed, and with it what is known about the path (RFC 9000 section 9.4). Packets in flight
    /// on the old one can still be acknowledged or lost but no longer count.
    mutating func resetForNewPath(at now: Instant) {
        congestion = CongestionController(maxDatagramSize: congestion.maxDatagramSize)
        rtt = RTTEstimator(initial: initialRTT)
        ecn.restart()
        pacer = WindowPacer()
        lostMemory.removeAll()
        bytesInFlight = 0
        ptoCount = 0
        largeLosses = 0
        isPersistentlyCongested = false
        for index in 0..<3 {
            spaces[index].pathStart = spaces[index].nextPacketNumber
            spaces[index].lossRunStart = nil
        }
        lastEvent = now.nanoseconds
    }

    private mutating func forget(_ level: ProtectionLevel) {
        let index = level.rawValue
        var bytes = 0
        let pathStart = spaces[index].pathStart
        spaces[index].ledger.forEachOpen { packet in
            if packet.inFlight && packet.packetNumber >= pathStart { bytes += packet.count * packet.size }
        }
        bytesInFlight -= bytes
        spaces[index].ledger.removeAll()
        spaces[index].elicitingInFlight = 0
        spaces[index].nonEliciting = 0
        spaces[index].lossTime = nil
        spaces[index].lossRunStart = nil
    }
}

/// The packets given up last, to notice those that only came late.
struct LostMemory: Sendable {
    static let capacity = 32

    // The number and, in the two lowest bits, the space; `.max` for an unused place.
    private var packets = InlineArray<32, UInt64>(repeating: .max)
    private var next = 0
    private var used = 0
    /// No packet number that is remembered is larger.
    private var largest: UInt64 = 0

    mutating func insert(_ packetNumber: UInt64, _ level: ProtectionLevel) {
        if packets[next] == .max { used += 1 }
        packets[next] = packetNumber << 2 | UInt64(level.rawValue)
        largest = max(largest, packetNumber)
        next = (next + 1) % Self.capacity
    }

    /// Forgets the packets of `level` in `ranges`, highest first, and returns how many there were.
    mutating func remove(_ level: ProtectionLevel, _ ranges: [ClosedRange<UInt64>]) -> Int {
        guard used > 0, let lowest = ranges.last?.lowerBound, lowest <= largest else { return 0 }
        var removed = 0
        for index in 0..<Self.capacity where packets[index] != .max {
            guard packets[index] & 3 == UInt64(level.rawValue), Self.contains(packets[index] >> 2, ranges) else {
                continue
            }
            packets[index] = .max
            removed += 1
        }
        used -= removed
        return removed
    }

    mutating func removeAll() { self = LostMemory() }

    private static func contains(_ value: UInt64, _ ranges: [ClosedRange<UInt64>]) -> Bool {
        let low = (0..<ranges.count).partitionPoint { ranges[$0].lowerBound > value }
        return low < ranges.count && ranges[low].contains(value)
    }
}
