import Wire

// Tunnels as they open, change and end.
extension Relay {
    /// A tunnel for a gateway that asks for something; nil when it asks for nothing, or there is no room
    /// (RFC 7450 section 5.3.3.4).
    mutating func open(
        _ gateway: SocketAddress, to local: IPAddress, by proof: Proof, for records: [GroupRecord], at now: Instant
    ) -> Int? {
        let joins = records.contains { record in
            switch record.kind {
            case .isExclude, .toExclude: true
            case .block: false
            case .isInclude, .toInclude, .allow: !record.sources.isEmpty
            }
        }
        guard joins else { return nil }
        let site = Self.site(gateway.address)
        let isFull = slots.count >= configuration.endpointLimit
        guard !isFull, endpointsOfAddress[site, default: 0] < configuration.endpointsPerAddressLimit else {
            counters.refusedEndpoints += 1
            refuse(gateway, records.first?.group, isFull ? .tunnels : .tunnelsOfAddress)
            return nil
        }
        let endpoint = Endpoint(
            gateway: gateway, local: local, deadline: now + configuration.membershipInterval, proof: proof,
            pathMTU: configuration.pathMTU(from: local), heardAt: now)
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            endpoints[slot] = endpoint
        } else {
            slot = endpoints.count
            endpoints.append(endpoint)
        }
        slots[gateway] = slot
        endpointsOfAddress[site, default: 0] += 1
        counters.endpointsOpened += 1
        return slot
    }

    /// Ends a tunnel as if its gateway had left every group (RFC 7450 section 5.3.3.5).
    mutating func close(_ slot: Int) {
        for group in endpoints[slot].groups.map(\.group) {
            change(group, of: slot) { state in state = GroupState() }
        }
        let gateway = endpoints[slot].gateway
        endpoints[slot].isOpen = false
        endpoints[slot].groups = []
        slots[gateway] = nil
        freeSlots.append(slot)
        let site = Self.site(gateway.address)
        let left = endpointsOfAddress[site, default: 1] - 1
        endpointsOfAddress[site] = left > 0 ? left : nil
    }

    /// Whose tunnels are counted together: an IPv4 address or an IPv6 /64.
    private static func site(_ address: IPAddress) -> IPAddress {
        if case .v6(let bits) = address { .v6((bits >> 64) << 64) } else { address }
    }

    mutating func apply(_ record: GroupRecord, to slot: Int, at now: Instant) {
        let times = MembershipTimes(
            membership: configuration.membershipInterval, leaveLatency: configuration.leaveLatency)
        let limit = configuration.sourcesPerGroupLimit
        let isKnown = endpoints[slot].groups.contains { $0.group == record.group }
        let sources = record.sources.filter {
            $0.isIPv4 == record.group.isIPv4 && $0.isSender && configuration.sources.permits($0)
        }
        counters.ignoredSources += UInt64(record.sources.count - sources.count)
        let gateway = endpoints[slot].gateway
        if [.isInclude, .toInclude, .allow].contains(record.kind),
            record.sources.contains(where: { !configuration.sources.permits($0) })
        {
            refuse(gateway, record.group, .sourceNotServed)
        }
        guard isKnown || endpoints[slot].groups.count < configuration.groupsPerEndpointLimit else {
            if record.kind != .block {
                counters.refusedJoins += 1
                refuse(gateway, record.group, .groupsOfTunnel)
            }
            return
        }
        var fits = true
        change(record.group, of: slot) { state in
            fits = state.apply(record.kind, sources, times: times, limit: limit, at: now)
        }
        if !fits {
            counters.refusedJoins += 1
            refuse(gateway, record.group, .sourcesOfGroup)
        }
    }

    /// Changes the endpoint's state of one group, and what follows from it.
    mutating func change(_ group: IPAddress, of slot: Int, _ body: (inout GroupState) -> Void) {
        let index = endpoints[slot].groups.firstIndex { $0.group == group }
        let before = index.map { endpoints[slot].groups[$0].state } ?? GroupState()
        var after = before
        body(&after)
        guard after != before else { return }
        follow(group, of: slot, from: before, to: &after)
        if after.isGone {
            if let index { endpoints[slot].groups.remove(at: index) }
        } else if let index {
            endpoints[slot].groups[index].state = after
        } else {
            endpoints[slot].groups.append((group, after))
        }
    }

    /// Moves the endpoint between the lists of members, which are the forwarding table and the merger of what all
    /// endpoints want (RFC 7450 section 5.3.3.4). New lists come first, so that a group which only changes its
    /// kind is never left by everybody in between. What is refused is taken out of the new state.
    private mutating func follow(
        _ group: IPAddress, of slot: Int, from old: GroupState, to new: inout GroupState
    ) {
        if new.isExclude, !old.isExclude, !add(slot, to: Channel(source: nil, group: group)) {
            new = old
            return
        }
        if !new.isExclude {
            var refused: [IPAddress] = []
            for each in new.requested
            where old.isExclude || !old.requested.contains(where: { $0.source == each.source }) {
                if !add(slot, to: Channel(source: each.source, group: group)) { refused.append(each.source) }
            }
            if !refused.isEmpty { new.forget(refused) }
        }
        if old.isExclude {
            if !new.isExclude { remove(slot, from: Channel(source: nil, group: group)) }
        } else {
            for each in old.requested
            where new.isExclude || !new.requested.contains(where: { $0.source == each.source }) {
                remove(slot, from: Channel(source: each.source, group: group))
            }
        }
    }

    /// False: refused.
    private mutating func add(_ slot: Int, to channel: Channel) -> Bool {
        let known = members[channel]
        let site = Self.site(endpoints[slot].gateway.address)
        if let reason = refusal(of: slot, at: site, isNew: known == nil) {
            counters.refusedJoins += 1
            if reason == .channels { endpoints[slot].lacksChannels = true }
            refuse(endpoints[slot].gateway, channel.group, reason)
            return false
        }
        let index: Int
        if let known {
            index = known
        } else {
            let state = ChannelState(payer: site, account: openAccount(channel))
            if let free = freeChannels.popLast() {
                index = free
                channels[index] = state
            } else {
                index = channels.count
                channels.append(state)
            }
            charge(site, 1)
            members[channel] = index
            changes.append(.join(channel))
        }
        channels[index].slots.append(slot)
        var counted = ChannelCounters()
        counted.joins = 1
        account(counted, channels[index].account)
        endpoints[slot].joins += 1
        endpoints[slot].channels += 1
        return true
    }

    /// Why the tunnel in `slot` may not have one channel more, which is joined upstream only for it if `isNew`.
    private func refusal(of slot: Int, at site: IPAddress, isNew: Bool) -> RefusalReason? {
        guard endpoints[slot].channels < configuration.channelsPerEndpointLimit else { return .channelsOfTunnel }
        guard isNew else { return nil }
        let own = channelsOfAddress[site, default: 0]
        guard own < configuration.channelsPerAddressLimit else { return .channelsOfAddress }
        let limit = configuration.upstreamLimit
        let kept = own < RelayConfiguration.fewChannels ? 0 : limit * RelayConfiguration.keptPercent / 100
        return members.count < limit - kept ? nil : .channels
    }

    private mutating func remove(_ slot: Int, from channel: Channel) {
        guard let index = members[channel], let place = channels[index].slots.firstIndex(of: slot) else { return }
        endpoints[slot].channels -= 1
        let last = channels[index].slots.count - 1
        let payer = channels[index].payer
        if last > 0 {
            channels[index].slots.swapAt(place, last)
            channels[index].slots.removeLast()
            // Another one's from now on, if this was the one it was joined for.
            if payer == Self.site(endpoints[slot].gateway.address) {
                let next = Self.site(endpoints[channels[index].slots[0]].gateway.address)
                channels[index].payer = next
                charge(payer, -1)
                charge(next, 1)
            }
            return
        }
        members[channel] = nil
        charge(payer, -1)
        closeAccount(channels[index].account)
        channels[index] = ChannelState()
        freeChannels.append(index)
        changes.append(.leave(channel))
    }

    private mutating func charge(_ site: IPAddress, _ change: Int) {
        let count = channelsOfAddress[site, default: 0] + change
        channelsOfAddress[site] = count > 0 ? count : nil
    }

    /// After a change: the endpoint is known at the heap by its earliest deadline.
    mutating func settle(_ slot: Int) {
        guard endpoints[slot].isOpen else { return }
        let deadline = endpoints[slot].nextDeadline
        // A later deadline waits for the entry that is there; an earlier one makes the old entry stale. Twice as many
        // entries as endpoints are the bound: a gateway cannot fill the heap by going back and forth.
        guard deadline < endpoints[slot].scheduled else { return }
        endpoints[slot].scheduled = deadline
        deadlines.push(deadline, slot)
        if deadlines.count > 2 * slots.count + 64 { rebuildDeadlines() }
    }

    private mutating func rebuildDeadlines() {
        deadlines = DeadlineHeap()
        for (slot, endpoint) in endpoints.enumerated() where endpoint.isOpen && endpoint.scheduled < .distantFuture {
            deadlines.push(endpoint.scheduled, slot)
        }
    }
}
