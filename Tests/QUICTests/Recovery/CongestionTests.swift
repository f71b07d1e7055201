import Testing
import Wire

@testable import QUIC

#if canImport(Glibc)
    import Glibc
#endif

/// RFC 9438 section 4 in segments and seconds, as the text has it.
private struct ReferenceCubic {
    var window: Double
    var maximum = 0.0
    var prior = 0.0
    var estimate = 0.0
    var k = 0.0
    var epoch: Double?

    mutating func loss() {
        prior = window
        maximum = window < maximum ? window * (1 + 0.7) / 2 : window
        window *= 0.7
        epoch = nil
    }

    mutating func ack(segments: Double, at time: Double, rtt: Double) {
        if epoch == nil {
            epoch = time
            estimate = window
            k = maximum > window ? cbrt((maximum - window) / 0.4) : 0
            maximum = max(maximum, window)
        }
        let t = time - epoch!
        func cubic(_ t: Double) -> Double { 0.4 * pow(t - k, 3) + maximum }
        let alpha = estimate < prior ? 3 * (1 - 0.7) / (1 + 0.7) : 1
        estimate += alpha * segments / window
        if cubic(t) < estimate {
            window = max(window, estimate)
            return
        }
        let target = min(max(cubic(t + rtt), window), 1.5 * window)
        window += segments * (target - window) / window
    }
}

private func estimator(_ rtt: Duration) -> RTTEstimator {
    var estimator = RTTEstimator(initial: rtt)
    estimator.sample(rtt.nanoseconds, ackDelay: 0, at: 0)
    return estimator
}

@Suite("Congestion control (RFC 9438, RFC 9406, RFC 9002 section 7)")
struct CongestionTests {
    @Test func theInitialWindow() {
        #expect(CongestionController(maxDatagramSize: 1200).window == 12000)
        #expect(CongestionController(maxDatagramSize: 1472).window == 14720)
        #expect(CongestionController(maxDatagramSize: 9000).window == 18000)
    }

    @Test func aSmallerDatagramShrinksOnlyAnUnusedWindow() {
        var controller = CongestionController(maxDatagramSize: 1452)
        controller.maxDatagramSize = 1200
        #expect(controller.window == 12000)
        controller.acknowledged(6000, newestSent: 0, rtt: estimator(.milliseconds(50)), isLimiting: true, at: 1)
        controller.maxDatagramSize = 1452
        controller.maxDatagramSize = 1200
        #expect(controller.window == 18000)
    }

    @Test func slowStartDoubles() {
        var controller = CongestionController(maxDatagramSize: 1200)
        for _ in 0..<10 {
            controller.acknowledged(1200, newestSent: 0, rtt: estimator(.milliseconds(50)), isLimiting: true, at: 1)
        }
        #expect(controller.window == 24000)
    }

    @Test func aWindowThatIsNotUsedDoesNotGrow() throws {
        var sender = Sender()
        for round in 0..<50 as Range<UInt64> {
            sender.send(at: at(Int64(100 * round)))
            try sender.acknowledge(round...round, at: at(Int64(100 * round + 20)))
        }
        #expect(sender.recovery.congestionWindow == 12000)
        for _ in 0..<10 { sender.send(at: at(6000)) }
        try sender.acknowledge(50...59, at: at(6020))
        #expect(sender.recovery.congestionWindow == 24000)
    }

    @Test func oneDecreasePerRoundTrip() {
        var controller = CongestionController(maxDatagramSize: 1200)
        #expect(controller.congestionEvent(sentTime: 100, at: 1000) == true)
        #expect(controller.window == 8400)
        #expect(controller.congestionEvent(sentTime: 900, at: 1100) == false)
        #expect(controller.window == 8400)
        #expect(controller.congestionEvent(sentTime: 1001, at: 2000) == true)
        #expect(controller.window == 5880)
        #expect(controller.congestionEvents == 2)
        #expect(controller.slowStartThreshold == 5880)
    }

    @Test func neverBelowTwoDatagrams() {
        var controller = CongestionController(maxDatagramSize: 1200)
        for time in 1...20 as ClosedRange<Int64> { controller.congestionEvent(sentTime: 10 * time, at: 10 * time + 1) }
        #expect(controller.window == 2400)
    }

    @Test func whatWasSentBeforeTheDecreaseDoesNotGrowTheWindow() throws {
        var sender = Sender()
        for _ in 0..<10 { sender.send(at: at(0)) }
        try sender.acknowledge(3...3, at: at(50))
        let window = sender.recovery.congestionWindow
        #expect(window == 8400)
        try sender.acknowledge(1...9, at: at(51))
        #expect(sender.recovery.congestionWindow == window)
    }

