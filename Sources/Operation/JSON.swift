/// One value of a JSON object.
package enum JSONValue {
    case string(String)
    case integer(Int)
    case milliseconds(Duration)
}

/// Writes `{"name":value,…}` in the order given.
package func jsonObject(_ fields: [(String, JSONValue)]) -> String {
    var text = "{"
    for (index, (name, value)) in fields.enumerated() {
        if index > 0 { text += "," }
        text += "\"\(name)\":"
        switch value {
        case .integer(let number): text += String(number)
        case .milliseconds(let duration):
            let (seconds, attoseconds) = duration.components
            let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
            let fraction = String(abs(microseconds % 1000))
            text += (microseconds < 0 ? "-" : "") + "\(abs(microseconds) / 1000)."
            text += String(repeating: "0", count: 3 - fraction.count) + fraction
        case .string(let string): appendJSONString(string, to: &text)
        }
    }
    return text + "}"
}

/// RFC 8259 section 7: quotes, backslashes and control characters are escaped, nothing else needs to be.
private func appendJSONString(_ string: String, to text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
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
    text += "\""
}
