import Testing
import Wire

@testable import Objects

/// A store that keeps what it is given, as one on disk would: copied, it is what a restart finds. Another head may reserve
/// numbers from it.
struct KeepingStore: LogStore {
    var stored = StoredLog(epoch: epoch)
    var isBroken = false

    mutating func load() throws(LogStoreError) -> StoredLog { stored }
    mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        if isBroken { throw LogStoreError("no space") }
        defer { stored.next += count }
        return stored.next
    }
    mutating func append(_ part: Part) throws(LogStoreError) {
        if isBroken { throw LogStoreError("no space") }
        stored.parts.append(part)
    }
    mutating func trim(below sequence: UInt64) throws(LogStoreError) {
        stored.oldest = sequence
        stored.parts.removeAll { $0.sequence < sequence }
    }
}

extension ObjectLog {
    fileprivate var kept: KeepingStore {
        get {
            guard let kept = store as? KeepingStore else { preconditionFailure("the log is on another store") }
            return kept
        }
        set { store = newValue }
    }
}

@Suite struct LogTests {
    static let big = (0..<(ObjectLimits.partOctets * 2 + 5)).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    static func log(_ retention: Retention = Retention()) throws -> ObjectLog {
        try ObjectLog(KeepingStore(), retention: retention)
    }

    @Test func anObjectIsARunOfParts() throws {
        var log = try Self.log()
        #expect(try log.append(name: "a", body: [], published: noon) == 0..<1)
        #expect(try log.append(name: "b", mediaType: "m", body: Self.big, published: noon) == 1..<4)
        #expect(log.next == 4 && log.oldest == 0 && log.objectCount == 2 && log.partCount == 4)
        var body: [UInt8] = []
        for sequence in UInt64(1)..<4 {
            guard case .part(let part) = log.part(at: sequence) else { return #expect(Bool(false)) }
            #expect(
                part.header
                    == PartHeader(
                        sequence: sequence, index: sequence - 1, count: 3, length: UInt64(Self.big.count),
                        published: noon,
                        mediaType: "m", name: "b"))
            body += part.body
        }
        #expect(body == Self.big)
        #expect(log.part(at: 4) == .beyond && log.checkInvariants() == nil)
    }

