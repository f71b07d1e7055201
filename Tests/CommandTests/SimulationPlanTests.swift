import Campaign
import Foundation
import Simulation
import TestSupport
import Testing

@testable import flexicast

/// docs/simulation.md and the reader know the same keys; the example is read; what is wrong is told with its line.
@Suite struct SimulationPlanTests {
    private func read(_ text: String) throws -> SimulationPlan {
        let directory = try TemporaryDirectory()
        let file = directory.url.appending(path: "plan.yaml")
        try Data(text.utf8).write(to: file)
        return try SimulationPlan(file: file.path)
    }

    @Test(arguments: SimulationSection.allCases)
    func everyKeyIsInTheManualAndNoOther(section: SimulationSection) throws {
        let text = try String(contentsOf: Machine.root.appending(path: "docs/simulation.md"), encoding: .utf8)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let heading = try #require(lines.firstIndex { $0 == "### `\(section.rawValue)`" }, "no heading \(section)")
        let body = lines[(heading + 1)...].prefix { !$0.hasPrefix("#") }
        let named = body.compactMap { $0.firstMatch(of: /^\| `([a-z]+)` \|/).map { String($0.1) } }
        #expect(Set(named) == Set(section.keys) && named.count == section.keys.count)
    }

    @Test func theExampleIsRead() throws {
        let plan = try SimulationPlan(file: Machine.root.appending(path: "docs/examples/simulation.yaml").path)
        #expect(plan.receivers == 2000 && plan.duration == .seconds(360) && plan.churn == 0.05)
        #expect(plan.link.loss == 0.01 && plan.branch.loss == 0.002 && plan.branch.delay == .milliseconds(15))
        #expect(plan.liars[.inventing] == 5 && plan.faults.count == 3)
    }

    @Test(arguments: [
        ("receivers: many", 1, "receivers must be a number from 0 to 1000000"),
        ("duration: 0s", 1, "it must be above zero"),
        ("link:\n  loss: 101%", 2, "loss must be a share from 0 to 1"),
        ("objects:\n  size: 200001", 2, "size must be a number from 1 to 200000"),
        ("faults:\n  - cut: 20\n    for: 1s\n    at: 1s", 2, "cut must be a number from 0 to 19"),
        ("faults:\n  - at: 1s", 2, "a fault is one of cut, restart and rebind"),
        ("faults:\n  - at: 1s\n    cut: 1", 2, "faults needs for"),
        ("liars: {honest: 3}", 1, "unknown key \"honest\" in liars"),
        ("", 1, "there is nothing in it"),
    ])
    func whatIsWrongIsTold(text: String, line: Int, problem: String) throws {
        do {
            _ = try read(text)
            Issue.record("it was read")
        } catch let error as PlanError {
            #expect(error.problems.count == 1)
            #expect(error.problems.first?.line == line)
            #expect(error.problems.first?.text.contains(problem) == true, "\(error)")
        }
    }
}
