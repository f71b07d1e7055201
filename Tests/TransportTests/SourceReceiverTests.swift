import Cryptography
import Flexicast
import Logging
import Objects
import QUIC
import Reactor
import Testing
import Wire

@testable import Transport

/// A source and its receivers in one process, on one reactor, without a flow.
@Suite struct SourceReceiverTests {
    private func quiet() -> Logger {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        return logger
    }

    /// A receiver that has gone is forgotten only after its draining period, within a call of its own timer.
    @Test(arguments: [Reactor.IO.epoll, .ioUring])
    func receiversComeAndGo(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let loopback = SocketAddress(.v4(0x7f00_0001), port: 0)
        let listen = try reactor.udpSocket(bind: loopback)
        let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
        let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        let source = SourceEndpoint(
            listen: listen, tls: server,
            server: FlowServer(
                flow: nil, log: memoryLog(), configuration: FlowServerConfiguration(history: 10), seed: randomSeed(),
                wallClock: wallClock(),
                at: reactor.now),
            sender: nil, reactor: reactor, log: quiet())
        try source.publish(Array("an item".utf8))
        for _ in 0..<3 {
            let receiver = try Receiver(
                to: listen.localAddress, serverName: "127.0.0.1", tls: client, usesFlow: false, access: FlowAccess(),
                reactor: reactor, log: quiet())
            var items: [[UInt8]] = []
            receiver.onEvent = { event in
                if case .object(let item) = event { items.append(Array(item.body)) }
            }
            receiver.start()
            #expect(turn(reactor) { !items.isEmpty })
            #expect(items == [Array("an item".utf8)])
            receiver.onEvent = { _ in }
            receiver.close()
            #expect(turn(reactor) { source.listener.peers.isEmpty }, "the connection is forgotten")
            receiver.release()
        }
        source.close()
    }

