import Foundation
import TestSupport
import Testing

extension Deployment {
    /// Figure 1 of the deployment with all its processes, as `flexicast demo` builds it.
    @Suite struct Demo {
        private func run(_ arguments: [String]) throws -> [String: Any] {
            let directory = try TemporaryDirectory()
            let report = directory.url.appending(path: "report.json").path
            let result = try TestSupport.run(
                Ground.program, ["demo", "--network", "namespaces", "--report", report] + arguments)
            note(result.output)
            guard result.status == 0 else { throw Failure(description: result.output + result.errors) }
            let object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: report)))
            return object as? [String: Any] ?? [:]
        }

        /// The deployment paper's own run: whole feeds, five through the relay and four on unicast. What the flow took is a
        /// fifth of what the five would have cost; the figure is drawn.
        @Test func wholeFeed() throws {
            let directory = try TemporaryDirectory()
            let figure = directory.url.appending(path: "figure").path
            let report = try run([
                "--router", "kernel", "--whole-feed", "--items", "30", "--interval", "150ms", "--figure", figure,
            ])
            #expect(report["items"] as? Int == 30)
            // Five on a machine that keeps up; one that does not takes late acknowledgements for losses.
            #expect((report["multicast_saving"] as? Double ?? 0) >= 4.9)
            // A packet for each 1442 octets of the flow, however many receivers there are.
            let flow = (report["source"] as? [String: Any])?["bytes_flow"] as? Int ?? 0
            #expect(flow > 1_000_000)
            #expect((report["packets_routed"] as? Int ?? 0) >= flow / 1442)
            let png = try Data(contentsOf: URL(fileURLWithPath: figure + ".png"))
            #expect(png.starts(with: [0x89, 0x50, 0x4e, 0x47]))
            #expect(try Data(contentsOf: URL(fileURLWithPath: figure + ".svg")).count > 1000)
        }

        /// Two routers with FRR's pimd; losses and a cut on the way, and everything arrives.
        @Test(
            .enabled(
                if: Machine.requiresAll || FileManager.default.fileExists(atPath: "/usr/lib/frr/pimd"),
                "FRR is not installed"))
        func throughPIM() throws {
            let report = try run(["--router", "pim", "--items", "12", "--interval", "200ms", "--compare"])
            #expect(report["items"] as? Int == 12)
            // The same five on connections, and what came over time.
            let compared = report["compared"] as? [String: Any]
            #expect(compared?["receivers"] as? Int == 5)
            #expect((compared?["saving"] as? Double ?? 0) > 1)
            #expect((compared?["series"] as? [Any] ?? []).count > 2)
            #expect((report["series"] as? [Any] ?? []).count > 2)
            #expect((report["packets_routed"] as? Int ?? 0) > 50)
        }
    }
}
