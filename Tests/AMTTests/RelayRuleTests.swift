import Testing
import Wire

@testable import AMT

/// Single rules of the relay, each with a case that only it decides.
@Suite struct RelayRuleTests {
    let start = seconds(10)
    let a = address("192.0.2.1:1001")
    let group = ip("232.1.1.1")
    let s1 = ip("10.0.0.1")
    let discovery = hex("0100000019495cff")

    func relayBox(_ change: (inout RelayConfiguration) -> Void = { _ in }) -> RelayBox {
        var configuration = RelayConfiguration()
        change(&configuration)
        return RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: start))
    }

    /// Gateways with addresses of their own.
    func stranger(_ number: UInt32) -> SocketAddress { SocketAddress(.v4(0xc612_0000 + number), port: 5) }

    func slot(_ relay: RelayBox, _ source: IPAddress, _ group: IPAddress) -> Int? {
        var list: [Int] = []
        relay.relay.collectDestinations(source: source, group: group, into: &list)
        return list.first
    }

    // MARK: who is answered

    @Test func impossibleSendersAreNotAnswered() {
        let relay = relayBox()
        for sender in ["192.0.2.1:0", "224.1.1.1:5", "[ff3e::1]:5"] {
            #expect(relay.receive(discovery, from: address(sender), at: start) == nil)
        }
        #expect(relay.counters.unexpected == 3 && relay.counters.discoveries == 0)
    }

    /// A relay has no address to advertise that is not of the gateway's IP version.
    @Test func advertisementsAreOfTheGatewaysVersion() {
        let relay = relayBox()
        let answer = relay.relay.datagramReceived(discovery.span, from: a, to: ip("2001:db8::1"), at: start)
        #expect(answer == nil)
    }

    @Test func discoveriesAreLimitedPerSender() {
        let relay = relayBox()
        let answers = (0..<500).count { _ in relay.receive(discovery, from: a, at: start) != nil }
        #expect(answers == 100 && relay.counters.rateLimited == 400)
    }

    @Test func networksOfIPv6ShareALimit() {
        let relay = relayBox()
        let answers = (0..<500).count { number in
            let sender = SocketAddress(.v6(0x2001_0db8_0001_0002 << 64 | UInt128(number + 1)), port: 5)
            return relay.query(from: sender, at: start) != nil
        }
        #expect(answers == 100)
    }

    /// A flood of strangers takes what is for strangers, and nothing from those that have a tunnel.
    @Test func strangersAreLimitedTogether() {
        let relay = relayBox {
            $0.strangerRate = 10
            $0.strangerBurst = 5
        }
        relay.join(a, [GroupRecord(.isInclude, group, [s1])])
        let answers = (0..<50).count { relay.query(from: stranger($0), at: start) != nil }
        #expect(answers == 4)
        #expect(relay.query(from: a, at: start) != nil)
    }

    /// When gateways come again (QQIC), how often they tell a change (QRV), and that they answer soon.
    @Test func queriesSayWhenToComeAgain() throws {
        let relay = relayBox { $0.queryInterval = .seconds(77) }
        for (request, family) in [("0300000000000009", DataFamily.ipv4), ("0301000000000009", .ipv6)] {
            let answer = try #require(relay.receive(hex(request), from: a, at: start))
            guard case .query(let query) = Message(answer) else { return #expect(Bool(false), "no query") }
            let general = try #require(GeneralQuery(Array(answer[query.datagram])))
            #expect(general.family == family && general.interval == .seconds(77))
            // Octet 8 behind the header of IGMP, 24 behind that of MLD: a reader takes 0 for 2.
            #expect(answer[query.datagram][query.datagram.lowerBound + (family == .ipv4 ? 32 : 72)] & 7 == 2)
            #expect(query.nonce == 9 && query.gateway == a)
        }
    }

    /// What only gateways get, and what is of another version or none of the seven messages.
    @Test func messagesForGatewaysAreIgnored() {
        let relay = relayBox()
        let datagrams =
            [
                .advertisement(nonce: 1, relay: ip("192.0.2.1")), .query(.init(mac: ResponseMAC(1), nonce: 1)), .data,
            ].map { (message: Message) in message.bytes } + [hex("1100000019495cff"), hex("0800000019495cff"), []]
        for datagram in datagrams { #expect(relay.receive(datagram, from: a, at: start) == nil) }
        #expect(relay.counters.unexpected == UInt64(datagrams.count) && relay.counters.discoveries == 0)
    }

    @Test func limitedFromTheGivenShareOn() {
        let relay = relayBox { $0.endpointLimit = 10 }
        for number: UInt32 in 1...9 {
            #expect(relay.query(from: stranger(100), at: start)?.isLimited == false, "\(number - 1) tunnels")
            relay.join(stranger(number), [GroupRecord(.isInclude, group, [s1])])
        }
        #expect(relay.query(from: stranger(100), at: start)?.isLimited == true)
    }

    /// Forged Requests in the name of a tunnel's address, of its network, or of the tunnel itself take nothing from it.
    @Test(arguments: ["192.0.2.1:1001", "[2001:db8::1]:1001"])
    func tunnelsHaveABudgetOfTheirOwn(victim: String) throws {
        let relay = relayBox()
        let victim = address(victim)
        let isIPv4 = victim.address.isIPv4
        let others = [
            victim, SocketAddress(victim.address, port: 7),
            isIPv4 ? address("192.0.2.1:9") : address("[2001:db8::77]:9"),
        ]
        let record = GroupRecord(.isInclude, group, [s1])
        relay.join(victim, [record])
        var now = start
        var lost = 0
        // Ten minutes of a hundred a second from each, and the gateway comes every minute.
        for number in 1...60_000 {
            now += .milliseconds(10)
            for other in others { _ = relay.receive(hex("0300000000000001"), from: other, at: now) }
            guard number % 6000 == 0 else { continue }
            relay.timerFired(at: now)
            if let query = relay.query(from: victim, at: now) {
                relay.update(query, from: victim, [record], at: now)
            } else {
                lost += 1
            }
        }
        #expect(lost == 0 && relay.endpointCount == 1 && slot(relay, s1, group) != nil)
        // The flood itself is held down, of strangers more than of the tunnel.
        #expect(relay.counters.rateLimited > 60_000)
        let answers = (0..<5000).count { _ in relay.query(from: victim, at: now) != nil }
        #expect(answers <= 1000)
    }

    /// What a tunnel may change is bounded, whatever its MAC.
    @Test func updatesOfATunnelAreBounded() throws {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.isInclude, group, [s1])])
        _ = relay.changes()
        let query = try #require(relay.query(from: a, at: start))
        var changes = 0
        for number in 0..<20_000 {
            let record = GroupRecord(number % 2 == 0 ? .block : .allow, group, [s1])
            relay.update(query, from: a, [record], at: start + .microseconds(100 * number))
            changes += relay.changes().count
        }
        // Two seconds at a hundred, and two hundred at once; those of another tunnel are its own.
        let heeded = 20_000 - Int(relay.counters.rateLimited)
        #expect((390...401).contains(heeded) && changes <= heeded && changes > 100)
        relay.join(stranger(1), [GroupRecord(.isInclude, group, [ip("10.0.0.2")])], at: start + .seconds(2))
        #expect(slot(relay, ip("10.0.0.2"), group) != nil)
        // Forged ones use nothing up.
        var forged = query
        forged.mac = ResponseMAC(query.mac.bits ^ 1)
        let later = start + .seconds(100)
        for _ in 0..<1000 { relay.update(forged, from: a, [], at: later) }
        relay.update(query, from: a, [GroupRecord(.allow, group, [ip("10.0.0.3")])], at: later)
        #expect(slot(relay, ip("10.0.0.3"), group) != nil)
    }

    // MARK: the response MAC

    @Test(arguments: ["[2001:db8::2]:5", "[2001:db9::1]:5", "[2001:db8::1]:6"])
    func macsAreOfOneIPv6Gateway(other: String) throws {
        let relay = relayBox()
        let mine = address("[2001:db8::1]:5")
        let query = try #require(relay.query(from: mine, at: start))
        relay.update(query, from: address(other), [GroupRecord(.isInclude, group, [s1])], at: start)
        #expect(relay.counters.invalidMAC == 1 && relay.endpointCount == 0)
        relay.update(query, from: mine, [GroupRecord(.isInclude, group, [s1])], at: start)
        #expect(relay.endpointCount == 1)
    }

    /// RFC 7450 section 5.3.6: two hours, whatever was configured.
    @Test func secretsAreReplacedAfterTwoHours() throws {
        let relay = relayBox { $0.secretLifetime = .seconds(36_000) }
        let query = try #require(relay.query(from: a, at: start))
        relay.update(query, from: a, [GroupRecord(.isInclude, group, [s1])], at: start + .seconds(7200 + 251))
        #expect(relay.counters.invalidMAC == 1)
    }

    // MARK: tunnels

    /// Data leaves from the address that the gateway spoke to last.
    @Test func dataComesFromWhereTheUpdateWent() throws {
        let relay = relayBox()
        let record = GroupRecord(.isInclude, group, [s1])
        relay.join(a, [record])
        let other = ip("198.51.100.77")
        let query = try #require(relay.query(from: a, at: start))
        let bytes = Message.update(mac: query.mac, nonce: query.nonce)
            .bytes(datagram: MembershipReport(family: .ipv4, records: [record]).packet())
        _ = relay.relay.datagramReceived(bytes.span, from: a, to: other, at: start)
        let place = try #require(slot(relay, s1, group))
        #expect(relay.relay.destination(place).local == other)
    }

    /// A Teardown is as good as a report that leaves every group (RFC 7450 section 5.3.3.5).
    @Test func aTeardownLeavesEveryGroup() throws {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.isInclude, group, [s1]), GroupRecord(.isExclude, ip("239.1.1.1"))])
        let joins = [Channel(source: s1, group: group), Channel(source: nil, group: ip("239.1.1.1"))]
        #expect(Set(relay.changes()) == Set(joins.map { .join($0) }))
        let query = try #require(relay.query(from: a, at: start))
        _ = relay.receive(
            Message.teardown(mac: query.mac, nonce: query.nonce, gateway: a).bytes, from: a, at: start)
        #expect(Set(relay.changes()) == Set(joins.map { .leave($0) }))
        #expect(relay.destinations("10.0.0.1", "232.1.1.1").isEmpty && relay.counters.endpointsTornDown == 1)
    }

    @Test func aBlockOpensNoTunnel() {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.block, group, [s1])])
        #expect(relay.endpointCount == 0)
    }

    @Test func tunnelsOfANetworkAreCountedTogether() throws {
        let relay = relayBox { $0.endpointsPerAddressLimit = 2 }
        for host: UInt128 in 1...3 {
            relay.join(
                SocketAddress(.v6(0x2001_0db8_0001_0002 << 64 | host), port: 5), [GroupRecord(.isInclude, group, [s1])])
        }
        #expect(relay.endpointCount == 2 && relay.counters.refusedEndpoints == 1)
        // Those that end leave their place to others.
        relay.timerFired(at: start + .seconds(1000))
        #expect(relay.endpointCount == 0)
        relay.join(
            address("[2001:db8:1:2::9]:5"), [GroupRecord(.isInclude, group, [s1])], at: start + .seconds(1000))
        #expect(relay.endpointCount == 1)
    }

    @Test func endedTunnelsLeaveTheirMemory() {
        let relay = relayBox()
        for round in 0..<50 {
            let now = start + .seconds(1000 * round)
            relay.join(stranger(UInt32(round)), [GroupRecord(.isInclude, group, [s1])], at: now)
            relay.timerFired(at: now + .seconds(999))
        }
        #expect(relay.endpointCount == 0 && relay.endpoints.count == 1)
    }

    /// A leave that is held back wakes the relay when it is due, not with the tunnel's own timer; going back and forth
    /// does not fill its memory with deadlines.
    @Test func heldBackLeavesAreOnTime() {
        let relay = relayBox {
            $0.leaveLatency = .seconds(1)
            $0.requestRate = 1_000_000
            $0.requestBurst = 1_000_000
        }
        var now = start
        for _ in 0..<200 {
            relay.join(a, [GroupRecord(.isInclude, group, [s1])], at: now)
            relay.join(a, [GroupRecord(.block, group, [s1])], at: now)
            #expect(relay.nextDeadline == now + .seconds(1))
            #expect(relay.deadlines.count <= 2 * 1 + 64)
            now += .seconds(1)
            relay.timerFired(at: now)
            #expect(slot(relay, s1, group) == nil)
        }
    }

    // MARK: records

    /// RFC 4604 section 2.2: what has no sources says nothing about source-specific groups, a leave neither.
    @Test func oldLeavesDoNotCountForSourceSpecificGroups() throws {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.isInclude, group, [s1])])
        let query = try #require(relay.query(from: a, at: start))
        let leave = igmpPacket(hex("1700 0000 e8010101"), to: ip("224.0.0.2"))
        _ = relay.receive(
            Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: leave), from: a, at: start)
        #expect(relay.counters.ignoredRecords == 1 && slot(relay, s1, group) != nil)
    }

    /// The IP header of a report is that of its protocol, or nothing comes of it (RFC 7450 section 5.3.3.4). Each packet has one
    /// octet or option that is not, and its checksum is right.
    @Test func headersOfReports() throws {
        let any = ip("239.5.5.5")
        func opens(_ packet: [UInt8], _ family: DataFamily = .ipv4) throws -> Bool {
            let relay = relayBox()
            let request = hex(family == .ipv4 ? "0300000000000009" : "0301000000000009")
            let query = try #require(relay.query(from: a, request: request, at: start))
            let update = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: packet)
            _ = relay.receive(update, from: a, at: start)
            #expect(relay.counters.invalidReports == (relay.endpointCount == 1 ? 0 : 1))
            return relay.endpointCount == 1
        }
        let report = MembershipReport(family: .ipv4, records: [GroupRecord(.isExclude, any)]).packet()
        func changed(_ octets: [Int: UInt8], of packet: [UInt8] = report) -> [UInt8] {
            var packet = packet
            for (place, octet) in octets { packet[place] = octet }
            packet.replaceSubrange(10..<12, with: [0, 0])
            var sum = InternetChecksum()
            sum.add(packet.span.extracting(0..<24))
            packet[10] = UInt8(sum.value >> 8)
            packet[11] = UInt8(sum.value & 255)
            return packet
        }
        #expect(try opens(report))
        #expect(try !opens(changed([8: 2])), "TTL")
        #expect(try !opens(changed([19: 1])), "destination")
        #expect(try !opens(changed([16: 239, 17: 5, 18: 5, 19: 6])), "another group")

        // IGMPv2 (RFC 2236 sections 2 and 9): to the group, of any precedence.
        let old = igmpPacket(hex("1600 0000 ef050505"), to: any)
        #expect(try opens(old) && opens(changed([1: 0xc0], of: old)))
        #expect(try !opens(changed([8: 3], of: old)))
        #expect(try !opens(igmpPacket(hex("1600 0000 ef050505"))))

        let six = MembershipReport(family: .ipv6, records: [GroupRecord(.isExclude, ip("ff15::1"))]).packet()
        func changed6(_ place: Int, _ octet: UInt8) -> [UInt8] {
            var packet = six
            packet[place] = octet
            return packet
        }
        #expect(try opens(six, .ipv6))
        #expect(try !opens(changed6(7, 64), .ipv6), "hop limit")
        let body = Array(six[48...])
        #expect(try opens(mldPacket(body), .ipv6))
        #expect(try !opens(mldPacket(body, to: ip("ff02::1")), .ipv6), "destination")
        // MLDv1 (RFC 2710 section 3): to the group.
        let old6 = hex("8300 0000 0000 0000 ff15 0000 0000 0000 0000 0000 0000 0001")
        #expect(try opens(mldPacket(old6, to: ip("ff15::1")), .ipv6))
        #expect(try !opens(mldPacket(old6), .ipv6))
    }

    @Test func groupsAreNoSources() {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.isInclude, group, [ip("239.9.9.9"), s1])])
        #expect(relay.counters.ignoredSources == 1 && relay.upstreamCount == 1)
    }

    @Test func upstreamJoinsAreBounded() {
        let relay = relayBox { $0.upstreamLimit = 2 }
        relay.join(a, (1...3).map { GroupRecord(.isInclude, .v4(0xe801_0100 + $0), [s1]) })
        #expect(relay.upstreamCount == 2 && relay.counters.refusedJoins == 1)
    }

    // MARK: the path's MTU

    /// Unless it is told, a relay takes paths to carry what the first link does (RFC 7450 section 5.3.3.6.1).
    @Test func pathsAreAsWideAsTheirLink() throws {
        func limit(_ change: (inout RelayConfiguration) -> Void) throws -> Int {
            let relay = relayBox(change)
            relay.join(a, [GroupRecord(.isInclude, group, [s1])])
            return relay.relay.destination(try #require(slot(relay, s1, group))).pathMTU
        }
        let local = ip("198.51.100.1")
        #expect(try limit { $0.linkMTUs = [local: 9000, ip("198.51.100.2"): 1400] } == 9000)
        #expect(try limit { $0.linkMTUs = [ip("198.51.100.2"): 1400] } == 1500)
        #expect(
            try limit {
                $0.linkMTUs = [local: 9000]
                $0.tunnelMTU = 1400
            } == 1400)
    }

    @Test func pathMTUIsFollowedOnlyWhereAskedForAndOnlyDown() throws {
        for isFollowed in [false, true] {
            let relay = relayBox { $0.followsPathMTU = isFollowed }
            relay.join(a, [GroupRecord(.isInclude, group, [s1])])
            let place = try #require(slot(relay, s1, group))
            var notice = try #require(tooLarge(to: a))
            for mtu in [1400, 1450] {
                notice.kind = .tooLarge(mtu: mtu)
                relay.notice(notice)
                #expect(relay.relay.destination(place).pathMTU == (isFollowed ? 1400 : 1500))
            }
        }
    }

    private func tooLarge(to gateway: SocketAddress) -> TunnelNotice? {
        TunnelNotice(
            icmpPacket(3, 4, about: udpPacket(from: address("198.51.100.1:2268"), to: gateway, [1])).span, isIPv4: true)
    }
}

