import Wire

// The relay's side of AMT (RFC 7450 section 5.3) as a value.
//
//     datagram ──> datagramReceived ──> the answer, if any        (the shell sends it from where the datagram was sent to)
//                        └──> nextUpstreamChange: join or leave   (the shell asks until nil)
//     multicast packets ──> packetCaptured, nextStep: what goes into which tunnels        (Relay+Forwarding.swift)
//     nextDeadline ──> timerFired
//
// Until a Membership Update brings back a valid response MAC nothing is remembered of a gateway. A tunnel's end is an
// address and a port: several gateways may share an address behind a translator.
//
// Forwarding state is kept twice: each endpoint has its groups as a router has them (GroupState), and each channel has
// the list of endpoints that asked for it. `follow` keeps the second equal to the first.

/// A change of what the relay needs from the multicast network.
public enum UpstreamChange: Hashable, Sendable {
    /// The channel is wanted from now on.
    case join(Channel)
    /// Nobody wants the channel any more.
    case leave(Channel)
}

/// Where and how packets go into a tunnel.
public struct TunnelDestination: Hashable, Sendable {
    /// Where the gateway's last Membership Update came from.
    public var gateway: SocketAddress
    /// The address they leave from.
    public var local: IPAddress
    /// Octets of the largest IP packet that gets through, as configured, or less as the network has told.
    public var pathMTU: Int
    /// Packets carry the mark of congestion of what is in them (RFC 6040 section 4.1, normal mode); else none.
    public var isECNCapable: Bool
}

/// A relay and its tunnels; see the essay at the top of this file.
public struct Relay: Sendable {
    struct Endpoint: Sendable {
        var gateway: SocketAddress
        /// The address that the gateway sends to, from which it expects its data.
        var local: IPAddress
        var groups: [(group: IPAddress, state: GroupState)] = []
        var deadline: Instant
        /// The entry in the heap that counts; others of this slot are stale.
        var scheduled = Instant.distantFuture
        var unreachable = 0
        /// The MAC and nonce that its last Update bore, and what was declared with them.
        var proof: Proof
        /// Requests and Updates that it may still send.
        var requests = TokenBucket()
        var updates = TokenBucket()
        /// Channels that it has, any-source groups among them.
        var channels = 0
        /// Its last Update asked for a channel for which the relay had no room.
        var lacksChannels = false
        /// Updates since then that bore none of ours.
        var refusedProofs = 0
        /// The largest IP packet that gets to the gateway, as configured, or less as the network has told.
        var pathMTU: Int
        /// The gateway passes marks of congestion on.
        var isECNCapable = false
        var budget = RateBudget()
        var packets: UInt64 = 0
        var octets: UInt64 = 0
        var joins: UInt64 = 0
        var heardAt: Instant
        var isOpen = true

        var nextDeadline: Instant { groups.reduce(deadline) { min($0, $1.state.nextDeadline) } }
    }

    /// What an Update bore that was accepted.
    struct Proof: Sendable {
        var mac: ResponseMAC
        var nonce: UInt32
        var declaresECN: Bool
        /// Since when it is the tunnel's.
        var since: Instant

        /// Takes as long whichever bits differ.
        func isRepeated(by mac: ResponseMAC, _ nonce: UInt32) -> Bool {
            (self.mac.bits ^ mac.bits) | UInt64(self.nonce ^ nonce) == 0
        }
    }

    /// How it behaves.
    public private(set) var configuration: RelayConfiguration
    /// What it has seen of gateways.
    public internal(set) var counters = RelayCounters()
    /// What it has forwarded.
    public internal(set) var forwarding = ForwardingCounters()
    /// Every Query carries L from now on.
    public private(set) var isDraining = false

