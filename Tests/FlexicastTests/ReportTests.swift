import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// What receivers say of their reception (docs/objects.md, "REPORT").
@Suite struct ReportTests {
    private static func report(_ objects: UInt64) throws -> [UInt8] {
        var report = ReportMessage()
        report.objects = objects
        return try ControlMessage.report(report).encoded()
    }

    private static func taken(_ bench: SourceBench) -> [UInt64] {
        var taken: [UInt64] = []
        while let notice = bench.server.nextNotice() {
            if case .reported(_, let report) = notice { taken.append(report.objects) }
        }
        return taken
    }

    /// A receiver that reports ten times a second is heard once in five, and gets its parts all the same.
    @Test func oneReceiverIsHeardNowAndThen() throws {
        let bench = SourceBench()
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        var heard: [UInt64] = []
        for count in 0..<200 {
            bench.say(try Self.report(UInt64(count)), receiver)
            heard += Self.taken(bench)
            bench.now += .milliseconds(100)
        }
        #expect(heard == [0, 50, 100, 150])
        #expect(bench.server.reportsIgnored == 196)
        #expect(bench.server.controlErrors == 0 && bench.seat(receiver).isConnected)
        bench.publish(10)
        bench.serve(receiver)
        #expect(bench.takeWhole(receiver).count == 1)
    }

    /// One that says what cannot be, or too much, is closed like any other that breaks a rule.
    @Test(arguments: [[1, 1, 3], [1, 2, 0, 5], [1, 0x41, 0x01] + [UInt8](repeating: 0, count: 257)])
    func whatBreaksARuleEndsTheConnection(octets: [UInt8]) {
        let bench = SourceBench()
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        bench.say(octets, receiver)
        #expect(bench.server.controlErrors == 1)
    }

    /// However many accounts and receivers report, a second brings no more than its rate, and the table ends.
    @Test func accountsAndAllTogetherHaveARate() {
        var budget = ReportBudget()
        let now = Instant(nanoseconds: 1_000_000_000)
        let mine = FlowAccount(.v4(1))
        let one = { (budget: inout ReportBudget, at: Instant) in (0..<1000).count { _ in budget.take(mine, at: at) } }
        #expect(one(&budget, now) == 256)
        #expect(one(&budget, now + .seconds(1)) == 32)
        // Others are not in its debt.
        let other = budget.take(FlowAccount(.v4(2)), at: now + .seconds(1))
        #expect(other)
        var all = ReportBudget()
        let many = { (budget: inout ReportBudget, at: Instant) in
            (0..<3000).count { budget.take(FlowAccount(.v4(UInt32($0))), at: at) }
        }
        #expect(many(&all, now) == 1000)
        #expect(many(&all, now + .seconds(1)) == 200)
        var full = ReportBudget()
        var count = 0
        for number in 0..<10_000 {
            // Slow enough for all together, and fast enough that the first are still in use.
            if full.take(FlowAccount(.v4(UInt32(number))), at: now + .microseconds(Int64(number))) { count += 1 }
        }
        #expect(full.remembered <= ReportBudget.mostAccounts && count <= 1002)
    }
}
