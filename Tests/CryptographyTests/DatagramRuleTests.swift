import Testing
import Wire

@testable import Cryptography
@testable import QUIC

/// Single rules of datagrams as they come, each with a case that only it decides.
@Suite struct DatagramRuleTests {
    private static func world(_ seed: UInt64, requiresRetry: Bool = false) throws -> SecureWorld {
        let (client, server) = try SecureConnectionTests.contexts()
        return try SecureWorld(seed: seed, client: client, server: server, requiresRetry: requiresRetry)
    }

    private static func connected(_ seed: UInt64) throws -> SecureWorld {
        let world = try world(seed)
        try SecureConnectionTests.exchange(world, sizes: [10], seed: seed)
        return world
    }

    /// A long header and what may follow it.
    static func long(
        _ first: UInt8, version: UInt32 = 1, to destination: [UInt8], from source: [UInt8], _ rest: [UInt8]
    ) -> [UInt8] {
        [UInt8].written(capacity: 4000) { writer in
            writer.uint8(first)
            writer.uint32(version)
            for id in [destination, source] {
                writer.uint8(UInt8(id.count))
                writer.octets(id.span)
            }
            writer.octets(rest.span)
        }
    }

    // MARK: Connection IDs and tokens

    /// RFC 9000 sections 5.1 and 10.3.2: an ID tells nothing, and none comes twice, on one connection or on several.
    @Test func connectionIDsAreDrawnAtRandom() {
        let admission = Admission(random: SeededRandom(seed: 3), at: SecureWorld.start)
        let ids = (0..<4096).map { _ in admission.newConnectionID() }
        #expect(Set(ids.map(\.id)).count == 4096 && Set(ids.map(\.resetToken)).count == 4096)
        for bit: UInt64 in 0..<64 {
            let ones = ids.count { $0.id.prefix >> bit & 1 == 1 }
            #expect((1800...2300).contains(ones), "bit \(bit)")
        }
    }

