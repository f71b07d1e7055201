import Testing
import Wire

@testable import AMT

/// What happens to packets, and who may have them.
@Suite struct ForwardingTests {
    let gateway = address("192.0.2.1:1001")
    let group = ip("232.1.1.1")
    let source = ip("10.0.0.1")

    func relayBox(_ change: (inout RelayConfiguration) -> Void = { _ in }) -> RelayBox {
        var configuration = RelayConfiguration()
        change(&configuration)
        return RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: seconds(10)))
    }

    /// RFC 6040 section 4.2, figure 4, all of it: rows are inner, columns outer marks.
    @Test func marksThatArrive() {
        let expected: [[ECN?]] = [
            [.notECT, .notECT, .notECT, nil],
            [.ect0, .ect0, .ect1, .ce],
            [.ect1, .ect1, .ect1, .ce],
            [.ce, .ce, .ce, .ce],
        ]
        let marks: [ECN] = [.notECT, .ect0, .ect1, .ce]
        for (inner, row) in zip(marks, expected) {
            for (outer, result) in zip(marks, row) { #expect(Gateway.combined(inner, outer: outer) == result) }
        }
    }

    /// E of the Request comes back in the Update's MAC: the relay copies marks for those gateways only.
    @Test func marksAreForThoseWhoPassThemOn() throws {
        let relay = relayBox()
        func capability() -> Bool? {
            var list: [Int] = []
            relay.relay.collectDestinations(source: source, group: group, into: &list)
            return list.first.map { relay.relay.destination($0).isECNCapable }
        }
        let records = [GroupRecord(.isInclude, group, [source])]
        let declared = try #require(relay.query(from: gateway, request: hex("0302000000000009"), at: seconds(10)))
        relay.update(declared, from: gateway, records, at: seconds(10))
        #expect(capability() == true)
        let plain = try #require(relay.query(from: gateway, request: hex("0300000000000009"), at: seconds(11)))
        #expect(plain.mac != declared.mac)
        relay.update(plain, from: gateway, records, at: seconds(11))
        #expect(capability() == false)
        // Both are good for a Teardown.
        _ = relay.receive(
            Message.teardown(mac: declared.mac, nonce: 9, gateway: gateway).bytes, from: gateway, at: seconds(12))
        #expect(relay.endpointCount == 0 && relay.counters.invalidMAC == 0)
    }

    /// A relay that drops what it does not know is asked without E, and from then on as it likes it.
    @Test func relayThatDoesNotKnowE() {
        let relay = address("198.51.100.1:2268")
        var gateway = Gateway(discovery: nil, family: .ipv4, seed: SeededRandom(seed: 3))
        gateway.subscribe(channel4, at: seconds(0))
        gateway.move(to: relay, at: seconds(0))
        var flags: [UInt8] = []
        var now = seconds(0)
        for _ in 0..<6 {
            while let (bytes, _) = gateway.nextDatagram() {
                guard case .request(let request) = Message(bytes) else { continue }
                flags.append(bytes[1])
                guard !request.declaresECN else { continue }
                let general = GeneralQuery(
                    family: .ipv4, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125))
                let query = Message.query(.init(mac: ResponseMAC(1), nonce: request.nonce))
                    .bytes(datagram: general.packet())
                _ = gateway.datagramReceived(query.span, from: relay, at: now)
            }
            now = gateway.nextDeadline
            gateway.timerFired(at: now)
        }
        #expect(flags.prefix(2) == [0x02, 0x00] && flags.dropFirst(2).allSatisfy { $0 == 0 } && flags.count > 2)
    }

    @Test func aRouterTakesAHop() throws {
        for hops: UInt8 in 2...255 {
            var packet = udpPacket(
                from: address("10.0.0.1:5"), to: address("232.1.1.1:7"), [1, 2, UInt8(hops)], hopLimit: hops)
            var span = packet.mutableSpan
            takeHop(from: &span)
            let header = try IPHeader(packet.span)
            #expect(header.hopLimit == hops - 1)
        }
        var packet = udpPacket(from: address("[2001:db8::1]:5"), to: address("[ff3e::8000:1]:7"), [1], hopLimit: 9)
        let before = packet
        var span = packet.mutableSpan
        takeHop(from: &span)
        #expect(packet[7] == 8 && zip(packet, before).filter { $0 != $1 }.count == 1)
    }

    @Test func headersTellHopsAndMarks() throws {
        for (from, to) in [("10.0.0.1", "232.1.1.1"), ("2001:db8::1", "ff3e::8000:1")] {
            for mark: ECN in [.notECT, .ect1, .ect0, .ce] {
                let packet = [UInt8].written(capacity: 60) { writer in
                    IPHeader.write(
                        to: &writer, from: ip(from), to: ip(to), protocol: IPProtocol.udp, payloadLength: 8,
                        hopLimit: 77, trafficClass: 0xb8 | mark.rawValue)
                    writer.zeros(8)
                }
                let header = try #require(DataHeader(packet))
                #expect(header.hopLimit == 77 && header.ecn == mark && header.dontFragment)
            }
        }
    }

    /// The sender of what no tunnel takes is told what would fit: golden octets, few of them, and only in the
    /// source-specific ranges.
    @Test func sendersAreTold() throws {
        let packet = udpPacket(
            from: address("10.0.0.1:5"), to: address("232.1.1.1:7"), [UInt8](repeating: 1, count: 1460))
        let header = try #require(DataHeader(packet))
        var feedback = SenderFeedback()
        var told = feedback.tooLarge(packet.span, header, limit: 1470, at: seconds(1))
        let message = try #require(told)
        #expect(message.count == 8 + SenderFeedback.quoteLimit)
        #expect(Array(message[..<2]) == hex("0304") && Array(message[4..<8]) == hex("000005be"))
        #expect(Array(message[8...]) == Array(packet.prefix(SenderFeedback.quoteLimit)))
        var sum = InternetChecksum()
        sum.add(message.span)
        #expect(sum.value == 0)

        let six = udpPacket(
            from: address("[2001:db8::1]:5"), to: address("[ff3e::8000:1]:7"), [UInt8](repeating: 1, count: 1440))
        let header6 = try #require(DataHeader(six))
        told = feedback.tooLarge(six.span, header6, limit: 1450, at: seconds(1))
        let message6 = try #require(told)
        #expect(Array(message6[..<8]) == hex("0200 0000 000005aa"))
        told = feedback.tooLarge(six.span, header6, limit: 1230, at: seconds(1))
        let small = try #require(told)
        #expect(Array(small[4..<8]) == hex("000004ce"), "the tunnel's own MTU, however small")

        let others = udpPacket(from: address("10.0.0.1:5"), to: address("239.1.1.1:7"), [1])
        let header9 = try #require(DataHeader(others))
        told = feedback.tooLarge(others.span, header9, limit: 1, at: seconds(1))
        #expect(told == nil)
        var count = 0
        for number in 0..<1000 {
            let now = seconds(2 + Double(number) / 1000)
            if feedback.tooLarge(packet.span, header, limit: 1470, at: now) != nil { count += 1 }
        }
        #expect((10...20).contains(count))
    }

    @Test func onlyPermittedChannelsAreServed() throws {
        let relay = relayBox { configuration in
            configuration.groups.allowed = [AddressPrefix("232.1.0.0/16"), AddressPrefix("239.0.0.0/8")].compactMap(
                \.self)
            configuration.groups.denied = [AddressPrefix("232.1.9.0/24")].compactMap(\.self)
            configuration.sources.denied = [AddressPrefix("10.0.0.2")].compactMap(\.self)
        }
        let both = [ip("10.0.0.1"), ip("10.0.0.2")]
        relay.join(
            gateway,
            [
                GroupRecord(.isInclude, ip("232.1.1.1"), both), GroupRecord(.isInclude, ip("232.1.9.1"), both),
                GroupRecord(.isInclude, ip("232.2.1.1"), both), GroupRecord(.isExclude, ip("239.7.7.7")),
            ])
        #expect(relay.destinations("10.0.0.1", "232.1.1.1") == [gateway])
        #expect(relay.destinations("10.0.0.2", "232.1.1.1") == [])
        #expect(relay.destinations("10.0.0.1", "232.1.9.1") == [])
        #expect(relay.destinations("10.0.0.1", "232.2.1.1") == [])
        #expect(relay.destinations("10.0.0.1", "239.7.7.7") == [gateway])
        #expect(relay.destinations("10.0.0.2", "239.7.7.7") == [])
        #expect(relay.counters.ignoredRecords == 2 && relay.counters.ignoredSources == 1)
        #expect(relay.upstreamCount == 2)
    }

    @Test(arguments: [
        "232.1.0.1/16", "232.1/16", "1.2.3.4/33", "ff3e::/129", "ff3e::1/32", "", "/8", "1.2.3.4/-1", "1.2.3.4/8/8",
    ])
    func wrongPrefixes(text: String) { #expect(AddressPrefix(text) == nil) }

    @Test(arguments: [
        ("0.0.0.0/0", "255.1.1.1", true), ("0.0.0.0/0", "::1", false), ("::/0", "ff3e::1", true),
        ("232.1.0.0/16", "232.1.255.255", true), ("232.1.0.0/16", "232.2.0.0", false),
        ("ff3e::/32", "ff3e:0:1::", true), ("ff3e::/32", "ff3e:1::", false), ("10.0.0.2", "10.0.0.2", true),
        ("10.0.0.2", "10.0.0.3", false),
    ])
    func prefixes(text: String, other: String, isInside: Bool) throws {
        #expect(try #require(AddressPrefix(text)).contains(ip(other)) == isInside)
    }

    /// A tunnel gets its rate over time, whatever is offered, and others are not touched by that.
    @Test func tunnelsHaveARate() {
        let relay = relayBox { $0.endpointRate = 8_000_000 }
        relay.join(gateway, [GroupRecord(.isInclude, group, [source])])
        relay.join(address("192.0.2.1:1002"), [GroupRecord(.isInclude, group, [source])])
        var spent = 0
        for number in 0..<20_000 {
            let now = seconds(20 + Double(number) / 10_000)
            if relay.relay.spend(1250, on: 0, at: now) { spent += 1250 }
        }
        // Two seconds at a million octets each, and the quarter of one that may go at once.
        #expect((2_200_000...2_260_000).contains(spent))
        let isOtherServed = relay.relay.spend(1250, on: 1, at: seconds(22))
        #expect(isOtherServed)
    }
}

