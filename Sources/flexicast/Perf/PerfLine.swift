import Operation

/// A line of `flexicast perf`: named values for machines, and a text for people.
struct PerfLine: EventLine {
    enum Value {
        case text(String)
        case integer(Int)
        /// With three digits after the point.
        case number(Double)
        case flag(Bool)
    }

    var fields: [(String, Value)]
    var text: String?

    var json: String {
        var line = "{"
        for (index, (name, value)) in fields.enumerated() {
            if index > 0 { line += "," }
            line += "\"\(name)\":"
            switch value {
            case .text(let text): line += Self.quoted(text)
            case .integer(let number): line += "\(number)"
            case .number(let number): line += abs(number) < 1e15 ? fixed(number, 4) : "null"
            case .flag(let flag): line += flag ? "true" : "false"
            }
        }
        return line + "}"
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": out += "\\\(scalar)"
            case _ where scalar.value < 0x20: out += " "
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}

/// `value` with `digits` digits after the point.
func fixed(_ value: Double, _ digits: Int) -> String {
    guard abs(value) < 1e15 else { return "-" }
    var factor = 1.0
    for _ in 0..<digits { factor *= 10 }
    let scaled = Int((abs(value) * factor).rounded())
    let whole = scaled / Int(factor)
    guard digits > 0 else { return value < 0 ? "-\(whole)" : "\(whole)" }
    let fraction = String(scaled % Int(factor))
    return (value < 0 ? "-" : "") + "\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}
