/// Why a text is no duration.
package struct DurationProblem: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String
}

/// `5s`, `250ms`, `1.5m`, `2h`: a decimal number and a unit, greater than zero.
package func readDuration(_ text: String) throws(DurationProblem) -> Duration {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let nanosecondsPerUnit: [Substring: Double] = [
        "us": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9,
    ]
    guard let unit = nanosecondsPerUnit[text[number.endIndex...]], let value = Double(number) else {
        throw DurationProblem(
            description: "not a duration; write a number and a unit of us, ms, s, m or h, such as 250ms or 5s")
    }
    let nanoseconds = (value * unit).rounded()
    guard nanoseconds >= 1, nanoseconds <= 1e9 * 86400 * 365 else {
        throw DurationProblem(description: "no duration here: it must be above zero and at most a year")
    }
    return .nanoseconds(Int64(nanoseconds))
}
