import Testing
import Wire

@testable import AMT

/// What a gateway makes of ICMP errors, true ones and forged ones.
@Suite struct GatewayNoticeTests {
    private let other = address("203.0.113.9:2268")

    /// The oldest datagram that the gateway wants sent, lost on its way.
    private func lost(_ tunnel: Tunnel) -> [UInt8] { tunnel.gateway.nextDatagram()?.bytes ?? [] }

    private func tell(_ tunnel: Tunnel, _ kind: GatewayNotice.Kind = .unreachable, quoting quoted: [UInt8] = []) {
        tunnel.gateway.noticeReceived(
            GatewayNotice(kind, destination: tunnel.relayAddress, quoted: quoted), at: tunnel.now)
    }

    private func events(_ tunnel: Tunnel) -> [GatewayEvent] {
        var all: [GatewayEvent] = []
        while let event = tunnel.gateway.nextEvent() { all.append(event) }
        return all
    }

    /// A tunnel whose Request is on its way, and that Request.
    private func requesting() -> (Tunnel, request: [UInt8]) {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        guard case .discovery(let nonce) = Message(lost(tunnel)) else { preconditionFailure("no discovery") }
        let answer = Message.advertisement(nonce: nonce, relay: tunnel.relayAddress.address).bytes
        _ = tunnel.gateway.datagramReceived(answer.span, from: tunnel.relayAddress, at: tunnel.now)
        _ = events(tunnel)
        return (tunnel, lost(tunnel))
    }

    @Test func beforeTheTunnelIsUpTheRelayIsGivenUpAtOnce() {
        let (tunnel, request) = requesting()
        tell(tunnel, quoting: request)
        #expect(events(tunnel) == [.unreachable(tunnel.relayAddress)])
        // Its discovery address is asked again at once, but from then on with pauses.
        guard case .discovery(let nonce) = Message(lost(tunnel)) else {
            Issue.record("no discovery")
            return
        }
        let answer = Message.advertisement(nonce: nonce, relay: tunnel.relayAddress.address).bytes
        _ = tunnel.gateway.datagramReceived(answer.span, from: tunnel.relayAddress, at: tunnel.now)
        tell(tunnel, quoting: lost(tunnel))
        #expect(tunnel.gateway.nextDatagram() == nil)
        #expect(tunnel.gateway.nextDeadline >= tunnel.now + .seconds(1))
        #expect(tunnel.gateway.counters.unreachable == 2)
        // A relay that returns is found.
        tunnel.run(.seconds(10))
        #expect(tunnel.gateway.isJoined)
    }

    @Test func forgeriesCountForNothing() {
        let (tunnel, request) = requesting()
        var wrong = request
        wrong[7] ^= 1
        tell(tunnel, quoting: wrong)
        // Of another type with the same nonce in the same place.
        tell(tunnel, quoting: [1] + request.dropFirst())
        tunnel.gateway.noticeReceived(GatewayNotice(.unreachable, destination: other, quoted: request), at: tunnel.now)
        #expect(events(tunnel).isEmpty && tunnel.gateway.counters.noticesIgnored == 3)
        // The answer still counts.
        let answer =
            tunnel.relay.datagramReceived(
                request.span, from: tunnel.gatewayAddress, to: tunnel.relayAddress.address, at: tunnel.now) ?? []
        _ = tunnel.gateway.datagramReceived(answer.span, from: tunnel.relayAddress, at: tunnel.now)
        #expect(tunnel.gateway.isJoined)
    }

    /// Routers that quote no payload are believed when it happens again to the next message, not before.
    @Test func withoutANonceItTakesTwo() {
        let (tunnel, _) = requesting()
        for _ in 0..<5 { tell(tunnel) }
        #expect(events(tunnel).isEmpty)
        tunnel.now = tunnel.gateway.nextDeadline
        tunnel.gateway.timerFired(at: tunnel.now)
        _ = events(tunnel)
        tell(tunnel)
        #expect(events(tunnel) == [.unreachable(tunnel.relayAddress)])
    }

