import Wire

@testable import AMT

/// A relay among gateways that lie: what they have no right to changes nothing.
struct RelayFuzz {
    let seed: UInt64
    private var random: QuickRandom
    private var relay: Relay
    private var now = Instant(nanoseconds: 1_000_000_000)
    private var joined: Set<Channel> = []
    /// Queries by the gateway that got them, with the time.
    private var queries: [(gateway: SocketAddress, query: Message.Query, at: Instant)] = []
    private var replayable: [(gateway: SocketAddress, bytes: [UInt8], at: Instant)] = []
    private let configuration: RelayConfiguration

    init(seed: UInt64) {
        self.seed = seed
        random = QuickRandom(seed)
        var configuration = RelayConfiguration()
        configuration.endpointLimit = 24
        configuration.endpointsPerAddressLimit = 6
        configuration.groupsPerEndpointLimit = 4
        configuration.sourcesPerGroupLimit = 6
        configuration.upstreamLimit = 16
        configuration.requestPlaces = 256
        configuration.repeatedMACLifetime = .seconds(60)
        if seed & 1 != 0 { configuration.leaveLatency = .seconds(2) }
        if seed & 2 != 0 { configuration.allowsAnySource = false }
        self.configuration = configuration
        relay = Relay(configuration: configuration, seed: SeededRandom(seed: seed), at: now)
    }

    private mutating func gateway() -> SocketAddress {
        let port = UInt16(1000 + random.below(4))
        if random.below(4) == 0 {
            return SocketAddress(.v6(0x2001_0db8_0001 << 80 | UInt128(random.below(3)) << 64 | 9), port: port)
        }
        return SocketAddress(.v4(0xc000_0201 + UInt32(random.below(8))), port: port)
    }

    mutating func run(_ count: Int) throws(FuzzFailure) {
        for number in 0..<count {
            switch random.below(16) {
            case 0, 1: try ask(number)
            case 2, 3, 4, 5: try update(number)
            case 6, 7: try forge(number)
            case 8: try replay(number)
            case 9: try stale(number)
            case 10: try truncate(number)
            case 11: try tearDown(number)
            case 12: try noise(number)
            case 13: notice()
            default: try wait(number)
            }
            try check(number)
        }
        now += .seconds(100_000)
        relay.timerFired(at: now)
        try check(count)
        guard relay.endpointCount == 0, relay.upstreamCount == 0, joined.isEmpty, relay.nextDeadline == .distantFuture
        else { throw fail("something is left when everything has expired", count) }
    }

    private func fail(_ what: String, _ number: Int, _ bytes: [UInt8] = []) -> FuzzFailure {
        FuzzFailure(what: what, seed: seed, number: number, bytes: bytes)
    }

    /// Nothing but a Discovery or a Request is ever answered, each once, with nothing longer than its message can be.
    @discardableResult
    private mutating func send(_ bytes: [UInt8], from gateway: SocketAddress, _ number: Int) throws(FuzzFailure)
        -> [UInt8]?
    {
        let answer = relay.datagramReceived(bytes.span, from: gateway, to: .v4(0xc633_6401), at: now)
        guard let answer else { return nil }
        switch (Message(bytes.span), Message(answer.span)) {
        case (.discovery, .advertisement) where answer.count <= 24: break
        case (.request(let request), .query) where answer.count <= (request.family == .ipv4 ? 66 : 106): break
        default: throw fail("an answer of \(answer.count) octets", number, bytes)
        }
        return answer
    }

    private mutating func ask(_ number: Int) throws(FuzzFailure) {
        let gateway = gateway()
        if random.below(4) == 0 {
            try send(Message.discovery(nonce: UInt32(truncatingIfNeeded: random.next())).bytes, from: gateway, number)
            return
        }
        let request = Message.Request(
            nonce: UInt32(random.below(8)), family: random.below(2) == 0 ? .ipv4 : .ipv6,
            usesLinuxFlags: random.below(4) == 0)
        guard let answer = try send(Message.request(request).bytes, from: gateway, number) else { return }
        guard case .query(let query) = Message(answer.span), query.nonce == request.nonce else {
            throw fail("no Query for a Request", number, answer)
        }
        if queries.count == 16 { queries.remove(at: random.below(16)) }
        queries.append((gateway, query, now))
    }

    private mutating func report() -> [UInt8] {
        let isIPv4 = random.below(4) != 0
        let records = random.records(isIPv4: isIPv4, most: 3)
        return MembershipReport(family: isIPv4 ? .ipv4 : .ipv6, records: records).packet()
    }

