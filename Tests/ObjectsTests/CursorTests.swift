import Testing
import Wire

@testable import Objects

@Suite struct CursorTests {
    @Test func positionMovesOverWhatIsSettled() {
        var cursor = Cursor()
        cursor.settle(2)
        cursor.settle(4..<6)
        #expect(cursor.position == 0 && cursor.ranges == [2..<3, 4..<6] && cursor.end == 6)
        #expect(
            cursor.next(below: 10) == 0 && cursor.next(from: 2, below: 10) == 3 && cursor.next(from: 4, below: 6) == nil
        )
        #expect(cursor.nextRun(below: 10) == 0..<2 && cursor.nextRun(from: 5, below: 10) == 6..<10)
        #expect(cursor.unsettled(below: 10) == 7)
        cursor.settle(3)
        #expect(cursor.ranges == [2..<6])
        cursor.settle(0..<2)
        #expect(cursor.position == 6 && cursor.ranges.isEmpty && cursor.next(below: 6) == nil)
        cursor.settle(0..<3)
        #expect(cursor.position == 6)
    }

    @Test("Of more ranges than are held the smallest is sent again, and counted") func forgets() {
        var cursor = Cursor()
        for index in UInt64(0)..<64 { cursor.settle((index * 10 + 5)..<(index * 10 + (index == 20 ? 7 : 9))) }
        #expect(cursor.ranges.count == ObjectLimits.settledRanges && cursor.sentAgain == 0)
        cursor.settle(1000..<1009)
        #expect(cursor.ranges.count == ObjectLimits.settledRanges && cursor.sentAgain == 2)
        #expect(!cursor.contains(205) && cursor.next(from: 200, below: 300) == 200 && cursor.contains(1000))
        // Of the same size, the highest.
        cursor.settle(2000..<2004)
        #expect(!cursor.contains(2000) && cursor.sentAgain == 6)
    }

    /// What a cursor is, without its cleverness.
    struct Model {
        var settled: Set<UInt64> = []
        var sentAgain: UInt64 = 0

        var position: UInt64 {
            var number: UInt64 = 0
            while settled.contains(number) { number += 1 }
            return number
        }

        var ranges: [Range<UInt64>] {
            var out: [Range<UInt64>] = []
            let position = position
            for number in settled.sorted() where number > position {
                if let last = out.last, last.upperBound == number {
                    out[out.count - 1] = last.lowerBound..<(number + 1)
                } else {
                    out.append(number..<(number + 1))
                }
            }
            return out
        }

        mutating func settle(_ range: Range<UInt64>) {
            settled.formUnion(range)
            let ranges = ranges
            guard ranges.count > ObjectLimits.settledRanges else { return }
            let least = ranges.map(\.count).min()
            guard let lost = ranges.last(where: { $0.count == least }) else { return }
            settled.subtract(lost)
            sentAgain += UInt64(lost.count)
        }
    }

    @Test("A random walk, with a set of numbers beside it", arguments: seeds) func walk(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var cursor = Cursor()
        var model = Model()
        let span = [80, 400, 2000][random.below(3)]
        for step in 0..<500 {
            // Beyond a span from the position on, and now and then what fills the lowest hole.
            let base = cursor.position
            let first = random.chance(0.02) ? base : base + UInt64(random.below(span))
            let range = first..<(first + UInt64(1 + random.below(random.chance(0.1) ? 30 : 2)))
            cursor.settle(range)
            model.settle(range)
            let at = "seed \(seed), step \(step)"
            #expect(cursor.checkInvariants() == nil, "\(at)")
            #expect(cursor.position == model.position && cursor.ranges == model.ranges, "\(at)")
            #expect(cursor.sentAgain == model.sentAgain, "\(at)")
            let probe = base + UInt64(random.below(span))
            let edge = probe + UInt64(random.below(40))
            #expect(cursor.contains(probe) == model.settled.contains(probe), "\(at)")
            #expect(
                cursor.next(from: probe, below: edge) == (probe..<edge).first { !model.settled.contains($0) }, "\(at)")
            if step % 25 == 0 {
                let all = (0..<edge).filter { !model.settled.contains($0) }.count
                #expect(cursor.unsettled(below: edge) == UInt64(all), "\(at)")
            }
            if let run = cursor.nextRun(from: probe, below: edge) {
                #expect(run.allSatisfy { !model.settled.contains($0) }, "\(at)")
                #expect(run.upperBound == edge || model.settled.contains(run.upperBound), "\(at)")
            }
            if step % 50 == 0 {
                let message = ControlMessage.position(PositionMessage(epoch: epoch, cursor: cursor))
                #expect(decode([(try? message.encoded()) ?? []], from: .client).items == [message], "\(at)")
            }
        }
    }

    @Test("Many ranges, taken in one by one from below", arguments: seeds) func manyRanges(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var set = SequenceSet()
        for index in UInt64(1)...20_000 { set.insert((2 * index)..<(2 * index + 1)) }
        #expect(set.rangeCount == 20_000 && set.checkInvariants() == nil)
        while set.rangeCount > 0 {
            let hole = set.position..<set[0].lowerBound
            set.insert(random.chance(0.5) ? hole.lowerBound..<(hole.lowerBound + 1) : hole)
        }
        #expect(set.position == 40_001 && set.checkInvariants() == nil)
    }
}
