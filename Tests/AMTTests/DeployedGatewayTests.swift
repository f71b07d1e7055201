import Testing
import Wire

@testable import AMT

/// Gateways in use that differ from RFC 7450, as docs/gateways.md lists them: octets that they send, and a relay that serves them.
@Suite struct DeployedGatewayTests {
    let start = seconds(10)
    let viewer = address("192.0.2.1:40001")
    let channel = (source: "10.0.0.1", group: "232.1.1.1")

    func relayBox(_ change: (inout RelayConfiguration) -> Void = { _ in }) -> RelayBox {
        var configuration = RelayConfiguration()
        change(&configuration)
        return RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: start))
    }

    /// An Update with `report`, as it is.
    func send(_ report: [UInt8], _ query: Message.Query, to relay: RelayBox, at now: Instant) {
        let bytes = Message.update(mac: query.mac, nonce: query.nonce).bytes(datagram: report)
        #expect(relay.receive(bytes, from: viewer, at: now) == nil)
    }

    /// A report to `group` behind an IPv4 header of VLC's or go-amt's making: room for Router Alert, left blank.
    func blankReport(
        _ message: String = "2200 ddfc 0000 0001 0100 0001 e8010101 0a000001", to destination: String,
        from: String = "00000000",
        trafficClass: UInt8 = 0xc0
    ) -> [UInt8] {
        let body = igmpPacket(hex(message))[24...]
        var header =
            hex("46c0 0000 0000 0000 0102 0000" + from) + address(destination + ":1").address.octets4 + [0, 0, 0, 0]
        header[1] = trafficClass
        header[3] = UInt8(24 + body.count)
        var sum = InternetChecksum()
        sum.add(header.span)
        header[10] = UInt8(sum.value >> 8)
        header[11] = UInt8(sum.value & 255)
        return header + body
    }

    // MARK: VLC

    /// One Request a session, and its MAC in every Update that follows, over more than two lives of the relay's secret.
    @Test func vlcRepeatsItsFirstMAC() throws {
        let relay = relayBox()
        // 9 octets, which is also how the relay knows to leave the gateway fields out: VLC wants 48 octets.
        let answer = try #require(relay.receive(hex("0300000000000009 00"), from: viewer, at: start))
        #expect(answer.count == 48)
        guard case .query(let query)? = Message(answer) else { return #expect(Bool(false), "no query") }
        for round in 0..<(3 * 3600 / 125) {
            let now = start + .seconds(125 * round)
            relay.timerFired(at: now)
            // Somebody else has the secret renewed.
            _ = relay.query(from: address("192.0.2.9:5"), at: now)
            send(blankReport(to: "224.0.0.22"), query, to: relay, at: now)
            #expect(relay.destinations(channel.source, channel.group) == [viewer], "\(125 * round) s")
        }
        #expect(relay.counters.invalidMAC == 0 && relay.counters.endpointsOpened == 1)
    }

    /// What an open tunnel may repeat opens none, serves no other gateway, and serves this one no longer than configured.
    @Test func repeatedMACsAreOfNoOtherUse() throws {
        let relay = relayBox { $0.repeatedMACLifetime = .seconds(86_400) }
        let other = address("192.0.2.1:40002")
        let query = try #require(relay.query(from: viewer, at: start))
        let records = [GroupRecord(.isInclude, ip(channel.group), [ip(channel.source)])]
        relay.update(query, from: viewer, records, at: start)
        var now = start
        func pass(_ time: Int) {
            for _ in 0..<(time / 125) {
                now += .seconds(125)
                relay.timerFired(at: now)
                _ = relay.query(from: address("192.0.2.9:5"), at: now)
                relay.update(query, from: viewer, records, at: now)
            }
        }
        pass(8000)
        #expect(relay.counters.invalidMAC == 0)
        relay.update(query, from: other, records, at: now)
        var forged = query
        forged.nonce ^= 1
        relay.update(forged, from: viewer, records, at: now)
        forged = query
        forged.mac = ResponseMAC(query.mac.bits ^ 1)
        relay.update(forged, from: viewer, records, at: now)
        #expect(relay.counters.invalidMAC == 3 && relay.endpointCount == 1)

        // A newer one of the same gateway takes its place.
        let fresh = try #require(relay.query(from: viewer, request: hex("0300000000000077"), at: now))
        relay.update(fresh, from: viewer, records, at: now)
        relay.update(query, from: viewer, records, at: now)
        #expect(relay.counters.invalidMAC == 4)
        relay.update(fresh, from: viewer, [GroupRecord(.toInclude, ip(channel.group))], at: now)
        now += .seconds(8000)
        relay.timerFired(at: now)
        #expect(relay.endpointCount == 0)
        relay.update(fresh, from: viewer, records, at: now)
        #expect(relay.endpointCount == 0 && relay.counters.invalidMAC == 5)
    }

    /// A tunnel that ends because its MAC is too old is told of.
    @Test func tooOldMACsAreToldOf() throws {
        let relay = relayBox { $0.repeatedMACLifetime = .seconds(1) }
        let query = try #require(relay.query(from: viewer, at: start))
        let records = [GroupRecord(.isInclude, ip(channel.group), [ip(channel.source)])]
        for round in 0..<40 {
            let now = start + .seconds(125 * round)
            relay.timerFired(at: now)
            _ = relay.query(from: address("192.0.2.9:5"), at: now)
            relay.update(query, from: viewer, records, at: now)
        }
        #expect(relay.endpointCount == 0 && relay.counters.invalidMAC > 0)
        #expect(relay.relay.refusals(.oldMAC) == 1)
        #expect(relay.relay.nextRefusal() == Refusal(gateway: viewer, group: nil, reason: .oldMAC))
    }

    /// Over IPv6 VLC names the unspecified address as source when it means any.
    @Test func vlcMeansAnySource() throws {
        let relay = relayBox()
        let group = "ff1e::1"
        func told(_ kind: GroupRecord.Kind, _ source: String) throws {
            let query = try #require(relay.query(from: viewer, request: hex("0301000000000009 00"), at: start))
            relay.update(query, from: viewer, [GroupRecord(kind, ip(group), [ip(source)])], family: .ipv6, at: start)
        }
        try told(.allow, "::")
        #expect(relay.destinations("2001:db8::1", group) == [viewer])
        #expect(relay.changes() == [.join(Channel(source: nil, group: ip(group)))])
        try told(.block, "::")
        #expect(relay.destinations("2001:db8::1", group).isEmpty)
    }

    // MARK: others

    /// go-amt and amt-protocol (Blockcast) send reports to the group, from the channel's source, the option blank.
    @Test func reportsToTheirGroup() throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: viewer, at: start))
        send(blankReport(to: channel.group, from: "0a000001"), query, to: relay, at: start)
        #expect(relay.destinations(channel.source, channel.group) == [viewer])
    }

    /// multicast-menu's has 4 octets of options of another kind of nothing, and hosts behind a gateway may set no precedence or
    /// leave out Router Alert.
    @Test(arguments: [0xc0, 0x00] as [UInt8])
    func reportsWithoutPrecedence(trafficClass: UInt8) throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: viewer, at: start))
        send(blankReport(to: "224.0.0.22", trafficClass: trafficClass), query, to: relay, at: start)
        #expect(relay.destinations(channel.source, channel.group) == [viewer])
    }

    @Test func reportsWithoutOptions() throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: viewer, at: start))
        let body = igmpPacket(hex("2200 0000 0000 0001 0100 0001 e8010101 0a000001"))[24...]
        let packet = [UInt8].written(capacity: 20 + body.count) { writer in
            IPHeader.write(
                to: &writer, from: ip("10.0.0.9"), to: ip("224.0.0.22"), protocol: IPProtocol.igmp,
                payloadLength: body.count,
                hopLimit: 1)
            writer.octets(Array(body).span)
        }
        send(packet, query, to: relay, at: start)
        #expect(relay.destinations(channel.source, channel.group) == [viewer])
    }

    /// Linux asks for both protocols with one nonce, P of IPv6 at 0x80, and keeps one MAC of the two.
    @Test func linuxKeepsOneMACOfTwo() throws {
        let relay = relayBox()
        let four = try #require(relay.query(from: viewer, request: hex("03000000a7d32230"), at: start))
        let six = try #require(relay.query(from: viewer, request: hex("03800000a7d32230"), at: start))
        #expect(four.mac == six.mac && six.gateway == nil)
    }

    /// Gateways that pass on what the kernel reports name groups of the link too.
    @Test func linkLocalGroupsAreLeftOut() throws {
        let relay = relayBox()
        let query = try #require(relay.query(from: viewer, request: hex("0301000000000009"), at: start))
        let records = [
            GroupRecord(.isExclude, ip("ff02::1:ff00:1")),
            GroupRecord(.isInclude, ip("ff3e::8000:1"), [ip("2001:db8::1")]),
        ]
        relay.update(query, from: viewer, records, family: .ipv6, at: start)
        #expect(relay.upstreamCount == 1 && relay.counters.ignoredRecords == 1)
    }

    /// A heartbeat of multicast-menu's is an Update without MAC or report: nothing comes of it.
    @Test func emptyHeartbeats() {
        let relay = relayBox()
        relay.join(viewer, [GroupRecord(.isInclude, ip(channel.group), [ip(channel.source)])])
        #expect(relay.receive(hex("0500 000000000000 00000000"), from: viewer, at: start) == nil)
        #expect(relay.endpointCount == 1 && relay.counters.invalidMAC == 1)
    }

    /// Sources that no router forwards packets of are not asked for upstream.
    @Test(arguments: [
        "0.0.0.0", "255.255.255.255", "169.254.1.1", "239.1.1.1", "fe80::1", "ff02::1",
    ])
    func sourcesThatCannotBe(source: String) {
        let relay = relayBox()
        let isIPv4 = ip(source).isIPv4
        let record = GroupRecord(
            .isInclude, ip(isIPv4 ? "239.5.5.5" : "ff1e::5"), [ip(source), ip(isIPv4 ? "10.0.0.1" : "2001:db8::1")])
        guard
            let query = relay.query(
                from: viewer, request: hex(isIPv4 ? "0300000000000009" : "0301000000000009"), at: start)
        else { return #expect(Bool(false), "no query") }
        relay.update(query, from: viewer, [record], family: isIPv4 ? .ipv4 : .ipv6, at: start)
        #expect(relay.upstreamCount == 1 && relay.counters.ignoredSources == 1)
    }
}

extension IPAddress {
    /// The four octets of an IPv4 address.
    fileprivate var octets4: [UInt8] {
        guard case .v4(let bits) = self else { return [] }
        return stride(from: 24, through: 0, by: -8).map { UInt8(bits >> UInt32($0) & 255) }
    }
}
