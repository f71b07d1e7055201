import Testing
import Wire

@testable import QUIC

@Suite("Pacing (RFC 9002 section 7.7)")
struct WindowPacerTests {
    @Test("over any stretch of time no more than a burst above the rate", arguments: 0..<10 as Range<UInt64>)
    func rate(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let rate = WindowPacer.Rate(
            window: Int.random(in: 12_000...3_000_000, using: &random),
            smoothedRTT: Int64.random(in: 200_000...200_000_000, using: &random), datagramSize: 1200)
        let bytesPerNanosecond = 1.25 * Double(rate.window) / Double(rate.smoothedRTT)
        let burst = min(max(bytesPerNanosecond * 2e6, 12_000), 52 * 1200)
        var pacer = WindowPacer()
        var now: Int64 = 5_000_000_000
        var sends: [(time: Int64, total: Int)] = []
        var total = 0
        var waits = 0
        for _ in 0..<3000 {
            if pacer.allows(rate: rate, at: now) {
                let size = Int.random(in: 1...4, using: &random) == 1 ? 300 : 1200
                pacer.sent(size, rate: rate, at: now)
                total += size
                sends.append((now, total))
            } else {
                let next = pacer.nextQuantum(rate: rate)
                #expect(next > now)
                waits += 1
                now = next
                #expect(pacer.allows(rate: rate, at: now))
            }
            // Now and then nothing is sent for a while.
            if Int.random(in: 0..<200, using: &random) == 0 { now += Int64.random(in: 0...50_000_000, using: &random) }
        }
        #expect(waits > 10)
        for first in stride(from: 0, to: sends.count, by: 17) {
            for last in stride(from: first + 1, to: sends.count, by: 13) {
                let bytes = Double(sends[last].total - (first == 0 ? 0 : sends[first - 1].total))
                let allowed = burst + bytesPerNanosecond * Double(sends[last].time - sends[first].time)
                guard bytes <= allowed * 1.0001 + 1 else {
                    Issue.record("\(bytes) octets where \(allowed) were allowed")
                    return
                }
            }
        }
    }

    @Test func theRateIsReached() {
        let rate = WindowPacer.Rate(window: 1_200_000, smoothedRTT: 20_000_000, datagramSize: 1200)
        var pacer = WindowPacer()
        var now: Int64 = 0
        var total = 0
        while now < 1_000_000_000 {
            if pacer.allows(rate: rate, at: now) {
                pacer.sent(1200, rate: rate, at: now)
                total += 1200
            } else {
                now = pacer.nextQuantum(rate: rate)
            }
        }
        // 75 MB in the second, and one burst.
        #expect(total >= 74_900_000 && total <= 75_200_000)
    }

    /// A loop that has others to serve looks every 3 ms; 12.5 datagrams are worth a millisecond, and a burst is 25.
    @Test("a late look loses nothing of the rate while data waits", arguments: [false, true])
    func lateLooks(isHoldingBack: Bool) {
        let rate = WindowPacer.Rate(window: 100 * 1200, smoothedRTT: 10_000_000, datagramSize: 1200)
        var pacer = WindowPacer()
        func look(at now: Int64) -> Int {
            var count = 0
            let allowed = pacer.datagramsAllowed(rate: rate, at: now)
            while pacer.allows(rate: rate, at: now) {
                pacer.sent(1200, rate: rate, at: now)
                count += 1
            }
            #expect(count == allowed)
            pacer.isHoldingBack = isHoldingBack
            return count
        }
        #expect(look(at: 0) == 25)
        let total = (1...1000).reduce(0) { $0 + look(at: Int64($1) * 3_000_000) }
        #expect(total == (isHoldingBack ? 37_500 : 25_000))
        // However late, no more than the largest burst.
        #expect(look(at: 10_000_000_000) == (isHoldingBack ? 52 : 25))
    }

    @Test func theInitialWindowLeavesAtOnce() {
        var sender = Sender()
        var sent = 0
        while sender.recovery.canSend(at: at(0)) && sent < 100 {
            sender.send(at: at(0))
            sent += 1
        }
        #expect(sent == 10)
        #expect(sender.recovery.pacerDeadline == nil, "it is the window that is full")
    }

    @Test func aGuessedRoundTripHoldsNothingBack() throws {
        var sender = Sender()
        for _ in 0..<3 { sender.send(at: at(0)) }
        try sender.acknowledge(0...2, at: at(1))
        var sent = 0
        while sender.recovery.bytesInFlight + 1200 <= sender.recovery.congestionWindow {
            guard sender.recovery.canSend(at: at(1)) else { break }
            sender.send(at: at(1))
            sent += 1
        }
        #expect(sent >= 10 && sender.recovery.bytesInFlight + 1200 > sender.recovery.congestionWindow)
    }