    private mutating func update(_ number: Int) throws(FuzzFailure) {
        guard !queries.isEmpty else { return }
        let (gateway, query, at) = random.pick(queries)
        let before = relay.counters.invalidMAC
        let bytes = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report())
        try send(bytes, from: gateway, number)
        // A secret lives at least one lifetime from its beginning, and two query intervals beyond.
        if now - at <= configuration.queryInterval * 2, relay.counters.invalidMAC != before {
            throw fail("a fresh MAC is refused", number, bytes)
        }
        if replayable.count == 16 { replayable.remove(at: random.below(16)) }
        replayable.append((gateway, bytes, at))
    }

    private struct Footprint: Equatable {
        var endpoints: Int
        var upstream: Int
        var deadline: Instant
        var opened: UInt64
        var tornDown: UInt64
    }

    private var footprint: Footprint {
        Footprint(
            endpoints: relay.endpointCount, upstream: relay.upstreamCount, deadline: relay.nextDeadline,
            opened: relay.counters.endpointsOpened, tornDown: relay.counters.endpointsTornDown)
    }

    /// Sends what has no valid MAC: it is counted, and nothing else happens.
    private mutating func refused(_ bytes: [UInt8], from gateway: SocketAddress, _ number: Int) throws(FuzzFailure) {
        let before = footprint
        let count = relay.counters.invalidMAC
        let answer = try send(bytes, from: gateway, number)
        guard answer == nil, relay.counters.invalidMAC == count + 1, footprint == before,
            relay.nextUpstreamChange() == nil
        else { throw fail("a message without a valid MAC did something", number, bytes) }
    }

    private mutating func forge(_ number: Int) throws(FuzzFailure) {
        let datagram = report()
        guard !queries.isEmpty, random.below(3) != 0 else {
            let bytes = Message.update(
                mac: ResponseMAC(random.next()), nonce: UInt32(truncatingIfNeeded: random.next())
            ).bytes(datagram: datagram)
            return try refused(bytes, from: gateway(), number)
        }
        let (owner, query, _) = random.pick(queries)
        switch random.below(3) {
        case 0:
            // One bit is wrong.
            let mac = ResponseMAC(query.mac.bits ^ 1 << UInt64(random.below(48)))
            try refused(Message.update(mac: mac, nonce: query.nonce).bytes(datagram: datagram), from: owner, number)
        case 1:
            let nonce = query.nonce ^ 1 << UInt32(random.below(32))
            try refused(Message.update(mac: query.mac, nonce: nonce).bytes(datagram: datagram), from: owner, number)
        default:
            // Somebody else's: another address, or only another port.
            var thief = owner
            if random.below(2) == 0 {
                thief.port ^= UInt16(1 << random.below(9))
            } else {
                thief = SocketAddress(.v4(9), port: 9)
            }
            try refused(
                Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: datagram), from: thief, number)
        }
    }

    /// An Update that was heard on the way, sent again: from elsewhere it is refused, from the gateway's own address it
    /// makes at most the one tunnel that the gateway had.
    private mutating func replay(_ number: Int) throws(FuzzFailure) {
        guard !replayable.isEmpty else { return }
        let (gateway, bytes, _) = random.pick(replayable)
        if random.below(2) == 0 {
            return try refused(
                bytes, from: SocketAddress(.v4(0xc000_0300 + UInt32(random.below(99))), port: 77), number)
        }
        let before = relay.endpointCount
        try send(bytes, from: gateway, number)
        let once = footprint
        try send(bytes, from: gateway, number)
        // A source that found no room the first time may find it now, so that channels are not compared.
        guard once.endpoints <= before + 1, relay.endpointCount == once.endpoints else {
            throw fail("a replay adds up", number, bytes)
        }
    }

    /// Two secrets later nothing of the old one counts.
    private mutating func stale(_ number: Int) throws(FuzzFailure) {
        guard random.below(8) == 0, !queries.isEmpty else { return }
        let (gateway, query, _) = random.pick(queries)
        now += configuration.secretLifetime
        relay.timerFired(at: now)
        // The one before the current one counts for two query intervals from its end.
        try send(hexRequest, from: SocketAddress(.v4(0xc000_0299), port: 5), number)
        now += configuration.queryInterval * 2
        relay.timerFired(at: now)
        try follow(number)
        let bytes = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report())
        try refused(bytes, from: gateway, number)
        queries = []
        replayable = []
    }

    private var hexRequest: [UInt8] { [3, 0, 0, 0, 0, 0, 0, 1] }

    private mutating func truncate(_ number: Int) throws(FuzzFailure) {
        guard !queries.isEmpty else { return }
        let (gateway, query, _) = random.pick(queries)
        let bytes = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report())
        let before = relay.counters
        try send(Array(bytes.prefix(random.below(bytes.count))), from: gateway, number)
        guard relay.counters.endpointsOpened == before.endpointsOpened else {
            throw fail("a truncated report opens a tunnel", number, bytes)
        }
        // An inner packet whose checksums are right, but not what it says.
        let inner = repaired(random.spoil(Array(bytes[Message.membershipHeaderLength...])))
        try send(Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: inner), from: gateway, number)
    }

    private mutating func tearDown(_ number: Int) throws(FuzzFailure) {
        guard !queries.isEmpty else { return }
        let (owner, query, _) = random.pick(queries)
        if random.below(2) == 0 {
            let other = SocketAddress(owner.address, port: owner.port ^ 0x4000)
            let bytes = Message.teardown(mac: query.mac, nonce: query.nonce, gateway: other).bytes
            return try refused(bytes, from: owner, number)
        }
        try send(Message.teardown(mac: query.mac, nonce: query.nonce, gateway: owner).bytes, from: gateway(), number)
    }

    /// An ICMP error about a packet to a gateway, often a spoiled one.
    private mutating func notice() {
        let gateway = gateway()
        guard gateway.address.isIPv4 else { return }
        var octets = icmpError(
            code: UInt8(random.below(6)), mtu: UInt16(random.below(3000)),
            from: SocketAddress(.v4(0xc633_6401), port: relayPort), to: gateway)
        if random.below(3) == 0 { octets = repaired(random.spoil(octets)) }
        guard let notice = TunnelNotice(octets.span, isIPv4: true) else { return }
        relay.noticeReceived(notice)
    }

    private mutating func noise(_ number: Int) throws(FuzzFailure) {
        let bytes =
            random.below(2) == 0 ? random.octets(random.below(80)) : random.spoil(hexRequest + random.octets(30))
        try send(bytes, from: random.below(8) == 0 ? SocketAddress(.v4(0xe000_0001), port: 0) : gateway(), number)
    }

    private mutating func wait(_ number: Int) throws(FuzzFailure) {
        now += .milliseconds(random.below(16) == 0 ? 300_000 : random.below(3000))
        relay.timerFired(at: now)
        guard relay.nextDeadline > now else { throw fail("a deadline has passed unseen", number) }
    }

    /// Upstream joins and leaves alternate, and what is joined is what the relay says.
    private mutating func follow(_ number: Int) throws(FuzzFailure) {
        while let change = relay.nextUpstreamChange() {
            switch change {
            case .join(let channel):
                guard joined.insert(channel).inserted else { throw fail("\(channel) is joined twice", number) }
            case .leave(let channel):
                guard joined.remove(channel) != nil else { throw fail("\(channel) is left twice", number) }
            }
        }
    }

    private mutating func check(_ number: Int) throws(FuzzFailure) {
        try follow(number)
        guard joined.count == relay.upstreamCount, joined.count <= configuration.upstreamLimit,
            relay.endpointCount <= configuration.endpointLimit
        else { throw fail("\(joined.count) channels, \(relay.upstreamCount) counted", number) }
        guard relay.endpointCount > 0 || joined.isEmpty else { throw fail("a channel without an endpoint", number) }
        guard number % 16 == 0 else { return }
        let isIPv4 = random.below(4) != 0
        var slots: [Int] = []
        let source = random.address(isIPv4: isIPv4, isGroup: false)
        let group = random.address(isIPv4: isIPv4, isGroup: true)
        relay.collectDestinations(source: source, group: group, into: &slots)
        guard Set(slots).count == slots.count, slots.count <= relay.endpointCount else {
            throw fail("\(slots.count) copies to \(relay.endpointCount) endpoints", number)
        }
        for slot in slots where relay.destination(slot).gateway.port == 0 { throw fail("a copy to nowhere", number) }
    }
}

