import Testing
import Wire

@testable import QUIC

@Suite("RFC 9002 section 6.1: which packets are lost")
struct LossDetectionTests {
    @Test func threeBehindIsLost() throws {
        var sender = Sender()
        for _ in 0..<5 { sender.send(at: at(0)) }
        try sender.acknowledge(2...2, at: at(100))
        #expect(sender.takeLost() == [])
        try sender.acknowledge(3...3, at: at(100))
        #expect(sender.takeLost() == [0])
        try sender.acknowledge(4...4, at: at(100))
        #expect(sender.takeLost() == [1])
        #expect(sender.takeAcked() == [2, 3, 4])
        #expect(sender.recovery.bytesInFlight == 0)
        #expect(sender.recovery.statistics.packetsLost == 2)
        #expect(sender.recovery.statistics.packetsSent == 5)
    }

    @Test func nineEighthsOfARoundTripIsLost() throws {
        var sender = Sender()
        sender.send(at: at(0))
        sender.send(at: at(8))
        try sender.acknowledge(1...1, at: at(108))
        #expect(sender.takeLost() == [])
        let deadline = try #require(sender.recovery.deadline)
        #expect(deadline == Instant(nanoseconds: 112_500_000))
        #expect(sender.fire(at: at(112)) == .none)
        #expect(sender.takeLost() == [])
        #expect(sender.fire(at: deadline) == .lost(.application))
        #expect(sender.takeLost() == [0])
        #expect(sender.recovery.deadline == nil)
        #expect(sender.recovery.ptoCount == 0)
    }

    @Test func aPacketAlreadyTooOldIsLostWithTheAcknowledgement() throws {
        var sender = Sender()
        sender.send(at: at(0))
        sender.send(at: at(100))
        try sender.acknowledge(1...1, at: at(200))
        #expect(sender.takeLost() == [0])
    }

    @Test func theGranularityIsAMillisecond() throws {
        var sender = Sender()
        sender.send(at: Instant(nanoseconds: 0))
        sender.send(at: Instant(nanoseconds: 0))
        try sender.acknowledge(1...1, at: Instant(nanoseconds: 50_000))
        #expect(sender.recovery.deadline == Instant(nanoseconds: 1_000_000))
    }

    @Test func spacesAreSeparate() throws {
        var sender = Sender(confirmed: false)
        sender.send(.initial, at: at(0))
        for _ in 0..<8 { sender.send(.handshake, at: at(0)) }
        try sender.acknowledge(.handshake, 7...7, at: at(50))
        #expect(sender.takeLost() == [0, 1, 2, 3, 4])
        #expect(sender.recovery.largestAcknowledged(.initial) == nil)
        #expect(sender.recovery.largestAcknowledged(.handshake) == 7)
        #expect(sender.recovery.bytesInFlight == 3 * 1200)
    }

    /// RFC 9002 section 7.4: what was sent after a packet that has arrived counts when it is lost, in each space.
    @Test(arguments: ProtectionLevel.allCases) func lossesOfTheHandshakeCount(_ level: ProtectionLevel) throws {
        var sender = Sender(confirmed: level == .application)
        for _ in 0..<8 { sender.send(level, at: at(0)) }
        try sender.acknowledge(level, 0...0, at: at(50))
        let before = sender.recovery.congestionWindow
        try sender.acknowledge(level, 7...7, at: at(60))
        #expect(sender.takeLost() == [1, 2, 3, 4])
        #expect(sender.recovery.congestionWindow < before)
    }

    @Test func nothingIsReportedTwice() throws {
        var sender = Sender()
        for _ in 0..<10 { sender.send(at: at(0)) }
        try sender.acknowledge(0...9, at: at(100))
        try sender.acknowledge(0...9, at: at(120))
        #expect(sender.takeAcked() == Array(0...9))
        #expect(sender.recovery.rtt.latest == .milliseconds(100))
    }

    @Test func whatOnlyCameLateIsCountedAndItsPenaltyTakenBack() throws {
        var sender = Sender()
        for _ in 0..<6 { sender.send(at: at(0)) }
        let before = sender.recovery.congestionWindow
        try sender.acknowledge(4...5, at: at(100))
        #expect(sender.takeLost() == [0, 1, 2])
        #expect(sender.recovery.congestionWindow < before)
        try sender.acknowledge(1...5, at: at(101))
        #expect(sender.recovery.statistics.spuriousLosses == 2)
        #expect(sender.recovery.congestionWindow < before)
        try sender.acknowledge(0...5, at: at(102))
        #expect(sender.recovery.statistics.spuriousLosses == 3)
        #expect(sender.recovery.congestionWindow >= before)
        #expect(sender.takeAcked() == [4, 5, 3], "what was repaired is not reported as arrived")
    }

