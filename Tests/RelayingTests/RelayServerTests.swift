import AMT
import Glibc
import Logging
import Reactor
import Testing
import Wire

@testable import Relaying
@testable import Transport

/// A relay, gateways, and a source of multicast on the loopback interface, all on one reactor.
private final class RelayStage: TunnelHandler {
    struct Packet: Equatable {
        var payload: [UInt8]
        var source: SocketAddress
        var hopLimit: UInt8
    }

    static let loopback = SocketAddress(.v4(0x7f00_0001), port: 0)

    let reactor: Reactor
    let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let group: SocketAddress
    let server: RelayServer
    let source: UDPSocket
    var relayAddress: SocketAddress { server.sockets[0].localAddress }
    /// What came out of tunnels.
    private(set) var packets: [Packet] = []

    init(
        _ group: SocketAddress, io: Reactor.IO = .epoll, isPlain: Bool = true, listen: SocketAddress = loopback,
        change: (inout RelayOptions) -> Void = { _ in }
    ) throws {
        self.group = group
        reactor = try Reactor(io: io)
        var options = RelayOptions(listen: [listen])
        options.upstream = "lo"
        if isPlain { options.groups = [group] }
        change(&options)
        server = try RelayServer(options, reactor: reactor, log: log)
        var udp = UDPOptions()
        udp.multicastInterface = "lo"
        udp.multicastTTL = 9
        udp.segment = false
        source = try reactor.udpSocket(bind: Self.loopback, options: udp)
    }

    deinit {
        server.close()
        reactor.close()
    }

    func send(_ payload: [UInt8]) {
        let isQueued = source.send(copyOf: payload.span, to: group)
        #expect(isQueued)
    }

    /// A tunnel to the relay that has joined the group, and has had the relay join it.
    func joinedTunnel() throws -> AMTTunnel {
        let tunnel = try AMTTunnel(
            relay: .at(relayAddress), source: nil, family: .ipv4, reactor: reactor, log: log)
        tunnel.subscribe(Channel(source: nil, group: group.address), port: group.port, handler: self)
        let hasJoined = turn(until: { tunnel.gateway.isJoined && server.relay.upstreamCount == 1 })
        #expect(hasJoined)
        return tunnel
    }

    /// Takes turns until `condition` holds, with work before each.
    func turn(for limit: Duration = .seconds(20), _ work: () -> Void = {}, until condition: () -> Bool) -> Bool {
        let end = Reactor.clock() + limit
        while !condition() {
            guard Reactor.clock() < end else { return false }
            work()
            reactor.turn(timeout: .milliseconds(5))
        }
        return true
    }

    func tunnelPacketReceived(
        _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN,
        hopLimit: UInt8
    ) {
        packets.append(Packet(payload: [UInt8](payload.span), source: source, hopLimit: hopLimit))
    }
    func tunnelBatchEnded() {}
}

