import Testing
import Wire

@testable import QUIC

@Suite("Recovery inside a connection")
struct ConnectionRecoveryTests {
    /// A deadline that has passed and stays would keep the event loop spinning.
    @Test("after each turn the next deadline lies ahead", arguments: UInt64(1)...6)
    func noDeadlineStaysInThePast(seed: UInt64) throws {
        var pair = ClearPair(seed: seed, validated: seed % 2 == 0)
        pair.drop = { fromClient, index in
            var random = SeededRandom(seed: (seed, UInt64(index), fromClient ? 1 : 0, 0))
            return random.next() % 6 == 0
        }
        pair.handshake()
        let stream = try pair.client.openStream(bidirectional: false)
        try pair.client.write(stream, [UInt8](repeating: 7, count: 300_000), fin: true)
        var stale = 0
        var turns = 0
        let end = pair.now + .seconds(20)
        pair.run(until: { pair in
            turns += 1
            if pair.client.nextDeadline <= pair.now || pair.server.nextDeadline <= pair.now { stale += 1 }
            return pair.now > end
        })
        #expect(turns > 100)
        #expect(stale == 0)
    }

    @Test("an acknowledgement that may not be sent sets no deadline", arguments: [false, true])
    func acknowledgementsThatCannotGo(isDiscarded: Bool) {
        var pair = ClearPair(validated: false)
        let client = pair.client.localConnectionIDs[0]
        ClearPair.inject(
            [0x01], level: .initial, number: 0, source: client, from: ClearPair.clientAddress, to: &pair.server,
            at: pair.now)
        #expect(pair.server.acks[0].mustAckNow(at: pair.now))
        // The keys are gone, or nothing was received that would allow an answer.
        if isDiscarded {
            pair.server.recovery.amplificationBlocked = false
            pair.server.discard(.initial)
        }
        let datagram = ClearPair.transmit(&pair.server, at: pair.now)
        #expect(datagram == nil)
        #expect(pair.server.nextDeadline > pair.now)
    }

    @Test("a probe repeats what was sent last: the tail of a stream arrives with it (RFC 9002 section 6.2.4)")
    func probesRepairTheTail() throws {
        var pair = ClearPair()
        pair.handshake()
        pair.run(until: { $0.server.bytesInFlight == 0 })
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [1, 2, 3], fin: true)
        // Gone with everything else that is on its way.
        while ClearPair.transmit(&pair.server, at: pair.now) != nil {}
        let sent = pair.now
        let probeTimeout = pair.server.probeTimeout
        pair.run(until: { pair in
            pair.clientEvents.contains { if case .streamReadable = $0 { true } else { false } }
        })
        let chunk = pair.client.read(stream)
        #expect(chunk.map { Array($0.bytes) } == [1, 2, 3])
        #expect(pair.now - sent <= probeTimeout + pair.delay + .milliseconds(1))
    }

    /// RFC 9002 sections 7 and 7.5: no more is in flight than the window allows, but for probes.
    @Test func theWindowHoldsDataBackButNoProbe() throws {
        var pair = ClearPair()
        pair.handshake()
        pair.run(until: { $0.server.bytesInFlight == 0 })
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [UInt8](repeating: 7, count: 200_000), fin: true)
        for _ in 0..<100 {
            while ClearPair.transmit(&pair.server, at: pair.now) != nil {}
            #expect(pair.server.bytesInFlight <= pair.server.congestionWindow)
            pair.now += .microseconds(100)
        }
        let full = pair.server.bytesInFlight
        #expect(full + 1200 > pair.server.congestionWindow)
        pair.now = max(pair.now, pair.server.nextDeadline)
        pair.server.timerFired(at: pair.now)
        let probe = ClearPair.transmit(&pair.server, at: pair.now)
        #expect(probe != nil && pair.server.bytesInFlight > full)
    }

    @Test("the pacer holds back what waits for nothing else")
    func thePacerKnowsThatDataWaits() throws {
        var pair = ClearPair()
        pair.handshake()
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [UInt8](repeating: 7, count: 200_000), fin: true)
        var seen: Set<[Bool]> = []
        pair.run(until: { pair in
            let reasons = [pair.server.wantsToSend, pair.server.recovery.windowAllows]
            seen.insert(reasons)
            #expect(pair.server.recovery.pacer.isHoldingBack == (reasons == [true, true]))
            return pair.server.bytesInFlight == 0 && !pair.server.wantsToSend
        })
        #expect(seen.isSuperset(of: [[true, true], [true, false], [false, true]]))
    }

    /// RFC 9000 section 13.4.2: the peer's counts are held against what left marked, so both must agree at the last of
    /// the test packets, too.
    @Test func theMarkOfADatagramIsTheOneNoted() {
        var random = SeededRandom(seed: 1)
        var client = Connection(
            client: .init(), to: ClearPair.serverAddress, localID: ConnectionID(random.octets(8))!,
            serverID: ConnectionID(random.octets(8))!, seed: random, at: at(0))
        client.queueHandshakeBytes([UInt8](repeating: 1, count: 30_000), at: .initial)
        var marks: [ECN] = []
        for turn in 0..<40 {
            let now = at(Int64(turn) * 500)
            if client.nextDeadline <= now { client.timerFired(at: now) }
            while true {
                var bytes = [UInt8](repeating: 0, count: 2000)
                var plans: [PacketPlan] = []
                var span = bytes.mutableSpan
                var writer = ByteWriter(&span)
                guard let datagram = client.transmit(into: &writer, plans: &plans, at: now) else { break }
                marks.append(datagram.ecn)
            }
        }
        #expect(marks.count > ECNValidation.testPackets)
        #expect(marks.prefix(ECNValidation.testPackets).allSatisfy { $0 == .ect0 })
        #expect(marks.dropFirst(ECNValidation.testPackets).allSatisfy { $0 == .notECT })
    }
}
