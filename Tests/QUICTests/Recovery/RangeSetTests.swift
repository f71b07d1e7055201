import QUIC
import Testing
import Wire

@Suite("Range sets")
struct RangeSetTests {
    @Test("agrees with a set of numbers over random operations", arguments: 0..<20 as Range<UInt64>)
    func model(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var ranges = RangeSet()
        var model: Set<UInt64> = []
        let universe: UInt64 = 120
        for step in 0..<400 {
            let lower = UInt64.random(in: 0..<universe, using: &random)
            let range = lower...min(universe - 1, lower + UInt64.random(in: 0...12, using: &random))
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1:
                ranges.insert(range)
                model.formUnion(range)
            case 2:
                let isNew = ranges.insert(lower)
                let isNewInModel = model.insert(lower).inserted
                #expect(isNew == isNewInModel)
            case 3:
                ranges.remove(range)
                model.subtract(range)
            case 4 where step % 10 == 0 && !ranges.isEmpty:
                model.subtract(ranges[0])
                ranges.removeFirst()
            default:
                var gaps: [UInt64] = []
                ranges.forEachGap(in: range) { gaps += [UInt64]($0) }
                #expect(gaps == range.filter { !model.contains($0) })
                #expect(ranges.contains(range) == range.allSatisfy(model.contains))
                #expect(ranges.intersects(range) == range.contains(where: model.contains))
            }
            guard numbers(ranges) == model.sorted() else {
                Issue.record("seed \(seed), step \(step): \(ranges) is not \(model.sorted())")
                return
            }
            for value in 0..<universe where ranges.contains(value) != model.contains(value) {
                Issue.record("seed \(seed), step \(step): contains(\(value)) is wrong in \(ranges)")
                return
            }
            for index in 1..<max(1, ranges.count) where ranges[index].lowerBound < ranges[index - 1].upperBound + 2 {
                Issue.record("seed \(seed), step \(step): ranges touch in \(ranges)")
                return
            }
        }
    }

    private func numbers(_ ranges: RangeSet) -> [UInt64] {
        (0..<ranges.count).flatMap { Array(ranges[$0]) }
    }

    @Test func theEndsOfTheNumberLine() {
        var ranges = RangeSet()
        ranges.insert(UInt64.max)
        ranges.insert((UInt64.max - 1)...(UInt64.max - 1))
        ranges.insert(0)
        ranges.insert(1)
        #expect(ranges.count == 2)
        #expect(ranges.first == 0...1)
        #expect(ranges.last == (UInt64.max - 1)...UInt64.max)
        ranges.insert(0...UInt64.max)
        #expect(ranges.count == 1)
        var gaps = 0
        ranges.forEachGap(in: 0...UInt64.max) { _ in gaps += 1 }
        #expect(gaps == 0)
        ranges.remove(5...UInt64.max)
        #expect(ranges.last == 0...4)
        ranges.remove(0...UInt64.max)
        #expect(ranges.isEmpty)
    }

    @Test func gapsOfAnEmptySet() {
        var gaps: [ClosedRange<UInt64>] = []
        RangeSet().forEachGap(in: 3...9) { gaps.append($0) }
        #expect(gaps == [3...9])
    }
}