    var forwarder = Forwarder()
    var endpoints: [Endpoint] = []
    var freeSlots: [Int] = []
    var slots: [SocketAddress: Int] = [:]
    var endpointsOfAddress: [IPAddress: Int] = [:]
    /// Channels that are joined for the tunnels of an address.
    var channelsOfAddress: [IPAddress: Int] = [:]
    /// Where in `channels` this source of a group is, or (source nil) every source of it.
    var members: [Channel: Int] = [:]
    var channels: [ChannelState] = []
    var freeChannels: [Int] = []
    /// Totals of channels, one by one and of all the others; those that were left are among the others.
    var accounts: [ChannelAccount] = []
    var freeAccounts: [Int32] = []
    /// Totals of all channels that are not accounted for one by one.
    public internal(set) var otherChannels = ChannelCounters()
    var refusalCounts = [UInt64](repeating: 0, count: RefusalReason.allCases.count)
    var refusals: [Refusal] = []
    var changes: [UpstreamChange] = []
    private var firstChange = 0
    var deadlines = DeadlineHeap()
    private var limiter: RequestLimiter
    private let strangerRate: TokenRate
    private let tunnelRequestRate: TokenRate
    private let tunnelUpdateRate: TokenRate
    private var strangers = TokenBucket()
    private var secret: SipHash
    private var previousSecret: SipHash?
    private var previousUntil = Instant.distantFuture
    private var secretUntil: Instant
    private var random: SeededRandom

    /// `seed`: where secrets come from; nobody else may know it (RFC 7450 section 5.3.5).
    public init(configuration: RelayConfiguration = RelayConfiguration(), seed: SeededRandom, at now: Instant) {
        self.configuration = configuration
        random = seed
        secret = SipHash(key: (random.next(), random.next()))
        secretUntil = now + min(configuration.secretLifetime, .seconds(7200))
        limiter = RequestLimiter(
            rate: TokenRate(perSecond: configuration.requestRate, burst: configuration.requestBurst),
            places: configuration.requestPlaces, key: SipHash(key: (random.next(), random.next())))
        strangerRate = TokenRate(perSecond: configuration.strangerRate, burst: configuration.strangerBurst)
        tunnelRequestRate = TokenRate(
            perSecond: configuration.tunnelRequestRate, burst: 2 * configuration.tunnelRequestRate)
        tunnelUpdateRate = TokenRate(
            perSecond: configuration.tunnelUpdateRate, burst: 2 * configuration.tunnelUpdateRate)
    }

    /// Takes another configuration's limits on tunnels, rates, groups and sources, for what comes from now on: tunnels that are there stay,
    /// and what they have joined until they report it again.
    public mutating func useLimits(of other: RelayConfiguration) {
        configuration.endpointLimit = other.endpointLimit
        configuration.endpointsPerAddressLimit = other.endpointsPerAddressLimit
        configuration.groupsPerEndpointLimit = other.groupsPerEndpointLimit
        configuration.sourcesPerGroupLimit = other.sourcesPerGroupLimit
        configuration.channelsPerEndpointLimit = other.channelsPerEndpointLimit
        configuration.channelsPerAddressLimit = other.channelsPerAddressLimit
        configuration.upstreamLimit = other.upstreamLimit
        configuration.endpointRate = other.endpointRate
        configuration.channelRate = other.channelRate
        configuration.groups = other.groups
        configuration.sources = other.sources
    }

    /// Tunnels that are open.
    public var endpointCount: Int { slots.count }
    /// Channels that are joined upstream.
    public var upstreamCount: Int { members.count }

    // MARK: messages

    /// Handles one datagram from `gateway` that was sent to `local`, and returns what to answer, from `local`. Only the
    /// messages that gateways send are taken (RFC 7450 section 5.3.3.1).
    public mutating func datagramReceived(
        _ bytes: Span<UInt8>, from gateway: SocketAddress, to local: IPAddress, at now: Instant
    ) -> [UInt8]? {
        guard gateway.port != 0, !gateway.address.isMulticast, let message = Message(bytes) else {
            counters.unexpected += 1
            return nil
        }
        switch message {
        case .discovery(let nonce): return discoveryReceived(nonce, from: gateway, to: local, at: now)
        case .request(let request): return requestReceived(request, from: gateway, at: now)
        case .update(let mac, let nonce):
            counters.updates += 1
            updateReceived(
                bytes.extracting(Message.membershipHeaderLength..<bytes.count), mac: mac, nonce: nonce, from: gateway,
                to: local, at: now)
        case .teardown(let mac, let nonce, let old):
            counters.teardowns += 1
            // The fields count, not where the message comes from: the gateway has moved (RFC 7450 section 5.3.3.5).
            guard proof(mac, gateway: old, nonce: nonce, at: now) != nil else {
                counters.invalidMAC += 1
                return nil
            }
            if let slot = slots[old] {
                close(slot)
                counters.endpointsTornDown += 1
            }
        case .advertisement, .query, .data: counters.unexpected += 1
        }
        return nil
    }

