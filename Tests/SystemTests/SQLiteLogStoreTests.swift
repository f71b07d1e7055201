import Foundation
import Objects
import Testing
import Wire

@testable import LogStoreWriter
@testable import System

/// What a durable store promises while its disk does what it is told.
@Suite struct SQLiteLogStoreTests {
    @Test func aFreshLog() throws {
        let scratch = try ScratchStore()
        var random = SeededRandom(seed: 5)
        var same = random
        var store = try SQLiteLogStore(directory: scratch.log, random: &random)
        let epoch = Epoch(from: &same)
        #expect(try store.load() == StoredLog(epoch: epoch))
        #expect(try store.reserve(10) == 0)
        #expect(try store.reserve(1) == 10)
        try store.close()
        #expect(throws: LogStoreError("the store is closed")) { try store.reserve(1) }
        #expect(throws: LogStoreError("the store is closed")) { try store.append(samplePart(0)) }
        var again = try scratch.open()
        #expect(try again.load() == StoredLog(epoch: epoch, next: 11))
    }

    /// A model beside the store, and closings in between.
    @Test(arguments: seeds) func walk(seed: UInt64) throws {
        let scratch = try ScratchStore()
        var random = SeededRandom(seed: seed)
        var store = try scratch.open()
        var model = try store.load()
        var nextPart: UInt64 = 0
        for _ in 0..<300 {
            switch random.below(12) {
            case 0...1:
                let count = UInt64(random.below(40))
                #expect(try store.reserve(count) == model.next)
                model.next += count
            case 2...7:
                nextPart += UInt64(random.below(3) == 0 ? random.below(4) : 0)
                let part = samplePart(nextPart)
                if nextPart < model.next {
                    try store.append(part)
                    model.parts.append(part)
                    nextPart += 1
                } else {
                    #expect(throws: LogStoreError.self) { try store.append(part) }
                }
            case 8:
                let sequence = model.oldest + UInt64(random.below(30))
                try store.trim(below: sequence)
                model.oldest = min(sequence, model.next)
                model.parts.removeAll { $0.sequence < model.oldest }
                nextPart = max(nextPart, model.oldest)
            case 9:
                try store.flush()
                #expect(store.statistics.waitingOctets == 0)
            case 10:
                #expect(try store.load() == model, "seed \(seed)")
            default:
                try store.close()
                store = try scratch.open()
                #expect(try store.load() == model, "seed \(seed)")
            }
        }
        try store.close()
        store = try scratch.open()
        #expect(try store.load() == model, "seed \(seed)")
        #expect(store.statistics.partsDamaged == 0)
    }

