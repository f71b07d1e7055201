import Testing
import Wire

@testable import AMT

/// Octets seen on the wire between other implementations, and what ours are.
@Suite struct MessageTests {
    let gateway = address("192.0.2.7:40000")

    @Test func goldenMessages() {
        #expect(Message(hex("0100000019495cff")) == .discovery(nonce: 0x1949_5cff))
        #expect(
            Message(hex("0200000019495cff0a030301"))
                == .advertisement(nonce: 0x1949_5cff, relay: ip("10.3.3.1")))
        #expect(Message(hex("03000000643c9869")) == .request(.init(nonce: 0x643c_9869, family: .ipv4)))
        #expect(Message.discovery(nonce: 0x1949_5cff).bytes == hex("0100000019495cff"))
        #expect(
            Message.advertisement(nonce: 0x1949_5cff, relay: ip("10.3.3.1")).bytes == hex("0200000019495cff0a030301"))
        #expect(Message.request(.init(nonce: 0x643c_9869, family: .ipv4)).bytes == hex("03000000643c9869"))
        #expect(Message.request(.init(nonce: 1, family: .ipv6)).bytes == hex("0301000000000001"))
        #expect(
            Message.request(.init(nonce: 1, family: .ipv6, usesLinuxFlags: true)).bytes == hex("0380000000000001"))
        // E (RFC 9601 section 6.1.4.2), beside each P.
        #expect(
            Message.request(.init(nonce: 1, family: .ipv4, declaresECN: true)).bytes == hex("0302000000000001"))
        #expect(
            Message.request(.init(nonce: 1, family: .ipv6, declaresECN: true)).bytes == hex("0303000000000001"))
        #expect(Message(hex("0303000000000001")) == .request(.init(nonce: 1, family: .ipv6, declaresECN: true)))
        #expect(Message(hex("0300000000000001")) == .request(.init(nonce: 1, family: .ipv4)))
        let six = Message.advertisement(nonce: 9, relay: ip("2001:db8::1")).bytes
        #expect(six == hex("02000000 00000009 20010db8000000000000000000000001"))
        #expect(Message(six) == .advertisement(nonce: 9, relay: ip("2001:db8::1")))
    }

    @Test func linuxRequest() {
        guard case .request(let request) = Message(hex("03800000a7d32230")) else {
            Issue.record("no request")
            return
        }
        #expect(request.family == .ipv6 && request.usesLinuxFlags)
    }

    @Test func vlcRequestHasNineOctets() {
        guard case .request(let request) = Message(hex("03000000a7d3223000")) else {
            Issue.record("no request")
            return
        }
        #expect(request.length == 9 && request.family == .ipv4)
    }

    /// amtrelayd's query has no Router Alert option and is a message of 32 octets inside.
    @Test func goldenQuery() throws {
        let bytes = hex(
            "040046bffefd1586643c9869 450000204567000001028770 0a030301e0000001 1110ecdb00000000 02140000")
        guard case .query(let query) = Message(bytes) else {
            Issue.record("no query")
            return
        }
        #expect(query.mac == ResponseMAC(0x46bf_fefd_1586) && query.nonce == 0x643c_9869)
        #expect(!query.isLimited && query.gateway == nil && query.datagram == 12..<44)
        let general = GeneralQuery(Array(bytes[query.datagram]))
        #expect(
            general
                == GeneralQuery(
                    family: .ipv4, maximumResponse: .milliseconds(1600), robustness: 2, interval: .seconds(20)))
    }

    /// QRV 0, which RFC 7450 section 5.3.3.3 forbids, stands for 2.
    @Test func goldenQueryIPv6() throws {
        let bytes = hex(
            """
            04004d0c60ecb010327b23c6 60000000 0024 00 01 fd000003000000000000000000000001
            ff020000000000000000000000000001 3a00050200000100 82007937 0064 0000
            00000000000000000000000000000000 08 05 0000
            """)
        guard case .query(let query) = Message(bytes) else {
            Issue.record("no query")
            return
        }
        let general = GeneralQuery(Array(bytes[query.datagram]))
        #expect(
            general
                == GeneralQuery(
                    family: .ipv6, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(5)))
    }

    @Test func linuxQueryIsOurs() {
        let linux = hex("46c000240000400001020000 00000000 e0000001 94040000 1101ec81 00000000 027d0000")
        var ours = GeneralQuery(
            family: .ipv4, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125)
        ).packet()
        // The capture left the header checksum out.
        ours[10] = 0
        ours[11] = 0
        #expect(ours == linux)
    }

    @Test func goldenUpdate() throws {
        let bytes = hex(
            """
            050046bffefd1586643c9869 46c0002c000040000102f4ef0a050501e000001694040000
            2200e3f700000001 05000001e80101010a020201
            """)
        #expect(Message(bytes) == .update(mac: ResponseMAC(0x46bf_fefd_1586), nonce: 0x643c_9869))
        let report = try MembershipReport(Array(bytes[12...]))
        #expect(report.records == [GroupRecord(.allow, ip("232.1.1.1"), [ip("10.2.2.1")])])
        let message = Message.update(mac: ResponseMAC(0x46bf_fefd_1586), nonce: 0x643c_9869)
        #expect(message.bytes(datagram: report.packet(from: ip("10.5.5.1"))) == bytes)
    }

    @Test func querySizes() {
        for (family, size) in [(DataFamily.ipv4, 48), (.ipv6, 88)] {
            let inner = GeneralQuery(
                family: family, maximumResponse: .milliseconds(1), robustness: 2, interval: .seconds(125)
            ).packet()
            var query = Message.Query(mac: ResponseMAC(1), nonce: 2)
            #expect(Message.query(query).bytes(datagram: inner).count == size)
            query.gateway = gateway
            query.isLimited = true
            let bytes = Message.query(query).bytes(datagram: inner)
            #expect(bytes.count == size + 18)
            query.datagram = 12..<size
            #expect(Message(bytes) == .query(query))
            // 96 zero bits before an IPv4 address.
            #expect(Array(bytes.suffix(18)) == hex("9c40 000000000000000000000000 c0000207"))
        }
    }

    @Test func teardown() {
        let bytes = hex("0700 0000000000aa 00000005 9c40 000000000000000000000000 c0000207")
        let message = Message.teardown(mac: ResponseMAC(0xaa), nonce: 5, gateway: gateway)
        #expect(message.bytes == bytes)
        #expect(Message(bytes) == message)
        let six = Message.teardown(mac: ResponseMAC(1), nonce: 1, gateway: address("[2001:db8::9]:7"))
        #expect(Message(six.bytes) == six)
    }

    /// Every message cut short at every octet is refused or, for those with data inside, still read safely.
    @Test func truncation() {
        var query = Message.Query(mac: ResponseMAC(1), nonce: 2)
        query.gateway = gateway
        let fixed: [Message] = [
            .discovery(nonce: 1), .advertisement(nonce: 1, relay: ip("192.0.2.1")),
            .advertisement(nonce: 1, relay: ip("2001:db8::1")), .request(.init(nonce: 1, family: .ipv6)),
            .teardown(mac: ResponseMAC(3), nonce: 1, gateway: gateway), .query(query),
            .update(mac: ResponseMAC(1), nonce: 2),
        ]
        for message in fixed {
            let bytes = message.bytes
            for count in 0..<bytes.count {
                // The first four octets of an IPv6 address are an IPv4 address.
                let isShorterForm = bytes.count == 24 && count == 12
                let cut = Array(bytes.prefix(count))
                #expect((Message(cut) == nil) != isShorterForm)
            }
        }
        #expect(Message(hex("06")) == nil)
        #expect(Message(hex("0600")) == .data)
    }

    @Test(arguments: [0x11, 0x00, 0x08, 0x0f, 0xf1] as [UInt8])
    func otherVersionsAndTypes(first: UInt8) {
        #expect(Message([first, 0, 0, 0, 0, 0, 0, 1]) == nil)
    }

    /// Random and mutated datagrams, a million where everything is asked for: nothing traps, and what is read is written back alike.
    @Test func randomDatagrams() {
        var random = SeededRandom(seed: 7450)
        let seeds = [
            hex("0100000019495cff"), hex("0200000019495cff0a030301"), hex("03000000643c9869"),
            hex(
                "040046bffefd1586643c9869 46c000240000400001020000 00000000 e0000001 94040000 1101ec81 00000000 027d0000"
            ),
            hex(
                "050046bffefd1586643c9869 46c0002c000040000102f4ef0a050501e000001694040000 2200e3f700000001 05000001e80101010a020201"
            ),
            MembershipReport(
                family: .ipv6, records: [GroupRecord(.isInclude, ip("ff3e::8000:1"), [ip("2001:db8::1")])]
            ).packet(),
        ]
        let count = Tshark.requiresAll ? 1_000_000 : 50_000
        for round in 0..<count {
            var bytes = round % 4 == 0 ? random.octets(Int(random.next() % 96)) : seeds[round % seeds.count]
            if !bytes.isEmpty {
                for _ in 0..<(random.next() % 4) {
                    bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
                }
                if random.next() % 8 == 0 { bytes.removeLast(Int(random.next() % UInt64(bytes.count))) }
            }
            switch Message(bytes) {
            case .query(let query): _ = GeneralQuery(Array(bytes[query.datagram]))
            case .update: _ = try? MembershipReport(Array(bytes[12...]))
            case .none, .data: break
            case .some(let message): #expect(Message(message.bytes)?.bytes == message.bytes)
            }
            _ = try? MembershipReport(bytes)
            _ = GeneralQuery(bytes)
        }
    }
}