/// What the network says of tunnels, octet by octet.
@Suite struct TunnelNoticeTests {
    let relay = address("198.51.100.1:2268")
    let gateway = address("192.0.2.1:1001")

    private func notice(_ bytes: [UInt8], isIPv4: Bool = true) -> TunnelNotice? {
        TunnelNotice(bytes.span, isIPv4: isIPv4)
    }

    /// The ports lie behind the options of the packet that is quoted.
    @Test func optionsOfTheQuotedPacket() throws {
        var cause = udpPacket(from: relay, to: gateway, [1, 2, 3, 4])
        cause[0] = 0x46
        cause.insert(contentsOf: [1, 1, 1, 1], at: 20)
        let read = try #require(notice(icmpPacket(3, 3, about: cause)))
        #expect(read.relay == relay && read.gateway == gateway)
    }

    @Test func onlyAboutUDP() {
        var cause = udpPacket(from: relay, to: gateway, [1, 2, 3, 4])
        #expect(notice(icmpPacket(3, 3, about: cause)) != nil)
        cause[9] = 6
        #expect(notice(icmpPacket(3, 3, about: cause)) == nil)
    }

    @Test func version6() throws {
        let (relay, gateway) = (address("[2001:db8::1]:2268"), address("[2001:db8::7]:40000"))
        var cause = udpPacket(from: relay, to: gateway, [1, 2, 3, 4])
        let read = try #require(notice(hex("02000000 00000578") + cause, isIPv4: false))
        #expect(read == notice(hex("02000000 00000578") + cause, isIPv4: false))
        #expect(read.kind == .tooLarge(mtu: 1400) && read.relay == relay && read.gateway == gateway)
        #expect(notice(hex("01040000 00000000") + cause, isIPv4: false)?.kind == .unreachable)
        cause[6] = 6
        #expect(notice(hex("02000000 00000578") + cause, isIPv4: false) == nil)
    }
}

