import Foundation
import TestSupport
import Testing

/// The script in Perf, and why it cannot run here.
private enum RelayScript {
    static let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Perf/relay/run.sh").path

    static let obstacle: String? = {
        let missing = ["cc", "awk", "bash"].filter { Machine.path(of: $0) == nil }
        return Machine.requiresAll || missing.isEmpty ? nil : "missing: \(missing.joined(separator: ", "))"
    }()
}

extension Deployment {
    /// A relay under a flood and at a steady rate, by the script that also measures it. `FLEXICAST_BINARY` may name an
    /// optimized build; what is asked here an unoptimized one can do as well.
    @Suite(.enabled(if: RelayScript.obstacle == nil, "\(RelayScript.obstacle ?? "")")) struct RelayScale {
        /// One line of the script.
        private struct Run: Decodable {
            var run: String
            var offered: Int
            var received: Int
            var dropped: Int
            var endpoints: Int
            var rssBeforeKib: Int
            var rssAfterKib: Int
            var perSecond: Int?
            var rateLimited: Int?
            var invalidMac: Int?
        }

        private func measure(_ what: String, _ environment: [String: String]) throws -> [Run] {
            var settings = ["FLEXICAST=\(Ground.program)", "JSON=1", "PRIORITY=", "SECONDS_EACH=2", "ENDPOINTS=1"]
            settings += environment.map { "\($0.key)=\($0.value)" }
            let output = try shell(["env"] + settings + ["bash", RelayScript.path, what])
            note("relay: \(output)")
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return try output.split(separator: "\n").map { try decoder.decode(Run.self, from: Data($0.utf8)) }
        }

        /// Forged Requests, Discoveries and Updates: no tunnel opens, no memory grows, what is too much is counted, and
        /// a tunnel that is there loses nothing.
        @Test func flood() throws {
            let runs = try measure("flood", ["DATA": "1000"])
            #expect(runs.count == 2)
            for run in runs {
                #expect(run.endpoints == 1)
                #expect(run.received == run.offered)
                #expect(run.rssAfterKib - run.rssBeforeKib < 4096)
                // A slow machine forges fewer; whatever is more than strangers get together is dropped and counted.
                if let rate = run.perSecond, rate > 90_000 {
                    #expect((run.rateLimited ?? 0) + run.dropped > 0)
                }
            }
            #expect(runs.contains { $0.invalidMac ?? 0 > 1000 })
        }

        /// Packets at a rate that any build keeps up with all arrive.
        @Test func steady() throws {
            for run in try measure("steady", ["RATE": "5000", "ENDPOINTS": "10"]) {
                #expect(run.dropped == 0)
                #expect(run.received == run.offered * 10)
                #expect(run.rssAfterKib - run.rssBeforeKib < 4096)
            }
        }
    }
}
