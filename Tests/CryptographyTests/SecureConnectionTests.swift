import QUIC
import Testing
import Wire

@testable import Cryptography

@Suite struct SecureConnectionTests {
    static func contexts(_ suites: [CipherSuite] = CipherSuite.allCases) throws -> (TLSContext, TLSContext) {
        let server = try TLSContext.server(selfSignedFor: ["source.test"], alpn: ["test"], suites: suites)
        return (try TLSSessionTests.client(of: server, alpn: ["test"]), server)
    }

    /// Streams of these sizes go to the server and come back, whole.
    static func exchange(_ world: SecureWorld, sizes: [Int], seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        #expect(world.run { $0.client.isConnected })
        try #require(world.client.isConnected, "\(String(describing: world.client.closeReason))")
        var sent: [StreamID: [UInt8]] = [:]
        for size in sizes {
            let bytes = random.octets(size)
            sent[try world.write(bytes)] = bytes
        }
        let done = world.run {
            $0.client.finished.isSuperset(of: sent.keys) || $0.client.closeReason != nil
        }
        #expect(done, "stuck: only streams \(world.client.finished.map(\.rawValue)) came back")
        #expect(world.client.closeReason == nil)
        #expect(world.server?.closeReason == nil)
        for (id, bytes) in sent {
            // Not compared inside the macro, which would print every octet.
            let there = world.server?.received[id] == bytes
            let back = world.client.received[id] == bytes
            #expect(there, "stream \(id.rawValue) at the server")
            #expect(back, "stream \(id.rawValue) back at the client")
        }
    }

    @Test(arguments: CipherSuite.allCases) func exchange(suite: CipherSuite) throws {
        let (client, server) = try Self.contexts([suite])
        let world = try SecureWorld(seed: 1, client: client, server: server)
        try Self.exchange(world, sizes: [0, 1, 1000, 50_000], seed: 2)
        for end in [world.client.connection, try #require(world.server).connection] {
            #expect(end.suite == suite)
            #expect(end.alpn == "test")
            #expect(!end.isResumed)
            #expect(end.machine.isHandshakeConfirmed == true)
            #expect(end.counters.unopened == 0)
        }
        world.client.connection.machine.close(applicationCode: 7, reason: "done", at: world.now)
        #expect(world.run { $0.client.isDrained && $0.server?.isDrained == true })
        #expect(world.client.closeReason == .localApplication(code: 7, reason: "done"))
        #expect(world.server?.closeReason == .peerApplication(code: 7, reason: "done"))
    }

    /// A peer's words reach logs and terminals: nothing of them moves a cursor or turns the text around.
    @Test func aPeersReasonHoldsWhatIsPrintedAlone() throws {
        let (client, server) = try Self.contexts([.aes128GCM])
        let world = try SecureWorld(seed: 1, client: client, server: server)
        try Self.exchange(world, sizes: [10], seed: 2)
        world.client.connection.machine.close(
            applicationCode: 7, reason: "a\u{1b}[2J\u{9b}1m\u{7f}\u{85}\u{2028}\u{202e}\u{0}b \u{e9}\n", at: world.now)
        #expect(world.run { $0.client.isDrained && $0.server?.isDrained == true })
        #expect(world.server?.closeReason == .peerApplication(code: 7, reason: "a[2J1mb \u{e9}"))
    }

    @Test(arguments: 1...12) func lossAndDisorder(seed: UInt64) throws {
        let (client, server) = try Self.contexts([CipherSuite.allCases[Int(seed % 3)]])
        var patient = ConnectionConfiguration()
        patient.handshakeTimeout = .seconds(55)
        patient.parameters.maxIdleTimeout = .seconds(60)
        let world = try SecureWorld(
            seed: seed, client: client, server: server, clientConfiguration: patient, serverConfiguration: patient)
        world.network.loss = [0.02, 0.1, 0.25][Int(seed / 3 % 3)]
        world.network.duplication = 0.05
        world.network.corruption = 0.02
        world.network.jitter = .milliseconds(8)
        try Self.exchange(world, sizes: [100, 3000, 20_000, 40_000], seed: seed)
    }

