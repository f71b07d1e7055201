// The text of a configuration file: a part of TOML 1.0. A table for each command, with keys and values, a line each:
//
//     # Everything after a number sign is a comment.
//     [source]
//     feed = ["https://example.org/new.atom", "/srv/own.atom"]    # an array may go on over lines
//     listen = ":4433"            # texts stand in quotation marks; 'a\b' is taken as it is
//     history = 50                # integers and decimal numbers
//     replicate = true            # true or false
//
// What TOML has besides (dates, dotted keys, inline tables, arrays of tables, texts over several lines) is an error that says so.

/// Something wrong in a configuration, and where.
struct ConfigurationProblem: Error, Equatable, CustomStringConvertible {
    /// A file, or what else the setting comes from.
    var place: String
    /// Counts from 1; nil where there are no lines.
    var line: Int?
    var message: String

    var description: String { place + (line.map { ":\($0)" } ?? "") + ": " + message }
}

/// What a configuration file says, and all that is wrong with its form.
struct ConfigurationText {
    /// A value as the command line would have it, or several of them.
    enum Value: Equatable {
        case text(String)
        case truth(Bool)
        case array([String])
    }

    struct Entry: Equatable {
        var table: String
        var key: String
        var value: Value
        var line: Int
    }

    private(set) var entries: [Entry] = []
    /// Names of the tables and where they begin.
    private(set) var tables: [(name: String, line: Int)] = []
    private(set) var problems: [(line: Int, message: String)] = []

    private struct Fault: Error {
        var message: String
        init(_ message: String) { self.message = message }
    }

    private var rest: Substring.UnicodeScalarView
    private var line = 1
    /// What follows stands under a heading that could not be read.
    private var isLost = false

    init(_ text: String) {
        rest = text[...].unicodeScalars
        if rest.first == "\u{feff}" { rest.removeFirst() }
        var table: String?
        while !rest.isEmpty {
            let start = line
            do throws(Fault) {
                try readLine(in: &table)
            } catch {
                problems.append((start, error.message))
                skipLine()
            }
        }
    }

    private mutating func readLine(in table: inout String?) throws(Fault) {
        skipSpace()
        switch rest.first {
        case nil, "\n", "\r", "#": break
        case "[":
            rest.removeFirst()
            guard rest.first != "[" else { throw Fault("arrays of tables are not read: a command has one table") }
            skipSpace()
            let start = line
            // What follows belongs to it, even if it is wrong itself.
            (table, isLost) = (nil, true)
            let name = try readKey()
            try take("]", "a table is named [source] or the like")
            let isFirst = !tables.contains { $0.name == name }
            tables.append((name, start))
            (table, isLost) = (name, false)
            guard isFirst else { throw Fault("the table [\(name)] is there twice") }
        default:
            let start = line
            let key = try readKey()
            guard rest.first != "." else { throw Fault("dotted keys are not read: write [\(key)] in a line above") }
            try take("=", "a line is KEY = VALUE, with KEY as the option is named")
            skipSpace()
            let value = try readValue()
            try endLine()
            guard let table else {
                if !isLost { problems.append((start, "\(key) stands in no table, such as [source]")) }
                return
            }
            guard !entries.contains(where: { $0.table == table && $0.key == key }) else {
                problems.append(
                    (start, "\(key) is there twice in [\(table)]; several values are an array, [\"a\", \"b\"]"))
                return
            }
            entries.append(Entry(table: table, key: key, value: value, line: start))
            return
        }
        try endLine()
    }

    private mutating func readKey() throws(Fault) -> String {
        if rest.first == "\"" || rest.first == "'" {
            let key = try readString()
            skipSpace()
            return key
        }
        let key = takeWhile { Self.isBare($0) }
        guard !key.isEmpty else { throw Fault("a line is [TABLE] or KEY = VALUE") }
        skipSpace()
        return key
    }

    private mutating func readValue() throws(Fault) -> Value {
        switch rest.first {
        case "\"", "'": return .text(try readString())
        case "[":
            rest.removeFirst()
            var values: [String] = []
            while true {
                skipLines()
                if rest.first == "]" { break }
                guard case .text(let value) = try readValue() else {
                    throw Fault("an array has texts or numbers in it")
                }
                values.append(value)
                skipLines()
                if rest.first == "," {
                    rest.removeFirst()
                } else if rest.first != "]" {
                    throw Fault("between the values of an array are commas, and ] is at its end")
                }
            }
            rest.removeFirst()
            return .array(values)
        case "{": throw Fault("inline tables are not read")
        default:
            let word = takeWhile { !" \t\r\n#,]".unicodeScalars.contains($0) }
            switch word {
            case "true": return .truth(true)
            case "false": return .truth(false)
            case "": throw Fault("there is no value")
            default:
                guard let number = Self.number(word) else {
                    throw Fault(
                        "\(word) is no number and neither true nor false: texts stand in quotation marks, \"\(word)\"")
                }
                return .text(number)
            }
        }
    }