    @Test func aPacketNeverSentMayNotBeAcknowledged() {
        var sender = Sender()
        sender.send(at: at(0))
        #expect { try sender.acknowledge(0...1, at: at(1)) } throws: {
            ($0 as? TransportError)?.code == .protocolViolation
        }
        #expect { try sender.acknowledge(.handshake, 0...0, at: at(1)) } throws: {
            ($0 as? TransportError)?.code == .protocolViolation
        }
    }

    @Test(
        "an acknowledgement of a skipped number is refused (RFC 9000 section 21.4)", arguments: 0..<10 as Range<UInt64>)
    func skippedNumbers(seed: UInt64) throws {
        var sender = Sender(random: SeededRandom(seed: seed))
        var sent = RangeSet()
        for _ in 0..<200 {
            let expected = sender.recovery.nextPacketNumber(.application)
            let number = sender.send(at: at(0))
            #expect(number == expected)
            sent.insert(number)
        }
        try #require(sent.count > 1)
        let hole = sent[0].upperBound + 1
        let newest = try #require(sent.last).upperBound
        // An honest peer is believed, one that claims the hole is not.
        var honest = sender
        try honest.recovery.acknowledged(
            .application, ranges: (0..<sent.count).reversed().map { sent[$0] }, ackDelay: .zero, ecnCounts: nil,
            at: at(10), ackedFrames: &honest.acked, lostFrames: &honest.lost)
        #expect(honest.takeAcked().count == 200)
        #expect { try honest.acknowledge(hole...hole, at: at(11)) } throws: {
            ($0 as? TransportError)?.code == .protocolViolation
        }
        #expect(throws: TransportError.self) { try sender.acknowledge(0...newest, at: at(10)) }
    }

    @Test func skipsGetRare() {
        var sender = Sender(random: SeededRandom(seed: 3))
        for _ in 0..<100_000 { _ = sender.recovery.takePacketNumber(.application) }
        let skips = sender.recovery.nextPacketNumber(.application) - 100_000
        #expect(skips >= 6 && skips <= 14)
        #expect(Sender().recovery.nextPacketNumber(.initial) == 0)
    }
}

@Suite("RFC 9002 section 6.2: probe timeout")
struct ProbeTimeoutTests {
    @Test func itBacksOffAndStartsOverWithAnAcknowledgement() throws {
        var sender = Sender()
        sender.recovery.peerMaxAckDelay = .milliseconds(25)
        sender.send(at: at(0))
        try sender.acknowledge(0...0, at: at(100))
        sender.send(at: at(1000))
        // 100 + 4 * 50 + 25.
        #expect(sender.recovery.deadline == at(1325))
        #expect(sender.fire(at: at(1324)) == .none)
        #expect(sender.fire(at: at(1325)) == .probe(.application))
        #expect(sender.recovery.ptoCount == 1)
        #expect(sender.recovery.statistics.ptoTotal == 1)
        #expect(sender.takeLost() == [], "a timeout is no loss")
        sender.send(at: at(1325))
        #expect(sender.recovery.deadline == at(1325 + 2 * 325))
        #expect(sender.fire(at: at(1975)) == .probe(.application))
        sender.send(at: at(1975))
        #expect(sender.recovery.deadline == at(1975 + 4 * 325))
        try sender.acknowledge(3...3, at: at(2075))
        #expect(sender.recovery.ptoCount == 0)
    }

    /// RFC 9002 section 6.2.1: at least the timer's granularity, however steady the round trip.
    @Test func aSteadyRoundTripLeavesAMillisecond() throws {
        var sender = Sender()
        sender.recovery.peerMaxAckDelay = .zero
        for round in 0..<200 as Range<UInt64> {
            sender.send(at: at(Int64(round) * 200))
            try sender.acknowledge(round...round, at: at(Int64(round) * 200 + 100))
        }
        #expect(sender.recovery.rtt.variation < .microseconds(1))
        sender.send(at: at(100_000))
        #expect(sender.recovery.deadline == at(100_101))
    }

    /// RFC 9002 section 6.2.1.
    @Test func theEarlierSpaceIsProbed() {
        for levels in [[ProtectionLevel.initial, .handshake], [.handshake, .initial]] {
            var sender = Sender(confirmed: false)
            for (index, level) in levels.enumerated() { sender.send(level, at: at(Int64(index) * 100)) }
            #expect(sender.recovery.deadline == at(999))
            #expect(sender.fire(at: at(999)) == .probe(levels[0]))
        }
    }