@Suite struct MembershipCodecTests {
    @Test(arguments: [
        (0, 0), (1, 1), (127, 127), (128, 0x80), (129, 0x80), (200, 0x89), (31_744, 0xff), (99_999, 0xff),
    ])
    func floatingCodes(value: UInt64, code: UInt16) {
        #expect(GeneralQuery.code(value, mantissaBits: 4) == code)
    }

    @Test func floatingCodesReadBack() {
        for code: UInt64 in 0..<256 {
            #expect(UInt64(GeneralQuery.code(GeneralQuery.value(code, mantissaBits: 4), mantissaBits: 4)) == code)
        }
        for code: UInt64 in 0..<65_536 {
            #expect(UInt64(GeneralQuery.code(GeneralQuery.value(code, mantissaBits: 12), mantissaBits: 12)) == code)
        }
        #expect(GeneralQuery.value(0x8000, mantissaBits: 12) == 32_768)
    }

    @Test(arguments: DataFamily.allCases)
    func reportsReadBack(family: DataFamily) throws {
        let four = family == .ipv4
        let groups = four ? ["232.1.2.3", "239.9.9.9"] : ["ff3e::8000:1", "ff15::1"]
        let sources = (four ? ["192.0.2.1", "192.0.2.2"] : ["2001:db8::1", "2001:db8::2"]).map(ip)
        let records =
            GroupRecord.Kind.allCases.map { GroupRecord($0, ip(groups[0]), sources) }
            + [GroupRecord(.toExclude, ip(groups[1]))]
        let report = MembershipReport(family: family, records: records)
        let packet = report.packet()
        #expect(try MembershipReport(packet) == report)
        // What follows the packet does not count; what lacks does.
        #expect(try MembershipReport((packet + [1, 2, 3])) == report)
        #expect(throws: MembershipReport.Problem.ip(.truncated)) {
            try MembershipReport(Array(packet.dropLast()))
        }
        var damaged = packet
        damaged[damaged.count - 1] ^= 1
        #expect(throws: MembershipReport.Problem.checksum) { try MembershipReport(damaged) }
    }

    @Test func damagedHeader() {
        var packet = MembershipReport(family: .ipv4, records: [GroupRecord(.isExclude, ip("239.1.1.1"))]).packet()
        packet[8] ^= 4
        #expect(throws: MembershipReport.Problem.ip(.checksum)) { try MembershipReport(packet) }
    }

    /// The old versions: IGMPv2 report and leave, MLDv1 report and done.
    @Test(arguments: [(0x16, GroupRecord.Kind.isExclude), (0x17, .toInclude)] as [(UInt8, GroupRecord.Kind)])
    func igmpVersion2(type: UInt8, kind: GroupRecord.Kind) throws {
        var body: [UInt8] = [type, 0, 0, 0] + hex("ef010203")
        var sum = InternetChecksum()
        sum.add(body.span)
        body[2] = UInt8(sum.value >> 8)
        body[3] = UInt8(sum.value & 255)
        let packet = [UInt8].written(capacity: 64) { writer in
            IPHeader.write(
                to: &writer, from: ip("10.0.0.1"), to: ip("239.1.2.3"), protocol: 2, payloadLength: 8, hopLimit: 1,
                routerAlert: true)
            writer.octets(body.span)
        }
        let report = try MembershipReport(packet)
        #expect(report.isOldVersion && report.records == [GroupRecord(kind, ip("239.1.2.3"))])
    }

    @Test(arguments: [(131, GroupRecord.Kind.isExclude), (132, .toInclude)] as [(UInt8, GroupRecord.Kind)])
    func mldVersion1(type: UInt8, kind: GroupRecord.Kind) throws {
        let (from, group) = (ip("fe80::1"), ip("ff15::7"))
        var body = [UInt8].written(capacity: 24) { writer in
            writer.uint8(type)
            writer.zeros(7)
            writer.address(group)
        }
        var sum = InternetChecksum(from: from, to: group, protocol: IPProtocol.icmpv6, length: 24)
        sum.add(body.span)
        body[2] = UInt8(sum.value >> 8)
        body[3] = UInt8(sum.value & 255)
        let packet = [UInt8].written(capacity: 96) { writer in
            IPHeader.write(
                to: &writer, from: from, to: group, protocol: IPProtocol.icmpv6, payloadLength: 24, hopLimit: 1,
                routerAlert: true)
            writer.octets(body.span)
        }
        let report = try MembershipReport(packet)
        #expect(report.isOldVersion && report.records == [GroupRecord(kind, group)])
    }

    @Test(arguments: DataFamily.allCases)
    func largeReportsAreSplit(family: DataFamily) throws {
        let four = family == .ipv4
        let sources = (0..<700).map {
            four ? IPAddress.v4(0x0a00_0000 + $0) : .v6(UInt128(0x2001_0db8) << 96 + UInt128($0))
        }
        let group = ip(four ? "232.1.1.1" : "ff3e::8000:1")
        let groups = (0..<300).map { four ? IPAddress.v4(0xe802_0000 + $0) : .v6(UInt128(0xff3e) << 112 + UInt128($0)) }
        let report = MembershipReport(
            family: family,
            records: [GroupRecord(.isInclude, group, sources)]
                + groups.map { GroupRecord(.isInclude, $0, [sources[0]]) })
        var seen: [IPAddress: Set<IPAddress>] = [:]
        for part in report.split() {
            let packet = part.packet()
            #expect(packet.count <= MembershipReport.packetLimit)
            for record in try MembershipReport(packet).records {
                seen[record.group, default: []].formUnion(record.sources)
            }
        }
        #expect(seen[group] == Set(sources) && seen.count == 301)
    }

    @Test func hugeCountsAreRefused() {
        let records = (0..<513).map { GroupRecord(.isExclude, .v4(0xef00_0000 + UInt32($0))) }
        let packet = MembershipReport(family: .ipv4, records: records).packet()
        #expect(throws: MembershipReport.Problem.tooLarge) { try MembershipReport(packet) }
    }

    /// Vectors of the SipHash paper, appendix A, and its reference code.
    @Test func sipHash() {
        let hash = SipHash(key: (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908))
        #expect(hash.hash((0..<15).map(UInt8.init)) == 0xa129_ca61_49be_45e5)
        let none: [UInt8] = []
        #expect(hash.hash(none) == 0x726f_db47_dd0e_0e31)
        let words: InlineArray<4, UInt64> = [
            0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, 0x1716_1514_1312_1110, 0x1f1e_1d1c_1b1a_1918,
        ]
        #expect(hash.hash(words) == hash.hash((0..<32).map(UInt8.init)))
    }
}

