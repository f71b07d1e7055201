import QUIC
import Testing
import Wire

@Suite("Paths and connection IDs: what RFC 9000 sections 5, 8 and 9 bound")
struct PathTests {
    static let elsewhere = SocketAddress("203.0.113.9:1")!

    /// A connection whose client says something from `address`: the octets of that datagram.
    private static func move(
        to address: SocketAddress, _ pair: inout ClearPair, octets: Int = 1
    ) throws -> Int {
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [UInt8](repeating: 9, count: octets), fin: true)
        let datagram = ClearPair.transmit(&pair.client, at: pair.now)!
        ClearPair.deliver(datagram.0, datagram.1, from: address, to: &pair.server, at: pair.now)
        #expect(pair.server.remoteAddress == address)
        return datagram.0.count
    }

    /// What `connection` sends to `address` now.
    private static func sent(
        to address: SocketAddress, by connection: inout Connection, at now: Instant
    ) -> [([UInt8], [PacketPlan])] {
        var out: [([UInt8], [PacketPlan])] = []
        var destination: SocketAddress?
        while let datagram = ClearPair.transmit(&connection, at: now, noting: { destination = $0 }) {
            if destination == address { out.append(datagram) }
        }
        return out
    }

    /// Section 9.3.3: whoever sees the client's packets and is faster with a copy looks like the client on a new address.
    /// The question that goes to the old one brings the client back, however its own packet came as a duplicate.
    @Test(arguments: [false, true]) func aCopyDoesNotTakeTheConnection(windowIsFull: Bool) throws {
        var pair = ClearPair()
        pair.handshake()
        if windowIsFull {
            let stream = try pair.client.openStream(bidirectional: true)
            try pair.client.write(stream, [UInt8](repeating: 1, count: 200_000), fin: true)
            while ClearPair.transmit(&pair.client, at: pair.now) != nil { pair.now += .milliseconds(1) }
            pair.client.timerFired(at: pair.now + .seconds(1))
        } else {
            try pair.client.write(pair.client.openStream(bidirectional: false), [9], fin: true)
        }
        let genuine = try #require(ClearPair.transmit(&pair.client, at: pair.now))
        ClearPair.deliver(genuine.0, genuine.1, from: Self.elsewhere, to: &pair.server, at: pair.now)
        #expect(pair.server.remoteAddress == Self.elsewhere)
        ClearPair.deliver(genuine.0, genuine.1, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        #expect(pair.server.remoteAddress == Self.elsewhere, "a duplicate")
        // The attacker lets nothing through of what it gets.
        let question = Self.sent(to: ClearPair.clientAddress, by: &pair.server, at: pair.now)
        #expect(question.count == 1)
        for (bytes, plans) in question {
            #expect(bytes.count >= 1200)
            ClearPair.deliver(bytes, plans, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        }
        let answer = try #require(ClearPair.transmit(&pair.client, at: pair.now))
        ClearPair.deliver(answer.0, answer.1, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        #expect(pair.server.remoteAddress == ClearPair.clientAddress)
    }

    /// Section 8.2.1 and 8.2.2: a validated path carries 1200 octets both ways.
    @Test func validationIsExpanded() throws {
        var pair = ClearPair()
        pair.handshake()
        _ = try Self.move(to: SocketAddress("192.0.2.1:6000")!, &pair, octets: 1100)
        let challenge = ClearPair.transmit(&pair.server, at: pair.now)!
        #expect(challenge.0.count >= 1200)
        ClearPair.deliver(challenge.0, challenge.1, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        let response = ClearPair.transmit(&pair.client, at: pair.now)!
        #expect(response.0.count >= 1200)
    }

    /// What fills the congestion window went where the peer is no more: the challenge does not wait for it.
    @Test func validationDoesNotWaitForTheWindow() throws {
        var pair = ClearPair()
        pair.handshake()
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [UInt8](repeating: 1, count: 200_000), fin: true)
        while ClearPair.transmit(&pair.server, at: pair.now) != nil { pair.now += .milliseconds(1) }
        let moved = SocketAddress("192.0.2.1:6000")!
        _ = try Self.move(to: moved, &pair, octets: 1100)
        let challenge = try #require(ClearPair.transmit(&pair.server, at: pair.now))
        #expect(challenge.0.count >= 1200)
        ClearPair.deliver(challenge.0, challenge.1, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        let response = try #require(ClearPair.transmit(&pair.client, at: pair.now))
        ClearPair.deliver(response.0, response.1, from: moved, to: &pair.server, at: pair.now)
        // Without a validated path the server would go back to the old address.
        pair.now += .seconds(2)
        pair.server.timerFired(at: pair.now)
        #expect(pair.server.remoteAddress == moved)
    }

    /// Section 8: a small datagram from a new address brings it three times its size, whoever lives there.
    @Test(arguments: ["192.0.2.1:6000", "203.0.113.9:1"])
    func aSmallDatagramFromANewAddress(_ address: String) throws {
        let moved = SocketAddress(address)!
        var pair = ClearPair()
        pair.handshake()
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [UInt8](repeating: 1, count: 30_000), fin: true)
        let came = try Self.move(to: moved, &pair)
        #expect(came < 100)
        var sent: [([UInt8], [PacketPlan])] = []
        for _ in 0..<5 {
            sent += Self.sent(to: moved, by: &pair.server, at: pair.now)
            pair.now += .milliseconds(1)
            pair.server.timerFired(at: pair.now)
        }
        #expect(sent.reduce(0) { $0 + $1.0.count } <= 3 * came)
        // The answer proves the address, and only then the path is tried with a full datagram (section 8.2.3).
        let challenge = try #require(sent.first)
        ClearPair.deliver(challenge.0, challenge.1, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        pair.now += .milliseconds(30)
        while let (bytes, plans) = ClearPair.transmit(&pair.client, at: pair.now) {
            ClearPair.deliver(bytes, plans, from: moved, to: &pair.server, at: pair.now)
        }
        let next = try #require(ClearPair.transmit(&pair.server, at: pair.now))
        #expect(next.0.count >= 1200)
        #expect(pair.server.remoteAddress == moved)
    }

    /// Challenges from an address that is not the active one are answered there, with three times their size in all.
    @Test func challengesFromElsewhere() {
        var pair = ClearPair()
        pair.handshake()
        let challenge: [UInt8] = [0x1a, 1, 2, 3, 4, 5, 6, 7, 8]
        pair.server.datagramReceived(octets: 65, from: Self.elsewhere, at: pair.now)
        ClearPair.inject(
            challenge + challenge + challenge + challenge, number: 1000, from: Self.elsewhere, to: &pair.server,
            at: pair.now)
        var sent = 0
        while let datagram = ClearPair.transmit(&pair.server, at: pair.now) { sent += datagram.0.count }
        #expect(sent > 0 && sent <= 3 * 65 + 60, "the last is an acknowledgement to the active address")
        #expect(pair.server.statistics.pathResponsesDropped == 3)
        #expect(pair.server.remoteAddress == ClearPair.clientAddress)
    }

    /// Closing is no way round section 8.1.
    @Test func closingKeepsToTheLimit() {
        var pair = ClearPair(validated: false)
        pair.client.queueHandshakeBytes(Array("hello".utf8), at: .initial)
        let first = ClearPair.transmit(&pair.client, at: pair.now)!
        ClearPair.deliver(first.0, first.1, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        pair.server.writeKeysInstalled(.handshake)
        pair.server.queueHandshakeBytes([UInt8](repeating: 1, count: 30_000), at: .handshake)
        var sent = 0
        while let datagram = ClearPair.transmit(&pair.server, at: pair.now) { sent += datagram.0.count }
        pair.server.close(TransportError(.internalError, "enough"), at: pair.now)
        while let datagram = ClearPair.transmit(&pair.server, at: pair.now) { sent += datagram.0.count }
        #expect(sent > 3000 && sent <= 3600)
    }

    /// Section 14.3: a new network does not make the peer accept larger datagrams.
    @Test func theProbesOnANewPathKeepToThePeersLimit() throws {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxUDPPayloadSize = 1300
        var pair = ClearPair(client: configuration)
        pair.handshake()
        _ = try Self.move(to: Self.elsewhere, &pair, octets: 1100)
        for _ in 0..<20 {
            while let (bytes, plans) = ClearPair.transmit(&pair.server, at: pair.now) {
                #expect(bytes.count <= 1300)
                ClearPair.deliver(bytes, plans, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
            }
            pair.now += .milliseconds(30)
            while let (bytes, plans) = ClearPair.transmit(&pair.client, at: pair.now) {
                ClearPair.deliver(bytes, plans, from: Self.elsewhere, to: &pair.server, at: pair.now)
            }
        }
        #expect(pair.server.datagramSize == 1300)
    }

    // MARK: Connection IDs

    private static func retire(_ sequences: [UInt8]) -> [UInt8] { sequences.flatMap { [0x19, $0] } }

    /// Section 5.1.1: never more IDs than the peer's active_connection_id_limit, also when it retires several at once.
    @Test func retiredIDsAreReplacedOneForOne() {
        var pair = ClearPair()
        pair.handshake()
        for value in UInt8(1)...3 {
            pair.server.provideConnectionID(
                ConnectionID([UInt8](repeating: value, count: 8))!, resetToken: [UInt8](repeating: value, count: 16))
        }
        #expect(pair.server.localConnectionIDs.count == 4)
        ClearPair.inject(
            Self.retire([1, 2, 3]), number: 1000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        var wanted = 0
        while let event = pair.server.nextEvent() {
            if case .connectionIDsWanted(let count) = event { wanted += count }
        }
        #expect(wanted == 3)
    }

    /// A packet for an ID that was never ours, or is no longer, is not ours either: it cannot retire all there are.
    @Test func packetsForOtherIDsAreDropped() {
        var pair = ClearPair()
        pair.handshake()
        pair.client.provideConnectionID(
            ConnectionID([UInt8](repeating: 5, count: 8))!, resetToken: [UInt8](repeating: 5, count: 16))
        ClearPair.inject(
            Self.retire([0, 1]), number: 1000, destination: ConnectionID([UInt8](repeating: 6, count: 8))!,
            from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        #expect(pair.client.localConnectionIDs.count == 2)
        #expect(pair.client.isActive == true)
    }

    // MARK: Ends

    /// What follows a CONNECTION_CLOSE in its packet does not count, another one least of all.
    @Test func aConnectionClosesOnce() {
        var pair = ClearPair()
        pair.handshake()
        ClearPair.inject(
            [0x1c, 0, 0, 0, 0x1c, 1, 0, 0, 0x08, 0x02, 1], number: 1000, from: ClearPair.clientAddress,
            to: &pair.server,
            at: pair.now)
        pair.pump()
        #expect(pair.serverEvents.count { if case .closed = $0 { true } else { false } } == 1)
        #expect(!pair.serverEvents.contains { if case .streamOpened = $0 { true } else { false } })
    }

    /// RFC 9000 section 10.2.2: to whom the peer has closed says nothing more.
    @Test func whoIsDrainingIsSilent() throws {
        var pair = ClearPair()
        pair.handshake()
        try pair.server.write(pair.server.openStream(bidirectional: false), [1], fin: true)
        pair.server.ping()
        ClearPair.inject([0x1c, 0, 0, 0], number: 1000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        for number in UInt64(1001)...1010 {
            ClearPair.inject([0x01], number: number, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
            let datagram = ClearPair.transmit(&pair.server, at: pair.now)
            #expect(datagram == nil)
        }
    }

    /// RFC 9000 sections 10.2.3 and 12.5: before 1-RTT an application's code and words do not leave.
    @Test func anApplicationsReasonWaitsForItsKeys() throws {
        let words = Array("a secret".utf8)
        var pair = ClearPair()
        pair.server.close(applicationCode: 0x77, reason: "a secret", at: pair.now)
        let (early, plans) = try #require(ClearPair.transmit(&pair.server, at: pair.now))
        let plan = try #require(plans.first)
        #expect(plan.level == .initial && Array(early[plan.payloadOffset...].prefix(4)) == [0x1c, 0x0c, 0, 0])
        #expect(!early.contains(words))
        pair = ClearPair()
        pair.handshake()
        pair.server.close(applicationCode: 0x77, reason: "a secret", at: pair.now)
        let (late, latePlans) = try #require(ClearPair.transmit(&pair.server, at: pair.now))
        #expect(latePlans.map(\.level) == [.application] && late.contains([0x1d, 0x40, 0x77, 8] + words))
    }

    /// RFC 9000 section 7.2: a client's packets of the handshake come under one ID.
    @Test func theSourceOfTheHandshakeStaysTheSame() {
        var pair = ClearPair()
        let first = ConnectionID([UInt8](repeating: 3, count: 8))!
        for (number, source) in [first, ConnectionID([UInt8](repeating: 4, count: 8))!].enumerated() {
            ClearPair.inject(
                [0x06, UInt8(number), 1, 0x61], level: .initial, number: UInt64(number), source: source,
                from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        }
        pair.pump()
        #expect(pair.client.remoteID == first)
        let octets: [UInt8] = pair.clientEvents.flatMap { event -> [UInt8] in
            if case .handshakeBytes(_, let bytes) = event { bytes } else { [] }
        }
        #expect(octets == [0x61])
    }

    /// A peer whose transport parameters are refused was never connected.
    @Test func refusedParametersConnectNobody() {
        var pair = ClearPair()
        pair.server.peerParametersReceived([0x0e, 1, 1], at: pair.now)
        pair.server.handshakeCompleted(at: pair.now)
        pair.pump()
        #expect(pair.serverEvents.closeReason != nil)
        #expect(!pair.serverEvents.contains { if case .connected = $0 { true } else { false } })
    }

    /// Section 10.1.2: the keep-alive is for the shorter of the two idle timeouts.
    @Test func keepAliveKnowsThePeersIdleTimeout() {
        var configuration = ConnectionConfiguration()
        configuration.keepAlive = .seconds(10)
        var impatient = ConnectionConfiguration()
        impatient.parameters.maxIdleTimeout = .seconds(3)
        var pair = ClearPair(client: configuration, server: impatient)
        pair.handshake()
        pair.run(for: .seconds(30))
        #expect(pair.client.isActive && pair.server.isActive)
    }

    /// A token that would fill the first packet of the next connection is of no use.
    @Test(arguments: [(32, true), (900, false)]) func longTokensAreNotKept(_ length: Int, _ isKept: Bool) {
        var pair = ClearPair()
        pair.handshake()
        let frame = [0x07, 0x40 | UInt8(length >> 8), UInt8(length & 0xff)] + [UInt8](repeating: 1, count: length)
        ClearPair.inject(frame, number: 1000, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        pair.pump()
        #expect(pair.client.isActive == true)
        #expect(pair.clientEvents.contains { if case .newToken = $0 { true } else { false } } == isKept)
    }
}
