import Testing
import Wire

@testable import Flexicast

/// The small machines that a flow is made of, against plain models of them.
@Suite struct PartsTests {
    @Test func theTreeKnowsTheMinimum() {
        var random = SeededRandom(seed: 3)
        var tree = MinimumTree()
        var model: [Int: UInt64] = [:]
        for _ in 0..<3000 {
            let slot = Int.random(in: 0..<200, using: &random)
            if Int.random(in: 0..<4, using: &random) == 0 {
                tree.clear(slot)
                model[slot] = nil
            } else {
                let value = UInt64.random(in: 0..<1000, using: &random)
                tree.set(slot, value)
                model[slot] = value
            }
            let least = model.values.min() ?? MinimumTree.none
            #expect(tree.minimum == least)
            if let slot = tree.slotOfMinimum { #expect(model[slot] == least) } else { #expect(model.isEmpty) }
        }
        var below: [Int] = []
        tree.slots(below: 300, into: &below)
        #expect(Set(below) == Set(model.filter { $0.value < 300 }.keys))
        #expect(below.count == Set(below).count)
    }

    @Test func theRingKeepsIndicesAndGivesMemoryBack() {
        var ring = IndexedRing(filler: 0, startingAt: 5)
        for round in 0..<3 {
            for value in 0..<20_000 { ring.append(value + round) }
            #expect(ring.count == 20_000)
            let base = ring.base
            for offset in stride(from: 0, to: 20_000, by: 997) {
                #expect(ring[base + UInt64(offset)] == offset + round)
            }
            ring.removeFirst(upTo: ring.end)
            #expect(ring.isEmpty)
            // It was needed and may be needed again.
            #expect(ring.capacity == 32_768)
        }
        // Needed no more, it goes.
        for value in 0..<10 {
            ring.append(value)
            ring.removeFirst()
        }
        #expect(ring.capacity == 8192)
        // A queue that stays short never grows.
        var short = IndexedRing(filler: 0)
        for value in 0..<10_000 {
            short.append(value)
            if short.count > 50 { short.removeFirst() }
        }
        #expect(short.capacity == 256)
    }

    @Test func aFastFlowWaitsForSeveralRuns() {
        func quantum(_ rate: UInt64) -> Int {
            var pacer = RatePacer(packetSize: 1200, burstPackets: 104, now: Instant(nanoseconds: 0))
            pacer.spent(104 * 1200)
            let mayAtOnce = pacer.allows(rate: rate, at: Instant(nanoseconds: 0))
            #expect(!mayAtOnce)
            let mayThen = pacer.allows(rate: rate, at: pacer.resumes(rate: rate))
            #expect(mayThen)
            return pacer.packets
        }
        #expect(quantum(1_000_000_000) == 52)
        #expect(quantum(4_900_000_000) == 52)
        #expect(quantum(5_100_000_000) == 104)
        #expect(quantum(10_000_000_000) == 208)
        #expect(quantum(21_000_000_000) == 416)
        #expect(quantum(1_000_000_000_000) == 416)
    }

    @Test(arguments: [256_000, 5_000_000, 100_000_000, 1_000_000_000, 10_000_000_000] as [UInt64])
    func thePacerKeepsTheRateAndSendsInQuanta(rate: UInt64) {
        var now = Instant(nanoseconds: 0)
        var pacer = RatePacer(packetSize: 1200, burstPackets: 32, now: now)
        var sent: UInt64 = 0
        var pauses = 0
        let end = now + .seconds(2)
        while now < end {
            if pacer.allows(rate: rate, at: now) {
                pacer.spent(1200)
                sent += 1200
            } else {
                let next = pacer.resumes(rate: rate)
                #expect(next > now)
                now = next
                pauses += 1
            }
        }
        let allowed = Double(rate) / 8 * 2 + 1200 * 33
        #expect(Double(sent) <= allowed)
        #expect(Double(sent) >= allowed * 0.9 - 1200 * 33)
        if rate >= 100_000_000 { #expect(sent / 1200 / UInt64(pauses) >= 8) }
    }

    @Test func theThroughputEquationAgreesWithRFC5348() {
        // RFC 5348 section 3.1 with s = 1000 octets, R = 100 ms, p = 1 %: about 112 octets x 1000 per second.
        let rate = Throughput.bitsPerSecond(size: 1000, roundTrip: .milliseconds(100), lossEventRate: 0.01)
        #expect((850_000...920_000).contains(rate))
        let interval = Throughput.interval(size: 1000, roundTrip: .milliseconds(100), bitsPerSecond: rate)
        #expect((80.0...150.0).contains(interval))
        #expect(Throughput.bitsPerSecond(size: 1000, roundTrip: .zero, lossEventRate: 0) == .max)
    }

    @Test func lossesWithinARoundTripAreOneEvent() {
        var history = LossHistory()
        var now = Instant(nanoseconds: 0)
        var packet: UInt64 = 0
        for _ in 0..<40 {
            for burst in 0..<3 {
                _ = history.lost(packet + UInt64(burst), sentAt: now, roundTrip: .milliseconds(50), synthetic: 100)
            }
            packet += 100
            now += .seconds(1)
        }
        #expect((0.0095...0.0105).contains(history.eventRate(next: packet)))
        // A long time without loss counts for more and more.
        #expect(history.eventRate(next: packet + 10_000) < 0.001)
    }

    @Test func joinsEarnCreditWithTime() {
        var now = Instant(nanoseconds: 0)
        var limiter = JoinLimiter(burst: 3, interval: .seconds(5), now: now)
        let first = (0..<5).map { _ in limiter.allowsJoin(at: now) }
        #expect(first == [true, true, true, false, false])
        now += .seconds(6)
        let second = (0..<2).map { _ in limiter.allowsJoin(at: now) }
        #expect(second == [true, false])
        now += .seconds(100)
        limiter.evicted(at: now)
        let allowed1 = limiter.allowsJoin(at: now + .seconds(1))
        #expect(!allowed1)
        let allowed2 = limiter.allowsJoin(at: now + .seconds(3))
        #expect(allowed2)
        limiter.evicted(at: now)
        limiter.evicted(at: now)
        let allowed3 = limiter.allowsJoin(at: now + .seconds(7))
        #expect(!allowed3)
    }
}
