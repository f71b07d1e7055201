import FoundationEssentials

/// The spellings of a date in feeds: RFC 3339 in Atom, RFC 822 (as RFC 2822 amends it) in RSS, and what feeds have instead.
public enum Timestamp {
    /// RFC 3339 section 5.6, for one "2025-09-05T09:49:57Z". Nil when it is none.
    public static func rfc3339(_ text: String) -> Date? {
        var scanner = Scanner(text)
        guard let year = scanner.number(digits: 4...4), scanner.take("-"), let month = scanner.number(digits: 2...2),
            scanner.take("-"), let day = scanner.number(digits: 2...2), scanner.take("T") || scanner.take("t"),
            let hour = scanner.number(digits: 2...2), scanner.take(":"), let minute = scanner.number(digits: 2...2),
            scanner.take(":"), let second = scanner.number(digits: 2...2)
        else { return nil }
        var fraction = 0.0
        if scanner.take(".") {
            var weight = 0.1
            var seen = false
            while let digit = scanner.digit() {
                fraction += Double(digit) * weight
                weight /= 10
                seen = true
            }
            guard seen else { return nil }
        }
        var offset = 0
        if !(scanner.take("Z") || scanner.take("z")) {
            guard let minutes = scanner.numericOffset(colon: true) else { return nil }
            offset = minutes
        }
        guard scanner.atEnd else { return nil }
        return date(year, month, day, hour, minute, second, offsetMinutes: offset, fraction: fraction)
    }

    /// RFC 822 section 5.1, for one "Fri, 05 Sep 2025 09:49:57 +0200". Nil when it is none.
    public static func rfc822(_ text: String) -> Date? {
        var scanner = Scanner(text)
        scanner.skipSpace()
        if scanner.word() != nil {
            _ = scanner.take(",")
            scanner.skipSpace()
        }
        guard let day = scanner.number(digits: 1...2) else { return nil }
        scanner.skipSpace(orDash: true)
        guard let name = scanner.word(), let month = months.firstIndex(of: String(name.prefix(3)).lowercased())
        else { return nil }
        scanner.skipSpace(orDash: true)
        guard var year = scanner.number(digits: 2...4) else { return nil }
        // RFC 2822 section 4.3: two-digit years below 50 are of this century.
        if year < 50 { year += 2000 } else if year < 1000 { year += 1900 }
        scanner.skipSpace()
        guard let hour = scanner.number(digits: 1...2), scanner.take(":"), let minute = scanner.number(digits: 2...2)
        else { return nil }
        var second = 0
        if scanner.take(":") {
            guard let seconds = scanner.number(digits: 2...2) else { return nil }
            second = seconds
        }
        scanner.skipSpace()
        var offset = 0
        if let zone = scanner.word() {
            // RFC 2822 section 4.3: unknown zone names count as UTC.
            offset = zones[zone.uppercased()] ?? 0
        } else if !scanner.atEnd {
            guard let minutes = scanner.numericOffset(colon: false) else { return nil }
            offset = minutes
        }
        return date(year, month + 1, day, hour, minute, second, offsetMinutes: offset, fraction: 0)
    }

    /// RFC 3339 in UTC, whole seconds.
    public static func text(_ date: Date) -> String {
        let seconds = Int(date.timeIntervalSince1970.rounded(.down))
        var days = seconds / 86400
        var rest = seconds % 86400
        if rest < 0 {
            rest += 86400
            days -= 1
        }
        let (year, month, day) = civil(days)
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T"
            + "\(padded(rest / 3600, 2)):\(padded(rest / 60 % 60, 2)):\(padded(rest % 60, 2))Z"
    }

    static let months = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ]

    private static func padded(_ value: Int, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    static func date(
        _ year: Int, _ month: Int, _ day: Int, _ hour: Int, _ minute: Int, _ second: Int, offsetMinutes: Int,
        fraction: Double
    ) -> Date? {
        guard (1...12).contains(month), (1...daysInMonth(month, year)).contains(day), hour < 24, minute < 60,
            second <= 60
        else { return nil }
        let seconds = daysFromCivil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offsetMinutes * 60
        return Date(timeIntervalSince1970: Double(seconds) + fraction)
    }

    private static func daysInMonth(_ month: Int, _ year: Int) -> Int {
        switch month {
        case 2: year.isMultiple(of: 4) && (!year.isMultiple(of: 100) || year.isMultiple(of: 400)) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar, with years that begin in March.
    private static func daysFromCivil(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let y = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return 365 * y + floor(y, 4) - floor(y, 100) + floor(y, 400) + dayOfYear - 719_468
    }

    private static func floor(_ a: Int, _ b: Int) -> Int { a >= 0 ? a / b : -((b - 1 - a) / b) }

    private static func civil(_ days: Int) -> (Int, Int, Int) {
        let shifted = days + 719_468
        let era = floor(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
    }

    struct Scanner {
        private let bytes: [UInt8]
        private var at = 0

        init(_ text: String) {
            bytes = Array(text.utf8)
            skipSpace()
        }

        var atEnd: Bool { bytes[at...].allSatisfy { $0 <= 0x20 } }

        mutating func digit() -> Int? {
            guard at < bytes.count, (0x30...0x39).contains(bytes[at]) else { return nil }
            defer { at += 1 }
            return Int(bytes[at]) - 0x30
        }

        /// How many digits follow.
        var digits: Int { bytes[at...].prefix(8).prefix { (0x30...0x39).contains($0) }.count }

        mutating func number(digits: ClosedRange<Int>) -> Int? {
            var value = 0
            var count = 0
            while count < digits.upperBound, let digit = digit() {
                value = value * 10 + digit
                count += 1
            }
            return digits.contains(count) ? value : nil
        }

        mutating func take(_ character: Character) -> Bool {
            guard at < bytes.count, bytes[at] == character.asciiValue else { return false }
            at += 1
            return true
        }

        mutating func word() -> String? {
            let start = at
            while at < bytes.count, (0x41...0x5A).contains(bytes[at] & 0xDF) { at += 1 }
            return at > start ? String(decoding: bytes[start..<at], as: UTF8.self) : nil
        }

        mutating func skipSpace(orDash: Bool = false) {
            while at < bytes.count, bytes[at] <= 0x20 || (orDash && bytes[at] == UInt8(ascii: "-")) { at += 1 }
        }

        mutating func numericOffset(colon: Bool) -> Int? {
            let sign = take("+") ? 1 : take("-") ? -1 : 0
            guard sign != 0, let hours = number(digits: 2...2) else { return nil }
            let separated = take(":")
            guard separated || !colon, let minutes = number(digits: 2...2), hours < 24, minutes < 60 else { return nil }
            return sign * (hours * 60 + minutes)
        }
    }
}