    /// A block of numbers is given out at once while the disk is busy with something else.
    @Test func aBlockIsInHand() throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        let end = ContinuousClock.now + .seconds(20)
        while store.statistics.numbersInHand < ObjectLog.blockSize, ContinuousClock.now < end {
            Thread.sleep(forTimeInterval: 0.005)
        }
        let other = try Database(scratch.database)
        try other.execute("BEGIN IMMEDIATE")
        #expect(try store.reserve(ObjectLog.blockSize) == 0)
        #expect(store.statistics.longestReservation < .seconds(1))
        try other.execute("COMMIT")
        // What is in hand is not lost by an orderly end.
        try store.close()
        store = try scratch.open()
        #expect(try store.load().next == ObjectLog.blockSize)
    }

    @Test func theLastCopyCloses() throws {
        let scratch = try ScratchStore()
        do {
            var store = try scratch.open()
            _ = try store.reserve(5)
            let copy = store
            try store.append(samplePart(3))
            _ = copy
        }
        var store = try scratch.open()
        #expect(try store.load().parts == [samplePart(3)])
    }

    /// A log of either kind behind one type, and a restart in the middle: the same epoch and parts, and higher numbers.
    @Test func aLogGoesOn() throws {
        let scratch = try ScratchStore()
        let noon = WallTime(nanoseconds: 1_800_000_000_000_000_000)
        var store = try scratch.open()
        var log = try ObjectLog(store)
        let big = [UInt8](repeating: 7, count: ObjectLimits.partOctets + 9)
        try log.append(name: "a", body: big, published: noon)
        try log.append(name: "b", body: [1], published: noon)
        try log.begin(name: "never whole", published: noon)
        try log.append(part: [2])
        #expect(log.statistics.storeFailures == 0)
        try store.close()

        store = try scratch.open()
        var after = try ObjectLog(store)
        #expect(after.epoch == log.epoch && after.objectCount == 2 && after.partCount == 3)
        #expect(after.next == ObjectLog.blockSize)
        #expect(after.part(at: 1) == log.part(at: 1) && after.part(at: 2) == log.part(at: 2))
        #expect(try after.append(name: "c", body: [3], published: noon) == 1024..<1025)
        #expect((after.store as? SQLiteLogStore)?.statistics.reservations == 1)
        try store.close()

        var memory = try ObjectLog(MemoryStore(epoch: Epoch(high: 1, low: 2)))
        #expect(memory.epoch == Epoch(high: 1, low: 2))
        #expect(try memory.append(name: "c", body: [3], published: noon) == 0..<1)
    }

    /// Of what is older than memory has room for only the facts are read; the parts are there to be read later.
    @Test func olderPartsAreReadLater() async throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        _ = try store.reserve(100)
        for sequence in UInt64(0)..<100 { try store.append(samplePart(sequence)) }
        #expect(store.readable <= 100)
        try store.flush()
        #expect(store.readable == 100)
        let all = try store.load()
        let octets = all.parts.suffix(7).reduce(0) { $0 + $1.streamLength }
        let stored = try store.load(holding: octets)
        #expect(stored.parts == Array(all.parts.suffix(7)))
        #expect(stored.older == all.parts.dropLast(7).map { StoredPart($0) })
        #expect(try await read(store, 20..<30).get() == Array(all.parts[20..<30]))
        // As if octets changed on disk.
        try scratch.sqlite("UPDATE part SET checksum = 5 WHERE sequence = 21")
        #expect(try await read(store, 20..<30).get() == all.parts[20..<30].filter { $0.sequence != 21 })
        try scratch.sqlite("ALTER TABLE part RENAME TO gone")
        let failure = await read(store, 20..<30)
        #expect(throws: LogStoreError.self) { try failure.get() }
        try scratch.sqlite("ALTER TABLE gone RENAME TO part")
        #expect(try await read(store, 40..<41).get() == [samplePart(40)])
        let objects = try store.missing([Array(samplePart(3).body), [1, 2, 3]])
        #expect(objects == [false, true])
        try store.close()
        let closed = await read(store, 20..<30)
        #expect(throws: LogStoreError("the store is closed")) { try closed.get() }
    }

    private func read(_ store: SQLiteLogStore, _ numbers: Range<UInt64>) async -> Result<[Part], LogStoreError> {
        await withCheckedContinuation { continuation in
            store.reader?.read(numbers) { continuation.resume(returning: $0) }
        }
    }

    /// A database of the first version goes on with all that is in it.
    @Test func theFirstVersion() throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        let before = try store.load()
        _ = try store.reserve(50)
        for sequence in UInt64(0)..<50 { try store.append(samplePart(sequence)) }
        try store.close()
        try scratch.sqlite(
            """
            CREATE TABLE old (sequence INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, stream BLOB NOT NULL) STRICT;
            INSERT INTO old SELECT sequence, checksum, stream FROM part;
            DROP TABLE part; ALTER TABLE old RENAME TO part; UPDATE part SET checksum = 1 WHERE sequence = 9;
            PRAGMA user_version = 1
            """)
        store = try scratch.open()
        let after = try store.load()
        #expect(after.epoch == before.epoch && after.next == 50)
        #expect(after.parts == (0..<50).filter { $0 != 9 }.map { samplePart($0) })
        #expect(try store.missing([Array(samplePart(3).body)]) == [false])
        try store.close()
        store = try scratch.open()
        #expect(try store.load() == after)
    }

    /// 2000 objects of 10 kB in a second: prints what an append adds to an object's way, and how long commits took meanwhile.
    @Test func whatAnAppendTakes() throws {
        let scratch = try ScratchStore()
        let store = try scratch.open()
        var log = try ObjectLog(store, memory: 1 << 20)
        let body = [UInt8](repeating: 7, count: 10_000)
        var times: [Duration] = []
        let begin = ContinuousClock.now
        for index in 0..<2000 {
            let start = ContinuousClock.now
            try log.append(name: "\(index)", body: body, published: WallTime(nanoseconds: 0))
            times.append(ContinuousClock.now - start)
            guard index % 20 == 19 else { continue }
            let pause = begin + .milliseconds(10 * (index / 20 + 1)) - ContinuousClock.now
            Thread.sleep(forTimeInterval: max(0, pause / .seconds(1)))
        }
        try store.flush()
        times.sort()
        let counts = store.statistics
        print(
            "2000 appends in \(ContinuousClock.now - begin): p50 \(times[1000]), p99 \(times[1980]), longest \(times[1999]);",
            "\(counts.commits) commits, the longest \(counts.longestCommit)")
        #expect(log.statistics.storeFailures == 0 && counts.partsWritten == 2000)
        #expect(counts.commits < 400, "many objects go in one commit")
    }

    /// Room that is not needed any more is given back while the log goes on.
    @Test func theFileShrinks() throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        _ = try store.reserve(4000)
        for sequence in UInt64(0)..<200 {
            let header = PartHeader(sequence: sequence, length: 200_000, published: WallTime(nanoseconds: 0))
            try store.append(try Part(header, body: [UInt8](repeating: 9, count: 200_000)))
        }
        try store.flush()
        func size() throws -> Int64 { try Database(scratch.database).integer("PRAGMA page_count") ?? 0 }
        let before = try size()
        try store.trim(below: 199)
        for sequence in UInt64(200)..<300 where try size() > before / 2 {
            try store.append(samplePart(sequence))
            try store.flush()
        }
        #expect(try size() <= before / 2 && before > 9000)
        #expect(try store.load().parts.first?.sequence == 199)
    }

    /// A directory from a backup, whose numbers were given on.
    @Test func anotherEpochOnDemand() throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        let before = try store.load()
        _ = try store.reserve(5)
        try store.append(samplePart(4))
        try store.close()
        store = try scratch.open(startsAnew: true)
        let after = try store.load()
        #expect(after.epoch != before.epoch && after.next == 5 && after.parts == [samplePart(4)])
        try store.close()
        store = try scratch.open()
        #expect(try store.load() == after)
    }

    /// More parts than one deletion takes: all gone in the end, also when the log was closed in between.
    @Test func trimmingInPieces() throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        _ = try store.reserve(2000)
        for sequence in UInt64(0)..<2000 { try store.append(samplePart(sequence)) }
        try store.flush()
        try store.trim(below: 1990)
        try store.close()
        store = try scratch.open()
        #expect(try store.load().parts.map(\.sequence) == Array(1990..<2000))
        let end = ContinuousClock.now + .seconds(20)
        var left: Int64 = -1
        while left != 10, ContinuousClock.now < end {
            left = try Database(scratch.database).integer("SELECT count(*) FROM part") ?? -1
            Thread.sleep(forTimeInterval: 0.02)
        }
        #expect(left == 10)
    }
}