    /// Answers wherever it was asked, with an address of the gateway's IP version (RFC 7450 section 5.3.3.2).
    private mutating func discoveryReceived(
        _ nonce: UInt32, from gateway: SocketAddress, to local: IPAddress, at now: Instant
    ) -> [UInt8]? {
        counters.discoveries += 1
        guard isAnswered(gateway, at: now) else { return nil }
        let relay = (gateway.address.isIPv4 ? configuration.advertisedIPv4 : configuration.advertisedIPv6) ?? local
        guard relay.isIPv4 == gateway.address.isIPv4, !relay.isUnspecified else { return nil }
        return Message.advertisement(nonce: nonce, relay: relay).bytes
    }

    /// Answers with the nonce, a MAC, and a general query of the protocol that P asks for (RFC 7450 sections 5.1.3.4 and
    /// 5.3.3.3).
    private mutating func requestReceived(
        _ request: Message.Request, from gateway: SocketAddress, at now: Instant
    ) -> [UInt8]? {
        counters.requests += 1
        guard isAnswered(gateway, at: now) else { return nil }
        renewSecret(at: now)
        var query = Message.Query(
            mac: mac(secret, gateway: gateway, nonce: request.nonce, declaresECN: request.declaresECN),
            nonce: request.nonce,
            isLimited: isDraining || (slots[gateway].map { lacksChannels($0) } ?? isNearlyFull))
        if carriesGatewayFields(request, from: gateway) { query.gateway = gateway }
        let general = GeneralQuery(
            family: request.family, maximumResponse: configuration.queryResponse, robustness: configuration.robustness,
            interval: configuration.queryInterval)
        return Message.query(query).bytes(datagram: general.packet())
    }

    /// Whether a Discovery or Request is answered now. A gateway that has a tunnel has shown that it is where it says, and has a
    /// budget of its own: what others do in the name of its address, or of its network, takes none of it.
    private mutating func isAnswered(_ gateway: SocketAddress, at now: Instant) -> Bool {
        let isAnswered =
            if let slot = slots[gateway] {
                endpoints[slot].requests.take(tunnelRequestRate, at: now)
            } else {
                limiter.take(gateway.address, at: now) && strangers.take(strangerRate, at: now)
            }
        if !isAnswered { counters.rateLimited += 1 }
        return isAnswered
    }

    /// Whether newcomers do better elsewhere.
    private var isNearlyFull: Bool {
        slots.count * 100 >= configuration.endpointLimit * configuration.nearlyFullPercent
            || members.count * 100 >= configuration.upstreamLimit * configuration.nearlyFullPercent
    }

    private func lacksChannels(_ slot: Int) -> Bool { endpoints[slot].lacksChannels }

    private func carriesGatewayFields(_ request: Message.Request, from gateway: SocketAddress) -> Bool {
        switch configuration.gatewayFields {
        case .always: true
        case .never: false
        case .auto:
            !request.usesLinuxFlags && request.length == Message.requestLength && gateway.port != relayPort
        }
    }