/// What ships as `flexicast relay` and `flexicast gateway`, in one process.
@Suite(.serialized) struct RelayServerTests {
    private let payload = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }

    /// From the source through the tunnel, whole, though the tunnel takes less than a packet.
    @Test(arguments: [Reactor.IO.epoll, .ioUring])
    func packetsComeOutWhole(io: Reactor.IO) throws {
        let stage = try RelayStage(SocketAddress(.v4(0xef0a_0011), port: 5985), io: io) { $0.relay.tunnelMTU = 600 }
        let tunnel = try stage.joinedTunnel()
        defer { tunnel.close() }
        stage.send(payload)
        #expect(stage.turn { !stage.packets.isEmpty })
        // The original TTL is not told by an ordinary socket.
        #expect(
            stage.packets == [.init(payload: payload, source: stage.source.localAddress, hopLimit: 64)])
        // 1008 octets in fragments of at most 544: two.
        #expect(tunnel.gateway.counters.fragments == 2 && stage.server.relay.forwarding.packetsOut == 2)
        #expect(stage.server.metrics.text(.prometheus).contains("flexicast_relay_sent_packets_total 2\n"))
        #expect(stage.server.report.packetsIn == 1 && stage.server.report.packetsOut == 2)
    }

    /// Without `--mtu` a path is as wide as the interface it begins at: that of lo is 65 536, and datagrams end before.
    @Test func pathsAreAsWideAsTheInterface() throws {
        let group = SocketAddress(.v4(0xef0a_0017), port: 5979)
        let stage = try RelayStage(group)
        #expect(stage.server.relay.configuration.pathMTU(from: stage.relayAddress.address) == 65_535)
        let tunnel = try stage.joinedTunnel()
        defer { tunnel.close() }
        stage.send([UInt8](repeating: 7, count: 9000))
        #expect(stage.turn { !stage.packets.isEmpty })
        #expect(stage.packets.map(\.payload.count) == [9000] && stage.server.relay.forwarding.packetsOut == 1)
    }

    /// A relay with several addresses answers, and sends data, from the one that it was asked at: a translator on the way
    /// and the gateway take nothing else (RFC 7450 sections 5.3.3.2, 5.3.3.3 and 5.3.3.6.3).
    @Test func everythingComesFromWhereTheGatewayAsks() throws {
        let group = SocketAddress(.v4(0xef0a_0016), port: 5980)
        let stage = try RelayStage(group, listen: SocketAddress(.v4(0), port: 0))
        let place = SocketAddress(.v4(0x7f00_0058), port: stage.relayAddress.port)
        let tunnel = try AMTTunnel(
            relay: .at(place), source: nil, family: .ipv4, reactor: stage.reactor, log: stage.log)
        defer { tunnel.close() }
        tunnel.subscribe(Channel(source: nil, group: group.address), port: group.port, handler: stage)
        #expect(stage.turn { tunnel.gateway.isJoined && stage.server.relay.upstreamCount == 1 })
        #expect(tunnel.gateway.relay == place && stage.server.relay.counters.discoveries > 0)
        stage.send(payload)
        #expect(stage.turn { !stage.packets.isEmpty })
    }

    /// A packet off the wire keeps its headers and has a hop less; the relay takes several together when they come one by
    /// one in close order, without a system call of its own.
    @Test(.enabled(if: geteuid() == 0, "a packet socket takes root"), arguments: [Reactor.IO.epoll, .ioUring])
    func packetsAreCapturedAndGather(io: Reactor.IO) throws {
        let stage = try RelayStage(SocketAddress(.v4(0xef0a_0012), port: 5984), io: io, isPlain: false)
        let tunnel = try stage.joinedTunnel()
        defer { tunnel.close() }
        stage.send(payload)
        #expect(stage.turn { !stage.packets.isEmpty })
        #expect(
            stage.packets.first == .init(payload: payload, source: stage.source.localAddress, hopLimit: 8))
        #expect(tunnel.gateway.counters.fragments == 0)
        #expect(
            stage.turn {
                stage.send([1])
            } until: {
                stage.reactor.counters.gatherings > 0
            })
        let sent = stage.server.relay.forwarding.packetsOut
        #expect(stage.turn { stage.packets.count >= sent })
    }

    /// A gateway that was asked for three packets sends them on as datagrams and is done.
    @Test func aGatewayEndsWithWhatItWasAskedFor() throws {
        let stage = try RelayStage(SocketAddress(.v4(0xef0a_0013), port: 5983))
        let sink = try stage.reactor.udpSocket(bind: RelayStage.loopback)
        let ear = Ear()
        sink.handler = ear
        var options = GatewayOptions(
            relay: .at(stage.relayAddress),
            channels: [(Channel(source: nil, group: stage.group.address), stage.group.port)])
        options.to = sink.localAddress
        options.json = true
        options.count = 3
        let run = try GatewayRun(options, reactor: stage.reactor, log: stage.log)
        #expect(stage.turn { run.tunnels[0].gateway.isJoined && stage.server.relay.upstreamCount == 1 })
        for number in 0..<5 {
            stage.send([UInt8](repeating: UInt8(number), count: 100))
            #expect(stage.turn { stage.server.relay.forwarding.packetsOut == number + 1 })
        }
        #expect(stage.turn { ear.payloads.count == 3 })
        #expect(ear.payloads.map(\.first) == [0, 1, 2] && ear.payloads.allSatisfy { $0.count == 100 })
        #expect(run.received.map(\.packets) == [3])
        #expect(run.finish() == 0)
        #expect(stage.turn { stage.server.relay.endpointCount == 0 }, "it tells the relay that it goes")
    }

    /// Its exit status is 2 when less came.
    @Test func aGatewayThatGetsLessSaysSo() throws {
        let stage = try RelayStage(SocketAddress(.v4(0xef0a_0014), port: 5982))
        var options = GatewayOptions(
            relay: .at(stage.relayAddress),
            channels: [(Channel(source: nil, group: stage.group.address), stage.group.port)])
        options.json = true
        options.count = 1
        let run = try GatewayRun(options, reactor: stage.reactor, log: stage.log)
        #expect(stage.turn { run.tunnels[0].gateway.isJoined })
        #expect(run.finish() == 2)
    }

    /// A relay is found by the source's AMTRELAY record (RFC 8777 section 4), asked by a Relay Discovery, and told of.
    @Test func aRelayIsFound() throws {
        let place = IPAddress.v4(0x7f00_004e)
        let stage = try RelayStage(
            SocketAddress(.v4(0xef0a_0015), port: 5981), listen: SocketAddress(place, port: relayPort))
        let server = try stage.reactor.udpSocket(bind: RelayStage.loopback)
        // Precedence 10, discovery not optional, type 1, the address (RFC 8777 section 4.2).
        let names = StandInNameServer(data: [10, 1, 0x7f, 0, 0, 0x4e])
        server.handler = names
        var options = RelaySearchOptions()
        options.ways = [.sourceRecords]
        options.nameServers = [server.localAddress]
        options.domains = []
        let finder = RelayFinder(
            options, source: .v4(0x0a00_0009), reactor: stage.reactor, log: stage.log, packets: { 0 })
        defer { finder.close() }
        var found: [SocketAddress] = []
        finder.onRelay = { found.append($0) }
        finder.start()
        #expect(stage.turn { !found.isEmpty })
        #expect(found == [SocketAddress(place, port: relayPort)])
        // 9.0.0.10.in-addr.arpa, type 260, class 1.
        #expect(
            names.questions.first
                == [1, 0x39, 1, 0x30, 1, 0x30, 2, 0x31, 0x30, 7] + Array("in-addr".utf8) + [4] + Array("arpa".utf8)
                + [0, 1, 4, 0, 1])
        #expect(stage.server.relay.counters.discoveries > 0 && stage.server.relay.counters.requests == 0)
    }

    private final class Ear: DatagramHandler {
        private(set) var payloads: [[UInt8]] = []

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count { batch.withBytes(index) { payloads.append([UInt8]($0.span)) } }
        }
    }

    /// Answers every question with one AMTRELAY record, by RFC 1035 section 4.1.
    private final class StandInNameServer: DatagramHandler {
        private let data: [UInt8]
        private(set) var questions: [[UInt8]] = []

        init(data: [UInt8]) { self.data = data }

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count {
                let from = batch.source(index)
                var query: [UInt8] = []
                batch.withBytes(index) { query = [UInt8]($0.span) }
                // Behind the question is an OPT record of eleven octets.
                let question = Array(query[12..<(query.count - 11)])
                questions.append(question)
                let answer: [UInt8] =
                    query[..<2] + [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0] + question
                    + [0xc0, 12, 1, 4, 0, 1, 0, 0, 0, 60, 0, UInt8(data.count)] + data
                _ = socket.send(copyOf: answer.span, to: from)
            }
        }
    }
}