    /// A joined relay is asked, and stays when it answers: the error was forged, or the outage is over.
    @Test func aRelayThatAnswersStays() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.run(.seconds(2))
        let requests = tunnel.gateway.counters.requestsSent
        for _ in 0..<1000 {
            tell(tunnel)
            tunnel.run(.milliseconds(5))
        }
        #expect(tunnel.gateway.isJoined && tunnel.gateway.counters.unreachable == 0)
        // A thousand forged errors made it ask once; what it asks for silence is beside that.
        #expect(tunnel.gateway.counters.requestsSent - requests <= 3)
    }

    /// Data is an answer too.
    @Test func dataSpeaksForTheRelay() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tell(tunnel)
        _ = lost(tunnel)
        #expect(tunnel.data(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7]) == [7])
        tunnel.isCut = true
        tunnel.run(.milliseconds(2500))
        #expect(tunnel.gateway.isJoined && tunnel.gateway.counters.unreachable == 0)
    }

    @Test func aJoinedRelayThatDoesNotAnswerIsGivenUpAfterTheGrace() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.events = []
        tunnel.isCut = true
        tell(tunnel)
        tunnel.run(.milliseconds(999))
        #expect(tunnel.gateway.isJoined)
        tunnel.run(.milliseconds(1))
        #expect(!tunnel.gateway.isJoined && tunnel.events.contains(.unreachable(tunnel.relayAddress)))
        // It looks for a relay, and finds it when it is back.
        tunnel.isCut = false
        tunnel.run(.seconds(10))
        #expect(tunnel.gateway.isJoined && tunnel.destinations("10.2.2.1", "232.1.1.1") == [tunnel.gatewayAddress])
    }

    /// Linux says "host unreachable" when it has no room for more tunnels.
    @Test func aFullRelayIsToldApart() {
        let (tunnel, request) = requesting()
        tell(tunnel, .full, quoting: request)
        #expect(events(tunnel) == [.limited])
    }

    @Test func tooLargeIsCountedAndNoMore() {
        let (tunnel, request) = requesting()
        tell(tunnel, .tooLarge, quoting: request)
        #expect(events(tunnel).isEmpty && tunnel.gateway.counters.tooLarge == 1)
    }

    /// An Update has its nonce behind the response MAC.
    @Test func updatesAreKnownByTheirNonce() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.gateway.unsubscribe(channel4, at: tunnel.now)
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        let update = lost(tunnel)
        #expect(update.first == 5)
        tell(tunnel, quoting: update)
        #expect(tunnel.gateway.counters.notices == 1)
        tell(tunnel, quoting: Array(update.prefix(8)) + [0, 0, 0, 0])
        #expect(tunnel.gateway.counters.noticesIgnored == 1)
    }

    // MARK: candidates of a search

    @Test func theNextCandidateIsAskedAtOnce() throws {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2"), (3, "198.51.100.3")])
        world.answer("198.51.100.3")
        world.isGone = [relay("198.51.100.1"), relay("198.51.100.2")]
        world.start()
        world.run(.milliseconds(100))
        #expect(world.found == [relay("198.51.100.3")])
    }

    @Test func aCandidateIsGivenUpOnlyForItsOwnNonce() throws {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2")])
        world.answer("198.51.100.1", after: .milliseconds(50))
        world.start()
        world.run(.milliseconds(20))
        let forged = Message.discovery(nonce: 0xbad).bytes
        world.search.noticeReceived(
            GatewayNotice(.unreachable, destination: relay("198.51.100.1"), quoted: forged), at: world.now)
        world.run(.milliseconds(10))
        #expect(world.probed.map(\.to) == [relay("198.51.100.1")])
        // One that quotes nothing lets the next one go ahead, no more.
        world.search.noticeReceived(GatewayNotice(.unreachable, destination: relay("198.51.100.1")), at: world.now)
        world.run(.seconds(1))
        #expect(world.probed.map(\.to) == [relay("198.51.100.1"), relay("198.51.100.2")])
        #expect(world.found == [relay("198.51.100.1")])
    }

    @Test func whenAllAreGoneTheRoundEnds() {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2")])
        world.isGone = [relay("198.51.100.1"), relay("198.51.100.2")]
        world.start()
        world.run(.milliseconds(100))
        #expect(world.events.contains { if case .nothing = $0 { true } else { false } })
    }

    @Test func anUnreachableNameServerIsPassedOver() {
        let servers = [address("192.0.2.53:53"), address("192.0.2.54:53")]
        let question = DNSQuestion(name("relay.example"), .a)
        var lookup = NameLookup(question, servers: servers, random: SeededRandom(seed: 1))
        lookup.start(at: seconds(1))
        let first = lookup.nextDatagram()
        #expect(first?.to == servers[0])
        let query = first?.bytes ?? []
        lookup.unreachable(servers[0], quoted: [], at: seconds(1))
        lookup.unreachable(servers[0], quoted: [query[0] ^ 1] + query.dropFirst(), at: seconds(1))
        lookup.unreachable(servers[1], quoted: query, at: seconds(1))
        #expect(lookup.nextDatagram()?.to == nil)
        lookup.unreachable(servers[0], quoted: Array(query.prefix(20)), at: seconds(1))
        #expect(lookup.nextDatagram()?.to == servers[1])
    }
}