    /// A source on [::] serves receivers of either IP version.
    @Test(arguments: [Reactor.IO.epoll, .ioUring], ["127.0.0.1", "::1"])
    func bothVersionsReachOneSource(io: Reactor.IO, address: String) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var options = UDPOptions()
        options.onlyIPv6 = false
        let listen = try reactor.udpSocket(bind: SocketAddress(.v6(0), port: 0), options: options)
        let (source, items, receiver) = try serve(
            [Array("an item".utf8)], listen: listen, at: try #require(IPAddress(address)),
            configuration: FlowServerConfiguration(history: 10), reactor: reactor
        )
        #expect(turn(reactor) { items.octets.count == 1 })
        receiver.close()
        source.close()
    }

    /// However long the history is that the source was asked to keep, a receiver gets all of it.
    @Test func aLongHistoryIsNoSignOfASlowReceiver() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let count = 5000
        let listen = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
        let (source, items, receiver) = try serve(
            (0..<count).map { Array("item \($0)".utf8) }, listen: listen, at: .v4(0x7f00_0001),
            configuration: FlowServerConfiguration(history: count),
            reactor: reactor)
        #expect(turn(reactor, for: .seconds(60)) { items.octets.count == count })
        receiver.close()
        source.close()
    }

    /// Nor is it one that a feed has very many new items at once.
    @Test func aBurstIsNoSignOfASlowReceiver() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let count = 5000
        let listen = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
        let (source, items, receiver) = try serve(
            [], listen: listen, at: .v4(0x7f00_0001), configuration: FlowServerConfiguration(history: 0),
            reactor: reactor)
        #expect(turn(reactor) { source.counts.receivers == 1 })
        for number in 0..<count { try source.publish(Array("item \(number)".utf8)) }
        #expect(turn(reactor, for: .seconds(60)) { items.octets.count == count || source.counts.receivers == 0 })
        #expect(items.octets.count == count)
        #expect(source.counts.receiversLetGo == 0)
        receiver.close()
        source.close()
    }

    /// An Initial packet that nobody can open costs nothing that lasts.
    @Test func junkLeavesNothingBehind() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let listen = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
        let (source, items, receiver) = try serve(
            [Array("an item".utf8)], listen: listen, at: .v4(0x7f00_0001),
            configuration: FlowServerConfiguration(history: 10), reactor: reactor)
        let stranger = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
        for number in UInt8(0)..<200 {
            let header: [UInt8] = [0xc0, 0, 0, 0, 1, 8, number, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0x44, 0x90]
            let junk = header + [UInt8](repeating: number, count: 1200 - header.count)
            _ = stranger.withSendBuffer(junk.count) { buffer in
                for index in junk.indices { buffer[index] = junk[index] }
            }
            stranger.enqueue(junk.count, to: listen.localAddress)
        }
        #expect(turn(reactor) { source.listener.counters.unauthentic == 200 && items.octets.count == 1 })
        #expect(source.listener.peers.count == 1)
        // None of them was taken for a handshake under way, which would have called for Retry packets.
        #expect(source.listener.admission.counters.retries == 0)
        receiver.close()
        source.close()
    }

    /// Stands between a receiver and its source, and keeps the first datagram.
    private final class Middle: DatagramHandler {
        let socket: UDPSocket
        let source: SocketAddress
        var receiver: SocketAddress?
        var first: [UInt8] = []

        init(_ socket: UDPSocket, source: SocketAddress) {
            self.socket = socket
            self.source = source
            socket.handler = self
        }

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count {
                let from = batch.source(index)
                let datagram = batch[index]
                let bytes = [UInt8](datagram.span)
                if from == source, let receiver {
                    send(bytes, to: receiver)
                } else {
                    receiver = from
                    if first.isEmpty { first = bytes }
                    send(bytes, to: source)
                }
            }
        }

        func socketBecameWritable(_ socket: UDPSocket) {}

        func send(_ bytes: [UInt8], to address: SocketAddress) {
            _ = socket.withSendBuffer(bytes.count) { buffer in
                for index in bytes.indices { buffer[index] = bytes[index] }
            }
            socket.enqueue(bytes.count, to: address)
        }
    }

    /// The network may deliver a client's first packet once more, long after the handshake: that is no new client.
    @Test func aLateDuplicateOpensNothing() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let loopback = SocketAddress(.v4(0x7f00_0001), port: 0)
        let listen = try reactor.udpSocket(bind: loopback)
        let middle = Middle(try reactor.udpSocket(bind: loopback), source: listen.localAddress)
        let (source, items, receiver) = try serve(
            [Array("an item".utf8)], listen: listen, at: .v4(0x7f00_0001),
            configuration: FlowServerConfiguration(history: 10), reactor: reactor,
            by: middle.socket.localAddress)
        #expect(turn(reactor) { items.octets.count == 1 })
        let before = source.counts.packetsRejected
        middle.send(middle.first, to: listen.localAddress)
        #expect(turn(reactor) { source.listener.counters.accepted > 1 || source.counts.packetsRejected > before })
        #expect(source.listener.counters.accepted == 1)
        // As soon as its connection has ended nothing is kept of it.
        receiver.close()
        #expect(turn(reactor) { source.listener.peers.isEmpty })
        middle.send(middle.first, to: listen.localAddress)
        #expect(turn(reactor) { source.listener.counters.accepted == 2 })
        source.close()
    }

    /// Whoever takes nothing holds nobody up, costs no more than what is kept anyway, and learns that what it missed is gone.
    @Test func aReceiverThatTakesNothingIsToldWhatItMissed() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let elsewhere = try Reactor(io: .epoll)
        defer { elsewhere.close() }
        let listen = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
        let (source, items, receiver) = try serve(
            [[UInt8](repeating: 1, count: 200_000)], listen: listen, at: .v4(0x7f00_0001),
            configuration: FlowServerConfiguration(history: 1), retention: Retention(octets: 400_000), reactor: reactor)
        #expect(turn(reactor) { items.octets.count == 1 })
        let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        let idle = try Receiver(
            to: listen.localAddress, serverName: "127.0.0.1", tls: client, usesFlow: false, access: FlowAccess(),
            reactor: elsewhere, log: quiet())
        var taken = 0
        var gaps: [Gap] = []
        idle.onEvent = { event in
            switch event {
            case .object: taken += 1
            case .gap(let gap): gaps.append(gap)
            default: break
            }
        }
        idle.start()
        let end = reactor.now + .seconds(10)
        while source.counts.receivers < 2, reactor.now < end {
            elsewhere.turn(timeout: .milliseconds(1))
            reactor.turn(timeout: .milliseconds(1))
        }
        #expect(source.counts.receivers == 2)
        // From here on the idle one is asleep.
        for count in 1...8 {
            try source.publish([UInt8](repeating: UInt8(count), count: 150_000))
            #expect(turn(reactor) { items.octets.count == 1 + count })
            #expect(source.server.log.octetCount <= 400_000)
        }
        let late = reactor.now + .seconds(10)
        while gaps.isEmpty || taken + Int(gaps[0].count) < 9, reactor.now < late {
            elsewhere.turn(timeout: .milliseconds(1))
            reactor.turn(timeout: .milliseconds(1))
        }
        // What is not kept any more is told by numbers, the rest comes.
        #expect(gaps.count == 1 && gaps[0].reason == .retention)
        #expect(taken + Int(gaps[0].count) == 9 && taken >= 3)
        #expect(source.counts.partsGone == Int(gaps[0].count) && source.counts.receivers == 2)
        #expect(items.octets.map(\.count) == [200_000] + [Int](repeating: 150_000, count: 8))
        receiver.close()
        idle.close()
        source.close()
    }

    /// A client that states no position in time gets what is published from then on, whether there is a flow or not: with
    /// time alone, as nothing else happens at the source.
    @Test(arguments: [false, true]) func whoStatesNoPositionIsServed(hasFlow: Bool) throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let loopback = SocketAddress(.v4(0x7f00_0001), port: 0)
        let listen = try reactor.udpSocket(bind: loopback)
        let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
        let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        var options = FlowOptions()
        options.replicates = hasFlow
        let (flow, sender) = try makeFlow(options, listen: listen, reactor: reactor)
        var configuration = FlowServerConfiguration()
        configuration.positionTime = .milliseconds(200)
        configuration.hasGroup = false
        let source = SourceEndpoint(
            listen: listen, tls: server,
            server: FlowServer(
                flow: flow, log: memoryLog(), configuration: configuration, seed: randomSeed(), wallClock: wallClock(),
                at: reactor.now),
            sender: sender, reactor: reactor, log: quiet())
        var random = randomSeed()
        let socket = try reactor.udpSocket(bind: loopback)
        let connection = try SecureConnection(
            client: .receiver(usesFlow: false), tls: client, serverName: "127.0.0.1",
            to: listen.localAddress, localID: try #require(ConnectionID(random.octets(8))), token: [], resume: nil,
            seed: SeededRandom(from: &random), at: reactor.now)
        let peer = Peer(connection, extension: ReceivedFrames(), socket: socket, reactor: reactor)
        socket.handler = peer
        var parts = 0
        peer.onEvent = { [unowned peer] event in
            guard case .streamReadable(let id) = event,
                case .whole = peer.connection.machine.gather(id)
            else { return }
            parts += 1
        }
        peer.pump()
        #expect(turn(reactor) { source.counts.receivers == 1 })
        try source.publish([1, 2, 3])
        #expect(turn(reactor, for: .seconds(5)) { parts == 1 })
        peer.onEvent = { _ in }
        source.close()
    }

    private final class Items {
        var octets: [[UInt8]] = []
    }

    /// A source that has published `items`, and a receiver that has just started.
    private func serve(
        _ items: [[UInt8]], listen: UDPSocket, at address: IPAddress, configuration: FlowServerConfiguration,
        retention: Retention = Retention(), reactor: Reactor, by way: SocketAddress? = nil
    ) throws -> (SourceEndpoint, Items, Receiver) {
        let server = try TLSContext.server(selfSignedFor: ["\(address)"], alpn: [applicationProtocol])
        let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        let source = SourceEndpoint(
            listen: listen, tls: server,
            server: FlowServer(
                flow: nil, log: memoryLog(retention: retention), configuration: configuration, seed: randomSeed(),
                wallClock: wallClock(),
                at: reactor.now),
            sender: nil, reactor: reactor, log: quiet())
        for item in items { try source.publish(item) }
        let receiver = try Receiver(
            to: way ?? SocketAddress(address, port: listen.localAddress.port), serverName: "\(address)", tls: client,
            usesFlow: false, access: FlowAccess(), reactor: reactor, log: quiet())
        let received = Items()
        receiver.onEvent = { event in
            if case .object(let item) = event { received.octets.append(Array(item.body)) }
        }
        receiver.start()
        return (source, received, receiver)
    }

    /// Lets the reactor work until `condition` holds, ten seconds at the most.
    private func turn(_ reactor: Reactor, for limit: Duration = .seconds(10), until condition: () -> Bool) -> Bool {
        let end = reactor.now + limit
        while !condition(), reactor.now < end { reactor.turn(timeout: .milliseconds(10)) }
        return condition()
    }
}
