import FoundationEssentials

/// Dates as feeds write them in spite of what their formats demand.
extension Timestamp {
    /// A date in any form that readers take: RFC 3339, RFC 822, ISO 8601 with parts left out or without separators, that of
    /// C's `asctime` and of `date`. Without a zone, and with one that nobody knows, it is UTC; a date alone is its midnight.
    public static func any(_ text: String) -> Date? {
        rfc3339(text) ?? dayMonthYear(text) ?? rfc822(text) ?? iso8601(text) ?? monthDayYear(text)
    }

    /// "2025-09-05", "20250905", "2025-09", "2025-248", with or without a time: "2025-09-05 09:49+02".
    private static func iso8601(_ text: String) -> Date? {
        var scanner = Scanner(text)
        guard let year = scanner.number(digits: 4...4) else { return nil }
        var month = 1
        var day = 1
        var ordinal: Int?
        let isSeparated = scanner.take("-")
        let digits = scanner.digits
        if digits == 3 {
            ordinal = scanner.number(digits: 3...3)
        } else if digits >= 2 || (isSeparated && digits == 1) {
            month = scanner.number(digits: 1...2) ?? 0
            let hasDay = isSeparated ? scanner.take("-") : scanner.digits >= 2
            if hasDay {
                guard let found = scanner.number(digits: 1...2) else { return nil }
                day = found
            }
        }
        var time: Time?
        if scanner.take("T") || scanner.take("t") || scanner.digitsAfterSpace {
            scanner.skipSpace()
            guard let found = clock(&scanner) else { return nil }
            time = found
        }
        guard scanner.atEnd else { return nil }
        if let ordinal {
            guard (1...366).contains(ordinal) else { return nil }
            return moment(year, 1, 1, time)?.addingTimeInterval(Double(ordinal - 1) * 86400)
        }
        return moment(year, month, day, time)
    }

    /// "Fri, 5 September 2025" without a time, and with one that RFC 822 does not know.
    private static func dayMonthYear(_ text: String) -> Date? {
        var scanner = Scanner(text)
        if scanner.word() != nil {
            _ = scanner.take(",")
            scanner.skipSpace()
        }
        guard let day = scanner.number(digits: 1...2) else { return nil }
        scanner.skipSpace(orDash: true)
        guard let month = scanner.month() else { return nil }
        scanner.skipSpace(orDash: true)
        guard let year = scanner.year() else { return nil }
        return rest(&scanner, year, month, day)
    }

    /// "Fri Sep  5 09:49:57 2025", "Fri Sep  5 09:49:57 CEST 2025", "September 5, 2025".
    private static func monthDayYear(_ text: String) -> Date? {
        var scanner = Scanner(text)
        var found = scanner.month()
        if found == nil {
            _ = scanner.take(",")
            scanner.skipSpace()
            found = scanner.month()
        }
        guard let month = found else { return nil }
        _ = scanner.take(".")
        scanner.skipSpace()
        guard let day = scanner.number(digits: 1...2) else { return nil }
        _ = scanner.take(",")
        scanner.skipSpace()
        if scanner.digits == 4 {
            guard let year = scanner.year() else { return nil }
            return rest(&scanner, year, month, day)
        }
        guard let time = clock(&scanner) else { return nil }
        scanner.skipSpace()
        guard let year = scanner.year(), scanner.atEnd else { return nil }
        return moment(year, month, day, time)
    }

    private static func rest(_ scanner: inout Scanner, _ year: Int, _ month: Int, _ day: Int) -> Date? {
        _ = scanner.take(",")
        scanner.skipSpace()
        guard !scanner.atEnd else { return moment(year, month, day, nil) }
        guard let time = clock(&scanner), scanner.atEnd else { return nil }
        return moment(year, month, day, time)
    }

    // MARK: - The time of day

    private struct Time {
        var hour: Int
        var minute = 0
        var second = 0
        var fraction = 0.0
        var offset = 0
    }

