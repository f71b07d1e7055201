import Foundation
import TestSupport
import Testing

/// The manual, the alert rules and the dashboard name the metrics that the programs export, and no other.
@Suite struct MonitoringTests {
    private static func text(_ path: String) throws -> String {
        try String(contentsOf: Machine.root.appending(path: path), encoding: .utf8)
    }

    /// The programs name each metric in a string of its own.
    private static func exported() throws -> Set<String> {
        let sources = Machine.root.appending(path: "Sources")
        let files = FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)
        var names: Set<String> = []
        while let file = files?.nextObject() as? URL {
            guard file.pathExtension == "swift" else { continue }
            let text = try String(contentsOf: file, encoding: .utf8)
            names.formUnion(text.matches(of: /"(flexicast_[a-z_]+)"/).map { String($0.1) })
        }
        return names
    }

    /// Metrics in an expression or a text, histograms by their own name.
    private static func named(in text: String, _ exported: Set<String>) -> Set<String> {
        Set(
            text.matches(of: /flexicast_(?:source|receiver|relay|gateway)_[a-z_]+/).map { match in
                let name = String(match.0)
                let base = name.replacing(/_(bucket|sum|count)$/, with: "")
                return exported.contains(name) || !exported.contains(base) ? name : base
            })
    }

    @Test func everyMetricIsInTheManual() throws {
        let exported = try Self.exported()
        #expect(exported.count > 60)
        let manual = try Self.text("docs/operating.md")
        let rows = manual.split(separator: "\n").filter { $0.hasPrefix("| `flexicast_") }
        var explained: [String] = []
        for row in rows {
            let cells = row.split(separator: "|", omittingEmptySubsequences: false)
            #expect(cells.count == 5, "\(row)")
            explained += cells[1].matches(of: /`([a-z_]+)`/).map { String($0.1) }
        }
        #expect(exported.subtracting(explained).sorted() == [], "not in the manual")
        #expect(Set(explained).subtracting(exported).sorted() == [], "in the manual, but not exported")
        #expect(Set(explained).count == explained.count)
    }

    @Test(arguments: ["flexicast-alerts.yml", "flexicast-alerts-test.yml"])
    func rulesNameMetricsThatThereAre(file: String) throws {
        let exported = try Self.exported()
        let named = Self.named(in: try Self.text("Packaging/monitoring/\(file)"), exported)
        #expect(!named.isEmpty && named.subtracting(exported).sorted() == [])
    }

    private struct Dashboard: Decodable {
        struct Panel: Decodable {
            struct Target: Decodable { var expr: String }
            struct Place: Decodable {
                var x: Int
                var y: Int
                var w: Int
                var h: Int
            }
            var id: Int
            var title: String
            var gridPos: Place
            var targets: [Target]?
        }
        var title: String
        var panels: [Panel]
    }

    private static func dashboard() throws -> Dashboard {
        try JSONDecoder().decode(Dashboard.self, from: Data(text("Packaging/monitoring/flexicast-dashboard.json").utf8))
    }

    @Test func theDashboardNamesMetricsThatThereAre() throws {
        let exported = try Self.exported()
        let panels = try Self.dashboard().panels
        #expect(Set(panels.map(\.id)).count == panels.count)
        for panel in panels {
            for target in panel.targets ?? [] {
                let named = Self.named(in: target.expr, exported)
                #expect(!named.isEmpty && named.subtracting(exported).sorted() == [], "\(panel.title)")
            }
            // No two lie on each other.
            let place = panel.gridPos
            let under = panels.filter { other in
                other.id != panel.id && other.gridPos.x < place.x + place.w
                    && place.x < other.gridPos.x + other.gridPos.w
                    && other.gridPos.y < place.y + place.h && place.y < other.gridPos.y + other.gridPos.h
            }
            #expect(under.isEmpty, "\(panel.title)")
        }
    }

    private static let promtool =
        Machine.path(of: "promtool") != nil || Machine.requiresAll
        ? nil : "promtool is missing: make test installs it"

    private static func check(_ arguments: [String], in directory: URL) throws {
        let ran = try run(
            "/usr/bin/env", ["-C", directory.path, "promtool"] + arguments, environment: ["NO_COLOR": "1"])
        #expect(ran.status == 0, "\(ran.output)\(ran.errors)")
    }

    /// Each alert fires where it is to, and none where all is well.
    @Test(.enabled(if: promtool == nil, "\(promtool ?? "")"))
    func alertsFire() throws {
        let place = Machine.root.appending(path: "Packaging/monitoring")
        try Self.check(["check", "rules", "--lint=all", "--lint-fatal", "flexicast-alerts.yml"], in: place)
        try Self.check(["test", "rules", "flexicast-alerts-test.yml"], in: place)
        let rules = try Self.text("Packaging/monitoring/flexicast-alerts.yml")
        let tests = try Self.text("Packaging/monitoring/flexicast-alerts-test.yml")
        let alerts = rules.matches(of: /alert: ([A-Za-z]+)/).map { String($0.1) }
        #expect(alerts.count > 10)
        for alert in alerts { #expect(tests.contains("alertname=\"\(alert)\""), "\(alert)") }
    }

    /// Prometheus reads each expression of the dashboard, with what Grafana puts in.
    @Test(.enabled(if: promtool == nil, "\(promtool ?? "")"))
    func theDashboardIsRead() throws {
        let directory = try TemporaryDirectory()
        var rules = "groups:\n  - name: dashboard\n    rules:\n"
        for (number, target) in try Self.dashboard().panels.flatMap({ $0.targets ?? [] }).enumerated() {
            let text = target.expr.replacing("$__rate_interval", with: "5m").replacing("$instance", with: ".*")
            rules += "      - record: one:expression:\(number)\n        expr: '\(text)'\n"
        }
        try rules.write(to: directory.url.appending(path: "rules.yml"), atomically: true, encoding: .utf8)
        try Self.check(["check", "rules", "rules.yml"], in: directory.url)
    }
}