    /// RFC 9002 section 6.2.4: a probe carries what all levels still wait for.
    @Test func serverProbesWithItsWholeFlight() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 30, client: client, server: server)
        var fromClient = 0
        world.drop = { [unowned world] toServer, _ in
            if toServer { fromClient += 1 }
            return toServer ? fromClient == 2 : world.now < SecureWorld.start + .milliseconds(500)
        }
        #expect(world.run { $0.client.isConnected })
        // Its probe timeout is three times the initial round trip of 333 ms.
        #expect(world.now < SecureWorld.start + .milliseconds(1100))
    }

    /// RFC 9002 section 6.2.3: who hears the other's handshake again answers at once.
    @Test func repeatedHelloIsAnsweredBeforeTheProbe() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 30, client: client, server: server)
        world.drop = { [unowned world] toServer, _ in !toServer && world.now < SecureWorld.start + .milliseconds(500) }
        // The server gets the first hello late, so that the second comes before its own timeout.
        world.network.delay = .milliseconds(300)
        world.pump()
        world.network.delay = .milliseconds(10)
        #expect(world.run { $0.client.isConnected })
        #expect(world.now < SecureWorld.start + .milliseconds(1100))
    }

    /// RFC 9000 section 13.2.5: the wait for keys is part of the acknowledgement delay, not of the round trip.
    @Test func waitForKeysIsNoRoundTrip() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 31, client: client, server: server)
        world.drop = { [unowned world] toServer, bytes in
            toServer && world.now < SecureWorld.start + .milliseconds(200)
                && Self.split(bytes).contains { Self.header($0)?.kind == .handshake }
        }
        #expect(world.run { $0.client.isConnected })
        world.client.unwritten.append(
            (try world.client.connection.machine.openStream(bidirectional: true), [1, 2, 3], true))
        #expect(world.run { !$0.client.finished.isEmpty })
        #expect(world.server!.connection.counters.buffered > 0)
        #expect(world.now > SecureWorld.start + .milliseconds(200))
        #expect(world.client.connection.machine.smoothedRTT! < .milliseconds(30))
    }

    @Test func resumption() throws {
        let (client, server) = try Self.contexts()
        let first = try SecureWorld(seed: 1, client: client, server: server)
        try Self.exchange(first, sizes: [10], seed: 1)
        let ticket = try #require(first.client.connection.sessionTicket)
        let second = try SecureWorld(seed: 2, client: client, server: server, resume: ticket)
        second.network.loss = 0.1
        try Self.exchange(second, sizes: [5000], seed: 2)
        #expect(second.client.connection.isResumed)
        #expect(second.server?.connection.isResumed == true)
        #expect(second.client.connection.machine.peerParameters != nil)
    }

    @Test(arguments: CipherSuite.allCases, [true, false]) func keyUpdates(suite: CipherSuite, lossy: Bool) throws {
        let (client, server) = try Self.contexts([suite])
        let world = try SecureWorld(seed: 5, client: client, server: server)
        world.client.connection.packetsPerKey = 12
        if lossy {
            world.network.loss = 0.05
            world.network.jitter = .milliseconds(6)
        }
        try Self.exchange(world, sizes: [150_000], seed: 5)
        #expect(world.client.connection.machine.keyGeneration >= 4)
        let difference = world.client.connection.machine.keyGeneration - world.server!.connection.machine.keyGeneration
        #expect(difference <= 1)
        if !lossy { #expect(world.server!.connection.counters.unopened == 0) }
    }

    @Test func bothEndsUpdateKeys() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 6, client: client, server: server)
        world.network.jitter = .milliseconds(2)
        #expect(world.run { $0.server?.connection.machine.isHandshakeConfirmed == true })
        world.client.connection.packetsPerKey = 9
        world.server!.connection.packetsPerKey = 7
        try Self.exchange(world, sizes: [100_000, 60_000], seed: 6)
        #expect(world.client.connection.machine.keyGeneration >= 6)
    }

    @Test(arguments: [0.0, 0.15]) func retry(loss: Double) throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 7, client: client, server: server, requiresRetry: true)
        world.network.loss = loss
        try Self.exchange(world, sizes: [2000], seed: 7)
        #expect(world.admission.counters.retries >= 1)
        #expect(world.admission.counters.admitted == 1 || loss > 0)
        #expect(world.client.connection.machine.peerParameters?.retrySourceConnectionID != nil)
    }

    @Test func forgedRetryIsIgnored() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 8, client: client, server: server)
        var first: [UInt8] = []
        world.drop = { toServer, bytes in
            if toServer, first.isEmpty { first = bytes }
            return false
        }
        world.pump()
        let header = try #require(Self.header(first))
        var forged = Retry.packet(
            destination: header.source, source: ConnectionID([1, 2, 3, 4, 5, 6, 7, 8])!,
            originalDestination: header.destination, token: [1, 2, 3])
        let empty = Retry.packet(
            destination: header.source, source: ConnectionID([1, 2, 3, 4, 5, 6, 7, 8])!,
            originalDestination: header.destination, token: [])
        forged[forged.count - 1] ^= 1
        world.injectToClient(forged)
        world.injectToClient(empty)
        #expect(world.client.connection.counters.ignored == 2)
        try Self.exchange(world, sizes: [10], seed: 8)
        // And a good one that comes too late.
        forged[forged.count - 1] ^= 1
        world.injectToClient(forged)
        try Self.exchange(world, sizes: [10], seed: 9)
    }

    @Test func tokenOfAnEarlierConnectionSparesTheRetry() throws {
        let (client, server) = try Self.contexts()
        let first = try SecureWorld(seed: 9, client: client, server: server, requiresRetry: true)
        first.newTokenForClient = true
        try Self.exchange(first, sizes: [10], seed: 9)
        #expect(first.run { !$0.client.newTokens.isEmpty })
        let token = try #require(first.client.newTokens.first)
        #expect(first.admission.counters.retries == 1)
        let second = try SecureWorld(
            seed: 10, client: client, server: server, token: token, admission: first.admission)
        try Self.exchange(second, sizes: [10], seed: 10)
        #expect(first.admission.counters.retries == 1)
    }

    @Test func staleRetryTokenIsRefused() throws {
        let (client, server) = try Self.contexts()
        var random = SeededRandom(seed: 1)
        let admission = Admission(requiresRetry: true, random: SeededRandom(from: &random), at: SecureWorld.start)
        // The token is a Retry token of this server, but for another connection ID.
        let probe = try SecureWorld(seed: 11, client: client, server: server, admission: admission)
        probe.run(for: .milliseconds(25)) { _ in false }
        let retry = try #require(probe.datagramsToClient.first)
        let header = try #require(Self.header(retry))
        #expect(header.kind == .retry)
        let world = try SecureWorld(
            seed: 12, client: client, server: server, token: Array(retry[header.token]), admission: admission)
        #expect(world.run { $0.client.closeReason != nil })
        guard case .peer(let error) = world.client.closeReason else {
            Issue.record("\(String(describing: world.client.closeReason))")
            return
        }
        #expect(error.code == .invalidToken)
        #expect(admission.counters.tokensRefused == 1)
    }

    @Test func versionNegotiation() throws {
        let (client, server) = try Self.contexts()
        var first: [UInt8] = []
        func world(_ seed: UInt64) throws -> SecureWorld {
            let world = try SecureWorld(seed: seed, client: client, server: server)
            first = []
            world.drop = { toServer, bytes in
                if toServer, first.isEmpty { first = bytes }
                return false
            }
            world.pump()
            return world
        }
        func packet(_ destination: ConnectionID, _ source: ConnectionID, _ versions: [UInt32]) -> [UInt8] {
            [UInt8].written(capacity: 100) { writer in
                writer.uint8(0x80)
                writer.uint32(0)
                for id in [destination, source] {
                    writer.uint8(UInt8(id.count))
                    writer.octets(id.octets.span)
                }
                for version in versions { writer.uint32(version) }
            }
        }
        let one = try world(20)
        var header = try #require(Self.header(first))
        one.injectToClient(packet(header.source, ConnectionID([1, 2, 3])!, [2]))
        one.injectToClient(packet(ConnectionID([1, 2, 3])!, header.destination, [2]))
        one.injectToClient(packet(header.source, header.destination, [2, 1]))
        #expect(one.client.closeReason == nil)
        one.injectToClient(packet(header.source, header.destination, [2, 3]))
        #expect(one.client.closeReason == .versionNegotiation([2, 3]))

        // After the server was heard it is too late.
        let two = try world(21)
        header = try #require(Self.header(first))
        #expect(two.run { $0.client.isConnected })
        two.injectToClient(packet(header.source, header.destination, [2, 3]))
        #expect(two.client.closeReason == nil)

        // The server's side: any version but ours is answered with ours.
        var unknown = first
        unknown[1...4] = [0xba, 0xba, 0xba, 0xba]
        let admission = Admission(random: SeededRandom(seed: 3), at: SecureWorld.start)
        func judge(_ bytes: [UInt8]) -> Admission.Decision {
            admission.judge(bytes.span, from: SecureWorld.clientAddress, at: SecureWorld.start)
        }
        guard case .reply(let reply) = judge(unknown) else {
            Issue.record("no answer to an unknown version")
            return
        }
        let answer = try #require(Self.header(reply))
        #expect(answer.kind == .versionNegotiation)
        #expect(answer.destination == header.source && answer.source == header.destination)
        let versions = VersionNegotiation.versions(in: reply.span, header: answer)
        #expect(versions.contains(1))
        #expect(judge(Array(unknown.prefix(1199))) == .ignore)
        #expect(judge(reply) == .ignore)
    }

    @Test func statelessReset() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 22, client: client, server: server)
        try Self.exchange(world, sizes: [10], seed: 22)
        world.serverRemembers = false
        world.server = nil
        world.client.unwritten.append((try world.client.connection.machine.openStream(bidirectional: true), [1], true))
        #expect(world.run { $0.client.closeReason != nil })
        #expect(world.client.closeReason == .statelessReset)
        #expect(world.admission.counters.resets >= 1)
        #expect(world.client.connection.counters.unopened >= 1)
    }

    /// RFC 9001 section 5.7: packets that overtake those which bring their keys wait for them.
    @Test func packetsBeforeTheirKeys() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 23, client: client, server: server)
        var held: [[UInt8]] = []
        world.drop = { toServer, bytes in
            guard !toServer, held.count < 3 else { return false }
            held.append(bytes)
            return true
        }
        world.run(for: .milliseconds(15)) { _ in held.count >= 3 }
        try #require(held.count > 0)
        // The datagram with the ServerHello comes last.
        let pieces = held.flatMap(Self.split)
        #expect(pieces.count >= 2)
        for packet in pieces.reversed() { world.injectToClient(packet) }
        #expect(world.client.connection.counters.buffered >= 1)
        #expect(world.client.isConnected)
        try Self.exchange(world, sizes: [100], seed: 23)
    }

    static func header(_ bytes: [UInt8]) -> PacketHeader? {
        PacketHeader.parse(bytes.span, at: 0, shortIDLength: 8)
    }

    /// The packets of a datagram, each as one of its own.
    static func split(_ datagram: [UInt8]) -> [[UInt8]] {
        var packets: [[UInt8]] = []
        var offset = 0
        while offset < datagram.count,
            let header = PacketHeader.parse(datagram.span, at: offset, shortIDLength: 8)
        {
            packets.append(Array(datagram[offset..<header.end]))
            offset = header.end
        }
        return packets
    }

    @Test func earlyPacketsAreBounded() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 24, client: client, server: server)
        world.pump()
        let id = world.client.connection.machine.localConnectionIDs[0]
        for index in 0..<40 {
            world.injectToClient([0x40] + id.octets + [UInt8](repeating: UInt8(index), count: 60))
        }
        let counters = world.client.connection.counters
        #expect(counters.buffered == UInt64(SecureConnection.maxBuffered))
        #expect(counters.bufferOverflows == 40 - UInt64(SecureConnection.maxBuffered))
        try Self.exchange(world, sizes: [100], seed: 24)
        #expect(world.client.connection.counters.unopened == UInt64(SecureConnection.maxBuffered))
    }

    /// RFC 9001 section 6.6: forgeries are counted over all keys, whichever of them they were tried with, each once.
    @Test func tooManyForgeriesEndTheConnection() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 26, client: client, server: server)
        let id = try world.write([1])
        #expect(world.run { $0.client.finished.contains(id) })
        world.client.connection.maxForgeries = 20
        let destination = world.client.connection.machine.localConnectionIDs[0].octets
        for index in UInt8(0)..<20 {
            #expect(world.client.closeReason == nil)
            if index == 10 {
                let isUpdated = world.client.connection.machine.updateKeys()
                #expect(isUpdated)
                let id = try world.write([2])
                #expect(world.run { $0.client.finished.contains(id) })
            }
            world.injectToClient([0x40 | index & 4] + destination + [UInt8](repeating: index, count: 60))
        }
        guard case .local(let error) = world.client.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .aeadLimitReached)
        // Whoever forges cannot be told from a peer, but the peer is told.
        #expect(world.run { $0.server?.closeReason != nil })
    }

    /// Datagrams as large as UDP allows are not worth the same patience.
    @Test func earlyOctetsAreBounded() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 25, client: client, server: server)
        world.pump()
        let id = world.client.connection.machine.localConnectionIDs[0]
        for _ in 0..<10 { world.injectToClient([0x40] + id.octets + [UInt8](repeating: 1, count: 10_000)) }
        #expect(world.client.connection.counters.buffered == 3)
        #expect(world.client.connection.counters.bufferOverflows == 7)
    }

    @Test func certificateErrorsReachBothEnds() throws {
        let (_, server) = try Self.contexts()
        let (stranger, _) = try Self.contexts()
        let world = try SecureWorld(seed: 25, client: stranger, server: server)
        #expect(world.run { $0.client.closeReason != nil && $0.server?.closeReason != nil })
        guard case .local(let error) = world.client.closeReason, case .peer(let told) = world.server?.closeReason else {
            Issue.record("\(String(describing: world.client.closeReason))")
            return
        }
        #expect(error.code == .crypto(alert: 48))
        #expect(told.code == .crypto(alert: 48))
        #expect(told.reason.contains("certificate"))
    }

    @Test func alpnMismatchReachesTheClient() throws {
        let server = try TLSContext.server(selfSignedFor: ["source.test"], alpn: ["other"])
        let client = try TLSSessionTests.client(of: server, alpn: ["test"])
        let world = try SecureWorld(seed: 26, client: client, server: server)
        #expect(world.run { $0.client.closeReason != nil && $0.server?.closeReason != nil })
        guard case .peer(let error) = world.client.closeReason else {
            Issue.record("\(String(describing: world.client.closeReason))")
            return
        }
        #expect(error.code == .crypto(alert: 120))
    }

    /// RFC 9000 section 8.1: three times what came, until the address is proven.
    @Test func silentClientIsNotFlooded() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 27, client: client, server: server)
        var passed = 0
        var octets = 0
        world.drop = { toServer, bytes in
            guard toServer else { return false }
            passed += 1
            if passed == 1 { octets = bytes.count }
            return passed > 1
        }
        world.run(for: .seconds(9)) { $0.client.closeReason != nil }
        #expect(octets >= 1200)
        #expect(world.octetsToClient > octets)
        #expect(world.octetsToClient <= 3 * octets)
    }

    @Test func smallInitialIsIgnored() throws {
        let (client, server) = try Self.contexts()
        let world = try SecureWorld(seed: 28, client: client, server: server)
        var first: [UInt8] = []
        world.drop = { toServer, bytes in
            if toServer, first.isEmpty { first = bytes }
            return false
        }
        world.pump()
        func judge(_ bytes: [UInt8]) -> Admission.Decision {
            world.admission.judge(bytes.span, from: SecureWorld.clientAddress, at: world.now)
        }
        guard case .admit = judge(first) else {
            Issue.record("a good Initial is not admitted")
            return
        }
        #expect(judge(Array(first.prefix(1199))) == .ignore)
        var shortID = first
        shortID[5] = 7
        #expect(judge(shortID) == .ignore)
        // A datagram for a connection that nobody knows, too small to be reset.
        #expect(judge([UInt8](repeating: 0x40, count: 21)) == .ignore)
    }

    @Test func garbageNeverTraps() throws {
        let (client, server) = try Self.contexts()
        var random = SeededRandom(seed: 29)
        let world = try SecureWorld(seed: 29, client: client, server: server)
        var seen: [[UInt8]] = []
        world.drop = { _, bytes in
            if seen.count < 40 { seen.append(bytes) }
            return false
        }
        func attack() {
            for _ in 0..<150 {
                world.injectToClient(random.octets(Int.random(in: 0...1400, using: &random)))
                world.injectToServer(random.octets(Int.random(in: 0...1400, using: &random)))
                guard var bytes = seen.randomElement(using: &random) else { continue }
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
                world.injectToClient(bytes)
                world.injectToServer(bytes)
            }
        }
        world.pump()
        world.run(for: .milliseconds(12)) { _ in false }
        #expect(world.run { $0.client.isConnected && $0.server?.isConnected == true })
        attack()
        try Self.exchange(world, sizes: [3000], seed: 29)
        attack()
        try Self.exchange(world, sizes: [3000], seed: 30)
    }
}