    private static func moment(_ year: Int, _ month: Int, _ day: Int, _ time: Time?) -> Date? {
        let time = time ?? Time(hour: 0)
        // ISO 8601's midnight at the end of a day.
        let isNextDay = time.hour == 24 && time.minute == 0 && time.second == 0
        let date = date(
            year, month, day, isNextDay ? 0 : time.hour, time.minute, time.second, offsetMinutes: time.offset,
            fraction: time.fraction)
        return isNextDay ? date?.addingTimeInterval(86400) : date
    }

    private static func clock(_ scanner: inout Scanner) -> Time? {
        guard let hour = scanner.number(digits: 1...2) else { return nil }
        var time = Time(hour: hour)
        let isSeparated = scanner.take(":")
        if isSeparated || scanner.digits >= 2 {
            guard let minute = scanner.number(digits: 2...2) else { return nil }
            time.minute = minute
            if isSeparated ? scanner.take(":") : scanner.digits >= 2 {
                guard let second = scanner.number(digits: 1...2) else { return nil }
                time.second = second
                if scanner.take(".") || scanner.take(",") {
                    var weight = 0.1
                    while let digit = scanner.digit() {
                        time.fraction += Double(digit) * weight
                        weight /= 10
                    }
                }
            }
        }
        scanner.skipSpace()
        if let word = scanner.word()?.uppercased() {
            guard word == "AM" || word == "PM" else {
                time.offset = zones[word] ?? 0
                // "GMT+2"
                if let more = scanner.looseOffset() { time.offset += more }
                return time
            }
            guard (1...12).contains(time.hour) else { return nil }
            time.hour = time.hour % 12 + (word == "PM" ? 12 : 0)
            scanner.skipSpace()
            if let zone = scanner.word() { time.offset = zones[zone.uppercased()] ?? 0 }
        } else if let offset = scanner.looseOffset() {
            time.offset = offset
        }
        return time
    }

    /// Minutes east of UTC of the zones that feeds name; of names with several meanings the one in use in English.
    static let zones: [String: Int] = [
        "NST": -210, "NDT": -150, "AST": -240, "ADT": -180, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300,
        "MST": -420, "MDT": -360, "PST": -480, "PDT": -420, "AKST": -540, "AKDT": -480, "HST": -600, "BRT": -180,
        "ART": -180, "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "MEZ": 60, "MET": 60, "CEST": 120, "MESZ": 120,
        "MEST": 120, "EET": 120, "EEST": 180, "SAST": 120, "MSK": 180, "MSD": 240, "IST": 330, "ICT": 420, "SGT": 480,
        "HKT": 480, "AWST": 480, "JST": 540, "KST": 540, "ACST": 570, "ACDT": 630, "AEST": 600, "AEDT": 660,
        "NZST": 720, "NZDT": 780,
    ]
}

extension Timestamp.Scanner {
    fileprivate mutating func month() -> Int? {
        var ahead = self
        guard let name = ahead.word(), name.utf8.count >= 3,
            let month = Timestamp.months.firstIndex(of: String(name.prefix(3)).lowercased())
        else {
            self = ahead
            return nil
        }
        self = ahead
        return month + 1
    }

    fileprivate mutating func year() -> Int? {
        guard let year = number(digits: 2...4) else { return nil }
        return year < 50 ? year + 2000 : year < 1000 ? year + 1900 : year
    }

    fileprivate var digitsAfterSpace: Bool {
        var ahead = self
        ahead.skipSpace()
        return ahead.digits > 0 && digits == 0
    }

    /// "+02:00", "+0200", "+02", "-5".
    fileprivate mutating func looseOffset() -> Int? {
        let sign = take("+") ? 1 : take("-") ? -1 : 0
        guard sign != 0, let hours = number(digits: 1...2), hours < 24 else { return nil }
        let minutes = take(":") || digits >= 2 ? number(digits: 2...2) ?? 0 : 0
        return minutes < 60 ? sign * (hours * 60 + minutes) : nil
    }
}
