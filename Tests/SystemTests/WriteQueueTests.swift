import Objects
import Testing
import Wire

@testable import System

/// The queue between a log and its disk, without either.
@Suite struct WriteQueueTests {
    static let start = Instant(nanoseconds: 7)
    static let charge = WriteQueue.partOverhead

    static func queue(octetLimit: Int = 1 << 20) -> WriteQueue {
        var queue = WriteQueue(octetLimit: octetLimit, reserved: 1 << 20, nextSequence: 0, oldest: 0, isDeleting: false)
        queue.reserved(upTo: 2 << 20)
        return queue
    }

    static func part(_ sequence: UInt64, octets: Int = 0) throws -> Part {
        try Part(
            PartHeader(sequence: sequence, length: UInt64(octets), published: WallTime(nanoseconds: 0)),
            body: [UInt8](repeating: 1, count: octets))
    }

    @Test func partsAreWrittenTogether() throws {
        var queue = Self.queue()
        #expect(queue.next(at: Self.start) == .wait(until: nil))
        let parts = try (0..<3).map { try Self.part($0) }
        #expect(try queue.append(parts[0], at: Self.start))
        #expect(try !queue.append(parts[1], at: Self.start + .milliseconds(20)), "only the first wakes the writer")
        let due = Self.start + WriteQueue.interval
        #expect(queue.next(at: Self.start + .milliseconds(20)) == .wait(until: due))
        #expect(queue.next(at: due) == .write([parts[0], parts[1]], trimBelow: 0))
        // What comes now is not in the batch under way.
        #expect(try queue.append(parts[2], at: due))
        queue.written(trimmed: 0, isDeleting: false)
        #expect(queue.settled == 2)
        #expect(queue.next(at: due) == .wait(until: due + WriteQueue.interval))
        #expect(queue.next(at: due + WriteQueue.interval) == .write([parts[2]], trimBelow: 0))
        queue.written(trimmed: 0, isDeleting: false)
        #expect(queue.octets == 0 && queue.next(at: due) == .wait(until: nil))
    }

