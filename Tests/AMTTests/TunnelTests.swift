import Testing
import Wire

@testable import AMT

/// A relay and a gateway with a network between them that a test can cut and lie in.
final class Tunnel {
    var relay: Relay
    var gateway: Gateway
    var gatewayAddress = address("192.0.2.7:40000")
    var relayAddress = address("198.51.100.1:2268")
    var now = seconds(100)
    /// Messages on their way, and those that were.
    var isCut = false
    var seen: [Message] = []
    var events: [GatewayEvent] = []

    init(
        _ family: DataFamily = .ipv4, relay: RelayConfiguration = RelayConfiguration(),
        gateway: GatewayConfiguration = GatewayConfiguration(), outerIPv6: Bool = false
    ) {
        if outerIPv6 {
            gatewayAddress = address("[2001:db8:1::7]:40000")
            relayAddress = address("[2001:db8:2::1]:2268")
        }
        self.relay = Relay(configuration: relay, seed: SeededRandom(seed: 1), at: now)
        self.gateway = Gateway(
            discovery: relayAddress, family: family, configuration: gateway, seed: SeededRandom(seed: 2))
    }

    /// Delivers all there is, until nobody says anything more.
    func exchange() {
        while let (bytes, to) = gateway.nextDatagram() {
            guard !isCut, to == relayAddress else { continue }
            if let message = Message(bytes) { seen.append(message) }
            if let answer = relay.datagramReceived(bytes.span, from: gatewayAddress, to: to.address, at: now) {
                if let message = Message(answer) { seen.append(message) }
                _ = gateway.datagramReceived(answer.span, from: to, at: now)
            }
        }
        while let event = gateway.nextEvent() { events.append(event) }
    }

    /// Runs both clocks for `duration`.
    func run(_ duration: Duration) {
        let end = now + duration
        exchange()
        while true {
            let next = min(gateway.nextDeadline, relay.nextDeadline)
            guard next <= end else { break }
            now = max(now, next)
            relay.timerFired(at: now)
            gateway.timerFired(at: now)
            exchange()
        }
        now = end
    }

    func upstream() -> [UpstreamChange] {
        var all: [UpstreamChange] = []
        while let change = relay.nextUpstreamChange() { all.append(change) }
        return all
    }

    /// Where the relay sends a packet of the channel.
    func destinations(_ source: String, _ group: String) -> [SocketAddress] {
        var list: [Int] = []
        relay.collectDestinations(source: ip(source), group: ip(group), into: &list)
        return list.map { relay.destination($0).gateway }
    }

    /// Sends a UDP packet through the tunnel, if the relay forwards it.
    func data(from source: SocketAddress, to group: SocketAddress, _ payload: [UInt8]) -> [UInt8]? {
        var list: [Int] = []
        relay.collectDestinations(source: source.address, group: group.address, into: &list)
        guard !isCut, list.contains(where: { relay.destination($0).gateway == gatewayAddress }) else { return nil }
        return deliver(udpPacket(from: source, to: group, payload))
    }

    func deliver(_ packet: [UInt8], from: SocketAddress? = nil) -> [UInt8]? {
        let message = Message.data.bytes(datagram: packet)
        guard let delivery = gateway.datagramReceived(message.span, from: from ?? relayAddress, at: now) else {
            return nil
        }
        return Array((delivery.reassembled ?? message)[delivery.payload])
    }
}

let channel4 = Channel(source: ip("10.2.2.1"), group: ip("232.1.1.1"))
let channel6 = Channel(source: ip("2001:db8::5"), group: ip("ff3e::8000:1"))

