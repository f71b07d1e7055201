/// Looks over a document before the XML parser gets it, for what would keep that parser busy for hours: it compares
/// each attribute of an element with all others. One pass, no memory.
enum MarkupGuard {
    /// Attributes and namespace declarations on one element.
    static let attributes = 256

    private enum Place { case text, tag, singleQuoted, doubleQuoted }

    static func check(_ text: [UInt8]) throws(FeedError) {
        var place = Place.text
        var count = 0
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
                }
            case .tag:
                switch byte {
                case UInt8(ascii: ">"): place = .text
                case UInt8(ascii: "'"): place = .singleQuoted
                case UInt8(ascii: "\""): place = .doubleQuoted
                case UInt8(ascii: "="):
                    count += 1
                    if count > attributes {
                        throw .malformed(
                            line: 1 + text[..<at].lazy.filter { $0 == 10 }.count, column: 1,
                            reason: "an element has more than \(attributes) attributes")
                    }
                default: break
                }
            case .singleQuoted: if byte == UInt8(ascii: "'") { place = .tag }
            case .doubleQuoted: if byte == UInt8(ascii: "\"") { place = .tag }
            }
            at += 1
        }
    }

    /// The index after a comment, CDATA section or processing instruction that begins at `at`; nil for a tag.
    private static func skip(_ text: [UInt8], _ at: Int) -> Int? {
        let closing: StaticString
        switch text[at...].prefix(9) {
        case let head where head.starts(with: "<!--".utf8): closing = "-->"
        case let head where head.elementsEqual("<![CDATA[".utf8): closing = "]]>"
        case let head where head.starts(with: "<?".utf8): closing = "?>"
        default: return nil
        }
        let pattern = Array(closing.description.utf8)
        var from = at + 2
        while from + pattern.count <= text.count {
            if text[from] == pattern[0], text[from..<from + pattern.count].elementsEqual(pattern) {
                return from + pattern.count
            }
            from += 1
        }
        return text.count
    }
}