    /// Changes nothing unless the MAC is ours and the report is sound (RFC 7450 section 5.3.3.4). Each Update begins the
    /// tunnel's time anew (RFC 7450 section 5.3.3.7).
    private mutating func updateReceived(
        _ packet: Span<UInt8>, mac: ResponseMAC, nonce: UInt32, from gateway: SocketAddress, to local: IPAddress,
        at now: Instant
    ) {
        guard let proof = proof(mac, gateway: gateway, nonce: nonce, at: now) else {
            counters.invalidMAC += 1
            if let slot = slots[gateway] { endpoints[slot].refusedProofs += 1 }
            return
        }
        // After the MAC, so that none but the gateway itself uses it up.
        if let slot = slots[gateway], !endpoints[slot].updates.take(tunnelUpdateRate, at: now) {
            counters.rateLimited += 1
            return
        }
        let report: MembershipReport
        do throws(MembershipReport.Problem) { report = try MembershipReport(packet) } catch {
            counters.invalidReports += 1
            return
        }
        guard report.hasProperHeader(packet) else {
            counters.invalidReports += 1
            return
        }
        let records = report.records.map(\.meantByVLC).filter {
            isServed($0, isOldVersion: report.isOldVersion, from: gateway)
        }
        counters.ignoredRecords += UInt64(report.records.count - records.count)
        let known = slots[gateway]
        guard let slot = known ?? open(gateway, to: local, by: proof, for: records, at: now) else { return }
        endpoints[slot].local = local
        endpoints[slot].heardAt = now
        endpoints[slot].deadline = now + configuration.membershipInterval
        endpoints[slot].unreachable = 0
        endpoints[slot].isECNCapable = proof.declaresECN
        endpoints[slot].proof = proof
        endpoints[slot].refusedProofs = 0
        endpoints[slot].lacksChannels = false
        for record in records { apply(record, to: slot, at: now) }
        settle(slot)
    }

    /// Link-local groups stay on their link (RFC 5771 section 4), and in the source-specific ranges only records that
    /// name their sources count (RFC 4604 section 2.2).
    private mutating func isServed(_ record: GroupRecord, isOldVersion: Bool, from gateway: SocketAddress) -> Bool {
        guard record.group.isMulticast, !record.group.isLinkLocalGroup else { return false }
        guard configuration.groups.permits(record.group) else {
            refuse(gateway, record.group, .groupNotServed)
            return false
        }
        let namesAll = isOldVersion || record.kind == .isExclude || record.kind == .toExclude
        guard namesAll, record.group.isSourceSpecificMulticast || !configuration.allowsAnySource else { return true }
        refuse(gateway, record.group, .anySource)
        return false
    }

    // MARK: response MAC (RFC 7450 section 5.3.5)

    /// Keyed by what the gateway cannot choose freely: where it receives. P is left out, because Linux sends two
    /// Requests with one nonce and keeps one of the two MACs. E is in it: the Update brings back what the Request said,
    /// and nothing has to be remembered between them.
    private func mac(_ secret: SipHash, gateway: SocketAddress, nonce: UInt32, declaresECN: Bool) -> ResponseMAC {
        let tail = UInt64(gateway.port) << 32 | UInt64(nonce)
        let flag: UInt64 = declaresECN ? 16 : 0
        let words: InlineArray<4, UInt64> =
            switch gateway.address {
            case .v4(let bits): [flag | 4, UInt64(bits), 0, tail]
            case .v6(let bits):
                [flag | 6, UInt64(truncatingIfNeeded: bits >> 64), UInt64(truncatingIfNeeded: bits), tail]
            }
        return ResponseMAC(secret.hash(words))
    }

    /// What a MAC of ours proves; nil when it is none. Comparisons are of machine words, whose time does not depend on them.
    ///
    /// An open tunnel's last MAC counts for `repeatedMACLifetime` even when its secret is gone: VLC and others ask once and
    /// repeat what they got. Who opens a tunnel needs one of a secret that is there.
    private mutating func proof(
        _ mac: ResponseMAC, gateway: SocketAddress, nonce: UInt32, at now: Instant
    ) -> Proof? {
        if let slot = slots[gateway] {
            let last = endpoints[slot].proof
            if last.isRepeated(by: mac, nonce), now - last.since < configuration.repeatedMACLifetime { return last }
        }
        renewSecret(at: now)
        for secret in [secret, previousSecret] {
            guard let secret else { continue }
            for declaresECN in [true, false]
            where mac == self.mac(secret, gateway: gateway, nonce: nonce, declaresECN: declaresECN) {
                return Proof(mac: mac, nonce: nonce, declaresECN: declaresECN, since: now)
            }
        }
        return nil
    }

    /// The secret before this one counts for two query intervals more (RFC 7450 sections 5.3.3.4 and 5.3.6).
    private mutating func renewSecret(at now: Instant) {
        if now >= secretUntil {
            previousSecret = secret
            previousUntil = secretUntil + configuration.queryInterval * 2
            secret = SipHash(key: (random.next(), random.next()))
            secretUntil = now + min(configuration.secretLifetime, .seconds(7200))
        }
        if now >= previousUntil { previousSecret = nil }
    }