/// A gateway that hears a relay, and others that want to be one.
struct GatewayFuzz {
    let seed: UInt64
    private var random: QuickRandom
    private var gateway: Gateway
    private var now = Instant(nanoseconds: 1_000_000_000)
    private var nonces: [UInt32] = [1]
    private let discovery = SocketAddress(.v4(0xc633_6401), port: relayPort)
    private let isIPv4: Bool

    init(seed: UInt64) {
        self.seed = seed
        random = QuickRandom(seed)
        isIPv4 = seed & 1 == 0
        var configuration = GatewayConfiguration()
        configuration.discovers = seed & 2 == 0
        configuration.channelLimit = 8
        gateway = Gateway(
            discovery: discovery, family: isIPv4 ? .ipv4 : .ipv6, configuration: configuration,
            seed: SeededRandom(seed: seed))
    }

    mutating func run(_ count: Int) throws(FuzzFailure) {
        for number in 0..<count {
            switch random.below(16) {
            case 0: gateway.subscribe(channel(), at: now)
            case 1 where random.below(4) == 0: gateway.unsubscribe(channel(), at: now)
            case 2: if random.below(200) == 0 { gateway.stop(at: now) }
            case 3, 4, 5: try hear(answer(), number)
            case 6, 7: try hear(random.spoil(answer()), number)
            case 8, 9, 10: try hear([6, 0] + data(), number)
            case 11: try hear([6, 0] + repaired(random.spoil(data())), number)
            case 12: try hear(random.octets(random.below(100)), number)
            default:
                now += .milliseconds(random.below(32) == 0 ? 200_000 : random.below(1500))
                gateway.timerFired(at: now)
                guard gateway.nextDeadline > now else { throw fail("a deadline has passed unseen", number, []) }
            }
            try check(number)
        }
        gateway.stop(at: now)
        try check(count)
        guard gateway.nextDeadline == .distantFuture, gateway.channels.isEmpty else {
            throw fail("a gateway that was stopped still wants something", count, [])
        }
    }

