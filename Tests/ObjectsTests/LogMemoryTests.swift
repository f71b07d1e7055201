import Testing
import Wire

@testable import Objects

/// A store that parts can be read from again, but for those that have still to be written.
struct ReadableStore: LogStore {
    struct Reader: PartReader {
        func read(
            _ numbers: Range<UInt64>, completion: @escaping @Sendable (Result<[Part], LogStoreError>) -> Void
        ) { completion(.success([])) }
    }

    var kept = KeepingStore()
    /// As many of the newest wait to be written.
    var behind = 0
    /// Nothing more is taken.
    var isFull = false

    var reader: (any PartReader)? { Reader() }
    var readable: UInt64 {
        let parts = kept.stored.parts
        return behind == 0 || parts.isEmpty ? kept.stored.next : parts[max(0, parts.count - behind)].sequence
    }
    func has(_ sequence: UInt64) -> Bool { kept.stored.parts.contains { $0.sequence == sequence } }

    mutating func load() throws(LogStoreError) -> StoredLog { kept.stored }
    mutating func load(holding octets: Int) throws(LogStoreError) -> StoredLog {
        var stored = kept.stored
        var sum = 0
        let count = stored.parts.reversed().prefix {
            sum += $0.streamLength
            return sum <= octets
        }.count
        stored.older = stored.parts.dropLast(count).map { StoredPart($0) }
        stored.parts = stored.parts.suffix(count)
        return stored
    }
    mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 { try kept.reserve(count) }
    mutating func append(_ part: Part) throws(LogStoreError) {
        if isFull { throw LogStoreError("no space") }
        try kept.append(part)
    }
    mutating func trim(below sequence: UInt64) throws(LogStoreError) { try kept.trim(below: sequence) }
}

/// A log that is larger than memory.
@Suite struct LogMemoryTests {
    static let body = [UInt8](repeating: 1, count: 100)

    static func log(
        _ store: ReadableStore = ReadableStore(), retention: Retention = Retention(), memory: Int = 1000
    ) throws -> ObjectLog { try ObjectLog(store, retention: retention, memory: memory) }

    static func change(_ log: inout ObjectLog, _ body: (inout ReadableStore) -> Void) {
        guard var store = log.store as? ReadableStore else { preconditionFailure("the log is on another store") }
        body(&store)
        log.store = store
    }

    static func whereIs(_ log: ObjectLog, _ numbers: Range<UInt64>) -> String {
        numbers.map { number in
            switch log.part(at: number) {
            case .part: "m"
            case .stored: "s"
            case .void: "v"
            case .gone: "g"
            case .beyond: "-"
            }
        }.joined()
    }

    @Test func theNewestAreInMemory() throws {
        var log = try Self.log(memory: 500)
        for _ in 0..<10 { try log.append(body: Self.body, published: noon) }
        #expect(Self.whereIs(log, 0..<11) == "ssssssmmmm-" && log.objectCount == 10)
        #expect(log.heldOctets <= 500 && log.octetCount > 1000 && log.checkInvariants() == nil)
        #expect(log.first(ofNewest: 7) == 3)
        #expect(log.storedRun(from: 2, octets: 300, parts: 9) == 2..<4)
        #expect(log.storedRun(from: 2, octets: 1, parts: 9) == 2..<3)
        #expect(log.storedRun(from: 2, octets: 9999, parts: 9) == 2..<6)
        // Opened again, and told by what it was told to keep.
        let store = try #require(log.store as? ReadableStore)
        let again = try Self.log(store, retention: Retention(objects: 7), memory: 500)
        #expect(Self.whereIs(again, 2..<11) == "gsssmmmmv" && again.oldest == 3)
    }

    /// What waits for the disk is held beyond the limit, and leaves when it is written.
    @Test func whatIsNotWrittenStays() throws {
        var log = try Self.log(memory: 500)
        Self.change(&log) { $0.behind = 7 }
        for _ in 0..<10 { try log.append(body: Self.body, published: noon) }
        #expect(Self.whereIs(log, 0..<10) == "sssmmmmmmm")
        Self.change(&log) { $0.behind = 0 }
        log.expire(at: noon)
        #expect(Self.whereIs(log, 0..<10) == "ssssssmmmm")
    }

