import Testing
import Wire

@testable import AMT

/// Single rules of the gateway, each with a case that only it decides.
@Suite struct GatewayRuleTests {
    let relay = address("198.51.100.1:2268")
    let now = seconds(100)

    /// A gateway that has asked, and the nonce it asked with.
    private func asking(_ family: DataFamily = .ipv4) throws -> (gateway: Gateway, nonce: UInt32) {
        var gateway = Gateway(discovery: relay, family: family, seed: SeededRandom(seed: 3))
        gateway.subscribe(family == .ipv4 ? channel4 : channel6, at: now)
        let datagram = gateway.nextDatagram()
        guard case .discovery(let nonce) = Message(try #require(datagram).bytes) else {
            throw Missing("no discovery")
        }
        return (gateway, nonce)
    }

    private struct Missing: Error {
        let what: String
        init(_ what: String) { self.what = what }
    }

    /// An Advertisement counts from the address that was asked, with the nonce it was asked with, and if it names an
    /// address that a relay can have.
    @Test(arguments: [
        (1 as UInt32, "198.51.100.1:2268", "198.51.100.1"), (0, "198.51.100.2:2268", "198.51.100.1"),
        (0, "198.51.100.1:2269", "198.51.100.1"), (0, "198.51.100.1:2268", "2001:db8::1"),
        (0, "198.51.100.1:2268", "232.1.1.1"), (0, "198.51.100.1:2268", "0.0.0.0"),
    ])
    func falseAdvertisements(nonceOff: UInt32, sender: String, named: String) throws {
        var (gateway, nonce) = try asking()
        let answer = Message.advertisement(nonce: nonce &+ nonceOff, relay: ip(named)).bytes
        _ = gateway.datagramReceived(answer.span, from: address(sender), at: now)
        #expect(gateway.relay == nil && gateway.counters.unexpected == 1)
        let right = Message.advertisement(nonce: nonce, relay: relay.address).bytes
        _ = gateway.datagramReceived(right.span, from: relay, at: now)
        #expect(gateway.relay == relay)
    }

    /// A Query counts from the relay, with the nonce of the Request, and with a query of our family in it.
    @Test(arguments: [
        (1 as UInt32, "198.51.100.1:2268", DataFamily.ipv4), (0, "198.51.100.9:2268", .ipv4),
        (0, "198.51.100.1:2268", .ipv6),
    ])
    func falseQueries(nonceOff: UInt32, sender: String, family: DataFamily) throws {
        var (gateway, nonce) = try asking()
        let found = Message.advertisement(nonce: nonce, relay: relay.address).bytes
        _ = gateway.datagramReceived(found.span, from: relay, at: now)
        let datagram = gateway.nextDatagram()
        guard case .request(let request) = Message(try #require(datagram).bytes) else { throw Missing("no request") }
        func query(_ nonce: UInt32, _ family: DataFamily) -> [UInt8] {
            let general = GeneralQuery(
                family: family, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125))
            return Message.query(.init(mac: ResponseMAC(1), nonce: nonce)).bytes(datagram: general.packet())
        }
        _ = gateway.datagramReceived(query(request.nonce &+ nonceOff, family).span, from: address(sender), at: now)
        #expect(!gateway.isJoined && gateway.counters.unexpected == 1)
        _ = gateway.datagramReceived(query(request.nonce, .ipv4).span, from: relay, at: now)
        #expect(gateway.isJoined)
    }

    /// RFC 7450 section 5.2.3.4.5. The first number of this seed ends in 32 bits of zero.
    @Test func noNonceIsZero() {
        var random = SeededRandom(seed: 42_585_685)
        let first = random.next()
        #expect(UInt32(truncatingIfNeeded: first) == 0)
        var gateway = Gateway(discovery: relay, family: .ipv4, seed: SeededRandom(seed: 42_585_685))
        let nonce = gateway.nonce()
        #expect(nonce != 0)
    }

    /// RFC 7450 section 5.2.3.5.6: each time that it asks anew, a gateway does so with a nonce of its own.
    @Test func eachQueryHasANonceOfItsOwn() {
        let tunnel = joined()
        tunnel.run(.seconds(600))
        let nonces = tunnel.seen.compactMap { if case .request(let request) = $0 { request.nonce } else { nil } }
        #expect(nonces.count > 10 && Set(nonces).count == nonces.count)
    }

