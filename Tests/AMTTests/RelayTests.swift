import Testing
import Wire

@testable import AMT

/// A relay, and what gateways do to it.
@dynamicMemberLookup
final class RelayBox {
    var relay: Relay
    let local = ip("198.51.100.1")

    init(_ relay: Relay) { self.relay = relay }

    subscript<T>(dynamicMember path: KeyPath<Relay, T>) -> T { relay[keyPath: path] }

    func receive(_ bytes: [UInt8], from gateway: SocketAddress, at now: Instant) -> [UInt8]? {
        relay.datagramReceived(bytes.span, from: gateway, to: local, at: now)
    }

    func query(
        from gateway: SocketAddress, request: [UInt8] = hex("0300000000000009"), at now: Instant
    ) -> Message.Query? {
        guard let answer = receive(request, from: gateway, at: now), case .query(let query) = Message(answer) else {
            return nil
        }
        return query
    }

    func update(
        _ query: Message.Query, from gateway: SocketAddress, _ records: [GroupRecord], family: DataFamily = .ipv4,
        at now: Instant
    ) {
        let report = MembershipReport(family: family, records: records).packet()
        let bytes = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report)
        #expect(receive(bytes, from: gateway, at: now) == nil)
    }

    func join(_ gateway: SocketAddress, _ records: [GroupRecord], at now: Instant = seconds(10)) {
        guard let query = query(from: gateway, at: now) else {
            Issue.record("no query for \(gateway)")
            return
        }
        update(query, from: gateway, records, at: now)
    }

    func destinations(_ source: String, _ group: String) -> [SocketAddress] {
        var list: [Int] = []
        relay.collectDestinations(source: ip(source), group: ip(group), into: &list)
        #expect(Set(list).count == list.count)
        return list.map { relay.destination($0).gateway }.sorted { "\($0)" < "\($1)" }
    }

    func changes() -> [UpstreamChange] {
        var all: [UpstreamChange] = []
        while let change = relay.nextUpstreamChange() { all.append(change) }
        return all
    }

    func timerFired(at now: Instant) { relay.timerFired(at: now) }
    func notice(_ notice: TunnelNotice) { relay.noticeReceived(notice) }
}

/// A relay as seen by gateways that behave as they like.
@Suite struct RelayTests {
    let start = seconds(10)