    /// A disk that is full for a while: what it has stays there, memory holds what it may, what neither can is told as gone, not
    /// as never filled.
    @Test func aStoreThatIsFull() throws {
        var log = try Self.log(memory: 500)
        for _ in 0..<5 { try log.append(body: Self.body, published: noon) }
        Self.change(&log) { $0.isFull = true }
        for _ in 0..<6 { try log.append(body: Self.body, published: noon) }
        #expect(Self.whereIs(log, 0..<11) == "sssssggmmmm" && log.statistics.objectsLost == 2)
        #expect(log.part(at: 5) == .gone(Gap(first: 5, count: 2, reason: .retention)))
        Self.change(&log) { $0.isFull = false }
        for _ in 0..<6 { try log.append(body: Self.body, published: noon) }
        #expect(Self.whereIs(log, 0..<17) == "sssssggggggssmmmm")
        #expect(log.checkInvariants() == nil && log.objectCount == 11)
    }

    /// The same while what it took before still waits to be written: that stays, and of what it did not take the newest.
    @Test func aStoreThatTakesNothingForLong() throws {
        var log = try Self.log(memory: 500)
        Self.change(&log) { $0.behind = 1000 }
        for _ in 0..<5 { try log.append(body: Self.body, published: noon) }
        Self.change(&log) { $0.isFull = true }
        for _ in 0..<20 { try log.append(body: Self.body, published: noon) }
        #expect(Self.whereIs(log, 0..<25) == "mmmmm" + String(repeating: "g", count: 17) + "mmm")
        #expect(log.heldOctets <= 1000 && log.objectCount == 8 && log.checkInvariants() == nil)
    }

    @Test func whatTheStoreHasLost() throws {
        var log = try Self.log(memory: 300_000)
        try log.append(body: Self.body, published: noon)
        try log.append(body: LogTests.big, published: noon)
        try log.append(body: Self.body, published: noon)
        #expect(Self.whereIs(log, 0..<5) == "ssmmm")
        log.storeLacks(4)
        log.storeLacks(1)
        #expect(Self.whereIs(log, 0..<5) == "sgggm" && log.objectCount == 2 && log.checkInvariants() == nil)
        log.storeLacks(0)
        #expect(log.part(at: 0) == .gone(Gap(first: 0, count: 4, reason: .retention)))
    }

    /// Whatever happens, what is said to be in the store is there, and every object is kept that should be.
    @Test(arguments: seeds) func walk(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let retention = Retention(
            objects: random.chance(0.5) ? 5 + random.below(40) : nil, octets: random.chance(0.5) ? 6000 : nil)
        let memory = 300 + random.below(1500)
        var log = try Self.log(retention: retention, memory: memory)
        var isFull = false
        /// Parts that the store did not take, and may be lost.
        var untaken: Set<UInt64> = []
        for step in 0..<200 {
            let at = "seed \(seed), step \(step)"
            let edge = log.next
            switch random.below(14) {
            case 0: isFull.toggle()
            case 1: Self.change(&log) { $0.behind = random.below(8) }
            case 2 where random.chance(0.3):
                _ = log.abandon()
                let store = try #require(log.store as? ReadableStore)
                log = try Self.log(store, retention: retention, memory: memory)
                #expect(log.heldOctets <= memory)
                untaken = []
            case 3: _ = log.abandon()
            case 4: _ = try? log.begin(published: noon)
            case 5, 6: _ = try? log.append(part: random.octets(random.below(200)))
            case 7: _ = try? log.finish(random.octets(random.below(200)))
            case 8 where log.next > 0: log.storeLacks(UInt64(random.below(Int(log.next))))
            default: _ = try? log.append(body: random.octets(random.below(300)), published: noon)
            }
            Self.change(&log) { $0.isFull = isFull }
            if edge < log.next, let store = log.store as? ReadableStore {
                untaken.formUnion((edge..<log.next).filter { !store.has($0) })
            }
            try #require(log.checkInvariants() == nil, "\(at)")
            let store = try #require(log.store as? ReadableStore)
            let kept = Dictionary(uniqueKeysWithValues: store.kept.stored.parts.map { ($0.sequence, StoredPart($0)) })
            var number = log.oldest
            while number < log.next {
                switch log.part(at: number) {
                case .stored(let part):
                    try #require(kept[number] == part && !untaken.contains(number), "\(at)")
                    number += 1
                case .void(let gap), .gone(let gap): number = gap.range.upperBound
                case .part, .beyond: number += 1
                }
            }
            #expect(log.forgotten.count <= log.partCount + 1)
            #expect(log.unstored.count <= log.partCount + 1)
        }
    }
}
