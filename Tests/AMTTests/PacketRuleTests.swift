import Testing
import Wire

@testable import AMT

/// Single rules of the codecs and of what happens to packets, each with a case that only it decides.
@Suite struct PacketRuleTests {
    // MARK: queries and reports

    /// ::1 is an address of IPv6, not 0.0.0.1.
    @Test func theLoopbackAddressIsOfIPv6() {
        let message = Message.teardown(mac: ResponseMAC(1), nonce: 1, gateway: address("[::1]:7"))
        #expect(Message(message.bytes) == message)
    }

    /// Bits without a meaning are written as zeros, and mean nothing when they are set (RFC 7450 section 5.1).
    @Test func reservedBits() {
        var query = Message.Query(mac: ResponseMAC(0x0102_0304_0506), nonce: 9, datagram: 12..<12)
        query.isLimited = true
        let messages: [(message: Message, reserved: String)] = [
            (.discovery(nonce: 9), "00ffffff"), (.advertisement(nonce: 9, relay: ip("192.0.2.1")), "00ffffff"),
            (.request(.init(nonce: 9, family: .ipv4)), "007cffff"),
            (.request(.init(nonce: 9, family: .ipv6)), "007cffff"), (.query(query), "00fc"),
            (.update(mac: ResponseMAC(7), nonce: 9), "00ff"), (.data, "00ff"),
            (.teardown(mac: ResponseMAC(7), nonce: 9, gateway: address("192.0.2.7:40000")), "00ff"),
        ]
        for (message, reserved) in messages {
            var bytes = message.bytes
            for (place, mask) in hex(reserved).enumerated() {
                #expect(bytes[place] & mask == 0)
                bytes[place] |= mask
            }
            #expect(Message(bytes) == message)
        }
    }

