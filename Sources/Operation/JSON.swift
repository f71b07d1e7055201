/// What a member of a JSON object may have for its value.
package protocol JSONValue {
    /// As JSON; nil leaves the member out.
    var json: String? { get }
}

/// Writes `{"name":value,…}` in the order given.
package func jsonObject(
    _ members: KeyValuePairs<String, any JSONValue> = [:], and more: [(String, any JSONValue)] = []
) -> String {
    let all = members.map { ($0.key, $0.value) } + more
    let written = all.compactMap { name, value in value.json.map { "\"\(name)\":\($0)" } }
    return "{" + written.joined(separator: ",") + "}"
}

/// What is JSON already.
package struct JSONText: JSONValue {
    package let json: String?

    package init(_ json: String) { self.json = json }

    package static func array(_ elements: [String]) -> JSONText {
        JSONText("[" + elements.joined(separator: ",") + "]")
    }
}

extension Int: JSONValue {
    package var json: String? { String(self) }
}

extension UInt64: JSONValue {
    package var json: String? { String(self) }
}

/// Milliseconds, with three digits after the point.
extension Duration: JSONValue {
    package var json: String? {
        let (seconds, attoseconds) = components
        let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
        let fraction = String(abs(microseconds % 1000))
        return (microseconds < 0 ? "-" : "") + "\(abs(microseconds) / 1000)."
            + String(repeating: "0", count: 3 - fraction.count) + fraction
    }
}

extension Optional: JSONValue where Wrapped: JSONValue {
    package var json: String? { flatMap(\.json) }
}

/// RFC 8259 section 7: quotes, backslashes and control characters are escaped, nothing else needs to be.
extension String: JSONValue {
    package var json: String? {
        var text = "\""
        for scalar in unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }
}
