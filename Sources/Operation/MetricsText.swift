/// Metrics as Prometheus reads them: its text format 0.0.4, or OpenMetrics 1.0 for who asks for that.
package struct MetricsText {
    package enum Kind: String {
        case counter
        case gauge
        case histogram
    }

    package enum Format {
        case prometheus
        case openMetrics

        /// What a client takes, by its Accept (RFC 9110 section 12.5.1); Prometheus names OpenMetrics first when it takes it at all.
        init(accept: String) {
            self =
                accept.lowercased().split(separator: ",").contains { Self.takesOpenMetrics($0) }
                ? .openMetrics : .prometheus
        }

        private static func takesOpenMetrics(_ range: Substring) -> Bool {
            let words = range.split(separator: ";").map { $0.filter { $0 != " " } }
            // A weight of 0 means: not this one.
            let isRefused = words.dropFirst().contains { $0.hasPrefix("q=") && Double($0.dropFirst(2)) == 0 }
            return words.first == "application/openmetrics-text" && !isRefused
        }

        var type: String {
            switch self {
            case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
            case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }

    private struct Family {
        var name: String
        var kind: Kind
        var help: String
        var samples: String
    }

    private var families: [Family] = []

    package init() {}

    /// What the metrics are called.
    package var names: [String] { families.map(\.name) }

    /// A metric with one value.
    package mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: some Numeric) {
        add(name, kind, help, [([], value)])
    }

    /// A metric with a value for each set of labels.
    package mutating func add(
        _ name: String, _ kind: Kind, _ help: String,
        _ samples: [(labels: [(name: String, value: String)], value: some Numeric)]
    ) {
        guard !samples.isEmpty else { return }
        let lines = samples.map { "\(name)\(Self.written($0.labels)) \($0.value)\n" }
        families.append(Family(name: name, kind: kind, help: help, samples: lines.joined()))
    }

    /// A counter split by one label.
    package mutating func add(
        _ name: String, _ help: String, by label: String, _ values: [(String, UInt64)]
    ) {
        add(name, .counter, help, values.map { ([(label, $0.0)], $0.1) })
    }

    /// Durations in seconds.
    package mutating func add(_ name: String, _ help: String, _ histogram: Histogram) {
        var lines = ""
        var all: UInt64 = 0
        for (index, count) in histogram.counts.enumerated() {
            all += count
            let bound = index < Histogram.bounds.count ? "\(Histogram.bounds[index])" : "+Inf"
            lines += "\(name)_bucket{le=\"\(bound)\"} \(all)\n"
        }
        lines += "\(name)_sum \(histogram.sum)\n\(name)_count \(all)\n"
        families.append(Family(name: name, kind: .histogram, help: help, samples: lines))
    }

    package func text(_ format: Format) -> String {
        var text = ""
        for family in families {
            var name = family.name
            // A counter's name is without `_total` in OpenMetrics; its sample's name is the same in both.
            if format == .openMetrics, family.kind == .counter { name = Self.without("_total", name) }
            text += "# HELP \(name) \(family.help)\n# TYPE \(name) \(family.kind.rawValue)\n"
            if format == .openMetrics, let unit = Self.units.first(where: { name.hasSuffix("_" + $0) }) {
                text += "# UNIT \(name) \(unit)\n"
            }
            text += family.samples
        }
        return format == .openMetrics ? text + "# EOF\n" : text
    }

    /// Prometheus' base units, which a name ends with.
    private static let units = ["seconds", "bytes"]

    private static func without(_ end: String, _ name: String) -> String {
        name.hasSuffix(end) ? String(name.dropLast(end.count)) : name
    }

    private static func written(_ labels: [(name: String, value: String)]) -> String {
        guard !labels.isEmpty else { return "" }
        return "{" + labels.map { "\($0.name)=\"\(escaped($0.value))\"" }.joined(separator: ",") + "}"
    }

    private static func escaped(_ value: String) -> String {
        var out = ""
        for character in value {
            switch character {
            case "\\": out += "\\\\"
            case "\"": out += "\\\""
            case "\n": out += "\\n"
            default: out.append(character)
            }
        }
        return out
    }
}