/// An ICMP error about `cause` as a raw socket delivers it.
func icmpPacket(_ type: UInt8, _ code: UInt8, about cause: [UInt8]) -> [UInt8] {
    let body = [type, code, 0, 0, 0, 0, 0x05, 0x78] + cause.prefix(32)
    return [UInt8].written(capacity: 100) { writer in
        IPHeader.write(
            to: &writer, from: ip("203.0.113.254"), to: ip("198.51.100.1"), protocol: 1, payloadLength: body.count,
            hopLimit: 60)
        writer.octets(body.span)
    }
}

/// An IGMP message in a packet, its checksum filled in.
func igmpPacket(_ message: [UInt8], to group: IPAddress = ip("224.0.0.22")) -> [UInt8] {
    var body = message
    body[2] = 0
    body[3] = 0
    var sum = InternetChecksum()
    sum.add(body.span)
    body[2] = UInt8(sum.value >> 8)
    body[3] = UInt8(sum.value & 255)
    return [UInt8].written(capacity: 24 + body.count) { writer in
        IPHeader.write(
            to: &writer, from: ip("10.0.0.9"), to: group, protocol: IPProtocol.igmp, payloadLength: body.count,
            hopLimit: 1, routerAlert: true)
        writer.octets(body.span)
    }
}

/// An MLD message in a packet, its checksum filled in.
func mldPacket(_ message: [UInt8], to group: IPAddress = ip("ff02::16")) -> [UInt8] {
    let from = ip("fe80::9")
    var body = message
    body[2] = 0
    body[3] = 0
    var sum = InternetChecksum(from: from, to: group, protocol: IPProtocol.icmpv6, length: body.count)
    sum.add(body.span)
    body[2] = UInt8(sum.value >> 8)
    body[3] = UInt8(sum.value & 255)
    return [UInt8].written(capacity: 48 + body.count) { writer in
        IPHeader.write(
            to: &writer, from: from, to: group, protocol: IPProtocol.icmpv6, payloadLength: body.count, hopLimit: 1,
            routerAlert: true)
        writer.octets(body.span)
    }
}
