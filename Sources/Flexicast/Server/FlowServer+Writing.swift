import Objects
import Wire

// Objects that are written piece by piece, by somebody who can wait. One is open at a time.
extension FlowServer {
    /// Octets that receivers may be behind the writer of an object before it has to wait.
    static var writeAhead: Int { 4 << 20 }

    /// Begins an object; its parts follow. `length`: its octets, where they are known. `end`: of its lifetime, if it has
    /// one: it is given up then, and what is appended afterwards finds no object open. Throws what `ObjectLog.begin` does.
    public mutating func beginObject(
        name: String = "", mediaType: String = "", length: UInt64? = nil, until end: Instant? = nil, at now: Instant
    ) throws(LogError) {
        try log.begin(name: name, mediaType: mediaType, length: length, published: wallTime(at: now), until: end)
    }

    /// Publishes the next part of the object that has begun, at most `ObjectLimits.partOctets`, or with `isLast` its last.
    /// Throws what `ObjectLog.append` does; the object is open still, and nothing of the part was published.
    public mutating func append(part body: [UInt8], isLast: Bool, at now: Instant) throws(LogError) {
        defer { assertInvariants(logHasGrown: true) }
        var onFlow = false
        let take = { (part: borrowing Part) in onFlow = Self.give(part, to: &flow, isTouched: &isFlowTouched) }
        if isLast {
            try log.finish(body, take: take)
            objectCount += 1
        } else {
            try log.append(part: body, take: take)
        }
        hand(log.next - 1, onFlow: onFlow)
        settle(at: now)
    }

    /// Gives the object up that has begun: receivers are told that nothing more of it comes.
    public mutating func abandonObject(at now: Instant) {
        defer { assertInvariants(logHasGrown: true) }
        guard let gap = log.abandon() else { return }
        for slot in seats.indices where seats[slot].isConnected {
            tellGap(slot, gap)
            touch(slot)
        }
        settle(at: now)
    }

    /// Octets that may be written now; what is written beyond is taken all the same, and held. The writer is not kept waiting
    /// by those that are slower than nearly all: as many may be behind as the flow leaves behind
    /// (`FlowConfiguration.pacePercent`), and at least one of two or more; none with
    /// `FlowServerConfiguration.writerWaitsForEverybody`.
    public var writeRoom: Int {
        let ahead = min(Self.writeAhead, (log.retention.octets ?? .max) / 2)
        // Most are not behind at all: only those that are have to be put in order.
        var receivers = 0
        var lags: [Int] = []
        for slot in seats.indices where seats[slot].isConnected {
            receivers += 1
            let lag = seats[slot].member == nil ? lag(slot) : 0
            if lag > 0 { lags.append(lag) }
        }
        let percent =
            configuration.writerWaitsForEverybody
            ? 100 : flow?.configuration.pacePercent ?? FlowConfiguration().pacePercent
        let spare = percent == 100 ? 0 : Electorate.spare(of: receivers, percent: percent)
        // Members hear what has left the flow's queue.
        var behind = Int(clamping: queuedOctets)
        if lags.count > spare {
            lags.sort(by: >)
            behind = max(behind, lags[spare])
        }
        return ahead - behind
    }

    /// Octets of the log that have still to be handed to a receiver's connection.
    private func lag(_ slot: Int) -> Int {
        guard let lowest = seats[slot].cursor.lowest(before: log.next) else { return 0 }
        return Int(clamping: log.next - lowest) * ObjectLimits.partOctets
    }
}

// What a log brings that this one follows.
extension FlowServer {
    /// Sends the next part of the followed log to every receiver, or tells all that nothing comes for these numbers. Throws
    /// what `ObjectLog.follow` does.
    public mutating func follow(_ entry: FollowedEntry, at now: Instant) throws(LogError) {
        defer { assertInvariants(logHasGrown: true) }
        var taken: (number: UInt64, onFlow: Bool, isLast: Bool)?
        let gaps = try log.follow(entry) { part in
            taken = (
                part.sequence, Self.give(part, to: &flow, isTouched: &isFlowTouched),
                part.header.count == part.header.index + 1
            )
        }
        for gap in gaps {
            for slot in seats.indices where seats[slot].isConnected {
                tellGap(slot, gap)
                touch(slot)
            }
        }
        if let taken {
            if taken.isLast { objectCount += 1 }
            hand(taken.number, onFlow: taken.onFlow)
        }
        settle(at: now)
    }
}
