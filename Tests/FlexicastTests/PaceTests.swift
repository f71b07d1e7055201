import QUIC
import Testing
import Wire

@testable import Flexicast

/// How fast a flow goes among strangers, and who is on it.
@Suite struct PaceTests {
    /// A tenth cannot follow: the others lose nothing of their rate.
    @Test func aTenthThatCannotFollowLeaves() {
        let model = FlowModel(seed: 1) { $0.rateCeiling = 20_000_000 }
        for index in 0..<100 {
            model.add(
                address: UInt32(index), line: FlowModel.Line(bitsPerSecond: index < 10 ? 1_000_000 : nil))
        }
        model.run(for: .seconds(2))
        let rate = model.run(for: .seconds(3))
        #expect(rate >= 19_000_000)
        #expect(model.onFlow == 90)
        #expect(model.receivers[..<10].allSatisfy { $0.id == nil })
    }

    /// Most can take a quarter of what there is: the flow slows down for them.
    @Test(arguments: [4_000_000, 20_000_000] as [UInt64]) func aSlowMajoritySlowsTheFlowDown(first: UInt64) {
        let model = FlowModel(seed: 2) {
            $0.rateCeiling = 20_000_000
            $0.initialRate = first
        }
        for index in 0..<100 {
            model.add(
                address: UInt32(index), line: FlowModel.Line(bitsPerSecond: index < 60 ? 5_000_000 : nil))
        }
        model.run(for: .seconds(10))
        let rate = model.run(for: .seconds(5))
        let slow = model.receivers[..<60].count { $0.id != nil }
        #expect((4_000_000...5_100_000).contains(rate))
        #expect(slow >= 54)
    }

    @Test(arguments: [4_000_000, 20_000_000] as [UInt64]) func allOnOneLineSlowTheFlowDown(first: UInt64) {
        let model = FlowModel(seed: 3) {
            $0.rateCeiling = 20_000_000
            $0.initialRate = first
        }
        let line = FlowModel.Line(bitsPerSecond: 5_000_000)
        for index in 0..<100 { model.add(address: UInt32(index), line: line) }
        model.run(for: .seconds(10))
        let rate = model.run(for: .seconds(5))
        #expect((4_000_000...5_100_000).contains(rate))
        #expect(model.onFlow >= 90)
    }

    /// Bounds that are changed hold from then on, downwards at once and upwards as slow start goes.
    @Test func boundsChangeWhileItFlows() {
        let model = FlowModel(seed: 1) {
            $0.rateCeiling = 20_000_000
            $0.initialRate = 20_000_000
        }
        for index in 0..<10 { model.add(address: UInt32(index)) }
        model.run(for: .seconds(1))
        #expect(model.run(for: .seconds(2)) >= 19_000_000)
        model.flow.setRates(ceiling: 2_000_000, floor: 4_000_000)
        #expect(model.flow.rate == 2_000_000 && model.flow.configuration.rateFloor == 2_000_000)
        model.run(for: .seconds(1))
        #expect((1_500_000...2_100_000).contains(model.run(for: .seconds(2))))
        model.flow.setRates(ceiling: 10_000_000, floor: 256_000)
        model.run(for: .seconds(5))
        #expect((9_000_000...10_100_000).contains(model.run(for: .seconds(2))))
        #expect(model.onFlow == 10)
    }

    /// The source's patience with a member that answers at 2.7 times of it grew with each answer.
    @Test func patienceIsBoundedByWhatIsUsual() {
        let model = FlowModel(seed: 4) { $0.rateCeiling = 2_000_000 }
        model.add(address: 1)
        let late = model.add(.late(2.7), address: 2)
        var most = Duration.zero
        // Before anybody has answered nothing is usual.
        model.run(for: .seconds(1))
        model.run(for: .seconds(20)) {
            if let id = late.id { most = max(most, model.flow.patience(id.slot)) }
        }
        let usual = model.flow.electorate.usualWait.map { $0 + model.flow.parameters.ackDelay * 5 / 4 }
        // What is usual is known to a sixteenth.
        #expect(usual.map { most <= $0 * 33 / 10 + .milliseconds(100) } == true)
        #expect(model.worstWait < .milliseconds(900))
        #expect(model.flow.octetsHeld < 1 << 20)
    }

    /// Alone with a source, a member is waited for no longer than three seconds.
    @Test func patienceWithOneMemberIsBounded() {
        let model = FlowModel(seed: 5) { $0.rateCeiling = 1_000_000 }
        let late = model.add(.late(2.7), address: 2)
        var most = Duration.zero
        model.run(for: .seconds(30)) {
            if let id = late.id { most = max(most, model.flow.patience(id.slot)) }
        }
        #expect(most <= FlowSource.mostPatience)
    }

    /// Answers that suddenly take longer than the source waits are learned from: else every packet from then on would be
    /// repaired in vain, and the members put out for it. So do paths that become longer, and machines that are busy.
    @Test(arguments: [1, 20]) func answersThatBecomeLateAreWaitedFor(late: Int) {
        let model = FlowModel(seed: 7) { $0.rateCeiling = 2_000_000 }
        for index in 0..<20 { model.add(address: UInt32(index)) }
        model.run(for: .seconds(2), publishing: 1_000_000)
        for receiver in model.receivers[..<late] { receiver.delay = .milliseconds(200) }
        model.run(for: .seconds(2), publishing: 1_000_000)
        let repairs = model.flow.statistics.timeoutRepairs
        model.run(for: .seconds(20), publishing: 1_000_000)
        #expect(model.flow.statistics.timeoutRepairs == repairs)
        #expect(model.onFlow == 20)
    }

    /// Two of twenty were a tenth: whatever they said that they had lost was sent to all again.
    @Test func twoLiarsDoNotHaveAllHearEverythingAgain() {
        let model = FlowModel(seed: 6) { $0.rateCeiling = 5_000_000 }
        for index in 0..<18 { model.add(address: UInt32(index)) }
        for index in 0..<2 { model.add(.loses(every: 6), address: 100 + UInt32(index)) }
        model.run(for: .seconds(4))
        let statistics = model.flow.statistics
        #expect(statistics.octetsRepairedOnFlow * 33 < statistics.newOctets)
        #expect(model.onFlow == 18)
        #expect(model.flow.memberCount == 18)
    }

    /// A shared line for all of one account, say behind one NAT: they slow down together, and none is thrown out for it.
    @Test(arguments: [1, 2, 5, 9]) func fewOnOneLineSlowDownToo(members: Int) {
        let model = FlowModel(seed: 7) { $0.rateCeiling = 20_000_000 }
        let line = FlowModel.Line(bitsPerSecond: 5_000_000)
        for index in 0..<members { model.add(address: UInt32(index), line: line) }
        model.run(for: .seconds(8))
        let rate = model.run(for: .seconds(4))
        #expect((3_800_000...5_100_000).contains(rate))
        #expect(model.onFlow >= members - max(1, members / 4))
    }
}
