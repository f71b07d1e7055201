import QUIC
import Testing
import Wire

@testable import Flexicast

/// A flow works its way up to its rate.
@Suite struct SlowStartTests {
    private static let first: UInt64 = 1_000_000

    private func bench(
        members count: Int, _ change: (inout FlowConfiguration) -> Void = { _ in }
    ) -> (Bench, [MemberID]) {
        let bench = Bench {
            change(&$0)
            $0.initialRate = Self.first
            $0.rateCeiling = 50_000_000
            $0.burstPackets = 4
            $0.flowRepairPercent = 100
        }
        return (bench, bench.addMembers(count))
    }

    /// Sends for `duration`, with all the data that there could be.
    private func send(_ bench: Bench, for duration: Duration) {
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 4 << 20)))
        bench.transmit()
        bench.advance(duration)
    }

    /// RFC 9002 section 7.3.1, with a rate for the window: twice as much after each round that lost nothing.
    @Test func theRateDoublesWithEachRound() throws {
        let (bench, members) = bench(members: 3)
        var rates: [UInt64] = []
        for _ in 0..<8 {
            rates.append(bench.flow.rate)
            let before = bench.flow.statistics.octetsSent
            send(bench, for: .milliseconds(20))
            let octets = bench.flow.statistics.octetsSent - before
            #expect(octets <= 4800 + rates.last! / 8 / 50)
            // The round is over when the last of them has acknowledged, not before.
            for member in members {
                #expect(bench.flow.rate == rates.last!)
                bench.acknowledge(member, [0...(bench.flow.nextPacketNumber - 1)])
            }
        }
        #expect(rates == [1, 2, 4, 8, 16, 32, 50, 50].map { $0 * 1_000_000 })
    }

    /// An acknowledgement of packets from before the last doubling says nothing about the new rate.
    @Test func oneRoundCountsOnce() throws {
        let (bench, members) = bench(members: 1)
        send(bench, for: .milliseconds(20))
        let top = bench.flow.nextPacketNumber - 1
        bench.acknowledge(members[0], [0...0])
        #expect(bench.flow.rate == 2 * Self.first)
        for number in 1...top { bench.acknowledge(members[0], [0...number]) }
        #expect(bench.flow.rate == 2 * Self.first)
    }

    @Test func aLossEndsTheRoundWithoutDoubling() throws {
        let (bench, members) = bench(members: 2)
        for _ in 0..<3 {
            send(bench, for: .milliseconds(20))
            for member in members { bench.acknowledge(member, [0...(bench.flow.nextPacketNumber - 1)]) }
        }
        let reached = bench.flow.rate
        #expect(reached == 8 * Self.first)
        let start = bench.flow.nextPacketNumber
        send(bench, for: .milliseconds(20))
        let top = bench.flow.nextPacketNumber - 1
        bench.acknowledge(members[0], [0...top])
        bench.acknowledge(members[1], [(start + 1)...top])
        // One of two does not slow the flow down; both do. They say what they can take, and that is about half of what there
        // was (RFC 5348 section 6.3.1).
        #expect(bench.flow.rate == reached)
        bench.acknowledge(members[0], [(top - 1)...top])
        let second = bench.flow.nextPacketNumber
        send(bench, for: .milliseconds(20))
        let end = bench.flow.nextPacketNumber - 1
        for member in members { bench.acknowledge(member, [(second + 1)...end]) }
        #expect(bench.flow.rate < reached && bench.flow.rate > reached / 4)
        // When they have gone, others go on from where the flow was.
        _ = bench.addMembers(1)
        for member in members { bench.flow.leave(member, reason: .left, at: bench.now) }
        #expect(bench.flow.rate == reached)
    }

    /// A feed that trickles does not earn the right to a flood.
    @Test func aRateThatIsNotUsedDoesNotGrow() throws {
        let (bench, members) = bench(members: 1)
        for _ in 0..<20 {
            let number = bench.sendPacket(500)
            bench.advance(.milliseconds(20))
            bench.acknowledge(members[0], [number...number])
        }
        #expect(bench.flow.rate == Self.first)
    }

    /// Receivers are told of a key before its first packet, though the flow may be many times as fast by then.
    @Test func aNewKeyIsToldInTimeWhileTheRateGrows() throws {
        let (bench, members) = bench(members: 1) {
            $0.rotatesKeyAfterLeave = true
            $0.keyRotationInterval = .milliseconds(1)
            $0.keyActivationDelay = .milliseconds(100)
        }
        bench.advance(.milliseconds(5))
        bench.flow.keyHolderLeft()
        bench.flow.timerFired(at: bench.now)
        bench.drain()
        #expect(bench.keys.count == 1)
        let told = bench.now
        while bench.now - told < .seconds(1) {
            send(bench, for: .milliseconds(10))
            guard bench.flow.currentKey.generation == 0 else { break }
            bench.acknowledge(members[0], [0...(bench.flow.nextPacketNumber - 1)])
        }
        #expect(bench.flow.rate == 50 * Self.first)
        #expect(bench.now - told >= .milliseconds(100) && bench.now - told < .milliseconds(150))
    }

    /// With its last member a flow loses what it has learnt.
    @Test func theFirstMemberStartsAnew() throws {
        let (bench, members) = bench(members: 1)
        send(bench, for: .milliseconds(20))
        bench.acknowledge(members[0], [0...(bench.flow.nextPacketNumber - 1)])
        #expect(bench.flow.rate == 2 * Self.first)
        bench.flow.leave(members[0], reason: .left, at: bench.now)
        _ = bench.addMembers(1)
        #expect(bench.flow.rate == Self.first)
    }
}
