import Testing
import Wire

@testable import QUIC

/// An ACK or PATH_ACK frame, read back.
private struct ReadACK: Equatable {
    var type: UInt64
    var pathID: UInt64?
    var delay: UInt64
    var ranges: [ClosedRange<UInt64>]
    var ecn: [UInt64]

    init?(_ bytes: [UInt8]) {
        var reader = ByteReader(bytes.span)
        guard let type = reader.varint() else { return nil }
        self.type = type
        if type >= 0x3e {
            guard let id = reader.varint() else { return nil }
            pathID = id
        }
        guard let largest = reader.varint(), let delay = reader.varint(), let count = reader.varint(),
            let first = reader.varint(), first <= largest
        else { return nil }
        self.delay = delay
        ranges = [(largest - first)...largest]
        var smallest = largest - first
        for _ in 0..<count {
            guard let gap = reader.varint(), let length = reader.varint(), gap + 2 <= smallest,
                length <= smallest - gap - 2
            else { return nil }
            let upper = smallest - gap - 2
            smallest = upper - length
            ranges.append(smallest...upper)
        }
        ecn = []
        if type & 1 == 1 {
            for _ in 0..<3 {
                guard let value = reader.varint() else { return nil }
                ecn.append(value)
            }
        }
        guard reader.isAtEnd else { return nil }
    }
}

extension AckTracker {
    fileprivate mutating func write(
        capacity: Int = 1200, pathID: UInt64? = nil, exponent: UInt8 = 3, at now: Instant
    ) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0xee, count: capacity)
        let used: Int
        let isWritten: Bool
        do {
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            isWritten = writeACK(into: &writer, pathID: pathID, ackDelayExponent: exponent, at: now)
            used = writer.offset
        }
        guard isWritten else {
            #expect(used == 0)
            return nil
        }
        return [UInt8](bytes[..<used])
    }

    fileprivate mutating func receive(_ numbers: UInt64..., at now: Instant) {
        for number in numbers { received(number, ackEliciting: true, ecn: .notECT, at: now) }
    }
}

@Suite("Acknowledging (RFC 9000 section 13.2)")
struct AckTrackerTests {
    @Test func theFirstWaitsAndTheSecondDoesNot() {
        var tracker = AckTracker(maxAckDelay: .milliseconds(25))
        tracker.receive(0, at: at(100))
        #expect(tracker.deadline == at(125))
        #expect(!tracker.mustAckNow(at: at(124)))
        #expect(tracker.mustAckNow(at: at(125)))
        tracker.receive(1, at: at(101))
        #expect(tracker.mustAckNow(at: at(101)))
        #expect(tracker.write(at: at(101)) != nil)
        #expect(tracker.deadline == nil)
        #expect(!tracker.hasUnacknowledged)
        tracker.receive(2, at: at(102))
        #expect(tracker.deadline == at(127))
    }

    @Test func noDelayMeansAtOnce() {
        var tracker = AckTracker(maxAckDelay: .zero)
        tracker.receive(0, at: at(7))
        #expect(tracker.mustAckNow(at: at(7)))
    }

    @Test func acknowledgementsAreNotAcknowledged() {
        var tracker = AckTracker(maxAckDelay: .milliseconds(25))
        for number in 0..<10 as Range<UInt64> {
            tracker.received(number, ackEliciting: false, ecn: .notECT, at: at(1))
        }
        #expect(tracker.deadline == nil)
        #expect(tracker.hasUnacknowledged)
    }

    @Test func aLatePacketIsReportedAtOnce() {
        var tracker = AckTracker(maxAckDelay: .milliseconds(25), elicitingThreshold: 100)
        tracker.receive(0, 1, 2, at: at(1))
        #expect(!tracker.mustAckNow(at: at(1)))
        tracker.receive(5, at: at(1))
        #expect(tracker.mustAckNow(at: at(1)), "a gap")
        _ = tracker.write(at: at(1))
        tracker.receive(6, at: at(2))
        #expect(!tracker.mustAckNow(at: at(2)), "the gap was reported before")
        tracker.receive(3, at: at(2))
        #expect(tracker.mustAckNow(at: at(2)), "out of order")
    }

    @Test func congestionIsReportedAtOnce() {
        var tracker = AckTracker(maxAckDelay: .milliseconds(25), elicitingThreshold: 100)
        tracker.received(0, ackEliciting: true, ecn: .ect0, at: at(1))
        #expect(!tracker.mustAckNow(at: at(1)))
        tracker.received(1, ackEliciting: true, ecn: .ce, at: at(1))
        #expect(tracker.mustAckNow(at: at(1)))
    }

