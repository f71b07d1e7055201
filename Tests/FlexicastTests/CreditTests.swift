import QUIC
import Testing
import Wire

@testable import Flexicast

/// The flow waits for nobody's credit, and sends nobody more than it has allowed.
@Suite struct CreditTests {
    /// Sends an object each 10 ms, and the first member acknowledges: the longest that octets waited in the queue.
    private func worstWait(_ bench: Bench, honest: MemberID, steps: Int, each: (Int) -> Void) -> Duration {
        var worst = Duration.zero
        var waiting = bench.now
        for step in 0..<steps {
            each(step)
            _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 900)))
            bench.transmit()
            bench.advance(.milliseconds(10))
            bench.acknowledgeAll(honest)
            if bench.flow.queuedOctets == 0 { waiting = bench.now }
            worst = max(worst, bench.now - waiting)
        }
        return worst
    }

    /// One each 0.7 s that has no credit, or a little: each held the flow for three seconds.
    @Test(arguments: [0, 1, 500] as [UInt64]) func newcomersWithoutCreditHoldNothing(credit: UInt64) {
        let bench = Bench()
        let honest = bench.addMembers(1)[0]
        var admitted = 0
        let worst = worstWait(bench, honest: honest, steps: 700) { step in
            guard step % 70 == 0 else { return }
            let liar = bench.flow.add(streamWindow: 1 << 30, octets: credit, streams: 100, at: bench.now)
            if liar != nil { admitted += 1 }
        }
        #expect(worst <= .milliseconds(20))
        #expect(admitted == (credit == 0 ? 0 : 10))
        #expect(bench.removals.allSatisfy { $0.1 == .outOfCredit && $0.0 != honest })
    }

    /// 25 at once, whose credit ends one after the other.
    @Test func manyWhoseCreditEndsOneAfterTheOtherHoldNothing() {
        let bench = Bench()
        let honest = bench.addMembers(1)[0]
        let liars = (1...25).map { bench.addMembers(1, octets: UInt64($0) * 700, streams: 1000)[0] }
        let worst = worstWait(bench, honest: honest, steps: 100) { _ in }
        #expect(worst <= .milliseconds(20))
        #expect(Set(bench.removals.map(\.0)) == Set(liars))
        #expect(bench.flow.memberCount == 1)
    }

    /// RFC 9000 sections 4.1 and 4.6: whatever members grant, and however late, none is charged more than it granted.
    @Test(arguments: 1...6 as ClosedRange<UInt64>) func nobodyIsSentMoreThanItAllows(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let bench = Bench { $0.rateCeiling = 20_000_000 }
        var octets: [UInt64: UInt64] = [:]
        var streams: [UInt64: UInt64] = [:]
        func key(_ id: MemberID) -> UInt64 { UInt64(id.slot) << 32 | UInt64(id.epoch) }
        var live: [MemberID] = []
        for _ in 0..<400 {
            if live.count < 6, Int.random(in: 0..<3, using: &random) == 0 {
                let grant = (UInt64.random(in: 1..<6000, using: &random), UInt64.random(in: 1..<6, using: &random))
                if let id = bench.flow.add(streamWindow: 1 << 30, octets: grant.0, streams: grant.1, at: bench.now) {
                    live.append(id)
                    (octets[key(id)], streams[key(id)]) = grant
                }
            }
            _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: Int.random(in: 0..<3000, using: &random))))
            bench.transmit()
            bench.advance(.milliseconds(Int64.random(in: 0..<10, using: &random)))
            for action in bench.actions {
                guard case .memberRemoved(let id, _, let charge) = action else { continue }
                live.removeAll { $0 == id }
                // What is left after a member has gone is what its connection sends, under its own rules.
                #expect(octets[key(id)].map { charge.octets <= $0 } == true, "seed \(seed)")
                #expect(streams[key(id)].map { charge.streams <= $0 } == true, "seed \(seed)")
            }
            bench.actions.removeAll()
            for id in live {
                bench.acknowledgeAll(id)
                let charge = bench.flow.takeCharge(id)
                guard bench.flow.isMember(id), let left = octets[key(id)], let rest = streams[key(id)] else { continue }
                #expect(charge.octets <= left && charge.streams <= rest, "seed \(seed)")
                octets[key(id)] = left - min(left, charge.octets) + UInt64.random(in: 0..<2500, using: &random)
                streams[key(id)] = rest - min(rest, charge.streams) + UInt64.random(in: 0..<3, using: &random)
                bench.flow.setCredit(id, octets: octets[key(id)] ?? 0, streams: streams[key(id)] ?? 0)
            }
        }
        #expect(bench.flow.statistics.evictions > 5)
    }

    /// A member leaves while what is on its way to it still fits.
    @Test func aMemberLeavesBeforeItIsOutOfCredit() {
        let bench = Bench { $0.rateCeiling = 8_000_000 }
        let honest = bench.addMembers(1)[0]
        _ = worstWait(bench, honest: honest, steps: 100) { _ in }
        // 90 000 octets a second, and 300 ms for three round trips.
        let late = bench.addMembers(1, octets: 400_000, streams: 1000)[0]
        _ = worstWait(bench, honest: honest, steps: 450) { _ in bench.acknowledgeAll(late) }
        guard
            case .memberRemoved(_, .outOfCredit, let charge)? = bench.actions.last(where: {
                if case .memberRemoved = $0 { true } else { false }
            })
        else {
            Issue.record("it is a member still")
            return
        }
        #expect((350_000...380_000).contains(charge.octets))
    }

    /// When everybody is out of credit at once, so many are removed in one turn and the rest in the next.
    @Test func whatOneTurnRemovesIsBounded() {
        let bench = Bench { $0.memberTimeout = .seconds(1) }
        _ = bench.addMembers(3000)
        for _ in 0..<30 { _ = bench.flow.publish(StreamOctets([1])) }
        bench.now += .seconds(2)
        bench.flow.timerFired(at: bench.now)
        var count = 0
        while bench.flow.nextAction() != nil { count += 1 }
        #expect(count >= FlowSource.mostActions && count < FlowSource.mostActions + 100)
        #expect(bench.flow.memberCount > 0)
        bench.advance(.milliseconds(1))
        #expect(bench.flow.memberCount == 0)
    }
}
