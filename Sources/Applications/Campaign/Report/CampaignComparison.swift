import Operation

/// Two campaigns side by side, as lines of 80 columns.
package struct CampaignComparison {
    let first: CampaignResult
    let second: CampaignResult

    package init(_ first: CampaignResult, _ second: CampaignResult) {
        self.first = first
        self.second = second
    }

    private struct Row {
        var name: String
        var digits: Int
        var value: (CampaignResult) -> Double?
    }

    package var lines: [String] {
        var lines = ["A  \(title(first))", "B  \(title(second))", ""]
        lines.append(line("", "A", "B", "B against A"))
        for row in rows {
            let (a, b) = (row.value(first), row.value(second))
            guard a != nil || b != nil else { continue }
            var change = ""
            if let a, let b {
                change = a == b ? "the same" : a == 0 ? "" : "\(b > a ? "+" : "")\(fixed((b / a - 1) * 100, 1)) %"
            }
            lines.append(
                line(row.name, a.map { fixed($0, row.digits) } ?? "-", b.map { fixed($0, row.digits) } ?? "-", change))
        }
        if first.facts.plan != second.facts.plan { lines += ["", "The plans differ."] }
        if first.facts.version != second.facts.version { lines += ["", "The versions differ."] }
        return lines
    }

    private func title(_ result: CampaignResult) -> String {
        let version = result.facts.version.split(separator: "\n").prefix(2).joined(separator: " ")
        return "\(result.facts.name), " + version.split(separator: " ").joined(separator: " ")
    }

    private func line(_ name: String, _ a: String, _ b: String, _ change: String) -> String {
        let padded = { (text: String, width: Int) in String(repeating: " ", count: max(0, width - text.count)) + text }
        return name + String(repeating: " ", count: max(0, 34 - name.count)) + padded(a, 14) + padded(b, 14)
            + padded(change, 16)
    }

    private var rows: [Row] {
        var rows = [
            Row(name: "items sent", digits: 0) { Double($0.measurement.source.items) },
            Row(name: "receivers", digits: 0) { Double($0.measurement.receivers.count) },
            Row(name: "receivers with every item", digits: 0) {
                Double($0.measurement.receivers.count(where: \.isComplete))
            },
            Row(name: "octets on the flow", digits: 0) { Double($0.measurement.source.flowOctets) },
            Row(name: "octets in repair", digits: 0) { Double($0.measurement.source.repairOctets) },
            Row(name: "octets of items on connections", digits: 0) { Double($0.measurement.source.unicastOctets) },
            Row(name: "octets of control", digits: 0) { Double($0.measurement.source.controlOctets) },
            Row(name: "saving on the flow (computed)", digits: 2) { $0.measurement.saving },
            Row(name: "fall backs", digits: 0) { Double($0.measurement.receivers.reduce(0) { $0 + $1.fallbacks }) },
            Row(name: "packets lost", digits: 0) {
                Double($0.measurement.receivers.reduce(0) { $0 + ($1.packetsLost ?? 0) })
            },
        ]
        for path in ReceiverPath.allCases {
            rows += [
                Row(name: "\(path.rawValue): median latency (ms)", digits: 2) { Self.latency($0, path, \.median) },
                Row(name: "\(path.rawValue): p95 latency (ms)", digits: 2) { Self.latency($0, path, \.percent95) },
                Row(name: "\(path.rawValue): p99 latency (ms)", digits: 2) { Self.latency($0, path, \.percent99) },
                Row(name: "\(path.rawValue): uncertainty (ms)", digits: 2) { Self.latency($0, path, \.uncertainty) },
            ]
        }
        return rows
    }

    /// Of the receivers of a path, the middle one.
    private static func latency(
        _ result: CampaignResult, _ path: ReceiverPath, _ value: (CampaignMeasurement.Latency) -> Double
    ) -> Double? {
        let all = result.measurement.receivers.filter { $0.path == path }.compactMap(\.latency).map(value).sorted()
        return all.isEmpty ? nil : percentile(all, 0.5)
    }
}
