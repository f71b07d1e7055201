import Objects
import Operation

/// `--retain 100000,30d,10GB`: how many items are kept, how long, and how many octets of them; in any order, each once at the
/// most.
struct RetentionArgument: Equatable {
    private(set) var objects: Int?
    private(set) var age: Duration?
    private(set) var octets: Int?

    static let objectRange = 1...10_000_000
    static let octetRange = (1 << 20)...(1 << 44)

    init(_ text: String) throws {
        for piece in text.split(separator: ",", omittingEmptySubsequences: false) {
            let piece = String(piece)
            if let count = Int(piece) {
                guard objects == nil else { throw Self.twice("items", text) }
                guard Self.objectRange.contains(count) else {
                    throw ArgumentProblem("\(piece): write a number of items from 1 to 10000000")
                }
                objects = count
            } else if let octets = try Self.octets(piece) {
                guard self.octets == nil else { throw Self.twice("octets", text) }
                self.octets = octets
            } else if let age = try Self.age(piece) {
                guard self.age == nil else { throw Self.twice("a time", text) }
                self.age = age
            } else {
                throw ArgumentProblem(
                    "'\(piece)' is no limit; write a number of items, a time in s, m, h or d, octets in MB, GB, TB, MiB, GiB or TiB, "
                        + "or several of them, such as 100000,30d,10GB")
            }
        }
    }

    private static func twice(_ what: String, _ text: String) -> ArgumentProblem {
        ArgumentProblem("'\(text)' says \(what) twice; give each limit once, such as 100000,30d,10GB")
    }

    private static func octets(_ text: String) throws -> Int? {
        let units = [
            "MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 0x1p20, "GiB": 0x1p30, "TiB": 0x1p40,
        ]
        let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let unit = units[String(text[number.endIndex...])], let value = Double(number) else { return nil }
        let octets = (value * unit).rounded()
        guard octets >= Double(octetRange.lowerBound), octets <= Double(octetRange.upperBound) else {
            throw ArgumentProblem("\(text): write octets from 1MiB to 16TiB")
        }
        return Int(octets)
    }

    private static func age(_ text: String) throws -> Duration? {
        guard let unit = text.last, "smhd".contains(unit) else { return nil }
        if unit == "d" {
            guard let days = Double(text.dropLast()), days > 0, days <= 36_500 else {
                throw ArgumentProblem("\(text): write days from 1 to 36500, such as 30d")
            }
            return .seconds((days * 86_400).rounded())
        }
        return try parseDuration(text)
    }
}