    /// MLD asks for a hop-by-hop header with the Router Alert option, one hop, and ff02::1 or ff02::16 (RFC 9777 section 5).
    @Test func headersOfMLD() {
        let report = MembershipReport(family: .ipv6, records: [GroupRecord(.isExclude, ip("ff15::1"))]).packet()
        let query = GeneralQuery(
            family: .ipv6, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125)
        ).packet()
        for (packet, group) in [(report, "16"), (query, "01")] {
            #expect(packet[0] >> 4 == 6 && packet[6] == 0 && packet[7] == 1)
            #expect(Array(packet[24..<40]) == hex("ff02 0000 0000 0000 0000 0000 0000 00" + group))
            #expect(Array(packet[40..<48]) == hex("3a00 0502 0000 0100"))
        }
    }

    /// IGMPv1, what routers say, and other protocols are no reports (RFC 7450 section 5.1.5.6).
    @Test func onlyReportsAreReports() {
        let group = hex("ef010203")
        let six = [UInt8](repeating: 0, count: 4) + hex("ff15 0000 0000 0000 0000 0000 0000 0007")
        let packets =
            [0x11, 0x12, 0x13, 0xff].map { igmpPacket([$0, 0, 0, 0] + group) }
            + [128, 130, 133, 134].map { mldPacket([$0, 0, 0, 0] + six) }
            + [udpPacket(from: address("10.0.0.1:5"), to: address("224.0.0.22:7"), [1, 2, 3, 4])]
        for packet in packets {
            #expect(throws: MembershipReport.Problem.unexpected) { try MembershipReport(packet) }
        }
    }

    /// The query inside ends where its IP header says, and that is within the message.
    @Test(arguments: DataFamily.allCases)
    func queriesCutShort(family: DataFamily) {
        let packet = GeneralQuery(
            family: family, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125)
        ).packet()
        #expect(GeneralQuery(packet + [1, 2, 3]) == GeneralQuery(packet))
        for count in 0..<packet.count { #expect(GeneralQuery(Array(packet.prefix(count))) == nil) }
    }

    @Test func aFragmentIsNoReport() throws {
        var packet = MembershipReport(family: .ipv4, records: [GroupRecord(.isExclude, ip("239.1.1.1"))]).packet()
        packet[6] |= 0x20
        seal(&packet, length: 24)
        #expect(throws: MembershipReport.Problem.unexpected) { try MembershipReport(packet) }
    }

    /// Auxiliary data is passed over (RFC 9776 section 4.2.10); the next record lies behind it.
    @Test func auxiliaryData() throws {
        let packet = igmpPacket(
            hex("2200 0000 0000 0002  05010001 e8010101 0a000001 deadbeef  05000001 e8010102 0a000002"))
        #expect(
            try MembershipReport(packet).records == [
                GroupRecord(.allow, ip("232.1.1.1"), [ip("10.0.0.1")]),
                GroupRecord(.allow, ip("232.1.1.2"), [ip("10.0.0.2")]),
            ])
    }

    @Test func sourcesOfAllRecordsAreBounded() throws {
        func report(_ count: Int) -> [UInt8] {
            MembershipReport(
                family: .ipv4,
                records: [GroupRecord(.allow, ip("232.1.1.1"), (0..<2000).map { .v4($0) })]
                    + [GroupRecord(.allow, ip("232.1.1.2"), (0..<UInt32(count)).map { .v4($0) })]
            ).packet()
        }
        #expect(try MembershipReport(report(48)).records.count == 2)
        #expect(throws: MembershipReport.Problem.tooLarge) { try MembershipReport(report(49)) }
    }

    @Test(arguments: DataFamily.allCases)
    func damagedQueries(family: DataFamily) {
        var packet = GeneralQuery(
            family: family, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125)
        ).packet()
        #expect(GeneralQuery(packet) != nil)
        packet[packet.count - 3] ^= 1
        #expect(GeneralQuery(packet) == nil)
    }

    /// Only general queries count, and a code of zero is the default (RFC 9776 sections 4.1.3 and 4.1.7).
    @Test func queriesOfAGroup() {
        let all = ip("224.0.0.1")
        #expect(
            GeneralQuery(igmpPacket(hex("1101 0000 00000000 0200 0000"), to: all))
                == GeneralQuery(
                    family: .ipv4, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125)))
        #expect(GeneralQuery(igmpPacket(hex("1101 0000 e8010101 027d 0000"), to: all)) == nil)
        let six = hex("8200 0000 0064 0000") + [UInt8](repeating: 0, count: 16) + hex("0200 0000")
        let all6 = ip("ff02::1")
        #expect(GeneralQuery(mldPacket(six, to: all6))?.interval == .seconds(125))
        var one = six
        one[8] = 0xff
        one[23] = 1
        #expect(GeneralQuery(mldPacket(one, to: all6)) == nil)
    }

    /// Queries of IGMPv2 and MLDv1 are no answer to a Request (RFC 7450 section 5.2.3.5.4).
    @Test func queriesOfOlderVersions() {
        let all = ip("224.0.0.1")
        #expect(GeneralQuery(igmpPacket(hex("1164 0000 00000000"), to: all)) == nil)
        #expect(GeneralQuery(igmpPacket(hex("1164 0000 00000000 0200"), to: all)) == nil)
        #expect(GeneralQuery(igmpPacket(hex("1164 0000 00000000 027d 0000"), to: all)) != nil)
        let six = hex("8200 0000 0064 0000") + [UInt8](repeating: 0, count: 16)
        #expect(GeneralQuery(mldPacket(six, to: ip("ff02::1"))) == nil)
        #expect(GeneralQuery(mldPacket(six + hex("027d 0000"), to: ip("ff02::1"))) != nil)
    }

    // MARK: packets on their way

    @Test(arguments: [("10.0.0.1:5", "224.0.0.5:7"), ("[2001:db8::1]:5", "[ff02::5]:7"), ("10.0.0.1:5", "192.0.2.1:7")])
    func packetsThatStayOnTheirLink(source: String, destination: String) {
        #expect(DataHeader(udpPacket(from: address(source), to: address(destination), [1])) == nil)
    }

    /// A packet that may be fragmented, with what makes a fragment of it.
    private func dividable(_ count: Int, position: UInt16 = 0) -> [UInt8] {
        var packet = udpPacket(
            from: address("10.0.0.1:5"), to: address("232.1.1.1:7"), (0..<count).map { UInt8(truncatingIfNeeded: $0) })
        packet[6] = UInt8(position >> 8)
        packet[7] = UInt8(position & 255)
        seal(&packet, length: 20)
        return packet
    }

    private func pieces(_ packet: [UInt8], limit: Int) -> [[UInt8]]? { fragments(packet.span, limit: limit) }

    @Test func whatMustNotBeDividedIsNot() {
        #expect(pieces(dividable(1000), limit: 600) != nil)
        #expect(pieces(dividable(1000, position: 0x4000), limit: 600) == nil)
        #expect(
            pieces(
                udpPacket(
                    from: address("[2001:db8::1]:5"), to: address("[ff3e::1]:7"), [UInt8](repeating: 1, count: 900)),
                limit: 600) == nil)
    }

    /// A fragment divided again stays where it was in the whole, and only the end of the whole ends it.
    @Test(arguments: [(0x2000, true), (0x2010, true), (0x0010, false)] as [(UInt16, Bool)])
    func fragmentsOfFragments(position: UInt16, hasMore: Bool) throws {
        let parts = try #require(pieces(dividable(1000, position: position), limit: 500))
        var next = Int(position & 0x1fff) * 8
        for (index, part) in parts.enumerated() {
            let fragment = try #require(try IPHeader(part.span).fragment)
            #expect(fragment.offset == next)
            #expect(fragment.hasMore == (hasMore || index < parts.count - 1))
            next += part.count - 20
        }
        #expect(next == Int(position & 0x1fff) * 8 + 1008)
    }

    /// Each datagram of a segmented send is a packet of its own: name, lengths, checksums.
    @Test(arguments: ["10.0.0.1:5", "[2001:db8::1]:5"])
    func segmentsBecomePackets(source: String) throws {
        let from = address(source)
        let group = address(from.address.isIPv4 ? "232.1.1.1:7" : "[ff3e::8000:1]:7")
        let payload = (0..<2500).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let packet = udpPacket(from: from, to: group, payload)
        let split = splitSegments(packet.span, segment: 1000)
        let parts = try #require(split)
        #expect(parts.count == 3)
        var whole: [UInt8] = []
        for (index, part) in parts.enumerated() {
            let header = try IPHeader(part.span)
            #expect(header.totalLength == part.count && header.source == from.address)
            if from.address.isIPv4 { #expect(Int(part[4]) << 8 | Int(part[5]) == index) }
            let datagram = Array(part[header.payload])
            let read = UDPHeader(datagram.span)
            let udp = try #require(read)
            let isIntact = udp.isIntact(datagram.span, from: header.source, to: header.destination)
            #expect(udp.checksum != 0 && isIntact && udp.length == datagram.count)
            whole += datagram.dropFirst(8)
        }
        #expect(whole == payload)
    }

    /// Nobody is told who may not be, or who need not be.
    @Test func sendersThatAreNotTold() throws {
        let packet = udpPacket(
            from: address("10.0.0.1:5"), to: address("232.1.1.1:7"), [UInt8](repeating: 1, count: 1460))
        let header = try #require(DataHeader(packet))
        func isTold(_ change: (inout DataHeader) -> Void) -> Bool {
            var changed = header
            change(&changed)
            var feedback = SenderFeedback()
            return feedback.tooLarge(packet.span, changed, limit: 1400, at: seconds(1)) != nil
        }
        #expect(isTold { _ in })
        #expect(!isTold { $0.dontFragment = false })
        #expect(!isTold { $0.source = .v4(0) })
    }

    @Test func linkLocalGroupsAreNotRouted() {
        var link = LinkMembership()
        let packet = MembershipReport(
            family: .ipv4, records: [GroupRecord(.allow, ip("224.0.0.251"), [ip("10.0.0.1")])]
        ).packet()
        let changes = link.packetReceived(packet.span, at: seconds(1))
        #expect(changes == [])
    }

    private func seal(_ packet: inout [UInt8], length: Int) {
        packet[10] = 0
        packet[11] = 0
        var sum = InternetChecksum()
        sum.add(packet.span.extracting(0..<length))
        packet[10] = UInt8(sum.value >> 8)
        packet[11] = UInt8(sum.value & 255)
    }
}

