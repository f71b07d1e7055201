import Testing
import Wire

@testable import QUIC

/// What the packets that a connection writes hold, and in which of them it is.
@Suite struct WrittenPacketTests {
    private static func names(_ payload: [UInt8]) -> [String] { LoggedFrame.frames(in: payload.span).map(\.type) }

    /// Two ends that do what they can, with losses.
    private static func conversation() throws -> ClearPair {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxDatagramFrameSize = 1200
        var pair = ClearPair(seed: 3, client: configuration, server: configuration, validated: false)
        pair.keepsWritten = true
        pair.server.sendNewToken([1, 2, 3])
        pair.drop = { _, index in index % 9 == 4 }
        pair.handshake()
        for value in UInt8(1)...3 {
            pair.server.provideConnectionID(
                ConnectionID([UInt8](repeating: value, count: 8))!, resetToken: [UInt8](repeating: value, count: 16))
        }
        for round in 0..<4 {
            _ = pair.client.updateKeys()
            _ = pair.client.sendDatagram([9])
            let stream = try pair.client.openStream(bidirectional: true)
            try pair.client.write(stream, [UInt8](repeating: 1, count: 9000), fin: round > 1)
            if round == 1 { pair.client.reset(stream, code: 1) }
            pair.run(for: .milliseconds(400))
            _ = pair.server.updateKeys()
        }
        return pair
    }