    @Test(
        "the window follows the formula of RFC 9438",
        arguments: [(100, 20), (100, 100), (1000, 100), (5000, 40), (300, 5)] as [(Int, Int64)])
    func cubic(segments: Int, roundTrip: Int64) {
        let datagram = 1200
        let rtt = estimator(.milliseconds(roundTrip))
        var controller = CongestionController(maxDatagramSize: datagram)
        // Slow start to the wanted size, in one step.
        controller.acknowledged(
            segments * datagram - controller.window, newestSent: 0, rtt: rtt, isLimiting: true, at: 0)
        var reference = ReferenceCubic(window: Double(segments))
        var now: Int64 = 0
        for round in 0..<400 {
            now += roundTrip * 1_000_000
            if round == 0 || round == 150 || round == 170 {
                controller.congestionEvent(sentTime: now - 1, at: now)
                reference.loss()
            }
            now += 1000
            // A round's worth of acknowledgements in four pieces.
            let piece = Double(controller.window) / Double(datagram) / 4
            for _ in 0..<4 {
                now += 1_000_000
                let bytes = Int(piece * Double(datagram))
                controller.acknowledged(bytes, newestSent: now, rtt: rtt, isLimiting: true, at: now)
                reference.ack(
                    segments: Double(bytes) / Double(datagram), at: Double(now) / 1e9, rtt: Double(roundTrip) / 1e3)
            }
            let expected = reference.window * Double(datagram)
            guard abs(Double(controller.window) - expected) <= max(2, expected * 1e-9) else {
                Issue.record("round \(round): \(controller.window) instead of \(expected)")
                return
            }
        }
    }

    @Test("back at the old maximum after K seconds")
    func plateau() {
        let datagram = 1000
        let rtt = estimator(.milliseconds(100))
        var controller = CongestionController(maxDatagramSize: datagram)
        controller.acknowledged(1_000_000 - controller.window, newestSent: 0, rtt: rtt, isLimiting: true, at: 0)
        controller.congestionEvent(sentTime: 1, at: 1)
        #expect(controller.window == 700_000)
        // K = cbrt(1000 * 0.3 / 0.4) seconds.
        let k = Int64(cbrt(750.0) * 1e9)
        var now: Int64 = 1
        var reached: Int64?
        var beforeHalf = 0
        while now < 2 * k {
            controller.acknowledged(controller.window / 10, newestSent: now, rtt: rtt, isLimiting: true, at: now)
            if now < k / 2 { beforeHalf = controller.window }
            if reached == nil && controller.window >= 998_000 { reached = now }
            now += 10_000_000
        }
        #expect(beforeHalf > 950_000, "most of it comes early")
        #expect(reached.map { abs($0 - k) < k / 4 } == true)
        #expect(controller.window > 1_200_000, "and then it looks for more")
    }

    @Test func idleTimeDoesNotCount() {
        let rtt = estimator(.milliseconds(50))
        var busy = CongestionController(maxDatagramSize: 1200)
        busy.acknowledged(600_000, newestSent: 0, rtt: rtt, isLimiting: true, at: 0)
        busy.congestionEvent(sentTime: 1, at: 1)
        var paused = busy
        func grow(_ controller: inout CongestionController, from start: Int64) {
            for step in 0..<20 as Range<Int64> {
                let now = start + step * 50_000_000
                controller.acknowledged(
                    controller.window, newestSent: now, rtt: rtt, isLimiting: true, at: now)
            }
        }
        grow(&busy, from: 10)
        grow(&paused, from: 10)
        let end = 10 + 19 * 50_000_000 as Int64
        // A minute in which the window was never full.
        for second in 1...60 as ClosedRange<Int64> {
            let now = end + second * 1_000_000_000
            paused.acknowledged(1200, newestSent: now, rtt: rtt, isLimiting: false, at: now)
        }
        #expect(paused.window == busy.window)
        grow(&busy, from: end)
        grow(&paused, from: end + 60_000_000_000)
        #expect(paused.window == busy.window)
    }

    @Test func cubeRoots() {
        var value = 1e-9
        while value < 1e15 {
            #expect(abs(cubeRoot(value) - cbrt(value)) <= cbrt(value) * 1e-14)
            value *= 1.37
        }
        #expect(cubeRoot(0) == 0)
    }

    @Test("slow start ends when the round trip grows, without a loss")
    func hyStart() {
        var controller = CongestionController(maxDatagramSize: 1200)
        var now: Int64 = 0
        var delay: Int64 = 40_000_000
        var windows: [Int] = []
        for round in 0..<12 {
            // From the fifth round on the queue grows.
            if round >= 4 { delay += 8_000_000 }
            let sent = now
            now += delay
            let share = controller.window / 10
            for _ in 0..<10 {
                now += 1000
                controller.acknowledged(
                    share, newestSent: sent + 1, rtt: estimator(.nanoseconds(delay)), isLimiting: true, at: now)
            }
            windows.append(controller.window)
        }
        #expect(windows[3] >= 180_000, "doubling while the round trip stays")
        #expect(!controller.isInSlowStart)
        #expect(controller.congestionEvents == 0)
        #expect(windows[11] < 12000 << 9)
    }

