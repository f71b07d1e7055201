import QUIC
import Testing
import Wire

@Suite("Connections")
struct ConnectionTests {
    /// Octets that differ at every offset of a stream, so that a misplaced one shows.
    static func pattern(_ count: Int, _ seed: UInt64) -> [UInt8] {
        var random = SeededRandom(seed: seed)
        return random.octets(count)
    }

    /// Sends `bytes` on a stream of the client's and returns what the server read.
    static func transfer(_ bytes: [UInt8], over pair: inout ClearPair) throws -> [UInt8] {
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, bytes, fin: true)
        var received: [UInt8] = []
        var finished = false
        let limit = pair.now + .seconds(300)
        while !finished, pair.now < limit, pair.client.isActive, pair.server.isActive {
            pair.run(until: { pair in
                pair.serverEvents.contains { if case .streamReadable = $0 { true } else { false } }
            })
            pair.serverEvents.removeAll()
            while let chunk = pair.server.read(stream) {
                #expect(chunk.offset == UInt64(received.count))
                received += chunk.bytes
                finished = chunk.isFinished
                if finished { break }
            }
        }
        return received
    }

    @Test func transfersWholeStreams() throws {
        var pair = ClearPair()
        pair.handshake()
        let bytes = Self.pattern(1_000_000, 7)
        #expect(try Self.transfer(bytes, over: &pair) == bytes)
        #expect(pair.client.statistics.packetsLost == 0)
    }

    /// Ten per cent lost each way, in ten different patterns: everything arrives once and in order.
    @Test(arguments: UInt64(1)...10)
    func survivesLoss(_ seed: UInt64) throws {
        var pair = ClearPair(seed: seed)
        pair.handshake()
        pair.drop = { fromClient, index in
            var random = SeededRandom(seed: (seed, UInt64(index), fromClient ? 1 : 0, 0))
            return random.next() % 10 == 0
        }
        let bytes = Self.pattern(200_000, seed)
        #expect(try Self.transfer(bytes, over: &pair) == bytes)
        #expect(pair.client.statistics.packetsLost > 0)
    }

    /// Each of the first datagrams lost in turn: the handshake completes all the same.
    @Test(arguments: 0..<6, [true, false])
    func handshakeSurvivesALoss(_ lost: Int, _ ofClient: Bool) {
        var pair = ClearPair(validated: false)
        pair.drop = { fromClient, index in fromClient == ofClient && index == lost }
        pair.handshake()
        #expect(pair.client.isHandshakeConfirmed == true)
        #expect(pair.server.isHandshakeConfirmed == true)
    }

    /// RFC 9000 section 8.1: before the address is validated, never more than three times what came.
    @Test func amplificationLimit() {
        var pair = ClearPair(validated: false)
        pair.client.queueHandshakeBytes(Array("hello".utf8), at: .initial)
        let first = ClearPair.transmit(&pair.client, at: pair.now)!
        #expect(first.0.count == 1200)
        ClearPair.deliver(first.0, first.1, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.server.writeKeysInstalled(.handshake)
        pair.server.queueHandshakeBytes([UInt8](repeating: 1, count: 30_000), at: .handshake)
        var sent = 0
        for _ in 0..<40 {
            while let datagram = ClearPair.transmit(&pair.server, at: pair.now) { sent += datagram.0.count }
            if pair.server.nextDeadline < .distantFuture {
                pair.now = max(pair.now, pair.server.nextDeadline)
                pair.server.timerFired(at: pair.now)
            }
            if !pair.server.isActive { break }
        }
        #expect(sent > 1200)
        #expect(sent <= 3 * 1200)
    }

    @Test func keyUpdateBothWays() throws {
        var pair = ClearPair()
        pair.handshake()
        #expect(try Self.transfer([1, 2, 3], over: &pair) == [1, 2, 3])
        let updated = pair.client.updateKeys()
        #expect(updated)
        // Not again before the first is acknowledged (RFC 9001 section 6.1).
        let again = pair.client.updateKeys()
        #expect(!again)
        #expect(pair.client.keyGeneration == 1)
    }

    @Test func idleTimeoutEndsBothEnds() {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxIdleTimeout = .seconds(5)
        var pair = ClearPair(client: configuration)
        pair.handshake()
        pair.run(for: .seconds(12))
        #expect(pair.clientEvents.closeReason == .idleTimeout)
        #expect(pair.serverEvents.closeReason == .idleTimeout)
    }

    @Test func keepAliveHoldsAConnectionOpen() {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxIdleTimeout = .seconds(5)
        configuration.keepAlive = .seconds(2)
        var pair = ClearPair(client: configuration)
        pair.handshake()
        for _ in 0..<6 { pair.run(for: .seconds(10)) }
        #expect(pair.client.isActive && pair.server.isActive)
    }

    /// While the peer is silent it is asked every second, though probes come ever more rarely; one that answers is not.
    @Test func aSilentPeerIsAskedOften() throws {
        var configuration = ConnectionConfiguration()
        configuration.keepAlive = .seconds(10)
        configuration.unansweredKeepAlive = .seconds(1)
        var pair = ClearPair(client: configuration)
        pair.handshake()
        let stream = try pair.client.openStream(bidirectional: false)
        // Two in a round trip: the second is sent while nothing has answered the first.
        try pair.client.write(stream, [1], fin: false)
        _ = ClearPair.transmit(&pair.client, at: pair.now)
        try pair.client.write(stream, [2], fin: false)
        pair.pump()
        pair.run(for: .seconds(3))
        let before = pair.client.statistics.datagramsSent
        pair.run(for: .seconds(6))
        // A keep-alive may fall into it.
        #expect(pair.client.statistics.datagramsSent <= before + 1)

        // From now on nothing reaches the server.
        try pair.client.write(stream, [3], fin: false)
        var sent: [Instant] = []
        let end = pair.now + .seconds(20)
        while pair.now < end {
            if pair.client.nextDeadline <= pair.now { pair.client.timerFired(at: pair.now) }
            while ClearPair.transmit(&pair.client, at: pair.now) != nil { sent.append(pair.now) }
            pair.now += .milliseconds(10)
        }
        let gaps = zip(sent.dropFirst(), sent).map { $0 - $1 }
        #expect(sent.count >= 19)
        #expect(gaps.allSatisfy { $0 <= .milliseconds(1010) }, "\(gaps)")
    }

    @Test func aNATRebindingIsFollowedAndValidated() throws {
        var pair = ClearPair()
        pair.handshake()
        let moved = SocketAddress("192.0.2.1:6000")!
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [9], fin: true)
        let datagram = ClearPair.transmit(&pair.client, at: pair.now)!
        ClearPair.deliver(datagram.0, datagram.1, from: moved, to: &pair.server, at: pair.now)
        #expect(pair.server.remoteAddress == moved)
        // The new address is challenged, and what is sent there before it answers is bounded.
        let answer = ClearPair.transmit(&pair.server, at: pair.now)!
        ClearPair.deliver(answer.0, answer.1, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        let response = ClearPair.transmit(&pair.client, at: pair.now)!
        ClearPair.deliver(response.0, response.1, from: moved, to: &pair.server, at: pair.now)
        pair.pump()
        #expect(pair.server.isActive == true)
        #expect(pair.server.remoteAddress == moved)
    }

    /// RFC 9000 section 9: a client takes nothing from another address than its server's.
    @Test func aClientStaysWithItsServer() {
        var pair = ClearPair()
        pair.handshake()
        for (address, isActive) in [(SocketAddress("203.0.113.9:443")!, true), (ClearPair.serverAddress, false)] {
            ClearPair.inject([0x1c, 0, 0, 0], number: 1000, from: address, to: &pair.client, at: pair.now)
            #expect(pair.client.isActive == isActive)
        }
    }

    /// An attacker who can only copy packets to another address does not get the connection (RFC 9000 section 9.3.2).
    @Test func aSpoofedMigrationIsTakenBack() throws {
        var pair = ClearPair()
        pair.handshake()
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [9], fin: true)
        let datagram = ClearPair.transmit(&pair.client, at: pair.now)!
        ClearPair.deliver(
            datagram.0, datagram.1, from: SocketAddress("203.0.113.9:1")!, to: &pair.server, at: pair.now)
        // What the server sends to the attacker never reaches the client.
        let limit = pair.now + .seconds(20)
        while pair.server.remoteAddress != ClearPair.clientAddress, pair.now < limit {
            while ClearPair.transmit(&pair.server, at: pair.now) != nil {}
            pair.now = max(pair.now + .milliseconds(1), min(pair.server.nextDeadline, limit))
            pair.server.timerFired(at: pair.now)
        }
        #expect(pair.server.remoteAddress == ClearPair.clientAddress)
        #expect(pair.server.isActive == true)
    }

    @Test func datagramsArrive() {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxDatagramFrameSize = 1200
        var pair = ClearPair(client: configuration, server: configuration)
        pair.handshake()
        let small = pair.client.sendDatagram([1, 2, 3])
        let large = pair.client.sendDatagram([UInt8](repeating: 0, count: 1500))
        #expect(small && !large)
        pair.run(for: .milliseconds(100))
        let got = pair.serverEvents.contains { if case .datagram([1, 2, 3], .unicast) = $0 { true } else { false } }
        #expect(got)
        #expect(pair.client.statistics.datagramFramesRefused == 1 && pair.client.statistics.datagramFramesDropped == 0)
    }

    /// RFC 9221 section 3: nobody is sent datagrams that it has not asked for, or larger ones, and who sends them closes.
    @Test func datagramsAreSentToWhoTakesThem() {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxDatagramFrameSize = 10
        var pair = ClearPair(server: configuration)
        var isSent = pair.client.sendDatagram([1])
        #expect(!isSent, "the server has said nothing yet")
        pair.handshake()
        // Type and length come on top.
        isSent = pair.client.sendDatagram([UInt8](repeating: 1, count: 8))
        #expect(isSent)
        isSent = pair.client.sendDatagram([UInt8](repeating: 1, count: 9))
        #expect(!isSent)
        isSent = pair.server.sendDatagram([1])
        #expect(!isSent, "the client takes none")
        for (octets, isRefused) in [(9, false), (10, true)] {
            let frame = [0x30] + [UInt8](repeating: 1, count: octets)
            ClearPair.inject(
                frame, number: 1000 + UInt64(octets), from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
            #expect(pair.server.isActive == !isRefused)
        }
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .protocolViolation)
    }

    /// RFC 9001 sections 4.9.1 and 4.9.2.
    @Test func keysAreDiscardedInTime() {
        func discarded(_ events: [ConnectionEvent]) -> [ProtectionLevel] {
            events.compactMap { if case .discardKeys(let level) = $0 { level } else { nil } }
        }
        // A server's first Handshake packet comes in, a client's goes out.
        var pair = ClearPair()
        ClearPair.inject(
            [0x01], level: .handshake, number: 0, source: pair.client.localConnectionIDs[0],
            from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.client.writeKeysInstalled(.handshake)
        pair.client.queueHandshakeBytes([1], at: .handshake)
        pair.pump()
        #expect(discarded(pair.serverEvents) == [.initial] && discarded(pair.clientEvents) == [.initial])
        pair.server.queueHandshakeBytes([1], at: .initial)
        while let (_, plans) = ClearPair.transmit(&pair.server, at: pair.now) {
            #expect(!plans.contains { $0.level == .initial })
        }
        pair.server.handshakeCompleted(at: pair.now)
        pair.pump()
        #expect(discarded(pair.serverEvents) == [.initial, .handshake])
    }

    /// RFC 9001 section 6.1.
    @Test func keysAreNotUpdatedBeforeTheHandshakeIsConfirmed() {
        var pair = ClearPair()
        var isUpdated = pair.client.updateKeys()
        #expect(!isUpdated)
        pair.handshake()
        isUpdated = pair.client.updateKeys()
        #expect(isUpdated)
    }

    @Test func thePathMTUIsFound() {
        var pair = ClearPair()
        pair.handshake()
        pair.run(for: .seconds(2))
        #expect(pair.client.datagramSize == 1452)
        #expect(pair.server.datagramSize == 1452)
    }

    /// Random octets as payload, at every level, never trap and never do worse than close the connection.
    @Test(arguments: [Role.client, .server]) func noPayloadTraps(of victim: Role) {
        var random = SeededRandom(seed: 99)
        for round in 0..<300 {
            var configuration = ConnectionConfiguration()
            configuration.parameters.initialMaxPathID = 4
            configuration.parameters.maxDatagramFrameSize = 100
            if round & 1 == 0 {
                // The streams are those of a flow, which the client listens to.
                configuration.parameters.others[0xedf3] = [1, 1]
                configuration.extensionParameter = 0xedf3
            }
            var pair = ClearPair(seed: UInt64(round), client: configuration, server: configuration)
            pair.handshake()
            pair.client.openReceivePath(1, ackDelay: .milliseconds(1), phase: .zero)
            var target = victim == .client ? pair.client : pair.server
            let sender = victim == .client ? ClearPair.serverAddress : ClearPair.clientAddress
            for number in 0..<50 where target.isActive {
                var payload = random.octets(Int(random.next() % 60) + 1)
                // Half of them begin like a frame that exists.
                if random.next() & 1 == 0 { payload[0] = UInt8(random.next() % 0x40) }
                if random.next() & 1 == 0 {
                    ClearPair.inject(payload, number: 1000 + UInt64(number), from: sender, to: &target, at: pair.now)
                } else {
                    var none = NoExtension()
                    let datagram = random.octets(13) + payload + random.octets(16)
                    let run = RunPlan(
                        start: 0, packetSize: datagram.count, end: datagram.count, headerLength: 9,
                        firstPacketNumber: random.next() & Varint.max, keyGeneration: 0)
                    target.flowPacketsReceived(
                        pathID: 1, run, in: datagram.span, ecn: .ce, at: pair.now, extension: &none)
                }
                pair.now += .milliseconds(1)
                target.timerFired(at: pair.now)
                while ClearPair.transmit(&target, at: pair.now) != nil {}
                while let event = target.nextEvent() {
                    if case .streamReadable(let id) = event { while target.read(id) != nil {} }
                }
            }
        }
    }
}