/// What the tables of RFC 9776 say of timers.
@Suite struct GroupTimerTests {
    let start = seconds(1000)
    let slow = GroupStateTests.slow

    private func made() -> GroupState {
        var state = GroupState()
        _ = state.apply(.isInclude, GroupStateTests.sources("A"), times: slow, limit: 64, at: start)
        _ = state.apply(.isExclude, GroupStateTests.sources("AB"), times: slow, limit: 64, at: start)
        return state
    }

    @Test func currentStateRefreshesTheGroup() {
        var state = made()
        _ = state.apply(.isExclude, GroupStateTests.sources("AB"), times: slow, limit: 64, at: start + .seconds(200))
        state.expire(at: start + .seconds(459))
        #expect(state.isExclude && !state.wants(GroupStateTests.source("B")))
        state.expire(at: start + .seconds(460))
        #expect(!state.isExclude && state.excluded.isEmpty)
    }

    /// TO_EX: a new source has the group's old timer, if that is shorter than the time for an answer.
    @Test func newSourcesHaveTheGroupsTimer() {
        var state = made()
        _ = state.apply(.toExclude, GroupStateTests.sources("C"), times: slow, limit: 64, at: start + .seconds(259))
        state.expire(at: start + .seconds(260.5))
        #expect(GroupStateTests.text(state) == "EX(,C)")
    }
}
