import Operation

/// A line of `flexicast perf`: named values for machines, and a text for people.
struct PerfLine: EventLine {
    enum Value: JSONValue {
        case text(String)
        case integer(Int)
        /// With four digits after the point.
        case number(Double)
        case flag(Bool)

        var json: String? {
            switch self {
            case .text(let text): text.json
            case .integer(let number): number.json
            case .number(let number): abs(number) < 1e15 ? fixed(number, 4) : "null"
            case .flag(let flag): flag ? "true" : "false"
            }
        }
    }

    var fields: [(String, Value)]
    var text: String?

    var json: String { jsonObject(and: fields.map { ($0, $1) }) }
}

func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

extension String {
    /// Without white space at both ends.
    var trimmed: String {
        let start = drop(while: \.isWhitespace)
        return String(
            start.prefix(upTo: start.lastIndex { !$0.isWhitespace }.map(start.index(after:)) ?? start.startIndex))
    }
}
