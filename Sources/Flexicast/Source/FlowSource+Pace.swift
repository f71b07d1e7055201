import QUIC
import Wire

// How fast the flow goes, and who cannot follow.
//
//     loss, round trip, credit ──> takes ──> Electorate ──> pace ──┐
//     rounds of acknowledgements ──────────> SlowStart ──> limit ──┴──> rate ──> RatePacer
//     share of packets lost ──> LossWindow ──> leaves for slowness, if as many are not out already
//
// A member is a stranger: what it says counts for its account, which is one of many, and moves the flow only when more of
// them say so than may be left behind.
extension FlowSource {
    /// Rounds of acknowledgements that a newcomer has to go through before its votes count.
    static var probation: Int { 3 }
    /// The source has no more patience with anybody than that.
    static var mostPatience: Duration { .seconds(3) }

    /// Bits per second at the moment: what all but the slowest accounts can take, between the configured floor and what slow
    /// start allows, which is never above the ceiling.
    public var rate: UInt64 {
        min(slowStart.limit, max(configuration.rateFloor, electorate.pace))
    }

    /// The flow goes between these from now on, in bits per second.
    public mutating func setRates(ceiling: UInt64, floor: UInt64) {
        configuration.rateCeiling = ceiling
        configuration.rateFloor = min(floor, ceiling)
        slowStart.cap(at: ceiling)
    }

    /// Whether what a member says of the flow's rounds counts: not while its account is left behind, unless all are.
    func isHeeded(_ voter: Voter) -> Bool {
        voter.isCounted && (electorate.active == 0 || !electorate.isOut(voter.account))
    }

    /// The time after which silence about a packet is worth acting on. A member that answers late is given at the most three
    /// times what is usual and 100 ms.
    func patience(_ slot: Int) -> Duration {
        let own = members[slot].wait + parameters.ackDelay + parameters.ackDelay / 4
        return max(Self.shortestPatience, min(own, longestPatience))
    }

    /// The time after which packets are given up beyond which the member has acknowledged nothing: an acknowledgement may be
    /// what was lost.
    func silence(_ slot: Int) -> Duration { min(patience(slot) * 3, Self.mostPatience) }

    /// The patience with a member that answers late.
    var longestPatience: Duration {
        guard let usual = electorate.usualWait else { return Self.mostPatience }
        return min(Self.mostPatience, (usual + parameters.ackDelay + parameters.ackDelay / 4) * 3 + .milliseconds(100))
    }

    /// The connection of a former member has ended: what it could take does not count any more. Members that leave with
    /// `LeaveReason.connectionClosed`, or that were removed for another reason than slowness, need not be named; to name
    /// them does no harm.
    public mutating func connectionEnded(_ id: MemberID) { electorate.ended(id) }

    /// A round is over when a packet that was sent in it is acknowledged.
    mutating func countRound(_ slot: Int, top: UInt64) {
        guard !members[slot].voter.isCounted, top >= members[slot].roundEnd else { return }
        members[slot].rounds += 1
        members[slot].roundEnd = log.next
        if members[slot].rounds >= Self.probation { electorate.admit(&members[slot].voter) }
    }

    /// See `takes(_ slot:)`; nil where nothing limits it, or there is no such member.
    func takes(_ id: MemberID) -> UInt64? {
        guard members.indices.contains(id.slot), members[id.slot].isActive, members[id.slot].epoch == id.epoch else {
            return nil
        }
        let rate = takes(id.slot)
        return rate == .max ? nil : rate
    }

    /// Bits per second that the member can take: what TCP would send it (RFC 5348 section 3.1), and its window in two round
    /// trips, as it renews its credit when half of it is spent; `max` when nothing is known to limit it.
    private func takes(_ slot: Int) -> UInt64 {
        let member = members[slot]
        guard let roundTrip = member.roundTrip else { return .max }
        var rate = UInt64.max
        if member.losses.hasLoss {
            rate = Throughput.bitsPerSecond(
                size: configuration.packetSize, roundTrip: roundTrip,
                lossEventRate: member.losses.eventRate(next: member.horizon))
        }
        let trips = Double(max(roundTrip, Throughput.shortestRoundTrip).nanoseconds) * 2 / 1e9
        if member.octetsWindow < 1 << 50 { rate = min(rate, UInt64(Double(member.octetsWindow) * 8 / trips)) }
        if member.streamsWindow < 1 << 50, sendMeter.streamsPerSecond > 0 {
            // As octets of streams of the present length.
            let bits = Double(sendMeter.bitsPerSecond) / Double(sendMeter.streamsPerSecond)
            rate = min(rate, UInt64(min(1e18, Double(member.streamsWindow) / trips * bits)))
        }
        return rate
    }

    /// Takes the member's vote, and removes it when it cannot follow what is really sent. A feed that trickles overburdens
    /// nobody.
    mutating func judge(_ slot: Int, at now: Instant) {
        guard members[slot].voter.isCounted, let roundTrip = members[slot].roundTrip else { return }
        let own = takes(slot)
        electorate.vote(rate: own, by: &members[slot].voter)
        if let share = members[slot].window.share(at: now, roundTrip: roundTrip) {
            electorate.vote(share: share, by: &members[slot].voter)
            members[slot].window.end(share: share, usual: electorate.usualShare, at: now)
        }
        if own >= min(rate, sendMeter.bitsPerSecond) / 2 {
            members[slot].slowSince = nil
        } else if members[slot].slowSince == nil {
            members[slot].slowSince = now
        }
        let isBehind = members[slot].window.isLagging && sendMeter.bitsPerSecond > configuration.rateFloor
        let isSlow = members[slot].slowSince.map { now - $0 >= configuration.floorPatience } ?? false
        if isBehind || isSlow { removeSlow(slot, at: now) }
    }

    /// While as many are out as may be left behind, the others stay, and the flow slows down for them, as far as its floor.
    private mutating func removeSlow(_ slot: Int, at now: Instant) {
        guard electorate.mayLeave(members[slot].voter.account) || rate <= configuration.rateFloor else { return }
        remove(slot, reason: .belowRateFloor, slowAt: now)
    }

    /// What a member may lag behind the many, as a part of what may be unsettled.
    private static var mostLag: UInt64 { 2 }

    /// Removes members that hold back more than their part of what may be unsettled, so that the flow need not stop: those
    /// that lag behind the many by half of it, and from three quarters on those that are late.
    mutating func relieveMemory(at now: Instant) {
        let bound = configuration.maximumUnsettledOctets
        guard unsettledOctets > bound / Self.mostLag else { return }
        while hasRoomForRemovals, unsettledOctets > bound / Self.mostLag, let slot = floors.slotOfMinimum {
            let floor = members[slot].floor
            let lag = log.octets(from: floor, to: progress.settled)
            let isLate = unsettledOctets > bound / 4 * 3 && log[floor].sentAt + patience(slot) <= now
            guard lag > bound / Self.mostLag || isLate else { return }
            remove(slot, reason: .tooSlow)
        }
    }
}
