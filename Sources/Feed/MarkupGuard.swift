/// Looks over a document before the XML parser gets it: for what is no XML at all, for a document type, and for what
/// would keep that parser busy for hours, since it compares each attribute of an element with all others. One pass, no
/// memory.
enum MarkupGuard {
    /// Attributes and namespace declarations on one element.
    static let attributes = 256
    /// Octets of one tag without the values of its attributes.
    static let tagBytes = 64 << 10

    private enum Place { case text, tag, singleQuoted, doubleQuoted }

    /// - Parameter text: UTF-8 without an XML declaration.
    /// - Returns: the same, with blanks for a document type declaration that declares nothing itself. The one that it
    ///   names is nothing that we would fetch.
    static func checked(_ text: [UInt8]) throws(FeedError) -> [UInt8] {
        guard let first = text.first(where: { $0 > 0x20 }) else { throw .empty }
        guard first == UInt8(ascii: "<") else {
            throw .malformed(line: 1, column: 1, reason: "this is not XML: it does not begin with '<'")
        }
        // Some parsers end a text here and others do not, so that a limit checked by one holds for no other.
        if let at = text.firstIndex(of: 0) { throw malformed(text, at, "a NUL, a character that XML does not allow") }
        var text = text
        try checkProlog(&text)
        try checkTags(text)
        return text
    }

    /// Looks at what comes before the root element (XML 1.0 section 2.8).
    private static func checkProlog(_ text: inout [UInt8]) throws(FeedError) {
        var at = 0
        var hasType = false
        while true {
            while at < text.count, text[at] <= 0x20 { at += 1 }
            if at < text.count, let end = skip(text, at) {
                at = end
                continue
            }
            let rest = text[at...]
            if rest.starts(with: "<!".utf8) {
                let head = String(decoding: rest.prefix(200), as: UTF8.self).lowercased()
                let name = head.split(whereSeparator: \.isWhitespace).dropFirst().first
                if name?.hasPrefix("html") == true { throw .webPage }
                guard !hasType, head.hasPrefix("<!doctype"), let end = endOfType(text, at) else { throw .documentType }
                for place in at..<end where text[place] != 10 { text[place] = 0x20 }
                hasType = true
                at = end
                continue
            }
            if String(decoding: rest.prefix(5), as: UTF8.self).lowercased() == "<html" { throw .webPage }
            return
        }
    }

    /// The index after a document type declaration that has no declarations of its own.
    private static func endOfType(_ text: [UInt8], _ start: Int) -> Int? {
        var quote: UInt8?
        for at in start..<text.count {
            switch text[at] {
            case UInt8(ascii: "'"), UInt8(ascii: "\""):
                if quote == nil { quote = text[at] } else if quote == text[at] { quote = nil }
            case UInt8(ascii: ">") where quote == nil: return at + 1
            case UInt8(ascii: "<") where quote == nil && at > start: return nil
            case UInt8(ascii: "[") where quote == nil: return nil
            default: break
            }
        }
        return nil
    }

    private static func checkTags(_ text: [UInt8]) throws(FeedError) {
        var place = Place.text
        var count = 0
        var size = 0
        var at = 0
        let end = text.count
        while at < end {
            let byte = text[at]
            switch place {
            case .text:
                if byte == UInt8(ascii: "<") {
                    if let skipped = skip(text, at) {
                        at = skipped
                        continue
                    }
                    place = .tag
                    count = 0
                    size = 0
                }
            case .tag:
                size += 1
                guard size <= tagBytes else {
                    throw malformed(text, at, "a tag has more than \(tagBytes) bytes beside its attributes' values")
                }
                switch byte {
                case UInt8(ascii: ">"): place = .text
                case UInt8(ascii: "'"): place = .singleQuoted
                case UInt8(ascii: "\""): place = .doubleQuoted
                case UInt8(ascii: "="):
                    count += 1
                    guard count <= attributes else {
                        throw malformed(text, at, "an element has more than \(attributes) attributes")
                    }
                default: break
                }
            case .singleQuoted: if byte == UInt8(ascii: "'") { place = .tag }
            case .doubleQuoted: if byte == UInt8(ascii: "\"") { place = .tag }
            }
            at += 1
        }
    }

    private static func malformed(_ text: [UInt8], _ at: Int, _ reason: String) -> FeedError {
        .malformed(line: 1 + text[..<at].lazy.filter { $0 == 10 }.count, column: 1, reason: reason)
    }

    /// The index after a comment, CDATA section or processing instruction that begins at `at`; nil for a tag.
    ///
    /// It must end where the parser sees its end: what this passes over is not looked at. So "<!-->" begins a comment and
    /// does not end it.
    private static func skip(_ text: [UInt8], _ at: Int) -> Int? {
        let head = text[at...].prefix(9)
        let (opening, closing): (StaticString, StaticString)
        if head.starts(with: "<!--".utf8) {
            (opening, closing) = ("<!--", "-->")
        } else if head.elementsEqual("<![CDATA[".utf8) {
            (opening, closing) = ("<![CDATA[", "]]>")
        } else if head.starts(with: "<?".utf8) {
            (opening, closing) = ("<?", "?>")
        } else {
            return nil
        }
        let pattern = Array(closing.description.utf8)
        var from = at + opening.utf8CodeUnitCount
        while from + pattern.count <= text.count {
            if text[from] == pattern[0], text[from..<from + pattern.count].elementsEqual(pattern) {
                return from + pattern.count
            }
            from += 1
        }
        return text.count
    }
}