/// What a router makes of the reports on its link.
@Suite struct LinkMembershipTests {
    @Test func joinsAndLeaves() {
        var link = LinkMembership()
        let (a, b, group) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("232.1.1.1"))
        func hear(_ records: GroupRecord...) -> [UpstreamChange] {
            let packet = MembershipReport(family: .ipv4, records: records).packet(from: ip("10.9.9.9"))
            return link.packetReceived(packet.span, at: seconds(1))
        }
        #expect(hear(GroupRecord(.allow, group, [a])) == [.join(Channel(source: a, group: group))])
        #expect(hear(GroupRecord(.isInclude, group, [a])) == [])
        #expect(hear(GroupRecord(.allow, group, [b])) == [.join(Channel(source: b, group: group))])
        #expect(hear(GroupRecord(.block, group, [a])) == [.leave(Channel(source: a, group: group))])
        #expect(hear(GroupRecord(.toInclude, group)) == [.leave(Channel(source: b, group: group))])
        // What never leaves a link, and what has no source to route by.
        #expect(hear(GroupRecord(.toExclude, ip("224.0.0.251")), GroupRecord(.toExclude, ip("239.1.1.1"))) == [])
        var damaged = MembershipReport(family: .ipv4, records: [GroupRecord(.allow, group, [a])]).packet()
        damaged[damaged.count - 1] ^= 1
        let changes = link.packetReceived(damaged.span, at: seconds(1))
        #expect(changes == [])
    }

    @Test func isBounded() {
        var link = LinkMembership()
        for number: UInt32 in 0..<2000 {
            let record = GroupRecord(.allow, .v4(0xe801_0000 + number), [ip("10.0.0.1")])
            let packet = MembershipReport(family: .ipv4, records: [record]).packet()
            _ = link.packetReceived(packet.span, at: seconds(1))
        }
        #expect(link.refused == 2000 - UInt64(LinkMembership.groupLimit))
    }
}