    @Test func partsOneByOne() throws {
        var log = try Self.log()
        #expect(throws: LogError.noObjectOpen) { try log.append(part: [1]) }
        #expect(try log.begin(name: "live", published: noon) == 0)
        #expect(throws: LogError.objectIsOpen) { try log.append(body: [], published: noon) }
        try log.append(part: [1, 2])
        #expect(log.next == 1 && log.objectCount == 0 && log.checkInvariants() == nil)
        guard case .part(let first) = log.part(at: 0) else { return #expect(Bool(false)) }
        #expect(first.header.count == nil && first.header.length == nil)
        #expect(try log.finish([3]) == 0..<2)
        guard case .part(let last) = log.part(at: 1) else { return #expect(Bool(false)) }
        #expect(last.header.count == 2 && last.header.length == 3 && last.header.index == 1)
        try log.begin(length: 3, published: noon)
        #expect(throws: LogError.lengthMismatch(declared: 3, actual: 4)) { try log.append(part: [1, 2, 3, 4]) }
        try log.append(part: [1, 2])
        #expect(throws: LogError.lengthMismatch(declared: 3, actual: 2)) { try log.finish() }
        #expect(try log.finish([9]) == 2..<4)
        #expect(log.checkInvariants() == nil && log.objectCount == 2)
    }

    @Test func anAbandonedObjectIsVoid() throws {
        var log = try Self.log()
        try log.append(body: [1], published: noon)
        try log.begin(published: noon)
        #expect(log.abandon() == nil && log.next == 1)
        try log.begin(published: noon)
        try log.append(part: [1])
        try log.append(part: [2])
        #expect(log.abandon() == Gap(first: 1, count: 2, reason: .void))
        #expect(log.part(at: 1) == .void(Gap(first: 1, count: 2, reason: .void)) && log.checkInvariants() == nil)
        #expect(try log.append(body: [2], published: noon) == 3..<4)
        #expect(log.part(at: 2) == .void(Gap(first: 2, count: 1, reason: .void)))
        #expect(log.statistics.objectsAbandoned == 2)
    }

    @Test func anObjectThatIsLongerThanTheLogPassesThrough() throws {
        var log = try Self.log(Retention(octets: 1000))
        try log.append(body: [1], published: noon)
        try log.begin(length: 4000, published: noon)
        for part in 0..<9 {
            try log.append(part: [UInt8](repeating: UInt8(part), count: 400))
            #expect(log.octetCount <= 1000 && log.checkInvariants() == nil)
        }
        #expect(log.part(at: 1) == .gone(Gap(first: 1, count: log.oldest - 1, reason: .retention)))
        // Of what is left of it a newcomer can make nothing.
        #expect(log.first(ofNewest: 1) == log.next)
        let fresh = log.answer(PositionMessage(epoch: nil, cursor: Cursor(position: 0)), at: noon)
        #expect(fresh.cursor.position == log.next)
        try log.finish([UInt8](repeating: 9, count: 400))
        #expect(log.octetCount <= 1000 && log.objectCount == 1 && log.checkInvariants() == nil)
        try log.append(body: [2], published: noon)
        #expect(log.answer(PositionMessage(epoch: nil, cursor: Cursor(position: 0)), at: noon).cursor.position == 11)

        // Given up when most of it is gone already.
        try log.begin(published: noon)
        for _ in 0..<9 { try log.append(part: [UInt8](repeating: 0, count: 400)) }
        #expect(log.abandon() == Gap(first: 12, count: 9, reason: .void))
        #expect(log.octetCount == 0 && log.checkInvariants() == nil)
        #expect(try log.append(body: [3], published: noon) == 21..<22)
    }

    @Test func retentionByNumberOctetsAndAge() throws {
        var log = try Self.log(Retention(objects: 2))
        for _ in 0..<3 { try log.append(body: Self.big, published: noon) }
        #expect(
            log.oldest == 3 && log.objectCount == 2 && log.kept.stored.oldest == 3 && log.kept.stored.parts.count == 6
        )
        #expect(log.part(at: 1) == .gone(Gap(first: 1, count: 2, reason: .retention)))

        log = try Self.log(Retention(octets: 1000))
        for _ in 0..<5 { try log.append(body: [UInt8](repeating: 0, count: 400), published: noon) }
        #expect(log.objectCount == 2 && log.octetCount <= 1000 && log.oldest == 3)
        #expect(throws: LogError.tooLarge(octets: 1001, limit: 1000)) {
            try log.append(body: [UInt8](repeating: 0, count: 1001), published: noon)
        }
        // With its prelude it would be too large as well; nothing of it stays.
        #expect(throws: LogError.self) { try log.append(body: [UInt8](repeating: 0, count: 999), published: noon) }
        #expect(log.next == 5 && log.objectCount == 2 && log.checkInvariants() == nil)

        log = try Self.log(Retention(age: .seconds(10)))
        for second in 0..<3 { try log.append(body: [1], published: noon + .seconds(second)) }
        #expect(log.nextExpiry == noon + .seconds(10))
        log.expire(at: noon + .seconds(9))
        #expect(log.objectCount == 3)
        log.expire(at: noon + .seconds(11))
        #expect(log.objectCount == 1 && log.oldest == 2 && log.checkInvariants() == nil)
        log.expire(at: noon + .seconds(100))
        #expect(log.objectCount == 0 && log.oldest == 3 && log.nextExpiry == nil)
        #expect(log.part(at: 0) == .gone(Gap(first: 0, count: 3, reason: .retention)))
    }