/// tshark reads every message we send without complaint.
@Suite(.enabled(if: Tshark.mayRun, "tshark is not installed")) struct TsharkTests {
    @Test func everyMessage() throws {
        let relay = address("198.51.100.1:2268")
        let relay6 = address("[2001:db8::1]:2268")
        let (gateway, gateway6) = (address("192.0.2.7:40000"), address("[2001:db8::7]:40000"))
        var query = Message.Query(mac: ResponseMAC(0x0102_0304_0506), nonce: 77)
        let query4 = GeneralQuery(
            family: .ipv4, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125))
        let query6 = GeneralQuery(
            family: .ipv6, maximumResponse: .milliseconds(1), robustness: 2, interval: .seconds(300))
        let report4 = MembershipReport(
            family: .ipv4,
            records: [
                GroupRecord(.isInclude, ip("232.1.1.1"), [ip("10.2.2.1")]), GroupRecord(.toExclude, ip("239.1.1.1")),
            ])
        let report6 = MembershipReport(
            family: .ipv6, records: [GroupRecord(.isInclude, ip("ff3e::8000:1"), [ip("2001:db8::5")])])
        let update = Message.update(mac: query.mac, nonce: 77)
        let data4 = udpPacket(from: address("10.2.2.1:5000"), to: address("232.1.1.1:5000"), [1, 2, 3])
        let data6 = udpPacket(from: address("[2001:db8::5]:5000"), to: address("[ff3e::8000:1]:5000"), [1, 2, 3])
        var messages: [[UInt8]] = [
            Message.discovery(nonce: 5).bytes,
            Message.advertisement(nonce: 5, relay: relay.address).bytes,
            Message.advertisement(nonce: 5, relay: relay6.address).bytes,
            Message.request(.init(nonce: 77, family: .ipv4)).bytes,
            Message.request(.init(nonce: 77, family: .ipv6, declaresECN: true)).bytes,
            Message.query(query).bytes(datagram: query4.packet()),
            Message.query(query).bytes(datagram: query6.packet()),
        ]
        query.gateway = gateway
        query.isLimited = true
        messages += [
            Message.query(query).bytes(datagram: query4.packet()),
            update.bytes(datagram: report4.packet()), update.bytes(datagram: report6.packet()),
            Message.data.bytes(datagram: data4), Message.data.bytes(datagram: data6),
            Message.teardown(mac: query.mac, nonce: 77, gateway: gateway).bytes,
            Message.teardown(mac: query.mac, nonce: 77, gateway: gateway6).bytes,
        ]
        let packets =
            messages.map { udpPacket(from: relay, to: gateway, $0) }
            + messages.map { udpPacket(from: relay6, to: gateway6, $0) }
        let text = try Tshark.run(packets, ["-V"])
        for word in ["Malformed", "malformed", "incorrect", "[Expert Info (Error", "Unreassembled", "Unknown"] {
            #expect(!text.contains(word), "\(word) in what tshark prints")
        }
        let types = try Tshark.run(packets, ["-T", "fields", "-e", "amt.type"]).split(separator: "\n").map(String.init)
        let expected = ["1", "2", "2", "3", "3", "4", "4", "4", "5", "5", "6", "6", "7", "7"]
        #expect(types == expected + expected)
        let membership = try Tshark.run(
            packets, ["-Y", "amt.type == 5 && igmp", "-T", "fields", "-e", "igmp.maddr", "-e", "igmp.saddr"])
        #expect(membership.split(separator: "\n").first == "232.1.1.1,239.1.1.1\t10.2.2.1")
        let intervals = try Tshark.run(packets, ["-Y", "amt.type == 4 && igmp", "-T", "fields", "-e", "igmp.qqic"])
        #expect(intervals.split(separator: "\n").first == "125")
    }

    /// What senders are told, with the size that fits and the packet that did not.
    @Test func feedback() throws {
        let packet = udpPacket(
            from: address("10.0.0.1:5"), to: address("232.1.1.1:7"), [UInt8](repeating: 1, count: 1460))
        var feedback = SenderFeedback()
        let header = try #require(DataHeader(packet))
        let told = feedback.tooLarge(packet.span, header, limit: 1470, at: seconds(1))
        let message = try #require(told)
        let whole = [UInt8].written(capacity: 20 + message.count) { writer in
            IPHeader.write(
                to: &writer, from: ip("10.0.0.9"), to: ip("10.0.0.1"), protocol: 1, payloadLength: message.count,
                hopLimit: 64)
            writer.octets(message.span)
        }
        let fields = ["icmp.type", "icmp.code", "icmp.mtu", "icmp.checksum.status", "ip.dst", "udp.dstport"]
        let text = try Tshark.run([whole], ["-T", "fields"] + fields.flatMap { ["-e", $0] })
        #expect(text == "3\t4\t1470\t1\t10.0.0.1,232.1.1.1\t7\n")
    }
}