    @Test func noneWithoutAckElicitingPackets() {
        var sender = Sender()
        sender.send(eliciting: false, at: at(0))
        #expect(sender.recovery.deadline == nil)
        #expect(sender.recovery.bytesInFlight == 0)
    }

    @Test func applicationDataWaitsForTheHandshake() {
        var sender = Sender(confirmed: false)
        sender.send(.application, at: at(0))
        #expect(sender.recovery.deadline == nil)
        sender.send(.handshake, at: at(5))
        // Before any sample: 333 + 4 * 166.5, and no acknowledgement delay.
        #expect(sender.recovery.deadline == at(5 + 999))
        sender.recovery.handshakeConfirmed = true
        #expect(sender.recovery.deadline == at(5 + 999), "the earlier of the two")
        #expect(sender.fire(at: at(1004)) == .probe(.handshake))
    }

    @Test func aClientKeepsTheServerFromStarving() throws {
        var sender = Sender(role: .client, confirmed: false)
        sender.send(.initial, at: at(0))
        try sender.acknowledge(.initial, 0...0, at: at(100))
        // Nothing is in flight, but the server may be blocked by its amplification limit.
        #expect(sender.recovery.deadline == at(100 + 300))
        #expect(sender.fire(at: at(400)) == .probe(.initial))
        #expect(sender.recovery.ptoCount == 1)
        #expect(sender.recovery.deadline == at(400 + 600))
        sender.recovery.hasHandshakeKeys = true
        #expect(sender.fire(at: at(1000)) == .probe(.handshake))
        sender.send(.handshake, at: at(1000))
        sender.send(.initial, at: at(1000))
        try sender.acknowledge(.initial, 1...1, at: at(1001))
        #expect(sender.takeAcked() == [0, 1])
        #expect(sender.recovery.ptoCount == 2, "the server has not said that it validated us")
        try sender.acknowledge(.handshake, 0...0, at: at(1100))
        #expect(sender.recovery.ptoCount == 0)
        #expect(sender.recovery.deadline == nil)
    }

    @Test func aBlockedServerHasNoTimer() {
        var sender = Sender(role: .server, confirmed: false)
        sender.send(.handshake, at: at(0))
        #expect(sender.recovery.deadline != nil)
        sender.recovery.amplificationBlocked = true
        #expect(sender.recovery.deadline == nil)
        #expect(sender.fire(at: at(100_000)) == .none)
        sender.recovery.amplificationBlocked = false
        #expect(sender.fire(at: at(100_000)) == .probe(.handshake))
    }

    @Test func discardedKeysLeaveNothing() throws {
        var sender = Sender(confirmed: false)
        sender.send(.initial, at: at(0))
        sender.send(.handshake, at: at(0))
        _ = sender.fire(at: at(2000))
        sender.recovery.discard(.initial)
        #expect(sender.recovery.ptoCount == 0)
        #expect(sender.recovery.bytesInFlight == 1200)
        try sender.acknowledge(.initial, 0...0, at: at(2001))
        #expect(sender.takeAcked() == [])
        sender.recovery.discard(.handshake)
        #expect(sender.recovery.bytesInFlight == 0)
        #expect(sender.recovery.deadline == nil)
    }

    @Test func aRetryForgetsButDoesNotReuseNumbers() {
        var sender = Sender(role: .client, confirmed: false)
        sender.send(.initial, at: at(0))
        sender.recovery.retryReceived()
        #expect(sender.recovery.bytesInFlight == 0)
        #expect(sender.recovery.nextPacketNumber(.initial) == 1)
        #expect(sender.takeLost() == [])
    }

    @Test func aProbeMayCarryEverythingAgain() throws {
        var sender = Sender(confirmed: false)
        for _ in 0..<3 { sender.send(.initial, at: at(0)) }
        sender.send(.initial, eliciting: false, at: at(0))
        try sender.acknowledge(.initial, 1...1, at: at(10))
        sender.recovery.reclaim(.initial, lostFrames: &sender.lost)
        #expect(sender.takeLost() == [0, 2])
        sender.recovery.reclaim(.initial, packets: 1, lostFrames: &sender.lost)
        #expect(sender.takeLost() == [0])
        #expect(sender.recovery.bytesInFlight == 2400)
        try sender.acknowledge(.initial, 0...2, at: at(11))
        #expect(sender.takeAcked() == [1, 0, 2])
    }
}