    @Test func theFrameSaysWhatCame() throws {
        var tracker = AckTracker(maxAckDelay: .milliseconds(25))
        tracker.receive(0, 1, 2, 5, 6, 100_000, at: at(10))
        let frame = try #require(tracker.write(at: at(12)).flatMap(ReadACK.init))
        #expect(frame.type == 0x02)
        #expect(frame.ranges == [100_000...100_000, 5...6, 0...2])
        // 2 ms in units of 8 microseconds.
        #expect(frame.delay == 250)
        #expect(tracker.lastAckLargest == 100_000)
    }

    @Test func theBytesOfAFrame() {
        var tracker = AckTracker(maxAckDelay: .zero)
        tracker.receive(0, 1, 4, 5, at: at(0))
        #expect(tracker.write(at: at(0)) == [0x02, 5, 0, 1, 1, 1, 1])
        #expect(tracker.write(pathID: 70, at: at(0)) == [0x3e, 0x40, 70, 5, 0, 1, 1, 1, 1])
        tracker.received(6, ackEliciting: true, ecn: .ect0, at: at(0))
        tracker.received(7, ackEliciting: false, ecn: .ce, at: at(0))
        #expect(tracker.write(at: at(0)) == [0x03, 7, 0, 1, 3, 1, 1, 1, 0, 1])
        #expect(tracker.write(pathID: 3, at: at(0)) == [0x3f, 3, 7, 0, 1, 3, 1, 1, 1, 0, 1])
    }

    @Test("as many ranges as fit, the newest", arguments: 0...140)
    func fits(capacity: Int) throws {
        var tracker = AckTracker(maxAckDelay: .zero)
        for number in 0..<40 as Range<UInt64> { tracker.receive(1000 + 3 * number, at: at(0)) }
        let whole = (0..<40 as Range<UInt64>).reversed().map { 1000 + 3 * $0...1000 + 3 * $0 }
        guard let bytes = tracker.write(capacity: capacity, at: at(0)) else {
            #expect(capacity < 6)
            #expect(tracker.hasUnacknowledged)
            #expect(tracker.deadline != nil)
            return
        }
        let frame = try #require(ReadACK(bytes))
        #expect(frame.ranges == Array(whole.prefix(frame.ranges.count)))
        #expect(frame.ranges.count == min(40, 1 + (capacity - 6) / 2))
    }

    /// Packets that came together are noted together, with the same outcome as one by one.
    @Test(arguments: 0..<60 as Range<UInt64>) func aRunIsItsPackets(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var singly = AckTracker(
            maxAckDelay: .milliseconds(25), elicitingThreshold: [2, 10].randomElement(using: &random)!)
        if seed % 2 == 0 { singly.setReportGrid(phase: .milliseconds(3)) }
        var together = singly
        var now = Instant(nanoseconds: 0)
        var next: UInt64 = 0
        for _ in 0..<300 {
            now += .microseconds(Int64.random(in: 0..<3000, using: &random))
            let first = random.next() % 8 == 0 ? next - min(next, random.next() % 100) : next + random.next() % 3
            let numbers = first...(first + random.next() % 60)
            next = max(next, numbers.upperBound + 1)
            let isEliciting = random.next() % 8 != 0
            let ecn: ECN = [.notECT, .ect0, .ce].randomElement(using: &random)!
            let isNew = numbers.allSatisfy { !singly.isDuplicate($0) }
            #expect(together.isNew(numbers) == isNew)
            for number in numbers { singly.received(number, ackEliciting: isEliciting, ecn: ecn, at: now) }
            if isNew {
                together.received(numbers, ackEliciting: isEliciting, ecn: ecn, at: now)
            } else {
                for number in numbers { together.received(number, ackEliciting: isEliciting, ecn: ecn, at: now) }
            }
            #expect(together.deadline == singly.deadline && together.largest == singly.largest)
            #expect(together.hasUnacknowledged == singly.hasUnacknowledged)
            if random.next() % 4 == 0 {
                let capacity = [40, 1200].randomElement(using: &random)!
                #expect(together.write(capacity: capacity, at: now) == singly.write(capacity: capacity, at: now))
                if let largest = singly.lastAckLargest, random.next() % 2 == 0 {
                    singly.acknowledgementAcknowledged(largest: largest)
                    together.acknowledgementAcknowledged(largest: largest)
                }
            }
        }
    }

    @Test func duplicatesAreKnown() {
        var tracker = AckTracker(maxAckDelay: .zero)
        tracker.receive(3, 4, 9, at: at(0))
        #expect([3, 4, 9].allSatisfy(tracker.isDuplicate))
        #expect(![0, 2, 5, 8, 10].contains(where: tracker.isDuplicate))
    }