    @Test("After a restart what was reserved and not used is void, and no number is given twice") func restart() throws
    {
        var log = try Self.log()
        try log.append(body: [1], published: noon)
        try log.begin(published: noon)
        try log.append(part: [2])
        // Restarted in the middle of an object.
        var again = try ObjectLog(log.kept)
        #expect(again.epoch == epoch && again.next == 1024 && again.objectCount == 1 && again.checkInvariants() == nil)
        #expect(again.part(at: 1) == .void(Gap(first: 1, count: 1023, reason: .void)))
        #expect(try again.append(body: [3], published: noon) == 1024..<1025)
        #expect(again.part(at: 1) == .void(Gap(first: 1, count: 1023, reason: .void)))
        // The in-memory store gives nothing twice either, and has nothing to give back.
        var plain = try ObjectLog(MemoryStore(epoch: epoch))
        try plain.append(body: [1], published: noon)
        let reopened = try ObjectLog(plain.store)
        #expect(reopened.next == 1024 && reopened.part(at: 0) == .gone(Gap(first: 0, count: 1024, reason: .retention)))
    }

    @Test func anotherHeadTakesNumbersBetween() throws {
        var log = try Self.log()
        try log.append(body: [1], published: noon)
        log.kept.stored.next += 500
        // Three parts fit what is left of the block; 1030 do not, and must be in a row.
        #expect(try log.append(body: Self.big, published: noon) == 1..<4)
        for _ in 4..<1024 { try log.append(body: [], published: noon) }
        #expect(try log.append(body: [], published: noon) == 1524..<1525)
        #expect(
            log.part(at: 1024) == .void(Gap(first: 1024, count: 500, reason: .void)) && log.checkInvariants() == nil)
        // An object that is open cannot go on over the break.
        for _ in 1525..<2547 { try log.append(body: [], published: noon) }
        try log.begin(published: noon)
        try log.append(part: [1])
        log.kept.stored.next += 1
        #expect(throws: LogError.self) { try log.append(part: [2]) }
        #expect(log.abandon() == Gap(first: 2547, count: 1, reason: .void))
        #expect(try log.append(body: [3], published: noon) == 2549..<2550 && log.checkInvariants() == nil)
    }

    @Test func aStoreThatFails() throws {
        var log = try Self.log()
        log.kept.isBroken = true
        #expect(throws: LogError.store("no space")) { try log.append(body: [1], published: noon) }
        log.kept.isBroken = false
        try log.append(body: [1], published: noon)
        log.kept.isBroken = true
        try log.append(body: [2], published: noon)
        #expect(log.statistics.storeFailures == 1 && log.objectCount == 2)
        log.kept.isBroken = false
        #expect(try ObjectLog(log.kept).part(at: 1) == .void(Gap(first: 1, count: 1023, reason: .void)))
        // One that gives numbers twice is not believed.
        for _ in 2..<1024 { try log.append(body: [], published: noon) }
        log.kept.stored.next = 5
        #expect(throws: LogError.self) { try log.append(body: [], published: noon) }
        var store = KeepingStore()
        store.stored.parts = [try Part(PartHeader(sequence: 3, length: nil, published: noon), body: [])]
        #expect(throws: LogError.self) { try ObjectLog(store) }
    }

    @Test func answersToPositions() throws {
        var log = try Self.log(Retention(objects: 3))
        for _ in 0..<5 { try log.append(body: [1], published: noon) }
        func answer(_ epoch: Epoch?, _ position: UInt64) -> (LogMessage.Answer, UInt64) {
            let (message, cursor) = log.answer(
                PositionMessage(epoch: epoch, cursor: Cursor(position: position)), at: noon)
            #expect(message.epoch == log.epoch && message.oldest == 2 && message.next == 5 && message.now == noon)
            #expect(message.first == cursor.position)
            #expect((try? ControlMessage.log(message).encoded()) != nil)
            return (message.answer, message.first)
        }
        #expect(answer(epoch, 4) == (.taken, 4))
        #expect(answer(epoch, 1) == (.taken, 1))
        #expect(answer(epoch, 5) == (.taken, 5))
        #expect(answer(epoch, 6) == (.otherEpoch, 2))
        #expect(answer(Epoch(high: 1, low: 1), 4) == (.otherEpoch, 2))
        #expect(answer(nil, 0) == (.fresh, 2))
        #expect(answer(nil, 3) == (.fresh, 3))
        #expect(answer(nil, PositionMessage.newest) == (.fresh, 5))
    }

    @Test func readingWithWants() throws {
        var log = try Self.log(Retention(objects: 6))
        for name in ["a/1", "a/2", "b/1", "a/3", "b/2", "a/4", "a/5"] {
            try log.append(name: name, body: [1], published: noon)
        }
        var cursor = Cursor()
        cursor.settle(5)
        var told: [LogReading] = []
        while true {
            let reading = log.read(cursor, wants: .named(["b/"]))
            if reading == .edge { break }
            told.append(reading)
            switch reading {
            case .part(let part): cursor.settle(part.sequence)
            case .gap(let gap): cursor.settle(gap.range)
            case .edge, .stored: break
            }
        }
        #expect(told.count == 6 && told[0] == .gap(Gap(first: 0, count: 1, reason: .retention)))
        #expect(told[1] == .gap(Gap(first: 1, count: 1, reason: .unwanted)))
        guard case .part(let part) = told[2] else { return #expect(Bool(false)) }
        #expect(part.header.name == "b/1" && told[3] == .gap(Gap(first: 3, count: 1, reason: .unwanted)))
        #expect(told[5] == .gap(Gap(first: 6, count: 1, reason: .unwanted)))
        // What is settled within a gap is not told.
        log = try Self.log(Retention(objects: 1))
        for _ in 0..<5 { try log.append(body: [1], published: noon) }
        cursor = Cursor()
        cursor.settle(2)
        #expect(log.read(cursor) == .gap(Gap(first: 0, count: 2, reason: .retention)))
        #expect(log.read(cursor, from: 1) == .gap(Gap(first: 1, count: 1, reason: .retention)))
        #expect(log.read(cursor, from: 2) == .gap(Gap(first: 3, count: 1, reason: .retention)))
        // A long run of what is not wanted, a piece at a time.
        log = try Self.log()
        for _ in 0..<(ObjectLimits.partsPerReading + 7) { try log.append(name: "a", body: [], published: noon) }
        #expect(
            log.read(Cursor(), wants: .named(["b"]))
                == .gap(Gap(first: 0, count: UInt64(ObjectLimits.partsPerReading), reason: .unwanted)))
    }

    @Test(
        "A random walk: what is below the live edge is a part, void or gone, and a number means one thing",
        arguments: seeds)
    func walk(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let retention = Retention(
            objects: random.chance(0.5) ? 1 + random.below(20) : nil, octets: random.chance(0.5) ? 3000 : nil,
            age: random.chance(0.5) ? .seconds(20) : nil)
        var log = try Self.log(retention)
        var given: [UInt64: Part] = [:]
        var now = noon
        for step in 0..<400 {
            let at = "seed \(seed), step \(step)"
            let edge = log.next
            now = now + .seconds(random.below(3))
            let body = random.octets(random.below(200))
            switch random.below(12) {
            case 0: log.expire(at: now)
            case 1: _ = log.abandon()
            case 2: _ = try? log.begin(name: "n", published: now)
            case 3, 4: _ = try? log.append(part: body)
            case 5: _ = try? log.finish(body)
            case 6 where random.chance(0.2): log = try ObjectLog(log.kept, retention: retention)
            case 7 where random.chance(0.2): log.kept.stored.next += UInt64(random.below(3))
            default: _ = try? log.append(name: "n\(random.below(9))", body: body, published: now)
            }
            #expect(log.checkInvariants() == nil, "\(at)")
            #expect(log.next >= edge, "\(at)")
            var sequence = max(log.oldest, 3) - 3
            while sequence < log.next {
                switch log.part(at: sequence) {
                case .part(let part):
                    #expect(part.sequence == sequence && given[sequence, default: part] == part, "\(at)")
                    given[sequence] = part
                    sequence += 1
                case .void(let gap):
                    #expect(gap.first == sequence && gap.range.upperBound <= log.next, "\(at)")
                    sequence = gap.range.upperBound
                case .gone(let gap):
                    #expect(gap.first == sequence && gap.range.upperBound == log.oldest, "\(at)")
                    sequence = log.oldest
                case .stored, .beyond:
                    Issue.record("beyond at \(sequence), \(at)")
                    sequence = log.next
                }
            }
            #expect(log.part(at: log.next) == .beyond, "\(at)")
        }
    }
}