@Suite("RFC 9002 section 7.6: persistent congestion")
struct PersistentCongestionTests {
    /// A sender with a smoothed round trip of 100 ms, a variation of 50 ms and 25 ms of acknowledgement delay. The
    /// sample that reveals the loss makes the variation 37.5 ms: what is lost for more than 825 ms is persistent.
    private func measured() throws -> Sender {
        var sender = Sender()
        sender.send(at: at(0))
        try sender.acknowledge(0...0, at: at(100))
        return sender
    }

    @Test(arguments: [(825, false), (826, true)] as [(Int64, Bool)])
    func theSpanDecides(span: Int64, isPersistent: Bool) throws {
        var sender = try measured()
        sender.send(at: at(1000))
        sender.send(at: at(1000 + span))
        for _ in 0..<3 { sender.send(at: at(3000)) }
        try sender.acknowledge(5...5, at: at(3100))
        #expect(sender.takeLost() == [1, 2])
        #expect(sender.recovery.isPersistentlyCongested == isPersistent)
        #expect((sender.recovery.congestionWindow <= 2 * 1200 + 1200) == isPersistent)
    }

    @Test func anArrivalInBetweenEndsIt() throws {
        var sender = try measured()
        sender.send(at: at(1000))
        sender.send(at: at(1500))
        sender.send(at: at(2100))
        for _ in 0..<3 { sender.send(at: at(3000)) }
        try sender.acknowledge(6...6, 2...2, at: at(3100))
        #expect(sender.takeLost() == [1, 3])
        #expect(!sender.recovery.isPersistentlyCongested)
    }

    @Test func packetsFromBeforeTheFirstSampleDoNotCount() throws {
        var sender = Sender()
        sender.send(at: at(0))
        sender.send(at: at(2000))
        for _ in 0..<3 { sender.send(at: at(3000)) }
        try sender.acknowledge(4...4, at: at(3100))
        #expect(sender.takeLost() == [0, 1])
        #expect(!sender.recovery.isPersistentlyCongested)
    }

    @Test func packetsThatAskForNothingDoNotCount() throws {
        var sender = try measured()
        sender.send(eliciting: false, at: at(1000))
        sender.send(at: at(1900))
        sender.send(at: at(2000))
        for _ in 0..<3 { sender.send(at: at(3000)) }
        try sender.acknowledge(6...6, at: at(3100))
        #expect(!sender.recovery.isPersistentlyCongested)
    }
}

@Suite("Recovery: bounds, paths and random walks")
struct RecoveryBoundTests {
    @Test func acknowledgementsThatNobodyAcknowledgesAreForgotten() throws {
        var sender = Sender()
        for _ in 0..<5000 { sender.send(eliciting: false, at: at(0)) }
        #expect(sender.recovery.spaces[2].ledger.count == LossRecovery.maxTrackedNonEliciting)
        try sender.acknowledge(0...4999, at: at(1))
        #expect(sender.takeAcked() == Array(4936...4999))
        // Behind one that is never answered, too.
        sender.send(at: at(2))
        for _ in 0..<5000 { sender.send(eliciting: false, at: at(2)) }
        #expect(sender.recovery.spaces[2].ledger.count <= LossRecovery.maxTrackedNonEliciting + 1)
    }

    @Test func whoHasTooManyPacketsOpenMustWait() {
        var sender = Sender(maxDatagramSize: 1200)
        // Tiny packets, so that the window is not what stops them.
        var sent = 0
        while sent < LossRecovery.maxTrackedPackets + 1 {
            guard sender.recovery.canSend(at: at(Int64(sent))) else { break }
            sender.send(size: 0, at: at(Int64(sent)))
            sent += 1
        }
        #expect(sent == LossRecovery.maxTrackedPackets)
    }

    @Test func aNewPathStartsAfreshAndOldPacketsDoNotCount() throws {
        var sender = Sender()
        for _ in 0..<10 { sender.send(at: at(0)) }
        try sender.acknowledge(5...5, at: at(50))
        #expect(sender.takeLost() == [0, 1, 2])
        sender.recovery.resetForNewPath(at: at(60))
        #expect(sender.recovery.bytesInFlight == 0)
        #expect(!sender.recovery.rtt.hasSample)
        #expect(sender.recovery.congestionWindow == 12000)
        sender.send(at: at(60))
        try sender.acknowledge(9...9, at: at(70))
        #expect(sender.takeLost() == [3, 4, 6])
        #expect(sender.recovery.bytesInFlight == 1200)
        #expect(!sender.recovery.rtt.hasSample)
        #expect(sender.recovery.congestionWindow == 12000)
        try sender.acknowledge(10...10, at: at(90))
        #expect(sender.recovery.rtt.latest == .milliseconds(30))
        #expect(sender.recovery.bytesInFlight == 0)
    }

