import Simulation
import Testing

/// Whole worlds, watched by a judge: liars, cut branches, a source that is started again, NATs, receivers that come and go.
@Suite struct SimulationRunTests {
    private func world() -> SimulationPlan {
        var plan = SimulationPlan()
        plan.receivers = 12
        plan.duration = .seconds(120)
        plan.arrival = .seconds(5)
        plan.objectInterval = .seconds(3)
        plan.branches = 3
        plan.branch.loss = 0.005
        plan.churn = 0.2
        plan.lateness = .seconds(30)
        for kind in SimulationPlan.Liar.allCases { plan.liars[kind] = 1 }
        plan.faults = [
            (.seconds(30), .cut(branch: 1, for: .seconds(15))), (.seconds(50), .rebind(receivers: 4)),
            (.seconds(70), .restart),
        ]
        return plan
    }

    @Test(arguments: [1, 2, UInt64.random(in: 3...UInt64.max)]) func nothingToComplainOf(seed: UInt64) {
        let report = SimulationRun(world(), seed: seed).run()
        #expect(report.complaints == [], "seed \(seed)")
        #expect(report.objects == 39 && report.received >= 300)
        #expect(report.liars == SimulationPlan.Liar.allCases.count)
    }

    @Test func theSameSeedHasTheSameDigest() {
        var plan = world()
        plan.duration = .seconds(30)
        let digests = (0..<2).map { _ in SimulationRun(plan, seed: 9).run().digest }
        #expect(digests[0] == digests[1])
        #expect(SimulationRun(plan, seed: 10).run().digest != digests[0])
    }

    /// The judge sees what is wrong: nobody can have an object before it has crossed the network, and a network that carries
    /// nothing for longer than a connection lives ends connections.
    @Test func complaintsAreMade() {
        var plan = SimulationPlan()
        plan.receivers = 3
        plan.duration = .seconds(20)
        plan.arrival = .seconds(1)
        plan.lateness = .milliseconds(1)
        let late = SimulationRun(plan, seed: 1).run()
        #expect(late.complaintCount > 0)
        #expect(late.complaints.first?.contains("late") == true)
        plan.lateness = .seconds(30)
        plan.link.loss = 1
        let deaf = SimulationRun(plan, seed: 1).run()
        #expect(deaf.complaintCount > 0)
        #expect(deaf.complaints.first?.contains("lost its connection") == true)
    }
}
