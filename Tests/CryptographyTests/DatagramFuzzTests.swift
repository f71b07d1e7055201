import QUIC
import Testing
import Wire

@testable import Cryptography

/// Datagrams of real connections, damaged: nobody without the keys can do more than the network may do anyway.
@Suite struct DatagramFuzzTests {
    private static func damaged(_ datagram: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
        var bytes = datagram
        switch random.next() % 4 {
        case 0: bytes.removeLast(Int(random.next() % UInt64(bytes.count)))
        case 1: bytes += random.octets(Int(random.next() % 60))
        default: break
        }
        for _ in 0..<(random.next() % 8) {
            // The header is where a parser can be led astray.
            let reach = random.next() & 1 == 0 ? min(48, bytes.count) : bytes.count
            bytes[Int(random.next() % UInt64(reach))] ^= UInt8(truncatingIfNeeded: 1 << (random.next() % 8))
        }
        return bytes
    }

    @Test(arguments: [false, true]) func connectionsOutliveThem(requiresRetry: Bool) throws {
        let (client, server) = try SecureConnectionTests.contexts()
        for seed in UInt64(1)...8 {
            var random = SeededRandom(seed: seed)
            let world = try SecureWorld(seed: seed, client: client, server: server, requiresRetry: requiresRetry)
            var seen: [(toServer: Bool, bytes: [UInt8])] = []
            world.drop = { toServer, bytes in
                // Nothing protects a Version Negotiation packet from whoever can change it on its way.
                if bytes[1..<5] != [0, 0, 0, 0] { seen.append((toServer, bytes)) }
                return false
            }
            world.pump()
            var stream: StreamID?
            let sent = random.octets(20_000)
            for _ in 0..<60 {
                world.run(for: .milliseconds(3)) { _ in false }
                if stream == nil, world.client.isConnected { stream = try world.write(sent) }
                for _ in 0..<10 {
                    let (toServer, bytes) = seen[Int(random.next() % UInt64(seen.count))]
                    let copy = Self.damaged(bytes, &random)
                    // Now and then to the wrong end.
                    if toServer != (random.next() % 8 == 0) {
                        world.injectToServer(copy)
                    } else {
                        world.injectToClient(copy)
                    }
                }
                if seen.count > 200 { seen.removeFirst(100) }
            }
            world.drop = { _, _ in false }
            // A damaged copy that came first may have cost a probe timeout.
            #expect(world.run { $0.client.isConnected }, "\(String(describing: world.client.closeReason))")
            if stream == nil { stream = try world.write(sent) }
            let id = try #require(stream)
            #expect(world.run { $0.client.finished.contains(id) })
            let isWhole = world.client.received[id] == sent
            #expect(isWhole)
            #expect(world.client.closeReason == nil && world.server?.closeReason == nil)
        }
    }

    @Test(arguments: [false, true]) func admissionJudgesThem(requiresRetry: Bool) throws {
        let (client, server) = try SecureConnectionTests.contexts()
        let world = try SecureWorld(seed: 3, client: client, server: server, requiresRetry: true)
        var seen: [[UInt8]] = []
        world.drop = { toServer, bytes in
            if toServer { seen.append(bytes) }
            return false
        }
        #expect(world.run { $0.client.isConnected })
        world.admission.requiresRetry = requiresRetry
        var random = SeededRandom(seed: 4)
        for _ in 0..<5000 {
            let bytes = Self.damaged(seen[Int(random.next() % UInt64(seen.count))], &random)
            switch world.admission.judge(bytes.span, from: SecureWorld.clientAddress, at: world.now) {
            case .reply(let reply): #expect(reply.count <= 3 * bytes.count)
            case .admit(let admitted): #expect(bytes.count >= 1200 && (admitted.isValidated || !requiresRetry))
            case .ignore: break
            }
        }
    }

    /// RFC 9000 section 17.2.2: a server's Initial packets have no token.
    @Test(arguments: [false, true]) func aClientTakesNoInitialWithAToken(hasToken: Bool) throws {
        let (client, server) = try SecureConnectionTests.contexts()
        let world = try SecureWorld(seed: 3, client: client, server: server)
        var first: [UInt8] = []
        world.drop = { _, bytes in
            first = bytes
            return true
        }
        world.pump()
        guard let hello = PacketHeader.parse(first.span, at: 0, shortIDLength: 8) else { return #expect(Bool(false)) }
        var numberOffset = 0
        var packet = [UInt8].written(capacity: 120) { writer in
            writer.uint8(0xc0)
            writer.uint32(PacketHeader.version1)
            for id in [hello.source, hello.destination] {
                writer.uint8(UInt8(id.count))
                writer.octets(id.octets.span)
            }
            if hasToken { writer.uint16(0x0177) } else { writer.uint8(0) }
            writer.varint(UInt64(1 + 4 + CipherSuite.tagLength))
            numberOffset = writer.offset
            // Packet number 0, a CONNECTION_CLOSE and the place of the tag.
            writer.octets([0, 0x1c, 0, 0, 0].span)
            writer.zeros(CipherSuite.tagLength)
        }
        let plan = PacketPlan(
            level: .initial, start: 0, packetNumberOffset: numberOffset, packetNumberLength: 1, end: packet.count,
            packetNumber: 0)
        var span = packet.mutableSpan
        InitialSecrets.keys(for: .server, destination: hello.destination).sealing.seal(&span, plan)
        world.injectToClient(packet)
        #expect((world.client.closeReason == nil) == hasToken)
    }
}