    @Test func theLossOfAnMTUProbeIsNoCongestion() throws {
        var sender = Sender()
        sender.send(size: 1452, isPathProbe: true, at: at(0))
        for _ in 0..<3 { sender.send(at: at(0)) }
        try sender.acknowledge(1...3, at: at(50))
        #expect(sender.takeLost() == [0])
        #expect(sender.recovery.congestion.congestionEvents == 0)
        #expect(sender.recovery.bytesInFlight == 0)
        #expect(sender.recovery.largeLosses == 0)
    }

    @Test func largeLossesCountUntilALargePacketArrives() throws {
        var sender = Sender(maxDatagramSize: 1452)
        for _ in 0..<5 { sender.send(size: 1452, at: at(0)) }
        for _ in 0..<3 { sender.send(size: 100, at: at(0)) }
        try sender.acknowledge(5...7, at: at(50))
        #expect(sender.takeLost() == [0, 1, 2, 3, 4])
        #expect(sender.recovery.largeLosses == 5)
        for _ in 0..<5 { sender.send(size: 1452, at: at(60)) }
        // One of them arrived: the path carries this size, the others were congestion.
        try sender.acknowledge(12...12, at: at(110))
        #expect(sender.takeLost() == [8, 9])
        #expect(sender.recovery.largeLosses == 0)
    }

    @Test("every packet ends once, and the counts agree with a model", arguments: 0..<30 as Range<UInt64>)
    func walk(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var sender = Sender(random: SeededRandom(seed: seed + 1000))
        var open: [UInt64: (size: Int, eliciting: Bool)] = [:]
        var ended: Set<UInt64> = []
        var received = RangeSet()
        var now: Int64 = 0
        var repairs = 0
        func settle(_ numbers: [UInt64]) {
            for number in numbers {
                let isNew = ended.insert(number).inserted
                #expect(isNew, "packet \(number) ended twice")
                let wasOpen = open.removeValue(forKey: number) != nil
                #expect(wasOpen)
            }
        }
        for _ in 0..<600 {
            now += Int64.random(in: 0...20_000_000, using: &random)
            let instant = Instant(nanoseconds: now)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                for _ in 0..<Int.random(in: 1...8, using: &random) {
                    let eliciting = Int.random(in: 0..<8, using: &random) > 0
                    let size = Int.random(in: 30...1200, using: &random)
                    let number = sender.send(size: size, eliciting: eliciting, at: instant)
                    open[number] = (size, eliciting)
                    if Int.random(in: 0..<10, using: &random) > 1 { received.insert(number) }
                }
            case 5..<9:
                // The peer's view, or an older or shorter one.
                var ranges = (0..<received.count).reversed().map { received[$0] }
                if Bool.random(using: &random), ranges.count > 1 { ranges.removeFirst() }
                ranges = Array(ranges.prefix(Int.random(in: 1...40, using: &random)))
                guard !ranges.isEmpty else { continue }
                try sender.recovery.acknowledged(
                    .application, ranges: ranges, ackDelay: .milliseconds(1), ecnCounts: nil, at: instant,
                    ackedFrames: &sender.acked, lostFrames: &sender.lost)
            default:
                guard let deadline = sender.recovery.deadline else { continue }
                now = max(now, deadline.nanoseconds)
                if case .none = sender.fire(at: Instant(nanoseconds: now)) { Issue.record("nothing at the deadline") }
                repairs += 1
            }
            settle(sender.takeAcked())
            settle(sender.takeLost())
            let flying = open.values.filter { $0.eliciting }
            #expect(sender.recovery.bytesInFlight == flying.reduce(0) { $0 + $1.size })
            #expect((sender.recovery.deadline != nil) == !flying.isEmpty)
            #expect(sender.recovery.congestionWindow >= 2 * 1200)
        }
        #expect(repairs > 0)
    }

    @Test("an acknowledgement costs the same however much was acknowledged before")
    func settledPacketsLeave() throws {
        var sender = Sender()
        for round in 0..<200 as Range<UInt64> {
            for _ in 0..<10 { sender.send(size: 100, at: at(Int64(round))) }
            // Each leaves every seventh packet out.
            for number in (round * 10)..<(round * 10 + 10) where number % 7 != 3 {
                try sender.acknowledge(number...number, at: at(Int64(round)))
            }
            #expect(sender.recovery.spaces[2].ledger.count <= 13)
        }
    }
}
