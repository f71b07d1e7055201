import Wire

// What a relay has done for whom. Totals of a channel or a tunnel begin when it is joined or opened.

/// What was forwarded of a channel.
public struct ChannelCounters: Sendable, Equatable {
    /// Packets that came for it while it was joined.
    public var packets: UInt64 = 0
    /// Octets of those packets, IP headers included.
    public var octets: UInt64 = 0
    /// Packets times tunnels they were due to.
    public var copies: UInt64 = 0
    /// Packets dropped because the channel had had its rate.
    public var overRate: UInt64 = 0
    /// Tunnels that have joined so far.
    public var joins: UInt64 = 0

    /// All zero.
    public init() {}

    static func += (left: inout ChannelCounters, right: ChannelCounters) {
        left.packets += right.packets
        left.octets += right.octets
        left.copies += right.copies
        left.overRate += right.overRate
        left.joins += right.joins
    }
}

/// A channel that is joined.
public struct ChannelAccount: Sendable {
    /// Which one.
    public var channel: Channel
    /// Tunnels that have it now.
    public var tunnels: Int
    /// What was forwarded of it since it was joined.
    public var counters: ChannelCounters
}

/// A tunnel that is open.
public struct EndpointAccount: Sendable {
    /// The other end of the tunnel.
    public var gateway: SocketAddress
    /// The relay's address that the gateway uses.
    public var local: IPAddress
    /// Packets that went into the tunnel.
    public var packets: UInt64
    /// Octets of the AMT messages of those packets.
    public var octets: UInt64
    /// Channels joined so far.
    public var joins: UInt64
    /// Groups that it has now.
    public var groups: Int
    /// When the gateway's last Membership Update came.
    public var heardAt: Instant
}

/// Why something was not given that a gateway asked for.
public enum RefusalReason: Int, Sendable, CaseIterable {
    /// `endpointLimit` is reached.
    case tunnels
    /// `endpointsPerAddressLimit` is reached.
    case tunnelsOfAddress
    /// `groupsPerEndpointLimit` is reached.
    case groupsOfTunnel
    /// `sourcesPerGroupLimit` is reached.
    case sourcesOfGroup
    /// `upstreamLimit` is reached, or all but what is kept for others.
    case channels
    /// `channelsPerEndpointLimit` is reached.
    case channelsOfTunnel
    /// `channelsPerAddressLimit` is reached.
    case channelsOfAddress
    /// `groups` does not permit the group.
    case groupNotServed
    /// `sources` does not permit the source.
    case sourceNotServed
    /// The record names no sources where it has to (RFC 4604 section 2.2).
    case anySource
    /// The tunnel ended although its gateway sent Updates: their MAC was too old, or none of ours.
    case oldMAC

    /// A word for metrics.
    public var label: String {
        switch self {
        case .tunnels: "tunnels"
        case .tunnelsOfAddress: "tunnels_of_address"
        case .groupsOfTunnel: "groups_of_tunnel"
        case .sourcesOfGroup: "sources_of_group"
        case .channels: "channels"
        case .channelsOfTunnel: "channels_of_tunnel"
        case .channelsOfAddress: "channels_of_address"
        case .groupNotServed: "group_not_served"
        case .sourceNotServed: "source_not_served"
        case .anySource: "any_source"
        case .oldMAC: "old_mac"
        }
    }
}

extension RefusalReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .tunnels: "too many tunnels"
        case .tunnelsOfAddress: "too many tunnels of one address"
        case .groupsOfTunnel: "too many groups in one tunnel"
        case .sourcesOfGroup: "too many sources of one group"
        case .channels: "too many channels"
        case .channelsOfTunnel: "too many channels in one tunnel"
        case .channelsOfAddress: "too many channels of one address"
        case .groupNotServed: "the group is not served"
        case .sourceNotServed: "the source is not served"
        case .anySource: "the group is served by source only"
        case .oldMAC: "the tunnel ended: the MAC of the gateway's Updates is too old"
        }
    }
}

/// A join that was refused.
public struct Refusal: Sendable, Hashable {
    /// The other end of the tunnel.
    public var gateway: SocketAddress
    /// What it asked for; nil when it is not known.
    public var group: IPAddress?
    /// Why it was not given.
    public var reason: RefusalReason
}

/// The channels that packets belong to, and how many tunnels each leads to.
struct ChannelMatch: Sendable, Hashable {
    var named: Int?
    var namedTunnels = 0
    var anySource: Int?
    var anySourceTunnels = 0
}