    /// The answer that was waited for counts, once: another one is not believed, whatever it says.
    @Test func answersCountOnce() throws {
        var (gateway, nonce) = try asking()
        let found = Message.advertisement(nonce: nonce, relay: relay.address).bytes
        for _ in 0..<2 { _ = gateway.datagramReceived(found.span, from: relay, at: now) }
        #expect(gateway.counters.unexpected == 1)
        let datagram = gateway.nextDatagram()
        guard case .request(let request) = Message(try #require(datagram).bytes) else { throw Missing("no request") }
        let general = GeneralQuery(
            family: .ipv4, maximumResponse: .milliseconds(100), robustness: 2, interval: .seconds(125))
        for mac: UInt64 in [1, 2] {
            let query = Message.query(.init(mac: ResponseMAC(mac), nonce: request.nonce))
            _ = gateway.datagramReceived(query.bytes(datagram: general.packet()).span, from: relay, at: now)
        }
        #expect(gateway.counters.unexpected == 2 && gateway.counters.queriesReceived == 1)
        gateway.stop(at: now)
        while let (bytes, _) = gateway.nextDatagram() {
            guard case .update(let mac, _) = Message(bytes) else { continue }
            #expect(mac == ResponseMAC(1))
        }
    }

    /// What only relays get, and what is of another version or none of the seven messages.
    @Test func messagesForRelaysAreIgnored() {
        let tunnel = joined()
        let none = ResponseMAC(0)
        let datagrams =
            [
                .discovery(nonce: 1), .request(.init(nonce: 1, family: .ipv4)), .update(mac: none, nonce: 1),
                .teardown(mac: none, nonce: 1, gateway: tunnel.gatewayAddress),
            ].map { (message: Message) in message.bytes }
            + [hex("1600") + udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7]), hex("08"), []]
        for datagram in datagrams {
            let delivery = tunnel.gateway.datagramReceived(datagram.span, from: tunnel.relayAddress, at: tunnel.now)
            #expect(delivery == nil)
        }
        let answer = tunnel.gateway.nextDatagram()
        #expect(answer == nil && tunnel.gateway.counters.unexpected == UInt64(datagrams.count))
    }

    private func joined(
        _ gateway: GatewayConfiguration = GatewayConfiguration(), _ channel: Channel = channel4
    ) -> Tunnel {
        let tunnel = Tunnel(gateway: gateway)
        tunnel.gateway.subscribe(channel, at: tunnel.now)
        tunnel.exchange()
        return tunnel
    }

    @Test func dataOfAnotherGroup() {
        let tunnel = joined()
        #expect(tunnel.deliver(udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.2:2"), [7])) == nil)
        #expect(tunnel.gateway.counters.notSubscribed == 1)
    }

    /// What is inside has to be for a group of its IP version.
    @Test(arguments: [("10.2.2.1:1", "192.0.2.9:2"), ("[2001:db8::5]:1", "[2001:db8::9]:2")])
    func dataToNoGroup(source: String, destination: String) {
        let tunnel = joined()
        #expect(tunnel.deliver(udpPacket(from: address(source), to: address(destination), [7])) == nil)
        #expect(tunnel.gateway.counters.damaged == 1)
    }

    /// While the relay has not answered a refresh, and after it has stopped answering.
    @Test func dataIsTakenWhileTheRelayIsAsked() {
        let tunnel = joined()
        tunnel.isCut = true
        tunnel.run(.seconds(90))
        #expect(tunnel.gateway.counters.requestsSent > 1)
        #expect(tunnel.deliver(udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7])) == [7])
    }

    /// The checksum would be right if it were UDP.
    @Test func dataThatIsNotUDP() {
        let tunnel = joined()
        var packet = udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7])
        packet[9] = 136
        packet[10] = 0
        packet[11] = 0
        var sum = InternetChecksum()
        sum.add(packet.span.extracting(0..<20))
        packet[10] = UInt8(sum.value >> 8)
        packet[11] = UInt8(sum.value & 255)
        #expect(tunnel.deliver(packet) == nil)
        #expect(tunnel.gateway.counters.damaged == 1)
    }

    @Test func dataIsNoSilence() {
        let tunnel = joined()
        for _ in 0..<20 {
            tunnel.run(.seconds(2))
            #expect(tunnel.deliver(udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7])) == [7])
        }
        #expect(!tunnel.events.contains(.silent))
    }

    /// A channel that nobody sends to costs fewer and fewer questions.
    @Test func silenceIsAskedAboutLessAndLess() {
        let tunnel = joined()
        tunnel.run(.seconds(120))
        let count = tunnel.events.count { $0 == .silent }
        #expect((3...6).contains(count))
    }

    /// The relay says 125 seconds; a translator would have forgotten the binding by then.
    @Test func refreshComesByTheLimit() {
        var configuration = GatewayConfiguration()
        configuration.silence = .seconds(100_000)
        let tunnel = joined(configuration)
        let before = tunnel.gateway.counters.requestsSent
        tunnel.run(.seconds(59))
        #expect(tunnel.gateway.counters.requestsSent == before)
        tunnel.run(.seconds(2))
        #expect(tunnel.gateway.counters.requestsSent == before + 1)
    }

    @Test func channelsAreBoundedAndMayLeaveTheirLink() {
        var configuration = GatewayConfiguration()
        configuration.channelLimit = 2
        let tunnel = Tunnel(gateway: configuration)
        func subscribe(_ group: String) -> Bool {
            tunnel.gateway.subscribe(Channel(source: nil, group: ip(group)), at: tunnel.now)
        }
        #expect(!subscribe("224.0.0.5"))
        #expect(subscribe("239.1.1.1") && subscribe("239.1.1.2") && !subscribe("239.1.1.3"))
    }

    @Test func leavingEverySource() {
        let channel = Channel(source: nil, group: ip("239.1.1.1"))
        let tunnel = joined(GatewayConfiguration(), channel)
        #expect(tunnel.upstream() == [.join(channel)])
        tunnel.gateway.unsubscribe(channel, at: tunnel.now)
        tunnel.exchange()
        #expect(tunnel.upstream() == [.leave(channel)])
    }

    /// Nobody acknowledges a report: with a robustness of 2 a change is told twice, a second apart.
    @Test func changesAreToldTwice() {
        let tunnel = joined()
        func updates() -> Int { tunnel.seen.count { if case .update = $0 { true } else { false } } }
        #expect(updates() == 1)
        tunnel.run(.milliseconds(1500))
        #expect(updates() == 2)
    }

    // MARK: fragments

    private func header(_ offset: Int, hasMore: Bool, identification: UInt32 = 7) throws -> IPHeader {
        var header = try IPHeader(udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [1]).span)
        header.fragment = IPHeader.Fragment(identification: identification, offset: offset, hasMore: hasMore)
        return header
    }

    /// Pieces that together are no packet: the last one condemns what came before.
    @Test(arguments: [
        // Overlaps; a piece past the end, a second end, a piece that is no multiple of eight, more than IP can have.
        [(0, 16, true), (8, 16, true)], [(16, 8, false), (24, 8, true)], [(16, 8, false), (24, 8, false)],
        [(0, 12, true)], [(24, 8, true), (8, 8, false)], [(65_528, 16, false)], [(0, 0, true)],
    ])
    func piecesOfNoPacket(pieces: [(offset: Int, count: Int, hasMore: Bool)]) throws {
        var reassembly = Reassembly()
        for piece in pieces {
            let octets = [UInt8](repeating: 1, count: piece.count)
            let whole = reassembly.add(
                try header(piece.offset, hasMore: piece.hasMore), octets.span, at: seconds(1))
            #expect(whole == nil)
        }
        #expect(reassembly.dropped == 1)
    }

    @Test func piecesAreBoundedAndGrowOld() throws {
        var reassembly = Reassembly()
        let octets = [UInt8](repeating: 1, count: 8)
        for number in 0...Reassembly.pieceLimit {
            _ = reassembly.add(try header(16 * number, hasMore: true), octets.span, at: seconds(1))
            #expect(reassembly.dropped == (number < Reassembly.pieceLimit ? 0 : 1))
        }
        var old = Reassembly()
        var whole = old.add(try header(0, hasMore: true), octets.span, at: seconds(1))
        whole = old.add(try header(8, hasMore: false), octets.span, at: seconds(16))
        #expect(whole == nil && old.dropped == 1)
        // In time they are one packet.
        whole = old.add(try header(0, hasMore: true), octets.span, at: seconds(30.9))
        #expect(whole?.count == 16)
    }
}
