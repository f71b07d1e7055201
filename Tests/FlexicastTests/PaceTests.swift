import QUIC
import Testing
import Wire

@testable import Flexicast

/// How fast a flow goes among strangers, and who is on it.
@Suite struct PaceTests {
    private static let fast: UInt64 = 12_000_000

    /// A tenth cannot follow: the others lose nothing of their rate.
    @Test func aTenthThatCannotFollowLeaves() {
        let model = FlowModel(seed: 1) { $0.rateCeiling = 20_000_000 }
        for index in 0..<100 {
            model.add(
                address: UInt32(index), line: FlowModel.Line(bitsPerSecond: index < 10 ? 1_000_000 : 1_000_000_000))
        }
        model.run(for: .seconds(2))
        let rate = model.run(for: .seconds(3))
        print("a tenth slow: \(rate), \(model.onFlow) on it")
        #expect(rate >= 19_000_000)
        #expect(model.onFlow == 90)
        #expect(model.receivers[..<10].allSatisfy { $0.id == nil })
    }

    /// Most can take a quarter of what there is: the flow slows down for them.
    @Test func aSlowMajoritySlowsTheFlowDown() {
        let model = FlowModel(seed: 2) { $0.rateCeiling = 20_000_000 }
        for index in 0..<100 {
            model.add(
                address: UInt32(index), line: FlowModel.Line(bitsPerSecond: index < 60 ? 5_000_000 : 1_000_000_000))
        }
        for second in 1...10 {
            let rate = model.run(for: .seconds(1))
            print("majority slow, second \(second): \(rate), pace \(model.flow.electorate.pace) \(model.onFlow) on it")
        }
        let rate = model.run(for: .seconds(5))
        let slow = model.receivers[..<60].count { $0.id != nil }
        print("majority slow: \(rate), \(slow) of 60 on it")
        #expect((4_000_000...5_100_000).contains(rate))
        #expect(slow >= 54)
    }

    @Test func allOnOneLineSlowTheFlowDown() {
        let model = FlowModel(seed: 3) { $0.rateCeiling = 20_000_000 }
        let line = FlowModel.Line(bitsPerSecond: 5_000_000)
        for index in 0..<100 { model.add(address: UInt32(index), line: line) }
        for second in 1...10 {
            let rate = model.run(for: .seconds(1))
            print("one line, second \(second): \(rate), pace \(model.flow.electorate.pace) \(model.onFlow) on it")
        }
        let rate = model.run(for: .seconds(5))
        print("one line: \(rate), \(model.onFlow) on it")
        #expect((4_000_000...5_100_000).contains(rate))
        #expect(model.onFlow >= 90)
    }
}