    /// A decimal number without the underscores that may be between its digits.
    private static func number(_ word: String) -> String? {
        func isNumber(_ digits: Substring) -> Bool {
            digits.split(separator: "_", omittingEmptySubsequences: false).allSatisfy { part in
                !part.isEmpty && part.allSatisfy { $0.isASCII && $0.isNumber }
            }
        }
        let digits = word.drop { $0 == "-" || $0 == "+" }
        let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
        guard word.count - digits.count <= 1, (1...2).contains(parts.count), parts.allSatisfy(isNumber),
            parts[0].count == 1 || parts[0].first != "0"
        else { return nil }
        return word.filter { $0 != "_" && $0 != "+" }
    }

    private mutating func readString() throws(Fault) -> String {
        let mark = rest.removeFirst()
        var text = String.UnicodeScalarView()
        if rest.first == mark {
            rest.removeFirst()
            guard rest.first != mark else { throw Fault("texts over several lines are not read") }
            return ""
        }
        while let next = rest.first, next != mark {
            guard next != "\n", next != "\r" else { break }
            rest.removeFirst()
            if next == "\\", mark == "\"" {
                text.append(try readEscape())
            } else {
                guard next.value >= 0x20 || next == "\t", next.value != 0x7f else {
                    throw Fault("a control character is in a text")
                }
                text.append(next)
            }
        }
        guard rest.first == mark else { throw Fault("a text has no quotation mark at its end") }
        rest.removeFirst()
        return String(text)
    }

    private mutating func readEscape() throws(Fault) -> Unicode.Scalar {
        guard let next = rest.first else { throw Fault("a text has no quotation mark at its end") }
        let plain: [Unicode.Scalar: Unicode.Scalar] = [
            "b": "\u{8}", "t": "\t", "n": "\n", "f": "\u{c}", "r": "\r", "\"": "\"", "\\": "\\",
        ]
        guard next != "\n", next != "\r" else { throw Fault("a text has no quotation mark at its end") }
        rest.removeFirst()
        if let scalar = plain[next] { return scalar }
        guard next == "u" || next == "U" else {
            throw Fault("\\\(next) means nothing in a text; a \\ itself is \\\\, or write the text in '…'")
        }
        let digits = String(String.UnicodeScalarView(rest.prefix(next == "u" ? 4 : 8)))
        guard digits.allSatisfy(\.isHexDigit), let code = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(code)
        else { throw Fault("\\\(next)\(digits) is no character") }
        rest.removeFirst(digits.unicodeScalars.count)
        return scalar
    }

    // MARK: - Steps

    private static func isBare(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII
            && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || scalar == "-" || scalar == "_")
    }

    private mutating func takeWhile(_ condition: (Unicode.Scalar) -> Bool) -> String {
        let taken = rest.prefix(while: condition)
        rest = rest[taken.endIndex...]
        return String(taken)
    }

    private mutating func skipSpace() { _ = takeWhile { $0 == " " || $0 == "\t" } }

    /// Up to the next thing in an array, over lines and comments.
    private mutating func skipLines() {
        while true {
            skipSpace()
            switch rest.first {
            case "#": _ = takeWhile { $0 != "\n" }
            case "\n":
                rest.removeFirst()
                line += 1
            case "\r": rest.removeFirst()
            default: return
            }
        }
    }

    private mutating func take(_ scalar: Unicode.Scalar, _ message: String) throws(Fault) {
        skipSpace()
        guard rest.first == scalar else { throw Fault(message) }
        rest.removeFirst()
    }

    private mutating func endLine() throws(Fault) {
        skipSpace()
        guard rest.isEmpty || "#\r\n".unicodeScalars.contains(rest.first ?? "\n") else {
            throw Fault("something stands behind the value; a comment begins with #")
        }
        skipLine()
    }

    private mutating func skipLine() {
        _ = takeWhile { $0 != "\n" }
        if !rest.isEmpty {
            rest.removeFirst()
            line += 1
        }
    }
}
