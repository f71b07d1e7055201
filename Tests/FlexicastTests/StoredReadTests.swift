import Objects
import QUIC
import Synchronization
import Testing
import Wire

@testable import Flexicast

/// A store that has all it was given at once, and whose parts the test reads when it wants.
private final class Shelf: LogStore, PartReader {
    private let parts = Mutex<[Part]>([])
    private let next = Mutex<UInt64>(0)

    func load() throws(LogStoreError) -> StoredLog { StoredLog(epoch: SourceBench.epoch) }
    func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        next.withLock { next in
            defer { next += count }
            return next
        }
    }
    func append(_ part: Part) throws(LogStoreError) { parts.withLock { $0.append(part) } }
    func trim(below sequence: UInt64) throws(LogStoreError) {
        parts.withLock { $0.removeAll { $0.sequence < sequence } }
    }
    var reader: (any PartReader)? { self }
    var readable: UInt64 { .max }
    func read(
        _ numbers: Range<UInt64>, completion: @escaping @Sendable (Result<[Part], LogStoreError>) -> Void
    ) { completion(.success(take(numbers))) }
    func take(_ numbers: Range<UInt64>) -> [Part] {
        parts.withLock { $0.filter { numbers.contains($0.sequence) } }
    }
}

/// Parts that memory does not hold: who needs them waits, and nobody else does.
@Suite struct StoredReadTests {
    private let shelf = Shelf()

    private func bench(
        retention: Retention = Retention(), memory: Int = 2000,
        service change: (inout FlowServerConfiguration) -> Void = { _ in }
    ) -> SourceBench {
        SourceBench(retention: retention, store: shelf, memory: memory, service: change)
    }

    private func position(_ position: UInt64) -> PositionMessage {
        PositionMessage(epoch: SourceBench.epoch, cursor: Cursor(position: position))
    }

    /// Ends all reads that may begin, and serves those who waited. Returns how many there were.
    private func read(_ bench: SourceBench) -> Int {
        var count = 0
        while let numbers = bench.server.nextRead() {
            bench.server.partsRead(numbers, .success(shelf.take(numbers)), at: bench.now)
            count += 1
        }
        while let id = bench.server.nextTouched() {
            if let receiver = bench.receivers.first(where: { $0.id == id }) { bench.serve(receiver) }
        }
        return count
    }

    @Test func everyPartComesOnceInOrder() {
        let bench = bench()
        for _ in 0..<600 { bench.publish(100) }
        let receiver = bench.connect()
        bench.state(position(3), receiver)
        bench.serve(receiver)
        // Nothing of it is in memory: it waits, and others do not.
        #expect(bench.takeWhole(receiver).isEmpty)
        let other = bench.connect()
        bench.state(position(600), other)
        bench.publish(100)
        bench.serve(other)
        #expect(bench.takeWhole(other) == [600])
        var got: [UInt64] = []
        var reads = 0
        while case let count = read(bench), count > 0 {
            reads += count
            got += bench.takeWhole(receiver)
        }
        #expect(got == Array(3...600))
        #expect(reads == 3 && bench.server.storedPartsRead <= 600)
        #expect(bench.server.checkInvariants() == nil)
    }

    /// However many need old parts, so many are read at once, one for each receiver.
    @Test func readsAreBounded() {
        let bench = bench()
        for _ in 0..<8 { bench.publish(9_000) }
        for _ in 0..<6000 { bench.publish(1) }
        let receivers = (0..<40).map { index in
            let receiver = bench.connect()
            bench.state(position(UInt64(index * 150)), receiver)
            bench.serve(receiver)
            bench.serve(receiver)
            return receiver
        }
        var underWay: [Range<UInt64>] = []
        while let numbers = bench.server.nextRead() { underWay.append(numbers) }
        #expect(underWay.count == StoredReads.most && underWay.allSatisfy { $0.count <= StoredReads.parts })
        #expect(bench.server.nextRead() == nil)
        // Who goes is waited for no more.
        bench.server.forget(receivers[0].id, at: bench.now)
        bench.server.forget(receivers[39].id, at: bench.now)
        #expect(bench.server.checkInvariants() == nil)
        for numbers in underWay { bench.server.partsRead(numbers, .success(shelf.take(numbers)), at: bench.now) }
        var got = receivers.map { bench.takeWhole($0) }
        while read(bench) > 0 {
            for (index, receiver) in receivers.enumerated() { got[index] += bench.takeWhole(receiver) }
        }
        for (index, numbers) in got.enumerated().dropFirst().dropLast() {
            #expect(numbers == Array(UInt64(index * 150)..<6008), "receiver \(index)")
        }
        #expect(bench.server.reads.keptOctets <= StoredReads.keptOctets)
    }

    @Test func aReadThatFailsIsTriedAgain() {
        let bench = bench()
        for _ in 0..<100 { bench.publish(100) }
        let receiver = bench.connect()
        bench.state(position(0), receiver)
        bench.serve(receiver)
        let numbers = bench.server.nextRead()
        bench.server.partsRead(numbers ?? 0..<1, .failure(LogStoreError("the disk is gone")), at: bench.now)
        #expect(bench.server.nextRead() == nil && bench.takeWhole(receiver).isEmpty)
        #expect(bench.server.readFailures == 1 && bench.server.lastReadFailure == "the disk is gone")
        #expect(bench.server.reads.deadline == bench.now + StoredReads.pause)
        bench.now += StoredReads.pause
        bench.server.timerFired(at: bench.now)
        #expect(read(bench) == 1 && bench.takeWhole(receiver) == Array(0..<100))
    }

    /// What the store does not have after all is told as a gap, and what follows comes.
    @Test func whatIsNotThereIsTold() throws {
        let bench = bench()
        for _ in 0..<100 { bench.publish(100) }
        let receiver = bench.connect()
        bench.state(position(0), receiver)
        bench.serve(receiver)
        let asked = bench.server.nextRead()
        let numbers = try #require(asked)
        let parts = shelf.take(numbers).filter { $0.sequence != 7 && $0.sequence != 8 }
        bench.server.partsRead(numbers, .success(parts), at: bench.now)
        bench.serve(receiver)
        #expect(bench.takeWhole(receiver) == (0..<100).filter { $0 != 7 && $0 != 8 })
        #expect(bench.server.partsGone == 2)
    }

    /// With a bound on what goes to connections, nobody's turn is spent on waiting for a disk.
    @Test func turnsGoOn() {
        let bench = bench { $0.unicastRate = 100_000_000 }
        for _ in 0..<3000 { bench.publish(1000) }
        let receivers = (0..<3).map { _ in
            let receiver = bench.connect()
            bench.state(position(0), receiver)
            bench.serve(receiver)
            return receiver
        }
        var got = [0, 0, 0]
        for _ in 0..<3000 where got != [3000, 3000, 3000] {
            _ = read(bench)
            for (index, receiver) in receivers.enumerated() { got[index] += bench.takeWhole(receiver).count }
            bench.now += .milliseconds(1)
            if bench.server.nextDeadline <= bench.now { bench.server.timerFired(at: bench.now) }
        }
        #expect(got == [3000, 3000, 3000])
        // 9 MB at nine tenths of 100 Mbit/s.
        #expect(bench.now > Instant(nanoseconds: 1_500_000_000))
    }
}