    @Test func jitterDoesNotEndSlowStart() {
        var controller = CongestionController(maxDatagramSize: 1200)
        var now: Int64 = 0
        for round in 0..<8 {
            let delay: Int64 = round == 4 ? 50_000_000 : 40_000_000
            let sent = now
            now += delay
            let share = controller.window / 10
            for _ in 0..<10 {
                now += 1000
                controller.acknowledged(
                    share, newestSent: sent + 1, rtt: estimator(.nanoseconds(delay)), isLimiting: true, at: now)
            }
        }
        #expect(controller.isInSlowStart)
        #expect(controller.window > 12000 << 6)
    }
}

@Suite("Explicit congestion notification (RFC 9000 section 13.4.2)")
struct ECNTests {
    @Test func honestCountsMakeThePathCapable() throws {
        var sender = Sender()
        #expect(sender.recovery.ecnCapable)
        for _ in 0..<10 { sender.send(ecn: .ect0, at: at(0)) }
        #expect(!sender.recovery.ecnCapable, "ten marked packets are the test")
        try sender.acknowledge(0...9, ecn: (10, 0, 0), at: at(50))
        #expect(sender.recovery.ecnCapable)
        #expect(sender.recovery.congestion.congestionEvents == 0)
    }

    @Test(
        "what cannot be true ends marking",
        arguments: [
            nil,  // not reported at all
            [9, 0, 0],  // one mark went missing
            [10, 1, 0],  // ECT(1) was never sent
            [11, 0, 0],  // more than were sent
            [9, 0, 2],
        ] as [[UInt64]?])
    func lies(_ counts: [UInt64]?) throws {
        var sender = Sender()
        for _ in 0..<10 { sender.send(ecn: .ect0, at: at(0)) }
        let reported: (ect0: UInt64, ect1: UInt64, ce: UInt64)? = counts.map { ($0[0], $0[1], $0[2]) }
        try sender.acknowledge(0...9, ecn: reported, at: at(50))
        #expect(!sender.recovery.ecnCapable)
        #expect(sender.recovery.congestion.congestionEvents == 0)
    }

    @Test func countsMayNotFall() throws {
        var sender = Sender()
        for _ in 0..<4 { sender.send(ecn: .ect0, at: at(0)) }
        try sender.acknowledge(0...3, ecn: (4, 0, 0), at: at(50))
        sender.send(ecn: .notECT, at: at(60))
        try sender.acknowledge(4...4, ecn: (3, 0, 0), at: at(70))
        #expect(!sender.recovery.ecnCapable)
    }

    @Test func olderAcknowledgementsProveNothing() throws {
        var sender = Sender()
        for _ in 0..<4 { sender.send(ecn: .ect0, at: at(0)) }
        try sender.acknowledge(2...3, ecn: (2, 0, 0), at: at(50))
        try sender.acknowledge(1...1, ecn: (1, 0, 0), at: at(51))
        #expect(sender.recovery.ecnCapable)
    }

    @Test func aMarkShrinksTheWindowOncePerRoundTrip() throws {
        var sender = Sender()
        for _ in 0..<8 { sender.send(ecn: .ect0, at: at(0)) }
        try sender.acknowledge(0...1, ecn: (1, 0, 1), at: at(50))
        #expect(sender.recovery.congestionWindow == 8400)
        try sender.acknowledge(2...3, ecn: (2, 0, 2), at: at(51))
        #expect(sender.recovery.congestionWindow == 8400)
        sender.send(ecn: .ect0, at: at(60))
        try sender.acknowledge(0...8, ecn: (6, 0, 3), at: at(110))
        #expect(sender.recovery.congestionWindow == 5880)
        #expect(sender.recovery.ecnCapable)
    }

    @Test func aPathThatDropsMarksIsLeftUnmarked() throws {
        var sender = Sender()
        for _ in 0..<10 { sender.send(ecn: .ect0, at: at(0)) }
        for _ in 0..<3 { sender.send(ecn: .notECT, at: at(10)) }
        try sender.acknowledge(10...12, at: at(60))
        #expect(sender.takeLost().count == 10)
        #expect(sender.recovery.ecn.state == .failed)
        sender.recovery.resetForNewPath(at: at(70))
        #expect(sender.recovery.ecnCapable)
    }
}