@Suite struct TunnelTests {
    @Test(arguments: [(DataFamily.ipv4, false), (.ipv4, true), (.ipv6, false), (.ipv6, true)])
    func joinAndLeave(family: DataFamily, outerIPv6: Bool) {
        let tunnel = Tunnel(family, outerIPv6: outerIPv6)
        let channel = family == .ipv4 ? channel4 : channel6
        let source = SocketAddress(channel.source ?? ip("0.0.0.0"), port: 5000)
        let isAccepted = tunnel.gateway.subscribe(channel, at: tunnel.now)
        #expect(isAccepted)
        tunnel.exchange()
        #expect(tunnel.events == [.relayFound(tunnel.relayAddress), .joined(tunnel.relayAddress)])
        #expect(tunnel.relay.endpointCount == 1)
        #expect(tunnel.upstream() == [.join(channel)])
        let payload: [UInt8] = [1, 2, 3, 4, 5]
        #expect(tunnel.data(from: source, to: SocketAddress(channel.group, port: 7000), payload) == payload)
        // Another source of the group is not forwarded, and would not be taken.
        let other = SocketAddress(family == .ipv4 ? ip("10.9.9.9") : ip("2001:db8::bad"), port: 5000)
        #expect(tunnel.data(from: other, to: SocketAddress(channel.group, port: 7000), payload) == nil)
        #expect(
            tunnel.deliver(udpPacket(from: other, to: SocketAddress(channel.group, port: 7000), payload)) == nil)
        #expect(tunnel.gateway.counters.notSubscribed == 1)
        tunnel.gateway.unsubscribe(channel, at: tunnel.now)
        tunnel.exchange()
        #expect(tunnel.upstream() == [.leave(channel)])
        tunnel.run(.seconds(300))
        #expect(tunnel.relay.endpointCount == 0 && tunnel.gateway.nextDeadline == .distantFuture)
    }

    @Test func refreshKeepsTheTunnel() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.run(.seconds(3600))
        #expect(tunnel.relay.endpointCount == 1 && tunnel.upstream() == [.join(channel4)])
        // Secrets change every hour: none was refused.
        tunnel.run(.seconds(3 * 3600))
        #expect(tunnel.relay.counters.invalidMAC == 0 && tunnel.relay.counters.endpointsOpened == 1)
    }

    @Test func silentGatewayExpires() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.isCut = true
        tunnel.run(.seconds(259))
        #expect(tunnel.relay.endpointCount == 1)
        tunnel.run(.seconds(2))
        #expect(tunnel.relay.endpointCount == 0 && tunnel.relay.counters.endpointsExpired == 1)
        #expect(tunnel.upstream() == [.join(channel4), .leave(channel4)])
    }

    /// A relay that forgot everything is asked again as soon as no data comes.
    @Test func relayRestarts() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        let source = address("10.2.2.1:1")
        #expect(tunnel.data(from: source, to: address("232.1.1.1:2"), [7]) == [7])
        tunnel.relay = Relay(seed: SeededRandom(seed: 99), at: tunnel.now)
        #expect(tunnel.data(from: source, to: address("232.1.1.1:2"), [7]) == nil)
        tunnel.run(.seconds(4))
        #expect(tunnel.events.contains(.silent))
        #expect(tunnel.data(from: source, to: address("232.1.1.1:2"), [7]) == [7])
    }

    @Test func lostMessagesAreSentAgain() {
        let tunnel = Tunnel()
        tunnel.isCut = true
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.run(.seconds(10))
        #expect(tunnel.gateway.counters.discoveriesSent >= 3)
        tunnel.isCut = false
        tunnel.run(.seconds(120))
        #expect(tunnel.gateway.isJoined)
    }

    /// Back-off: never more often than once a second, and at least every two minutes.
    @Test func backOff() {
        let tunnel = Tunnel()
        tunnel.isCut = true
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.run(.seconds(3600))
        #expect((30...300).contains(tunnel.gateway.counters.discoveriesSent))
    }

    @Test func deadRelayIsLookedForAnew() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.isCut = true
        tunnel.run(.seconds(300))
        #expect(!tunnel.gateway.isJoined && tunnel.gateway.counters.discoveriesSent > 1)
        tunnel.isCut = false
        tunnel.run(.seconds(121))
        #expect(tunnel.gateway.isJoined && tunnel.destinations("10.2.2.1", "232.1.1.1") == [tunnel.gatewayAddress])
    }

    /// A translator gives the gateway another port: the old tunnel is torn down by the new Query's fields.
    @Test func rebinding() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.gatewayAddress.port = 40_001
        tunnel.run(.seconds(61))
        #expect(tunnel.destinations("10.2.2.1", "232.1.1.1") == [tunnel.gatewayAddress])
        #expect(tunnel.relay.counters.endpointsTornDown == 1 && tunnel.relay.endpointCount == 1)
    }

    @Test func stopTearsDown() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        tunnel.gateway.stop(at: tunnel.now)
        tunnel.exchange()
        #expect(tunnel.relay.endpointCount == 0)
    }

    /// A Linux relay hears P at 0x80 only, and nothing with E.
    @Test func linuxRelay() {
        var gateway = Gateway(
            discovery: address("198.51.100.1:2268"), family: .ipv6, seed: SeededRandom(seed: 3))
        gateway.subscribe(channel6, at: seconds(0))
        guard case .discovery(let nonce) = gateway.nextDatagram().flatMap({ Message($0.bytes) }) else {
            Issue.record("no discovery")
            return
        }
        let found = Message.advertisement(nonce: nonce, relay: ip("198.51.100.1")).bytes
        _ = gateway.datagramReceived(found.span, from: gateway.discovery ?? address("192.0.2.1:2268"), at: seconds(0))
        var flags: [UInt8] = []
        for _ in 0..<3 {
            while let (bytes, _) = gateway.nextDatagram() { flags.append(bytes[1]) }
            gateway.timerFired(at: gateway.nextDeadline)
        }
        #expect(flags == [0x03, 0x80, 0x01])
    }

    @Test func strangersAreNotHeard() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        let packet = udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7])
        #expect(tunnel.deliver(packet, from: address("203.0.113.9:2268")) == nil)
        #expect(tunnel.deliver(packet, from: address("198.51.100.1:2269")) == nil)
        #expect(tunnel.gateway.counters.unexpected == 2)
        #expect(tunnel.deliver(packet) == [7])
    }

    @Test func damagedDataIsDropped() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        let packet = udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7, 8, 9])
        for index in [0, 2, 8, 10, 12, 24, 30] {
            var damaged = packet
            damaged[index] ^= 0x10
            #expect(tunnel.deliver(damaged) == nil, "octet \(index)")
        }
        #expect(tunnel.deliver(Array(packet.dropLast())) == nil)
        let bare = udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [7, 8, 9], hasChecksum: false)
        #expect(tunnel.deliver(bare) == [7, 8, 9])
    }

    @Test(arguments: [[0, 1, 2], [2, 1, 0], [1, 1, 2, 0, 0]])
    func fragments(order: [Int]) {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        let payload = (0..<2500).map { UInt8(truncatingIfNeeded: $0) }
        let whole = udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), payload)
        let pieces = [0..<1000, 1000..<2000, 2000..<2508].map { range in
            fragment(whole, range, isLast: range.upperBound == 2508)
        }
        var results: [[UInt8]] = []
        for index in order { if let result = tunnel.deliver(pieces[index]) { results.append(result) } }
        #expect(results == [payload])
    }

    private func fragment(_ packet: [UInt8], _ range: Range<Int>, isLast: Bool) -> [UInt8] {
        var header = Array(packet[0..<20])
        let length = 20 + range.count
        let position = UInt16(range.lowerBound / 8) | (isLast ? 0 : 0x2000)
        for (index, value) in [(2, UInt16(length)), (4, 77), (6, position), (10, 0)] {
            header[index] = UInt8(value >> 8)
            header[index + 1] = UInt8(value & 255)
        }
        var sum = InternetChecksum()
        sum.add(header.span)
        header[10] = UInt8(sum.value >> 8)
        header[11] = UInt8(sum.value & 255)
        return header + packet[20...][(20 + range.lowerBound)..<(20 + range.upperBound)]
    }

    /// Half-sent packets take no more than their bound.
    @Test func fragmentsAreBounded() {
        var reassembly = Reassembly()
        var header = try? IPHeader(udpPacket(from: address("10.2.2.1:1"), to: address("232.1.1.1:2"), [1]).span)
        for number: UInt32 in 0..<100 {
            header?.fragment = IPHeader.Fragment(identification: number, offset: 0, hasMore: true)
            let piece = [UInt8](repeating: 1, count: 8)
            guard let header else { continue }
            let whole = reassembly.add(header, piece.span, at: seconds(1))
            #expect(whole == nil)
        }
        #expect(reassembly.dropped == 100 - UInt64(Reassembly.packetLimit))
    }

    @Test func limitedRelay() {
        let tunnel = Tunnel()
        tunnel.relay.drain()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        #expect(tunnel.events.contains(.limited))
    }

    /// A relay that begins to drain reaches those it serves with their next Query, and they hear it once.
    @Test func limitedWhileServed() {
        let tunnel = Tunnel()
        tunnel.gateway.subscribe(channel4, at: tunnel.now)
        tunnel.exchange()
        #expect(tunnel.gateway.isJoined && !tunnel.events.contains(.limited))
        tunnel.relay.drain()
        tunnel.run(.seconds(400))
        #expect(tunnel.events.filter { $0 == .limited }.count == 1)
        #expect(tunnel.gateway.isJoined && tunnel.relay.endpointCount == 1)
    }
}