extension Relay {
    /// What a relay keeps of a channel that is joined. There may be many: it is small.
    struct ChannelState: Sendable {
        /// Endpoints that asked for it.
        var slots: [Int] = []
        /// Whom it is counted for: an address or network (`site`) of one of them.
        var payer = IPAddress.v4(0)
        var budget = RateBudget()
        /// Where in `accounts` it is, if it is one of those accounted for one by one.
        var account: Int32 = -1
    }

    /// Counts packets of a channel that came together, and tells whether they may be forwarded, of what `channelRate`
    /// allows it. The sources of an any-source group have its rate together.
    mutating func admit(_ packets: Int, _ octets: Int, of match: ChannelMatch, at now: Instant) -> Bool {
        var isAdmitted = true
        if let index = match.named { isAdmitted = admit(packets, octets, index, match.namedTunnels, at: now) }
        if let index = match.anySource {
            isAdmitted = admit(packets, octets, index, match.anySourceTunnels, at: now) && isAdmitted
        }
        return isAdmitted
    }

    private mutating func admit(
        _ packets: Int, _ octets: Int, _ index: Int, _ tunnels: Int, at now: Instant
    ) -> Bool {
        var counted = ChannelCounters()
        counted.packets = UInt64(packets)
        counted.octets = UInt64(octets)
        var isAdmitted = true
        if let rate = configuration.channelRate {
            isAdmitted = channels[index].budget.spend(octets, rate: rate, at: now)
        }
        if isAdmitted { counted.copies = UInt64(packets * tunnels) } else { counted.overRate = UInt64(packets) }
        account(counted, channels[index].account)
        return isAdmitted
    }

    mutating func account(_ counted: ChannelCounters, _ place: Int32) {
        if place >= 0 { accounts[Int(place)].counters += counted } else { otherChannels += counted }
    }

    /// A place for a channel of its own in the accounts, if there is one left.
    mutating func openAccount(_ channel: Channel) -> Int32 {
        let account = ChannelAccount(channel: channel, tunnels: 0, counters: ChannelCounters())
        if let free = freeAccounts.popLast() {
            accounts[Int(free)] = account
            return free
        }
        guard accounts.count < configuration.namedChannelLimit else { return -1 }
        accounts.append(account)
        return Int32(accounts.count - 1)
    }

    /// The channel was left: what was counted of it is from now on among that of the others.
    mutating func closeAccount(_ place: Int32) {
        guard place >= 0 else { return }
        otherChannels += accounts[Int(place)].counters
        accounts[Int(place)].counters = ChannelCounters()
        freeAccounts.append(place)
    }

    /// Channels accounted for one by one: the first `namedChannelLimit` that were joined, as long as they are.
    public var namedChannels: [ChannelAccount] {
        accounts.enumerated().compactMap { place, account in
            guard let index = members[account.channel], channels[index].account == place else { return nil }
            var account = account
            account.tunnels = channels[index].slots.count
            return account
        }
    }

    /// Open tunnels from slot `first` on, at most `limit`, and the slot to go on from; nil when there are no more.
    public func endpointAccounts(from first: Int, limit: Int) -> (accounts: [EndpointAccount], next: Int?) {
        var accounts: [EndpointAccount] = []
        for slot in endpoints.indices.dropFirst(max(0, first)) where endpoints[slot].isOpen {
            if accounts.count == limit { return (accounts, slot) }
            let endpoint = endpoints[slot]
            accounts.append(
                EndpointAccount(
                    gateway: endpoint.gateway, local: endpoint.local, packets: endpoint.packets,
                    octets: endpoint.octets, joins: endpoint.joins, groups: endpoint.groups.count,
                    heardAt: endpoint.heardAt))
        }
        return (accounts, nil)
    }

    /// How many joins were refused for `reason`.
    public func refusals(_ reason: RefusalReason) -> UInt64 { refusalCounts[reason.rawValue] }

    /// The next refused join to tell people of; of many at once only the first ones.
    public mutating func nextRefusal() -> Refusal? { refusals.isEmpty ? nil : refusals.removeFirst() }

    mutating func refuse(_ gateway: SocketAddress, _ group: IPAddress?, _ reason: RefusalReason) {
        refusalCounts[reason.rawValue] += 1
        if refusals.count < 16 { refusals.append(Refusal(gateway: gateway, group: group, reason: reason)) }
    }
}
