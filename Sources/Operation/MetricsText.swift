/// Metrics as Prometheus reads them (text format 0.0.4).
package struct MetricsText {
    package enum Kind: String {
        case counter
        case gauge
    }

    package private(set) var text = ""

    package init() {}

    /// A metric with one value.
    package mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: some BinaryInteger) {
        add(name, kind, help, [([], value)])
    }

    /// A metric with a value for each set of labels.
    package mutating func add(
        _ name: String, _ kind: Kind, _ help: String,
        _ samples: [(labels: [(name: String, value: String)], value: some BinaryInteger)]
    ) {
        guard !samples.isEmpty else { return }
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
        for (labels, value) in samples {
            text += name
            if !labels.isEmpty {
                text += "{" + labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",") + "}"
            }
            text += " \(value)\n"
        }
    }

    /// A counter split by one label.
    package mutating func add(
        _ name: String, _ help: String, by label: String, _ values: [(String, UInt64)]
    ) {
        add(name, .counter, help, values.map { ([(label, $0.0)], $0.1) })
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