    /// RFC 9000 sections 12.4 and 12.5: no packet is empty, and before 1-RTT only what is allowed there. A client sends neither
    /// NEW_TOKEN nor HANDSHAKE_DONE (sections 19.7 and 19.20).
    @Test func eachFrameIsInItsPlace() throws {
        let pair = try Self.conversation()
        var seen: Set<String> = []
        var levels: Set<ProtectionLevel> = []
        let early: Set<String> = ["padding", "ping", "ack", "crypto", "connection_close"]
        for packet in pair.written {
            #expect(!packet.payload.isEmpty)
            let names = Self.names(packet.payload)
            if packet.plan.level != .application { #expect(early.isSuperset(of: names), "\(names)") }
            if packet.fromClient { #expect(!names.contains("new_token") && !names.contains("handshake_done")) }
            seen.formUnion(names)
            levels.insert(packet.plan.level)
        }
        let wanted: Set<String> = [
            "ack", "crypto", "ping", "padding", "stream", "reset_stream", "new_token", "handshake_done", "datagram",
            "new_connection_id",
        ]
        #expect(seen.isSuperset(of: wanted) && !seen.contains("unknown") && levels.count == 3)
    }

    /// RFC 9001 section 6.4: a higher packet number, the same key or a newer one.
    @Test func keysFollowPacketNumbers() throws {
        let pair = try Self.conversation()
        for fromClient in [true, false] {
            let packets = pair.written.filter { $0.fromClient == fromClient && $0.plan.level == .application }
            let generations = packets.sorted { $0.plan.packetNumber < $1.plan.packetNumber }.map(\.plan.keyGeneration)
            #expect(generations == generations.sorted() && generations.last! >= 1, "\(generations.last!)")
        }
    }

    /// RFC 9000 section 5.1.1.
    @Test func sequenceNumbersCountUp() throws {
        let pair = try Self.conversation()
        let payloads = pair.written.filter { !$0.fromClient }.map(\.payload)
        let numbers = payloads.flatMap { LoggedFrame.frames(in: $0.span) }.filter { $0.type == "new_connection_id" }
            .compactMap { frame in frame.fields.first { $0.name == "sequence_number" }?.value }
        for number: UInt64 in 1...3 { #expect(numbers.contains(.number(number))) }
        #expect(Set(numbers.map { "\($0)" }).count == 3)
    }

    /// RFC 9000 sections 13.2.6 and 17.2.3: in packets of its own space, and nowhere else.
    @Test(arguments: ProtectionLevel.allCases) func acknowledgementsStayInTheirSpace(_ level: ProtectionLevel) {
        var pair = ClearPair()
        if level == .application {
            pair.handshake()
        } else {
            for each in ProtectionLevel.allCases { pair.server.writeKeysInstalled(each) }
        }
        ClearPair.inject(
            [0x01], level: level, number: 1000, source: pair.client.localConnectionIDs[0],
            from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.now += .milliseconds(30)
        pair.server.timerFired(at: pair.now)
        var levels: [ProtectionLevel] = []
        for _ in 0..<20 {
            guard let (bytes, plans) = ClearPair.transmit(&pair.server, at: pair.now) else { break }
            for plan in plans {
                let frames = LoggedFrame.frames(in: ClearPair.payload(of: plan, in: bytes).span)
                for case .ranges(let ranges) in frames.flatMap(\.fields).map(\.value)
                where ranges.contains(where: { $0.contains(1000) }) {
                    levels.append(plan.level)
                }
            }
        }
        #expect(levels == [level])
    }

    /// RFC 9000 section 13.2.1: a packet that asks for it is acknowledged by one packet of acknowledgements, and few of those ask
    /// for an acknowledgement themselves.
    @Test func acknowledgementsAreFew() {
        var pair = ClearPair()
        pair.handshake()
        pair.keepsWritten = true
        for _ in 0..<100 {
            pair.client.ping()
            let before = pair.written.count { !$0.fromClient }
            pair.run { $0.written.count { !$0.fromClient } > before }
        }
        // What is padded tries the path.
        let answers = pair.written.filter { !$0.fromClient }.map { Self.names($0.payload) }
            .filter { !$0.contains("padding") }
        #expect((80...105).contains(answers.count) && answers.allSatisfy { $0.contains("ack") }, "\(answers.count)")
        #expect(answers.count { $0.contains("ping") } <= 5)
    }

    /// RFC 9000 section 19.20: a server that may write 1-RTT packets does not say so before it has completed the handshake.
    @Test func handshakeDoneWaits() {
        var pair = ClearPair()
        for level in ProtectionLevel.allCases { pair.server.writeKeysInstalled(level) }
        pair.server.peerParametersReceived(pair.client.localParameters.encoded(), at: pair.now)
        pair.server.queueHandshakeBytes([1], at: .handshake)
        let before = ClearPair.frames(of: &pair.server, at: pair.now).flatMap(\.names)
        #expect(before.contains("crypto") && !before.contains("handshake_done"))
        pair.server.handshakeCompleted(at: pair.now)
        let after = ClearPair.frames(of: &pair.server, at: pair.now)
        #expect(after.contains { $0.level == .application && $0.names.contains("handshake_done") })
    }

    /// RFC 9000 section 7.2: as long as nothing has come, all of a client's packets go to the ID that it made up; a server's go to
    /// the ID of the client's first packet.
    @Test func destinationsOfTheHandshake() {
        var pair = ClearPair()
        let made = pair.client.remoteID
        pair.client.queueHandshakeBytes(Array("hello".utf8), at: .initial)
        var destinations: [ConnectionID?] = []
        for _ in 0..<4 {
            while let (bytes, _) = ClearPair.transmit(&pair.client, at: pair.now) {
                destinations.append(PacketHeader.parse(bytes.span, at: 0, shortIDLength: 8)?.destination)
            }
            pair.now = pair.client.nextDeadline
            pair.client.timerFired(at: pair.now)
        }
        #expect(destinations.count >= 4 && destinations.allSatisfy { $0 == made })

        let first = pair.client.localConnectionIDs[0]
        for (number, source) in [first, ConnectionID([UInt8](repeating: 4, count: 8))!].enumerated() {
            ClearPair.inject(
                [0x06, UInt8(number), 1, 0x61], level: .initial, number: UInt64(number), source: source,
                from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        }
        let answer = ClearPair.transmit(&pair.server, at: pair.now)
        let destination = answer.flatMap { PacketHeader.parse($0.0.span, at: 0, shortIDLength: 8)?.destination }
        #expect(destination == first)
        #expect(pair.server.largestReceived(.initial) == 0)
    }

    /// RFC 9000 section 12.2: of a datagram with two packets each is taken for itself, and acknowledged in its own space.
    @Test func coalescedPacketsStandAlone() throws {
        for lost: ProtectionLevel? in [nil, .initial, .handshake] {
            var pair = ClearPair()
            for level in [ProtectionLevel.handshake, .application] { pair.server.writeKeysInstalled(level) }
            pair.server.queueHandshakeBytes([1], at: .initial)
            pair.server.queueHandshakeBytes([2], at: .handshake)
            let (bytes, plans) = try #require(ClearPair.transmit(&pair.server, at: pair.now))
            #expect(plans.map(\.level) == [.initial, .handshake])
            pair.client.readKeysInstalled(.handshake, at: pair.now)
            pair.client.writeKeysInstalled(.handshake)
            // As if the other could not be opened.
            ClearPair.deliver(
                bytes, plans.filter { $0.level != lost }, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
            let acknowledged = ClearPair.frames(of: &pair.client, at: pair.now).filter { $0.names.contains("ack") }
            #expect(acknowledged.map(\.level) == [.initial, .handshake].filter { $0 != lost })
        }
    }

    /// RFC 9000 section 11.2: the end of a connection resets no stream.
    @Test func closingResetsNothing() throws {
        var pair = ClearPair()
        pair.handshake()
        let stream = try pair.server.openStream(bidirectional: true)
        try pair.server.write(stream, [UInt8](repeating: 1, count: 5000), fin: false)
        _ = ClearPair.transmit(&pair.server, at: pair.now)
        pair.server.close(TransportError(.internalError, "enough"), at: pair.now)
        let names = ClearPair.frames(of: &pair.server, at: pair.now).flatMap(\.names)
        #expect(names.contains("connection_close") && !names.contains("reset_stream"))
    }

    /// RFC 9000 section 19.21: an extension's frames wait for the congestion window, count in it, and are acknowledged.
    @Test func framesOfExtensionsAreLikeOthers() throws {
        var pair = ClearPair()
        pair.handshake()
        let before = pair.client.bytesInFlight
        pair.client.sendExtensionFrame([0x40, 0xf4] + [UInt8](repeating: 7, count: 500), key: 1)
        _ = ClearPair.transmit(&pair.client, at: pair.now)
        #expect(pair.client.bytesInFlight >= before + 500)
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [UInt8](repeating: 1, count: 200_000), fin: true)
        while ClearPair.transmit(&pair.client, at: pair.now) != nil { pair.now += .milliseconds(1) }
        pair.client.sendExtensionFrame([0x40, 0xf4, 9, 9], key: 2)
        let waits = ClearPair.transmit(&pair.client, at: pair.now)
        #expect(waits == nil)

        var configuration = ConnectionConfiguration()
        configuration.parameters.initialMaxPathID = 4
        configuration.parameters.others[0xedf3] = [1, 1]
        configuration.extensionParameter = 0xedf3
        var listener = ClearPair(client: configuration, server: configuration)
        listener.handshake()
        var taker = Taker()
        listener.server.packetReceived(
            ReceivedPacket(
                level: .application, packetNumber: 1000, destination: listener.server.localConnectionIDs[0],
                from: ClearPair.clientAddress, reservedBitsAreZero: true),
            payload: ([0x40, 0xf4, 1, 2, 3] as [UInt8]).span, at: listener.now, extension: &taker)
        listener.now += .milliseconds(30)
        listener.server.timerFired(at: listener.now)
        let answers = ClearPair.frames(of: &listener.server, at: listener.now).flatMap(\.names)
        #expect(answers.contains("ack") && taker.octets == 3)
    }

    /// An extension that takes whatever comes.
    private struct Taker: FrameExtension {
        var octets = 0

        mutating func frameReceived(type: UInt64, body: Span<UInt8>, at now: Instant) throws(TransportError) -> Int? {
            octets += body.count
            return body.count
        }

        mutating func pathAcknowledged(
            pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
        ) throws(TransportError) {}
    }

    /// RFC 9000 section 19.7: no empty token leaves.
    @Test func noTokenIsEmpty() {
        var pair = ClearPair()
        pair.handshake()
        for token: [UInt8] in [[], [1]] {
            pair.server.sendNewToken(token)
            let names = ClearPair.frames(of: &pair.server, at: pair.now).flatMap(\.names)
            #expect(names.contains("new_token") == !token.isEmpty)
        }
    }

    /// RFC 9000 section 12.3: a connection whose packet numbers end does so without a word.
    @Test func packetNumbersEnd() {
        var pair = ClearPair()
        pair.handshake()
        pair.client.recovery.spaces[2].nextPacketNumber = Varint.max - 1000
        pair.client.ping()
        let datagram = ClearPair.transmit(&pair.client, at: pair.now)
        #expect(datagram == nil && pair.client.isDrained == true)
    }

    /// RFC 9001 section 4.1.3: when the next level's keys come, all of the level before has been used.
    @Test func handshakeDataIsNotLeftOver() {
        for (offset, isLeft) in [(0, false), (3, true)] as [(UInt8, Bool)] {
            var pair = ClearPair()
            ClearPair.inject(
                [0x06, offset, 1, 0x61], level: .initial, number: 0, source: pair.server.localConnectionIDs[0],
                from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
            pair.client.readKeysInstalled(.handshake, at: pair.now)
            pair.pump()
            #expect(pair.client.isActive == !isLeft)
            guard isLeft else { continue }
            guard case .local(let error) = pair.clientEvents.closeReason else { return #expect(Bool(false), "open") }
            #expect(error.code == .protocolViolation)
        }
    }
}