    @Test("random packets: the frame decodes to the newest ranges of the model", arguments: 0..<10 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var tracker = AckTracker(maxAckDelay: .milliseconds(25))
        var model: Set<UInt64> = []
        for _ in 0..<60 {
            for _ in 0..<3 {
                let number = UInt64.random(in: 0..<150, using: &random)
                #expect(tracker.isDuplicate(number) == model.contains(number))
                model.insert(number)
                tracker.receive(number, at: at(0))
            }
            let frame = try #require(tracker.write(at: at(0)).flatMap(ReadACK.init))
            #expect(frame.ranges.flatMap { Array($0) }.sorted() == model.sorted())
            #expect(tracker.largest == model.max())
        }
        #expect(tracker.droppedRanges == 0)
    }

    @Test func rangesAreBounded() throws {
        var tracker = AckTracker(maxAckDelay: .zero)
        for number in 0..<1000 as Range<UInt64> { tracker.receive(2 * number, at: at(0)) }
        #expect(tracker.droppedRanges == 1000 - 64)
        let frame = try #require(tracker.write(at: at(0)).flatMap(ReadACK.init))
        #expect(frame.ranges.count == 64)
        #expect(frame.ranges.first == 1998...1998)
        // What is no longer known counts as seen.
        #expect(tracker.isDuplicate(1))
        #expect(tracker.isDuplicate(1000))
        #expect(!tracker.isDuplicate(1997))
    }

    @Test func whatThePeerKnowsIsNotRepeated() throws {
        var tracker = AckTracker(maxAckDelay: .zero)
        tracker.receive(0, 1, 5, 6, at: at(0))
        _ = tracker.write(at: at(0))
        tracker.receive(8, 9, at: at(1))
        tracker.acknowledgementAcknowledged(largest: 6)
        let frame = try #require(tracker.write(at: at(1)).flatMap(ReadACK.init))
        #expect(frame.ranges == [8...9])
        #expect(tracker.isDuplicate(6))
        #expect(tracker.isDuplicate(3), "below the floor")
        #expect(!tracker.isDuplicate(7))
        tracker.acknowledgementAcknowledged(largest: 9)
        #expect(tracker.write(at: at(2)) == nil)
        #expect(tracker.largest == 9)
    }

    @Test("a packet that came after the report is not forgotten with it")
    func latePacketsSurvive() throws {
        var tracker = AckTracker(maxAckDelay: .zero)
        tracker.receive(0, 1, 5, at: at(0))
        _ = tracker.write(at: at(0))
        tracker.receive(3, at: at(1))
        tracker.acknowledgementAcknowledged(largest: 5)
        var frame = try #require(tracker.write(at: at(1)).flatMap(ReadACK.init))
        #expect(frame.ranges == [5...5, 3...3])
        // This may still be the acknowledgement of the first report.
        tracker.acknowledgementAcknowledged(largest: 5)
        frame = try #require(tracker.write(at: at(1)).flatMap(ReadACK.init))
        #expect(frame.ranges.contains(3...3))
        tracker.receive(6, at: at(2))
        _ = tracker.write(at: at(2))
        tracker.acknowledgementAcknowledged(largest: 6)
        #expect(tracker.write(at: at(3)) == nil)
    }

    @Test func whatDidNotFitIsNotForgotten() throws {
        var tracker = AckTracker(maxAckDelay: .zero)
        tracker.receive(0, 10, 20, at: at(0))
        let short = try #require(tracker.write(capacity: 5, at: at(0)).flatMap(ReadACK.init))
        #expect(short.ranges == [20...20])
        tracker.acknowledgementAcknowledged(largest: 20)
        let frame = try #require(tracker.write(at: at(0)).flatMap(ReadACK.init))
        #expect(frame.ranges == [20...20, 10...10, 0...0])
    }

    @Test("a grid sets the time of every report, whatever comes")
    func grid() {
        var tracker = AckTracker(maxAckDelay: .milliseconds(100))
        tracker.setReportGrid(phase: .milliseconds(30))
        tracker.receive(0, 9, 4, at: at(1005))
        #expect(tracker.deadline == at(1030))
        tracker.received(20, ackEliciting: true, ecn: .ce, at: at(1010))
        #expect(tracker.deadline == at(1030))
        #expect(!tracker.mustAckNow(at: at(1029)))
        _ = tracker.write(at: at(1030))
        // On the grid point itself the next one counts.
        tracker.receive(21, at: at(1030))
        #expect(tracker.deadline == at(1130))
        _ = tracker.write(at: at(1130))
        tracker.receive(22, at: at(1299))
        #expect(tracker.deadline == at(1330))
    }

    @Test("grid points before the phase and before zero", arguments: [-250, -30, -1, 0, 1, 29, 30, 31, 129] as [Int64])
    func gridBeforeZero(now: Int64) throws {
        var tracker = AckTracker(maxAckDelay: .milliseconds(100))
        tracker.setReportGrid(phase: .milliseconds(30))
        tracker.receive(0, at: at(now))
        let due = try #require(tracker.deadline).nanoseconds / 1_000_000
        #expect(due > now && due <= now + 100)
        #expect((due - 30) % 100 == 0)
    }
}
