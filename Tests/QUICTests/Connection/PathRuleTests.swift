import Testing
import Wire

@testable import QUIC

/// Single rules of paths, their validation and connection IDs, each with a case that only it decides.
@Suite struct PathRuleTests {
    private static let elsewhere = SocketAddress("203.0.113.9:1")!

    /// The client says something, and it comes from `address`.
    private static func move(to address: SocketAddress, _ pair: inout ClearPair) throws {
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [UInt8](repeating: 9, count: 1100), fin: true)
        let datagram = ClearPair.transmit(&pair.client, at: pair.now)!
        ClearPair.deliver(datagram.0, datagram.1, from: address, to: &pair.server, at: pair.now)
    }

    /// RFC 9000 section 8.2.1: no two questions are alike, on one connection or on two.
    @Test func challengesAreUnpredictable() throws {
        var seen: Set<UInt64> = []
        var count = 0
        for seed: UInt64 in 1...4 {
            var pair = ClearPair(seed: seed)
            pair.handshake()
            for port: UInt16 in 1...8 {
                try Self.move(to: SocketAddress(Self.elsewhere.address, port: port), &pair)
                for data in [pair.server.path.challenge?.data, pair.server.previousPath?.challenge] {
                    guard let data else { continue }
                    seen.insert(data)
                    count += 1
                }
            }
        }
        #expect(count >= 36 && seen.count >= 36)
        // Neither small nor alike in any half.
        #expect(
            Set(seen.map { $0 >> 32 }).count == seen.count && Set(seen.map { $0 & 0xffff_ffff }).count == seen.count)
    }

    /// RFC 9000 section 8.2.2: an answer proves the path that was asked about, whichever way it came.
    @Test func answersMayComeAnotherWay() throws {
        var pair = ClearPair()
        pair.handshake()
        try Self.move(to: Self.elsewhere, &pair)
        let data = try #require(pair.server.path.challenge?.data)
        #expect(pair.server.isRemoteAddressValidated == false)
        let answer = [0x1b] + (0..<8).map { UInt8(truncatingIfNeeded: data >> UInt64(56 - 8 * $0)) }
        ClearPair.inject(answer, number: 5000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        #expect(pair.server.isRemoteAddressValidated == true)
        #expect(pair.server.remoteAddress == Self.elsewhere)
    }

    /// RFC 9000 section 8.2.2: one answer for one question, lost or not.
    @Test func questionsAreAnsweredOnce() {
        var pair = ClearPair()
        pair.handshake()
        ClearPair.inject(
            [0x1a, 1, 2, 3, 4, 5, 6, 7, 8], number: 1000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        var answers = 0
        for _ in 0..<60 {
            answers += ClearPair.frames(of: &pair.server, at: pair.now).flatMap(\.names).count { $0 == "path_response" }
            pair.now += .milliseconds(100)
            if pair.server.nextDeadline <= pair.now { pair.server.timerFired(at: pair.now) }
        }
        #expect(answers == 1)
    }

    /// RFC 9000 section 9.3.2: who has no proven address to go back to ends without a word.
    @Test func withoutAPathThereIsNothingToSay() throws {
        var pair = ClearPair()
        pair.handshake()
        try Self.move(to: Self.elsewhere, &pair)
        pair.server.previousPath = nil
        var names: [String] = []
        for _ in 0..<100 where pair.server.isDrained == false {
            names += ClearPair.frames(of: &pair.server, at: pair.now).flatMap(\.names)
            pair.now += .milliseconds(100)
            if pair.server.nextDeadline <= pair.now { pair.server.timerFired(at: pair.now) }
        }
        #expect(pair.server.isDrained == true && names.contains("path_challenge"))
        let last = ClearPair.transmit(&pair.server, at: pair.now)
        #expect(last == nil && !names.contains("connection_close"))
    }

    /// RFC 9000 section 9.4: a question is asked again after a probe timeout, and not before.
    @Test func questionsAreRepeatedByTheProbeTimeout() throws {
        var pair = ClearPair()
        pair.handshake()
        try Self.move(to: SocketAddress("192.0.2.1:6000")!, &pair)
        let timeout = pair.server.probeTimeout
        var asked: [Instant] = []
        for _ in 0..<1000 {
            if ClearPair.frames(of: &pair.server, at: pair.now).contains(where: { $0.names.contains("path_challenge") })
            {
                asked.append(pair.now)
            }
            pair.now += .milliseconds(1)
            if pair.server.nextDeadline <= pair.now { pair.server.timerFired(at: pair.now) }
        }
        let gaps = zip(asked.dropFirst(), asked).map { $0 - $1 }
        #expect(gaps.count >= 1 && gaps.allSatisfy { $0 >= timeout }, "\(gaps)")
    }

    /// RFC 9000 section 10.1: an idle timeout of a millisecond leaves time for three probe timeouts.
    @Test func shortIdleTimeoutsAreStretched() throws {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxIdleTimeout = .milliseconds(1)
        var pair = ClearPair(client: configuration, server: configuration)
        pair.handshake()
        #expect(try ConnectionTests.transfer([1, 2, 3], over: &pair) == [1, 2, 3])
        let begin = pair.now
        let least = pair.server.probeTimeout * 3 - .milliseconds(50)
        pair.run { $0.serverEvents.closeReason != nil }
        #expect(pair.serverEvents.closeReason == .idleTimeout && pair.now - begin >= least)
    }

    /// RFC 9000 section 14: where 1200 octets do not pass, nothing begins.
    @Test func pathsCarryTwelveHundredOctets() {
        var pair = ClearPair()
        pair.limit = 1199
        pair.client.queueHandshakeBytes(Array("client hello".utf8), at: .initial)
        pair.run { $0.clientEvents.closeReason != nil }
        #expect(pair.clientEvents.closeReason == .idleTimeout)
        #expect(pair.server.statistics.datagramsReceived == 0 && pair.client.statistics.datagramsSent > 1)
    }

    /// RFC 9000 section 19.15: who addresses the peer without an ID is given none.
    @Test func noIDsForWhoUsesNone() {
        let pair = ClearPair()
        var server = Connection(
            server: ConnectionConfiguration(), to: ClearPair.clientAddress,
            localID: pair.server.localConnectionIDs[0], clientID: .empty,
            original: ConnectionID([UInt8](repeating: 1, count: 8))!, retrySource: nil, addressValidated: true,
            resetToken: nil, seed: SeededRandom(seed: 1), at: pair.now)
        ClearPair.inject(
            [0x18, 1, 0, 8] + [UInt8](repeating: 7, count: 24), number: 1, from: ClearPair.clientAddress, to: &server,
            at: pair.now)
        var reason: CloseReason?
        while let event = server.nextEvent() { if case .closed(let why) = event { reason = why } }
        guard case .local(let error) = reason else { return #expect(Bool(false), "still open") }
        #expect(error.code == .protocolViolation)
    }

    /// RFC 9000 section 5.1.1: an ID that was issued is answered to until the peer retires it.
    @Test func issuedIDsAreAnsweredTo() {
        var pair = ClearPair()
        pair.handshake()
        let first = pair.server.localConnectionIDs[0]
        let second = ConnectionID([UInt8](repeating: 5, count: 8))!
        pair.server.provideConnectionID(second, resetToken: [UInt8](repeating: 5, count: 16))
        var taken: [Bool] = []
        let packets: [([UInt8], ConnectionID)] = [
            ([0x01], second), ([0x01], first), ([0x01], second), ([0x19, 1], first), ([0x01], second), ([0x01], first),
        ]
        for (number, (payload, id)) in packets.enumerated() {
            let before = pair.server.statistics.packetsReceived
            ClearPair.inject(
                payload, number: 1000 + UInt64(number), destination: id, from: ClearPair.clientAddress,
                to: &pair.server, at: pair.now)
            taken.append(pair.server.statistics.packetsReceived > before)
            pair.now += .seconds(1)
        }
        #expect(taken == [true, true, true, true, false, true])
    }

    /// RFC 9000 section 10.3.1: only the token of the ID in use says that the peer has lost its state.
    @Test func tokensOfOtherIDsSayNothing() {
        var pair = ClearPair()
        pair.handshake()
        func token(_ sequence: UInt8) -> [UInt8] { [UInt8](repeating: sequence, count: 16) }
        func give(_ sequence: UInt8, retirePriorTo: UInt8) {
            let id = [UInt8](repeating: sequence, count: 8)
            ClearPair.inject(
                [0x18, sequence, retirePriorTo, 8] + id + token(sequence), number: 1000 + UInt64(sequence),
                from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        }
        var known: [[Bool]] = []
        for sequence in UInt8(1)...3 {
            give(sequence, retirePriorTo: sequence - 1)
            known.append((UInt8(1)...3).map { pair.client.isStatelessReset(token($0)) })
        }
        // The first is given and not used; then each is in use as the one before is retired.
        #expect(known == [[false, false, false], [true, false, false], [false, true, false]])
    }
}
