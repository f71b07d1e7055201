import Foundation
import TestSupport
import Testing

@testable import Campaign

/// docs/campaign.md and the reader know the same keys.
@Suite("The plan's manual")
struct PlanManualTests {
    @Test(arguments: PlanSection.allCases)
    func everyKeyIsInTheManualAndNoOther(section: PlanSection) throws {
        let text = try String(contentsOf: Machine.root.appending(path: "docs/campaign.md"), encoding: .utf8)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let heading = try #require(lines.firstIndex { $0 == "### `\(section.rawValue)`" }, "no heading \(section)")
        let body = lines[(heading + 1)...].prefix { !$0.hasPrefix("#") }
        let named = body.compactMap { $0.firstMatch(of: /^\| `([a-z]+)` \|/).map { String($0.1) } }
        #expect(named == section.keys)
    }

    /// The manual's examples are plans.
    @Test func theExamplesAreRead() throws {
        let text = try String(contentsOf: Machine.root.appending(path: "docs/campaign.md"), encoding: .utf8)
        var examples: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if ["    hosts:", "    name: campus"].contains(line), examples.last?.isEmpty != false {
                examples.append("")
            }
            guard !examples.isEmpty, line.hasPrefix("    "), !line.hasPrefix("    flexicast") else {
                if examples.last?.isEmpty == false { examples.append("") }
                continue
            }
            if examples[examples.count - 1].isEmpty, !line.hasPrefix("    hosts:"), !line.hasPrefix("    name:") {
                continue
            }
            examples[examples.count - 1] += line.dropFirst(4) + "\n"
        }
        examples.removeAll(where: \.isEmpty)
        #expect(examples.count == 2)
        for example in examples { #expect(throws: Never.self) { try Plan(Array(example.utf8), file: "example") } }
    }
}