    private func fail(_ what: String, _ number: Int, _ bytes: [UInt8]) -> FuzzFailure {
        FuzzFailure(what: what, seed: seed, number: number, bytes: bytes)
    }

    private mutating func channel() -> Channel {
        let family = random.below(16) == 0 ? !isIPv4 : isIPv4
        let source: IPAddress? = random.below(4) == 0 ? nil : random.address(isIPv4: family, isGroup: false)
        return Channel(source: source, group: random.address(isIPv4: family, isGroup: random.below(16) != 0))
    }

    private mutating func answer() -> [UInt8] {
        let nonce = random.below(8) == 0 ? UInt32(truncatingIfNeeded: random.next()) : random.pick(nonces)
        if random.below(4) == 0 {
            let relay: IPAddress =
                random.below(4) == 0 ? .v4(UInt32(truncatingIfNeeded: random.next())) : discovery.address
            return Message.advertisement(nonce: nonce, relay: relay).bytes
        }
        let general = GeneralQuery(
            family: random.below(16) == 0 ? .ipv6 : isIPv4 ? .ipv4 : .ipv6, maximumResponse: .milliseconds(100),
            robustness: UInt8(random.below(8)), interval: .seconds(1 + random.below(300)))
        let here = SocketAddress(.v4(0xc000_0207 + UInt32(random.below(2))), port: 4000)
        let query = Message.Query(
            mac: ResponseMAC(random.next()), nonce: nonce, isLimited: random.below(8) == 0,
            gateway: random.below(2) == 0 ? here : nil)
        return Message.query(query).bytes(datagram: general.packet())
    }

    private mutating func data() -> [UInt8] {
        let source = random.address(isIPv4: isIPv4, isGroup: false)
        var group = random.address(isIPv4: isIPv4, isGroup: true)
        if group.isIPv4 != isIPv4 { group = isIPv4 ? .v4(0xe801_0001) : .v6(0xff3e << 112 | 1) }
        let payload = random.octets(8 * random.below(20) + (random.below(8) == 0 ? 3 : 0))
        guard isIPv4, random.below(2) == 0 else { return dataPacket(from: source, to: group, payload) }
        return dataPacket(
            from: source, to: group, payload,
            fragment: (offset: 8 * random.below(random.below(8) == 0 ? 8190 : 40), hasMore: random.below(3) != 0),
            identification: UInt16(random.below(24)))
    }

    private mutating func hear(_ bytes: [UInt8], _ number: Int) throws(FuzzFailure) {
        let sender: SocketAddress =
            random.below(16) == 0
            ? SocketAddress(.v4(0x0808_0808), port: relayPort)
            : random.below(8) == 0 ? discovery : gateway.relay ?? discovery
        let before = gateway.counters.packetsDelivered
        guard let delivery = gateway.datagramReceived(bytes.span, from: sender, at: now) else { return }
        guard sender == gateway.relay, gateway.counters.packetsDelivered == before + 1,
            delivery.payload.lowerBound >= 0, delivery.payload.upperBound <= (delivery.reassembled ?? bytes).count,
            gateway.channels.contains(where: {
                $0.group == delivery.group.address && ($0.source ?? delivery.source.address) == delivery.source.address
            })
        else { throw fail("delivered what nobody asked for, or what is not there", number, bytes) }
    }

    /// What it says goes to the relay or to where relays are looked for, and each turn only a little.
    private mutating func check(_ number: Int) throws(FuzzFailure) {
        var sent = 0
        while let (bytes, to) = gateway.nextDatagram() {
            sent += 1
            guard sent <= 512, bytes.count <= 1300 else { throw fail("\(sent) datagrams at once", number, bytes) }
            switch Message(bytes.span) {
            case .discovery(let nonce):
                guard to == discovery else { throw fail("a Discovery to \(to)", number, bytes) }
                nonces.append(nonce)
            case .request(let request): nonces.append(request.nonce)
            case .update, .teardown: break
            default: throw fail("a gateway does not say this", number, bytes)
            }
        }
        while gateway.nextEvent() != nil {}
        if nonces.count > 3 { nonces.removeFirst(nonces.count - 3) }
        guard gateway.channels.count <= 8 else { throw fail("too many channels", number, []) }
    }
}