    @Test func aFullBatchDoesNotWait() throws {
        var queue = Self.queue()
        for sequence in 0..<UInt64(WriteQueue.batchParts) {
            _ = try queue.append(try Self.part(sequence), at: Self.start)
        }
        #expect(queue.next(at: Self.start) == .wait(until: Self.start + WriteQueue.interval))
        #expect(try queue.append(try Self.part(UInt64(WriteQueue.batchParts)), at: Self.start))
        guard case .write(let parts, _) = queue.next(at: Self.start) else { return #expect(Bool(false)) }
        #expect(parts.count == WriteQueue.batchParts)
    }

    /// Beyond the limit a part is refused and counted; what was taken is written all the same, and makes room.
    @Test func whatWaitsIsBounded() throws {
        var queue = Self.queue(octetLimit: 100_000)
        var sequence: UInt64 = 0
        while queue.refused == 0 {
            _ = try? queue.append(try Self.part(sequence, octets: 900), at: Self.start)
            sequence += 1
            #expect(queue.octets <= 100_000)
        }
        #expect(queue.octets > 98_000)
        let error = #expect(throws: LogStoreError.self) {
            try queue.append(try Self.part(sequence, octets: 900), at: Self.start)
        }
        #expect(error?.reason.contains("at most 100000 octets wait for the disk") == true)
        #expect(queue.refused == 2)
        guard case .write = queue.next(at: Self.start + WriteQueue.interval) else { return #expect(Bool(false)) }
        queue.written(trimmed: 0, isDeleting: false)
        #expect(queue.octets == 0)
        #expect(try queue.append(try Self.part(sequence, octets: 900), at: Self.start))
    }

    @Test func outOfTurn() throws {
        var queue = Self.queue()
        _ = try queue.append(try Self.part(5), at: Self.start)
        #expect(throws: LogStoreError.self) { try queue.append(try Self.part(5), at: Self.start) }
        #expect(throws: LogStoreError.self) { try queue.append(try Self.part(1 << 20), at: Self.start) }
        _ = try queue.trim(below: 9, at: Self.start)
        #expect(throws: LogStoreError.self) { try queue.append(try Self.part(8), at: Self.start) }
        _ = try queue.append(try Self.part(9), at: Self.start)
        #expect(queue.appended == 2)
    }

    @Test func aFailureIsTriedAgainLaterAndLater() throws {
        var queue = Self.queue()
        let part = try Self.part(0)
        _ = try queue.append(part, at: Self.start)
        var now = Self.start + WriteQueue.interval
        var pause = WriteQueue.shortestPause
        for _ in 0..<9 {
            #expect(queue.next(at: now) == .write([part], trimBelow: 0))
            queue.failed("no", at: now)
            #expect(queue.next(at: now) == .wait(until: now + pause))
            now += pause
            pause = min(pause * 2, WriteQueue.longestPause)
        }
        #expect(queue.failures == 9 && queue.lastFailure == "no" && pause == WriteQueue.longestPause)
        // Who waits for it does not wait for the pause.
        _ = queue.next(at: now)
        queue.failed("no", at: now)
        queue.hurry()
        #expect(queue.next(at: now) == .write([part], trimBelow: 0))
        queue.written(trimmed: 0, isDeleting: false)
        #expect(queue.lastFailure == nil && queue.settled == 1)
    }

    @Test func trimmedPartsAreNotWritten() throws {
        var queue = Self.queue()
        for sequence in UInt64(0)..<10 { _ = try queue.append(try Self.part(sequence), at: Self.start) }
        _ = try queue.trim(below: 7, at: Self.start)
        #expect(queue.settled == 7)
        guard case .write(let parts, 7) = queue.next(at: Self.start + WriteQueue.interval) else {
            return #expect(Bool(false))
        }
        #expect(parts.map(\.sequence) == [7, 8, 9])
        // A batch under way stays as it is; more to delete goes on at once.
        _ = try queue.trim(below: 9, at: Self.start)
        queue.written(trimmed: 7, isDeleting: false)
        #expect(queue.settled == 10 && queue.trimDone == 7 && queue.octets == 0)
        queue.hurry()
        #expect(queue.next(at: Self.start) == .write([], trimBelow: 9))
        queue.written(trimmed: 9, isDeleting: true)
        #expect(queue.next(at: Self.start) == .write([], trimBelow: 9))
        queue.written(trimmed: 9, isDeleting: false)
        #expect(queue.next(at: Self.start) == .wait(until: nil))
        // No further than numbers go.
        _ = try queue.trim(below: .max, at: Self.start)
        #expect(queue.trimAsked == 1 << 20)
    }

    /// A block is in hand at any time; where the disk does not give one, all else goes on.
    @Test func numbersAreReservedAhead() throws {
        let block = WriteQueue.block
        var queue = WriteQueue(octetLimit: 1 << 20, reserved: 7, nextSequence: 0, oldest: 0, isDeleting: false)
        #expect(try queue.take(3) == .missing(3))
        #expect(queue.next(at: Self.start) == .reserve(block))
        queue.reserved(upTo: 7 + block)
        #expect(queue.next(at: Self.start) == .wait(until: nil))
        #expect(try queue.take(block) == .first(7))
        #expect(try queue.take(1) == .missing(1))
        #expect(queue.next(at: Self.start) == .reserve(block))
        queue.reservationFailed(at: Self.start)
        let again = Self.start + WriteQueue.shortestPause
        #expect(queue.next(at: Self.start) == .wait(until: again))
        let part = try Self.part(7)
        _ = try queue.append(part, at: Self.start)
        #expect(queue.next(at: Self.start + WriteQueue.interval) == .write([part], trimBelow: 0))
        queue.written(trimmed: 0, isDeleting: false)
        #expect(queue.next(at: again) == .reserve(block))
        queue.reserved(upTo: 7 + 2 * block)
        #expect(try queue.take(1) == .first(7 + block))
        queue.close()
        #expect(queue.next(at: again) == .end)
        #expect(throws: LogStoreError.self) { try queue.take(1) }
    }

    @Test func readersGoFirst() throws {
        var queue = Self.queue()
        _ = try queue.append(try Self.part(0), at: Self.start)
        queue.hurry()
        queue.waitingReaders = 1
        #expect(queue.next(at: Self.start) == .wait(until: nil))
        queue.waitingReaders = 0
        guard case .write = queue.next(at: Self.start) else { return #expect(Bool(false)) }
    }

    @Test func closing() throws {
        var queue = Self.queue()
        _ = try queue.append(try Self.part(0), at: Self.start)
        queue.close()
        #expect(throws: LogStoreError.self) { try queue.append(try Self.part(1), at: Self.start) }
        #expect(throws: LogStoreError.self) { try queue.trim(below: 1, at: Self.start) }
        guard case .write = queue.next(at: Self.start) else { return #expect(Bool(false)) }
        queue.failed("no", at: Self.start)
        #expect(queue.lost == 1 && queue.octets == 0 && !queue.isClosed)
        #expect(queue.next(at: Self.start) == .end)
        queue.ended()
        #expect(queue.isClosed)
    }
}