    @Test func whatWaitsForThePacerGoesInQuanta() throws {
        var sender = Sender()
        // A window of 480 datagrams at 20 ms: 600 datagrams per round trip.
        var now: Int64 = 0
        while sender.recovery.congestionWindow < 480 * 1200 {
            var sent: [UInt64] = []
            while sender.recovery.bytesInFlight + 1200 <= sender.recovery.congestionWindow {
                sent.append(sender.send(at: at(now)))
            }
            now += 20
            try sender.acknowledge(sent[0]...sent[sent.count - 1], at: at(now))
        }
        now += 1000
        var burst = 0
        while sender.recovery.canSend(at: at(now)) {
            sender.send(at: at(now))
            burst += 1
        }
        #expect(burst == 52)
        let next = try #require(sender.recovery.pacerDeadline)
        #expect(next > at(now))
        var asked = sender
        #expect(asked.recovery.canSend(at: next) == true)
        #expect(asked.recovery.pacerDeadline == nil, "no deadline stays in the past")
        var quantum = 0
        while sender.recovery.canSend(at: next) {
            sender.send(at: next)
            quantum += 1
        }
        // What is worth a millisecond: 30 datagrams or more, as slow start went past 480.
        #expect(quantum >= 30 && quantum <= 52)
    }

    @Test func acknowledgementsAreNotPaced() {
        var sender = Sender()
        for _ in 0..<1000 { sender.send(eliciting: false, at: at(0)) }
        #expect(sender.recovery.canSend(at: at(0)) == true)
    }

    @Test("so many datagrams at once as one by one", arguments: 0..<200 as Range<UInt64>)
    func datagramsAllowed(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var sender = Sender()
        // Nothing is marked here: the test of marks comes to its end by time.
        for _ in 0..<3 { sender.recovery.ecn.testTimedOut() }
        var now: Int64 = 0
        for _ in 0..<Int.random(in: 0..<12, using: &random) {
            var sent: [UInt64] = []
            for _ in 0..<Int.random(in: 1...40, using: &random) where sender.recovery.canSend(at: at(now)) {
                sent.append(sender.send(at: at(now)))
            }
            now += Int64.random(in: 1...20, using: &random)
            if let first = sent.first, let last = sent.last { try sender.acknowledge(first...last, at: at(now)) }
        }
        let allowed = sender.recovery.datagramsAllowed(at: at(now))
        var count = 0
        while sender.recovery.canSend(at: at(now)) {
            sender.send(at: at(now))
            count += 1
        }
        #expect(allowed == count)
        #expect(sender.recovery.datagramsAllowed(at: at(now)) == 0)
    }
}

@Suite("Acknowledgements that gather")
struct GatheringTests {
    /// With a round trip of `milliseconds`, and as much in flight as may be.
    private func full(_ milliseconds: Int64) throws -> Sender {
        var sender = Sender()
        sender.send(at: at(0))
        try sender.acknowledge(0...0, at: at(milliseconds))
        while sender.recovery.canSend(at: at(milliseconds)) { sender.send(at: at(milliseconds)) }
        return sender
    }

    @Test func anEighthOfTheRoundTripAndAMillisecondAtTheMost() throws {
        #expect(try full(2).recovery.gatherDeadline(at: at(2)) == at(2) + .microseconds(250))
        #expect(try full(8).recovery.gatherDeadline(at: at(8)) == at(9))
        #expect(try full(100).recovery.gatherDeadline(at: at(100)) == at(101))
    }

    @Test func threeQuartersOfTheTimeThatPacketsQueue() throws {
        var sender = try full(1)
        let last = sender.recovery.nextPacketNumber(.application) - 1
        // Smoothed: 7/8 of 1 ms and 1/8 of 9 ms, that is a queue of a millisecond.
        try sender.acknowledge(1...last, at: at(10))
        #expect(sender.recovery.rtt.smoothed == .milliseconds(2))
        while sender.recovery.canSend(at: at(10)) { sender.send(at: at(10)) }
        #expect(sender.recovery.gatherDeadline(at: at(10)) == at(10) + .microseconds(750))
    }

    @Test func notWhilePacketsMayGoNorWhenAcknowledgementsStayOut() throws {
        var sender = Sender()
        #expect(sender.recovery.gatherDeadline(at: at(0)) == nil)
        sender = try full(8)
        let last = sender.recovery.nextPacketNumber(.application) - 1
        #expect(sender.fire(at: at(1000)) == .probe(.application))
        #expect(sender.recovery.gatherDeadline(at: at(1000)) == nil)
        try sender.acknowledge(1...last, at: at(1001))
        #expect(sender.recovery.gatherDeadline(at: at(1001)) == nil)
    }
}