    /// RFC 9000 section 8.1.3: two tokens for one address have nothing in common, and show none of it.
    @Test func newTokensTellNothing() {
        let tokens = AddressTokens(random: SeededRandom(seed: 1), at: SecureWorld.start)
        let address = SecureWorld.clientAddress.address
        let made = (0..<500).map { _ in tokens.newToken(client: address, at: SecureWorld.start) }
        #expect(Set(made).count == 500)
        #expect(made.allSatisfy { !$0.contains([192, 0, 2, 1]) })
        // But for the key's number each octet takes any value.
        for place in 1..<made[0].count { #expect(Set(made.map { $0[place] }).count > 100, "octet \(place)") }
    }

    /// RFC 9000 section 8.1.3: what a Retry brings is used at once, and is nothing to keep for another connection.
    @Test func theTokenOfARetryIsForItsConnection() throws {
        let world = try Self.world(5, requiresRetry: true)
        var tokens: [[UInt8]] = []
        world.drop = { toServer, bytes in
            if toServer, let header = SecureConnectionTests.header(bytes), header.kind == .initial {
                tokens.append(Array(bytes[header.token]))
            }
            return false
        }
        try SecureConnectionTests.exchange(world, sizes: [10], seed: 5)
        let retry = try #require(world.datagramsToClient.first)
        let header = try #require(SecureConnectionTests.header(retry))
        #expect(header.kind == .retry && tokens.first == [] && tokens.count > 1)
        #expect(tokens.dropFirst().allSatisfy { $0 == Array(retry[header.token]) })
        #expect(world.client.newTokens.isEmpty)
    }

    // MARK: Stateless resets

    /// RFC 9000 section 10.3: whatever its header looks like, a datagram that ends in the token is a reset.
    @Test(arguments: ["short", "no fixed bit", "another version", "0-RTT", "handshake"])
    func resetsOfAnyForm(form: String) throws {
        let world = try Self.connected(31)
        let token = try #require(world.client.connection.machine.peerParameters?.statelessResetToken)
        let id = world.client.connection.machine.localConnectionIDs[0].octets
        let filler = [UInt8](repeating: 7, count: 40)
        func datagram(_ token: [UInt8]) -> [UInt8] {
            let length = UInt8(filler.count + token.count)
            return switch form {
            case "short": [0x41] + id + filler + token
            case "no fixed bit": [0x01] + id + filler + token
            case "another version": Self.long(0xc0, version: 0xbaba_baba, to: id, from: [1], filler + token)
            case "0-RTT": Self.long(0xd0, to: id, from: [1], [length] + filler + token)
            default: Self.long(0xe0, to: id, from: [1], [length] + filler + token)
            }
        }
        var other = token
        other[15] ^= 1
        world.injectToClient(datagram(other))
        #expect(world.client.closeReason == nil)
        world.injectToClient(datagram(token))
        #expect(world.client.closeReason == .statelessReset)
    }

    // MARK: Packets

    /// RFC 9000 section 12.3: a number that was received says nothing before the packet has been opened.
    @Test func duplicatesAreToldAfterOpening() throws {
        let world = try Self.world(33)
        var last: [UInt8] = []
        world.drop = { toServer, bytes in
            if !toServer, bytes[0] & 0x80 == 0 { last = bytes }
            return false
        }
        try SecureConnectionTests.exchange(world, sizes: [10], seed: 33)
        world.run(for: .seconds(2)) { _ in false }
        let duplicates = world.client.connection.machine.statistics.packetsDuplicate
        let unopened = world.client.connection.counters.unopened
        world.injectToClient(last)
        #expect(world.client.connection.machine.statistics.packetsDuplicate == duplicates + 1)
        last[last.count - 1] ^= 1
        world.injectToClient(last)
        #expect(world.client.connection.machine.statistics.packetsDuplicate == duplicates + 1)
        #expect(world.client.connection.counters.unopened == unopened + 1)
    }

    /// RFC 9000 section 14: an Initial packet in too small a datagram is dropped, and ends nothing.
    @Test func smallDatagramsEndNothing() throws {
        let world = try Self.world(34)
        world.run(for: .milliseconds(15)) { _ in false }
        let server = try #require(world.server)
        let id = server.connection.machine.localConnectionIDs[0].octets
        let ignored = server.connection.counters.ignored
        world.injectToServer(Self.long(0xc0, to: id, from: [1], [0, 40] + [UInt8](repeating: 1, count: 40)))
        #expect(server.connection.counters.ignored == ignored + 1 && server.closeReason == nil)
        try SecureConnectionTests.exchange(world, sizes: [10], seed: 34)
    }

    /// RFC 9001 section 5.6: a client does not try to open 0-RTT packets, nor keep them.
    @Test func zeroRTTIsNotForClients() throws {
        let world = try Self.world(35)
        world.pump()
        let id = world.client.connection.machine.localConnectionIDs[0].octets
        world.injectToClient(Self.long(0xd0, to: id, from: [1], [40] + [UInt8](repeating: 1, count: 40)))
        let counters = world.client.connection.counters
        #expect(counters.ignored == 1 && counters.unopened == 0 && counters.buffered == 0)
        try SecureConnectionTests.exchange(world, sizes: [10], seed: 35)
    }

    /// RFC 9001 section 5.7: a server takes nothing from 1-RTT packets before the client's Finished has come.
    @Test func applicationDataWaitsForTheHandshake() throws {
        let world = try Self.world(36)
        var handshake: [[UInt8]] = []
        var isHolding = true
        world.drop = { toServer, bytes in
            guard toServer, isHolding else { return false }
            guard
                SecureConnectionTests.split(bytes).contains(where: {
                    SecureConnectionTests.header($0)?.kind != .initial
                })
            else { return false }
            for packet in SecureConnectionTests.split(bytes) {
                if SecureConnectionTests.header(packet)?.kind == .handshake {
                    handshake.append(packet)
                } else {
                    world.injectToServer(packet)
                }
            }
            return true
        }
        let id = try world.write([1, 2, 3])
        world.run(for: .milliseconds(60)) { _ in false }
        let server = try #require(world.server)
        #expect(world.client.isConnected && !handshake.isEmpty)
        #expect(server.connection.counters.buffered > 0 && server.received.isEmpty && !server.isConnected)
        isHolding = false
        for packet in handshake { world.injectToServer(packet) }
        #expect(server.isConnected && server.received[id] == [1, 2, 3])
    }

    /// RFC 9001 section 6.6: a key that cannot be updated ends the connection before it has sealed all that it may.
    @Test func aKeyThatIsUsedUpEndsTheConnection() throws {
        let world = try Self.connected(37)
        let client = world.client.connection
        client.mostPerKey = SecureConnection.closingReserve + 40
        let isUpdated = client.machine.updateKeys()
        #expect(isUpdated)
        // Nothing acknowledges the update, so that no other may follow.
        var sent = 0
        world.drop = { toServer, _ in
            if toServer { sent += 1 }
            return true
        }
        for _ in 0..<400 where world.client.closeReason == nil {
            client.machine.ping()
            world.pump()
            world.now += .milliseconds(1)
        }
        guard case .local(let error) = world.client.closeReason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .aeadLimitReached)
        #expect(UInt64(sent) >= client.mostPerKey / 2 && UInt64(sent) < client.mostPerKey)
    }