    // MARK: fan-out

    /// Appends to `list` the slots of all endpoints that get packets of `source` to `group`, none twice, and returns the
    /// channels they have it by.
    @discardableResult
    func collectDestinations(source: IPAddress, group: IPAddress, into list: inout [Int]) -> ChannelMatch {
        var match = ChannelMatch()
        if let index = members[Channel(source: source, group: group)] {
            list += channels[index].slots
            (match.named, match.namedTunnels) = (index, channels[index].slots.count)
        }
        guard let index = members[Channel(source: nil, group: group)], configuration.sources.permits(source) else {
            return match
        }
        let before = list.count
        // An endpoint has one state per group: it is in one of the two lists.
        for slot in channels[index].slots {
            let state = endpoints[slot].groups.first { $0.group == group }?.state
            if state?.wants(source) ?? false { list.append(slot) }
        }
        (match.anySource, match.anySourceTunnels) = (index, list.count - before)
        return match
    }

    /// Where packets for the endpoint in `slot` go, and how.
    func destination(_ slot: Int) -> TunnelDestination {
        // Field by field: an endpoint as a whole would retain its groups.
        TunnelDestination(
            gateway: endpoints[slot].gateway, local: endpoints[slot].local, pathMTU: endpoints[slot].pathMTU,
            isECNCapable: endpoints[slot].isECNCapable)
    }

    /// Whether `packets` of `octets` in all may go into the tunnel in `slot` now, of what `endpointRate` allows it; counts
    /// them if so.
    mutating func spend(_ octets: Int, packets: Int = 1, on slot: Int, at now: Instant) -> Bool {
        if let rate = configuration.endpointRate, !endpoints[slot].budget.spend(octets, rate: rate, at: now) {
            return false
        }
        endpoints[slot].packets += UInt64(packets)
        endpoints[slot].octets += UInt64(octets)
        return true
    }

    // MARK: the rest

    /// What is to be joined or left next.
    public mutating func nextUpstreamChange() -> UpstreamChange? {
        guard firstChange < changes.count else {
            changes.removeAll(keepingCapacity: true)
            firstChange = 0
            return nil
        }
        defer { firstChange += 1 }
        return changes[firstChange]
    }

    /// From now on every gateway is told to look for another relay. Tunnels stay until they end.
    public mutating func drain() { isDraining = true }

    /// The network tells something about a packet into a tunnel: its MTU (RFC 7450 section 5.3.3.6.1), or that nobody is
    /// there, which counts after so many times (RFC 7450 section 5.3.3.6.4).
    public mutating func noticeReceived(_ notice: TunnelNotice) {
        guard let slot = slots[notice.gateway], endpoints[slot].local == notice.relay.address else { return }
        counters.notices += 1
        switch notice.kind {
        case .tooLarge(let mtu):
            guard configuration.followsPathMTU else { return }
            endpoints[slot].pathMTU = min(endpoints[slot].pathMTU, max(mtu, configuration.minimumMTU))
        case .unreachable:
            endpoints[slot].unreachable += 1
            guard endpoints[slot].unreachable >= configuration.unreachableLimit else { return }
            counters.endpointsUnreachable += 1
            close(slot)
        }
    }

    /// When `timerFired` is due.
    public var nextDeadline: Instant { deadlines.next }

    /// Ends tunnels and group states whose time is over (RFC 7450 section 5.3.3.7, RFC 9776 section 6.5).
    public mutating func timerFired(at now: Instant) {
        while let entry = deadlines.popDue(at: now) {
            guard endpoints[entry.slot].isOpen, endpoints[entry.slot].scheduled == entry.deadline else { continue }
            endpoints[entry.slot].scheduled = .distantFuture
            if endpoints[entry.slot].deadline <= now {
                counters.endpointsExpired += 1
                if endpoints[entry.slot].refusedProofs > 0 { refuse(endpoints[entry.slot].gateway, nil, .oldMAC) }
                close(entry.slot)
                continue
            }
            for group in endpoints[entry.slot].groups.map(\.group) {
                change(group, of: entry.slot) { state in state.expire(at: now) }
            }
            settle(entry.slot)
        }
    }
}