    func relayBox(_ configuration: RelayConfiguration = RelayConfiguration()) -> RelayBox {
        RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: start))
    }

    let a = address("192.0.2.1:1001")
    let b = address("192.0.2.1:1002")
    let group = ip("232.1.1.1")
    let s1 = ip("10.0.0.1")
    let s2 = ip("10.0.0.2")

    @Test func discoveryIsAnsweredWithItsNonce() {
        let relay = relayBox()
        #expect(
            relay.receive(hex("0100000019495cff"), from: a, at: start)
                == hex("0200000019495cff c6336401"))
        var configuration = RelayConfiguration()
        configuration.advertisedIPv4 = ip("203.0.113.4")
        let anycast = relayBox(configuration)
        #expect(
            anycast.receive(hex("0100000019495cff"), from: a, at: start)
                == hex("0200000019495cff cb007104"))
    }

    /// Nothing of a gateway is kept before its Update, and no state for one that asks for nothing.
    @Test func statelessUntilUpdate() {
        let relay = relayBox()
        for port: UInt16 in 1000..<1050 {
            let gateway = SocketAddress(a.address, port: port)
            let query = relay.query(from: gateway, at: start)
            #expect(query != nil)
            if let query { relay.update(query, from: gateway, [], at: start) }
        }
        #expect(relay.endpointCount == 0 && relay.nextDeadline == .distantFuture && relay.upstreamCount == 0)
    }

    @Test func forgedUpdatesAreRefused() throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: a, at: start))
        let records = [GroupRecord(.isInclude, group, [s1])]
        var forged = query
        for bit in 0..<48 {
            forged.mac = ResponseMAC(query.mac.bits ^ 1 << UInt64(bit))
            relay.update(forged, from: a, records, at: start)
        }
        // The MAC of one gateway does not serve another, nor another nonce.
        relay.update(query, from: b, records, at: start)
        relay.update(query, from: address("192.0.2.2:1001"), records, at: start)
        forged = query
        forged.nonce += 1
        relay.update(forged, from: a, records, at: start)
        #expect(relay.counters.invalidMAC == 51 && relay.endpointCount == 0)
        relay.update(query, from: a, records, at: start)
        #expect(relay.endpointCount == 1)
    }

    /// The secret before the present one counts for two query intervals.
    @Test func secretsRotate() throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: a, at: start))
        let records = [GroupRecord(.isInclude, group, [s1])]
        relay.update(query, from: a, records, at: start + .seconds(3600 + 249))
        #expect(relay.counters.invalidMAC == 0)
        let late = relayBox()
        let other = try #require(late.query(from: a, at: start))
        #expect(late.query(from: b, at: start + .seconds(3601)) != nil)
        late.update(other, from: a, records, at: start + .seconds(3600 + 251))
        #expect(late.counters.invalidMAC == 1)
    }

    @Test func damagedReportsChangeNothing() throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: a, at: start))
        var report = MembershipReport(family: .ipv4, records: [GroupRecord(.isInclude, group, [s1])]).packet()
        report[report.count - 1] ^= 1
        let bytes = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report)
        _ = relay.receive(bytes, from: a, at: start)
        #expect(relay.counters.invalidReports == 1 && relay.endpointCount == 0)
    }

    @Test func endpointsAreAddressAndPort() {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.isInclude, group, [s1])])
        relay.join(b, [GroupRecord(.isInclude, group, [s1, s2])])
        #expect(relay.destinations("10.0.0.1", "232.1.1.1") == [a, b])
        #expect(relay.destinations("10.0.0.2", "232.1.1.1") == [b])
        #expect(
            relay.changes() == [.join(Channel(source: s1, group: group)), .join(Channel(source: s2, group: group))])
        relay.join(a, [GroupRecord(.block, group, [s1])])
        #expect(relay.destinations("10.0.0.1", "232.1.1.1") == [b])
        #expect(relay.changes().isEmpty)
        relay.join(b, [GroupRecord(.toInclude, group)])
        #expect(
            Set(relay.changes()) == [
                .leave(Channel(source: s1, group: group)), .leave(Channel(source: s2, group: group)),
            ])
    }

    @Test func anySource() {
        let relay = relayBox()
        let group = ip("239.5.5.5")
        relay.join(a, [GroupRecord(.isExclude, group, [s1])])
        relay.join(b, [GroupRecord(.isInclude, group, [s1])])
        #expect(relay.destinations("10.0.0.1", "239.5.5.5") == [b])
        #expect(relay.destinations("10.0.0.2", "239.5.5.5") == [a])
        #expect(
            relay.changes() == [.join(Channel(source: nil, group: group)), .join(Channel(source: s1, group: group))])
        // EXCLUDE ends by a change to INCLUDE: the one source is joined before the group is left.
        relay.join(a, [GroupRecord(.toInclude, group, [s2])])
        #expect(
            relay.changes() == [.join(Channel(source: s2, group: group)), .leave(Channel(source: nil, group: group))])
    }

    @Test func groupsThatAreNotServed() {
        let relay = relayBox()
        relay.join(
            a,
            [
                GroupRecord(.isInclude, ip("224.0.0.251"), [s1]), GroupRecord(.isExclude, group),
                GroupRecord(.toExclude, group), GroupRecord(.isInclude, ip("10.1.1.1"), [s1]),
            ])
        #expect(relay.endpointCount == 0 && relay.counters.ignoredRecords == 4)
        var narrow = RelayConfiguration()
        narrow.allowsAnySource = false
        let other = relayBox(narrow)
        other.join(a, [GroupRecord(.isExclude, ip("239.1.1.1"))])
        #expect(other.endpointCount == 0)
    }

    @Test(arguments: ["ff02::1:ff00:1", "ff01::1", "ff12::5"])
    func linkLocalIPv6(text: String) throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: a, request: hex("0301000000000009"), at: start))
        relay.update(query, from: a, [GroupRecord(.isExclude, ip(text))], family: .ipv6, at: start)
        #expect(relay.endpointCount == 0 && relay.counters.ignoredRecords == 1)
    }

    /// The Router Alert option is always there; G only for those that bear it.
    @Test func queriesSuitTheirReader() throws {
        let relay = relayBox()
        let cases: [(request: String, port: UInt16, count: Int)] = [
            ("0300000000000009", 1001, 66), ("030000000000000900", 1001, 48), ("0300000000000009", 2268, 48),
            ("0301000000000009", 1001, 106), ("0380000000000009", 1001, 88),
        ]
        for (request, port, count) in cases {
            let gateway = SocketAddress(a.address, port: port)
            let answer = try #require(
                relay.receive(hex(request), from: gateway, at: start), "\(request)")
            #expect(answer.count == count)
            #expect(answer[12] == (count == 48 || count == 66 ? 0x46 : 0x60))
        }
        // One nonce, both families, one MAC: Linux keeps the last only.
        let four = try #require(relay.query(from: a, request: hex("0300000000000009"), at: start))
        let six = try #require(relay.query(from: a, request: hex("0380000000000009"), at: start))
        #expect(four.mac == six.mac)
    }

    @Test func teardownNeedsTheFieldsOfTheMAC() throws {
        let relay = relayBox()
        relay.join(a, [GroupRecord(.isInclude, group, [s1])])
        let mine = try #require(relay.query(from: b, at: start))
        let forged = Message.teardown(mac: mine.mac, nonce: 9, gateway: a).bytes
        _ = relay.receive(forged, from: b, at: start)
        #expect(relay.endpointCount == 1 && relay.counters.invalidMAC == 1)
        let real = try #require(relay.query(from: a, at: start))
        let valid = Message.teardown(mac: real.mac, nonce: 9, gateway: a).bytes
        _ = relay.receive(valid, from: b, at: start)
        #expect(relay.endpointCount == 0)
    }

    @Test func limits() {
        var configuration = RelayConfiguration()
        configuration.endpointLimit = 10
        configuration.endpointsPerAddressLimit = 4
        configuration.groupsPerEndpointLimit = 3
        configuration.sourcesPerGroupLimit = 2
        let relay = relayBox(configuration)
        for port: UInt16 in 1...6 {
            relay.join(SocketAddress(a.address, port: port), [GroupRecord(.isInclude, group, [s1])])
        }
        #expect(relay.endpointCount == 4 && relay.counters.refusedEndpoints == 2)
        for host: UInt32 in 1...12 {
            relay.join(SocketAddress(.v4(0xcb00_7100 + host), port: 9), [GroupRecord(.isInclude, group, [s1])])
        }
        #expect(relay.endpointCount == 10)
        #expect(relay.query(from: address("203.0.113.200:1"), at: start)?.isLimited == true)
        // Those that are in are welcome.
        #expect(relay.query(from: SocketAddress(a.address, port: 1), at: start)?.isLimited == false)
        let first = SocketAddress(a.address, port: 1)
        relay.join(first, (1...9).map { GroupRecord(.isInclude, .v4(0xe801_0000 + $0), [s1]) })
        #expect(relay.destinations("10.0.0.1", "232.1.0.2") == [first])
        #expect(relay.destinations("10.0.0.1", "232.1.0.9") == [])
        relay.join(first, [GroupRecord(.isInclude, group, (1...9).map { .v4($0) })])
        #expect(relay.counters.refusedJoins == 7 + 1)
    }

    /// A flood from forged addresses: answers are few per address, and nothing grows.
    @Test func requestFlood() {
        let relay = relayBox()
        var answers = 0
        for index in 0..<5000 {
            let now = start + .microseconds(index * 100)
            if relay.receive(hex("0300000000000009"), from: a, at: now) != nil { answers += 1 }
        }
        #expect((100...115).contains(answers))
        #expect(relay.counters.rateLimited == UInt64(5000 - answers))
        // Others are answered all the same.
        #expect(relay.query(from: address("198.18.0.1:5"), at: start + .milliseconds(500)) != nil)
    }

    /// What a router sends back about a packet of `count` octets from the relay to `gateway`.
    private func icmp(_ type: UInt8, _ code: UInt8, mtu: UInt16 = 0, to gateway: SocketAddress) -> [UInt8] {
        let cause = udpPacket(from: SocketAddress(ip("198.51.100.1"), port: 2268), to: gateway, [1, 2, 3, 4])
        let body = [type, code, 0, 0, 0, 0, UInt8(mtu >> 8), UInt8(mtu & 255)] + cause.prefix(28)
        return [UInt8].written(capacity: 100) { writer in
            IPHeader.write(
                to: &writer, from: ip("203.0.113.254"), to: ip("198.51.100.1"), protocol: 1, payloadLength: body.count,
                hopLimit: 60)
            writer.octets(body.span)
        }
    }

    @Test func unreachableGatewaysAreGivenUp() throws {
        let relay = relayBox()
        join(relay, a)
        let bytes = icmp(3, 3, to: a)
        let notice = try #require(parsed(bytes))
        #expect(notice.kind == .unreachable && notice.gateway == a)
        relay.notice(notice)
        relay.notice(notice)
        // A word from the gateway and the count begins anew.
        join(relay, a)
        relay.notice(notice)
        relay.notice(notice)
        #expect(relay.endpointCount == 1)
        // Errors about other packets of this host do not count.
        var other = notice
        other.relay.address = ip("198.51.100.2")
        relay.notice(other)
        #expect(relay.endpointCount == 1)
        relay.notice(notice)
        #expect(relay.endpointCount == 0 && relay.counters.endpointsUnreachable == 1)
    }

    private func parsed(_ bytes: [UInt8]) -> TunnelNotice? { TunnelNotice(bytes.span, isIPv4: true) }
    private func join(_ relay: RelayBox, _ gateway: SocketAddress) {
        relay.join(gateway, [GroupRecord(.isInclude, group, [s1])])
    }

    @Test func pathMTUHasAFloor() throws {
        var configuration = RelayConfiguration()
        configuration.followsPathMTU = true
        let relay = relayBox(configuration)
        join(relay, a)
        func limit() -> Int {
            var list: [Int] = []
            relay.relay.collectDestinations(source: s1, group: group, into: &list)
            return list.first.map { relay.relay.destination($0).pathMTU } ?? 0
        }
        #expect(limit() == 1500)
        relay.notice(try #require(parsed(icmp(3, 4, mtu: 1400, to: a))))
        #expect(limit() == 1400)
        relay.notice(try #require(parsed(icmp(3, 4, mtu: 68, to: a))))
        #expect(limit() == 1280)
        let cut = Array(icmp(3, 4, mtu: 1400, to: a).prefix(50))
        #expect(parsed(cut) == nil)
        #expect(parsed(icmp(8, 0, to: a)) == nil)
    }

    /// Random reports of many gateways, against a model that looks at every endpoint's own state.
    @Test(arguments: 1...8)
    func membersFollowStates(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var configuration = RelayConfiguration()
        configuration.requestRate = 1_000_000
        configuration.requestBurst = 1_000_000
        configuration.leaveLatency = .seconds(3)
        let relay = relayBox(configuration)
        var joined: Set<Channel> = []
        var now = start
        let groups = ["232.1.1.1", "239.1.1.1"].map(ip)
        for _ in 0..<600 {
            now += .milliseconds(Int(random.next() % 20_000))
            relay.timerFired(at: now)
            let gateway = SocketAddress(a.address, port: UInt16(1 + random.next() % 6))
            let kind = GroupRecord.Kind.allCases[Int(random.next() % 6)]
            let sources = (0..<4).filter { _ in random.next() % 2 == 0 }.map { IPAddress.v4(0x0a00_0001 + $0) }
            relay.join(gateway, [GroupRecord(kind, groups[Int(random.next() % 2)], sources)], at: now)
            for change in relay.changes() {
                switch change {
                case .join(let channel): #expect(joined.insert(channel).inserted)
                case .leave(let channel): #expect(joined.remove(channel) != nil)
                }
            }
            for group in groups {
                for source in (0..<5).map({ IPAddress.v4(0x0a00_0001 + $0) }) {
                    let expected = relay.endpoints.filter { endpoint in
                        endpoint.isOpen && endpoint.groups.contains { $0.group == group && $0.state.wants(source) }
                    }.map(\.gateway)
                    #expect(
                        Set(relay.destinations("\(source)", "\(group)")) == Set(expected))
                    let isJoined =
                        joined.contains(Channel(source: source, group: group))
                        || joined.contains(Channel(source: nil, group: group))
                    #expect(expected.isEmpty || isJoined)
                }
            }
            #expect(relay.deadlines.count <= 2 * relay.endpointCount + 64)
        }
        now += .seconds(10_000)
        relay.timerFired(at: now)
        for change in relay.changes() { if case .leave(let channel) = change { joined.remove(channel) } }
        #expect(relay.endpointCount == 0 && joined.isEmpty && relay.upstreamCount == 0)
    }
}