    // MARK: Answers without a connection

    /// RFC 9000 section 17.2.1: the bits without a meaning in a Version Negotiation packet have none.
    @Test(arguments: [0x80, 0xff, 0xaa] as [UInt8]) func unusedBitsOfVersionNegotiation(_ first: UInt8) throws {
        let world = try Self.world(38)
        var hello: [UInt8] = []
        world.drop = { toServer, bytes in
            if toServer, hello.isEmpty { hello = bytes }
            return false
        }
        world.pump()
        let header = try #require(SecureConnectionTests.header(hello))
        world.injectToClient(
            Self.long(first, version: 0, to: header.source.octets, from: header.destination.octets, [0, 0, 0, 2]))
        #expect(world.client.closeReason == .versionNegotiation([2]))
    }

    /// RFC 9000 section 17.2.1: version 1's limit on connection IDs is none of another version's, and a datagram gets one answer
    /// whatever it holds.
    @Test func unknownVersionsAreAnsweredOnce() {
        let admission = Admission(random: SeededRandom(seed: 3), at: SecureWorld.start)
        for (destination, source) in [(0, 0), (8, 8), (21, 5), (255, 255)] {
            let packet = Self.long(
                0xc0, version: 0xbaba_baba, to: [UInt8](repeating: 1, count: destination),
                from: [UInt8](repeating: 2, count: source), [UInt8](repeating: 0, count: 1200))
            let before = admission.counters.versionNegotiations
            let decision = admission.judge(
                (packet + packet).span, from: SecureWorld.clientAddress, at: SecureWorld.start)
            guard case .reply(let reply) = decision else {
                Issue.record("no answer to IDs of \(destination) and \(source) octets")
                continue
            }
            // Both IDs come back, exchanged.
            #expect(reply.count >= 7 + destination + source + 4 && Int(reply[5]) == source)
            #expect(admission.counters.versionNegotiations == before + 1)
        }
    }

    /// RFC 9000 section 17.2.5.1: one Retry for a datagram, with an ID that is not the client's own; section 17.2.5: the bits
    /// without a meaning have none.
    @Test func retries() throws {
        func hello(_ destination: [UInt8]) -> [UInt8] {
            Self.long(0xc0, to: destination, from: [1, 2, 3], [0, 0x44, 0x00] + [UInt8](repeating: 0, count: 0x400))
        }
        func retry(_ destination: [UInt8]) throws -> (admission: Admission, packet: [UInt8]) {
            let admission = Admission(requiresRetry: true, random: SeededRandom(seed: 8), at: SecureWorld.start)
            let datagram = hello(destination) + hello(destination)
            let decision = admission.judge(datagram.span, from: SecureWorld.clientAddress, at: SecureWorld.start)
            guard case .reply(let packet) = decision else {
                Issue.record("\(decision)")
                return (admission, [])
            }
            return (admission, packet)
        }
        let (admission, first) = try retry([UInt8](repeating: 9, count: 8))
        #expect(admission.counters.retries == 1)
        let drawn = try #require(SecureConnectionTests.header(first)).source
        // A client whose ID is just what would be drawn next.
        let second = try #require(SecureConnectionTests.header(retry(drawn.octets).packet))
        #expect(second.kind == .retry && second.source != drawn)
        for bits: UInt8 in 0..<16 {
            let packet = [0xf0 | bits] + first.dropFirst()
            #expect(SecureConnectionTests.header(packet)?.kind == .retry)
        }
    }
}
