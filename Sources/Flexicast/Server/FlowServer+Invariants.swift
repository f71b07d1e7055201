import Objects
import QUIC

// What always holds between the events of a source's service.
extension FlowServer {
    /// What does not hold of it, in words; nil when all does. It looks at every receiver and every part of the log, so that
    /// it costs too much to be called after each event where there are many.
    public func checkInvariants() -> String? { checkReceivers() ?? checkReads() ?? log.checkInvariants() }

    private func checkReceivers() -> String? {
        if let problem = checkMembers() { return problem }
        if let problem = checkTouched() { return problem }
        if let problem = checkWays() { return problem }
        for slot in seats.indices {
            let problem = seats[slot].isTaken ? checkDelivery(slot) : checkFreed(slot)
            if let problem { return "receiver \(slot): \(problem)" }
        }
        let connected = seats.count { $0.isConnected }
        if connected != receiverCount {
            return "\(connected) receivers are connected, and \(receiverCount) are counted"
        }
        return nil
    }

    /// To be called at the end of each event. `logHasGrown` tells that a part was published in it.
    @inline(__always)
    func assertInvariants(logHasGrown: Bool = false) {
        #if DEBUG
            guard checksInvariants, !isSettling else { return }
            // Nothing else changes the log but time, and to look at it takes as long as it is: a long one is looked at as
            // often as it has grown by as many parts as a short one has.
            let looksAtLog = logHasGrown && (log.partCount <= Self.shortLog || log.next % UInt64(Self.shortLog) == 0)
            guard let problem = checkReceivers() ?? (looksAtLog ? log.checkInvariants() : nil) else { return }
            assertionFailure(problem)
        #endif
    }

    private static var shortLog: Int { 64 }

    /// Each receiver's member leads back to it, and the flow knows the same members.
    private func checkMembers() -> String? {
        for slot in seats.indices {
            guard let member = seats[slot].member else { continue }
            guard receiverOfMember.indices.contains(member.slot), receiverOfMember[member.slot] == slot else {
                return "member \(member.slot) of the flow does not lead back to receiver \(slot)"
            }
        }
        for (member, slot) in receiverOfMember.enumerated() where slot >= 0 {
            guard seats.indices.contains(slot), seats[slot].member?.slot == member else {
                return "member \(member) of the flow leads to receiver \(slot), which is not that member"
            }
        }
        // The flow takes members out by itself; what it has to say of that waits to be heard.
        guard let flow, !flow.hasActions else { return nil }
        for slot in seats.indices {
            if let member = seats[slot].member, !flow.isMember(member) {
                return "receiver \(slot) is taken for a member, and is none"
            }
        }
        let members = seats.count { $0.member != nil }
        if members != flow.memberCount { return "the flow has \(flow.memberCount) members, receivers are \(members)" }
        return nil
    }

    /// Whoever is marked as having something to send is in the list, once.
    private func checkTouched() -> String? {
        let waiting = touchedSlots
        var seen = Set<Int>()
        for slot in waiting {
            guard seen.insert(slot).inserted else { return "receiver \(slot) is touched twice" }
            guard seats[slot].isTouched else { return "receiver \(slot) is in the list of those touched, unmarked" }
        }
        let marked = seats.count { $0.isTouched }
        return marked == seen.count ? nil : "\(marked) receivers are marked as touched, \(seen.count) are in the list"
    }

    /// The flow is kept alive for exactly those that are attached, and copied for exactly those of them that get copies.
    private func checkWays() -> String? {
        let attached = seats.count { $0.isAttached }
        if let flow, !flow.isWithdrawn, attached != flow.audience {
            return "\(attached) receivers are attached, and the flow's audience is \(flow.audience)"
        }
        if Set(copied).count != copied.count { return "a receiver is copied twice: \(copied)" }
        for slot in copied where !seats[slot].isAttached || seats[slot].way != .copies {
            return "receiver \(slot) is sent copies, and its way is another"
        }
        let copies = seats.count { $0.isAttached && $0.way == .copies }
        if copies != copied.count { return "\(copies) receivers are to be sent copies, \(copied.count) are" }
        for slot in seats.indices where seats[slot].isAttached && seats[slot].way == .none {
            return "receiver \(slot) is attached by no way"
        }
        return nil
    }

    private func checkDelivery(_ slot: Int) -> String? {
        let seat = seats[slot]
        guard seat.isConnected else { return checkEmpty(seat) }
        if let problem = seat.cursor.checkInvariants(below: log.next) { return problem }
        if case .stated = seat.position, !seat.cursor.untold.isEmpty { return "it may be told of gaps, and is not" }
        if seat.member != nil {
            guard seat.hasSession else { return "it is a member and does not speak of flows" }
            if seat.cursor.follows != nil { return "it is a member, and its cursor follows the live edge too" }
            if seat.servedFrom == nil { return "it is a member, and nothing says from where" }
        } else {
            switch seat.position {
            case .awaited:
                if (seat.cursor.follows != nil) != (seat.servedFrom != nil) {
                    return "it follows the live edge before anything is to be sent to it, or does not after"
                }
            case .stated, .unstated:
                if seat.cursor.follows == nil { return "it is no member, and does not follow the live edge" }
            }
        }
        // One more than may wait makes it leave.
        if seat.member != nil, seat.repairs.count > configuration.repairsPerReceiver {
            return "\(seat.repairs.count) repairs wait, \(configuration.repairsPerReceiver) may"
        }
        if let first = seat.servedFrom, first > log.next { return "it is served from \(first), beyond the live edge" }
        return nil
    }

    private func checkFreed(_ slot: Int) -> String? {
        if seats[slot].isConnected { return "it is gone and connected" }
        return checkEmpty(seats[slot])
    }

    private func checkEmpty(_ seat: Seat) -> String? {
        if seat.member != nil { return "it is not connected and a member" }
        if seat.isAttached { return "it is not connected and attached" }
        if !seat.cursor.pending.isEmpty || seat.cursor.follows != nil || !seat.cursor.untold.isEmpty {
            return "it is not connected and has a cursor"
        }
        if !seat.repairs.isEmpty || !seat.messages.isEmpty {
            return "it is not connected and holds what was to be sent"
        }
        return nil
    }
}

extension DeliveryCursor {
    /// What does not hold of it in a log with this live edge, in words.
    func checkInvariants(below edge: UInt64) -> String? {
        if pending.count > Self.mostRanges { return "\(pending.count) ranges are pending, \(Self.mostRanges) may be" }
        if untold.count > Self.mostRanges { return "\(untold.count) ranges are untold, \(Self.mostRanges) may be" }
        // A member leaves once it has more than `mostRanges`; what it is handed back then is in few.
        if uncharged.count > 2 * Self.mostRanges { return "\(uncharged.count) ranges are to be charged" }
        for index in 0..<uncharged.count where !pending.contains(uncharged[index]) {
            return "\(uncharged[index]) is to be charged, and not all of it is pending"
        }
        if let last = pending.last, last.upperBound >= edge {
            return "\(last.upperBound) is pending, and the live edge is \(edge)"
        }
        if let follows {
            if follows > edge { return "it follows from \(follows) on, beyond the live edge \(edge)" }
            if let last = pending.last, last.upperBound >= follows {
                return "\(last.upperBound) is pending twice: it follows from \(follows) on"
            }
        }
        return nil
    }
}
