/// Makes XML of what is nearly XML, so that one bad character does not cost a feed: the rules are those of the readers that
/// people use, and of HTML where those differ.
///
/// What an entity means is HTML's; one that nobody knows stays as it is written. An element that is not ended ends with the
/// one around it, at the latest where the next item begins. A document that is cut off loses the item that was not
/// finished. Comments and instructions are left out. One pass; what it keeps is bounded by `FeedLimits.depth`.
struct MarkupRepair {
    private let text: [UInt8]
    private var at = 0
    private var out: [UInt8] = []
    private var open: [String] = []
    /// Where the item that is open begins, and how many elements are around it.
    private var item: (at: Int, depth: Int)?
    private var rootEnd: Int?
    private var rootDeclares: Set<String> = ["xml"]
    private var prefixes: Set<String> = []
    private var hasEnded = false
    private var isCutOff = false

    /// - Parameter text: UTF-8 without an XML declaration.
    /// - Throws: when elements are nested deeper than `FeedLimits.depth`, or more prefixes are used than may be declared.
    static func repaired(_ text: [UInt8]) throws(FeedError) -> (text: [UInt8], isCutOff: Bool) {
        var repair = MarkupRepair(text: text)
        try repair.run()
        return (repair.out, repair.isCutOff)
    }

    private init(text: [UInt8]) {
        self.text = text
        out.reserveCapacity(text.count + text.count / 8)
    }

    private mutating func run() throws(FeedError) {
        while at < text.count, !hasEnded {
            if text[at] == UInt8(ascii: "<") { try markup() } else { character() }
        }
        if !hasEnded {
            isCutOff = true
            if let item {
                out.removeSubrange(item.at...)
                open.removeSubrange(item.depth...)
            }
            close(to: 0)
        }
        guard let rootEnd else { return }
        let missing = prefixes.subtracting(rootDeclares).sorted()
        guard missing.count <= MarkupGuard.attributes else {
            throw .malformed(line: 1, column: 1, reason: "more than \(MarkupGuard.attributes) namespaces are used")
        }
        let declarations = missing.map {
            " xmlns:\($0)=\"\(Namespace.wellKnown[$0] ?? "urn:x-undeclared-prefix:\($0)")\""
        }
        out.insert(contentsOf: declarations.joined().utf8, at: rootEnd)
    }

    // MARK: - Text

    private mutating func character() {
        let byte = text[at]
        if byte == UInt8(ascii: "&") { return reference() }
        at += 1
        if !open.isEmpty { put(byte) }
    }

    private mutating func put(_ byte: UInt8) {
        switch byte {
        case 0..<9, 11, 12, 14..<32: break
        case UInt8(ascii: "<"): out += "&lt;".utf8
        case UInt8(ascii: ">"): out += "&gt;".utf8
        case UInt8(ascii: "&"): out += "&amp;".utf8
        case UInt8(ascii: "\""): out += "&quot;".utf8
        // U+FFFE and U+FFFF, which XML does not have.
        case 0xBE where hasHalfNonCharacter, 0xBF where hasHalfNonCharacter: out.removeLast(2)
        default: out.append(byte)
        }
    }

    private var hasHalfNonCharacter: Bool {
        out.count >= 2 && out[out.count - 1] == 0xBF && out[out.count - 2] == 0xEF
    }

    /// Also in the value of an attribute.
    private mutating func reference() {
        let rest = text[(at + 1)...].prefix(33)
        at += 1
        guard let end = rest.firstIndex(of: UInt8(ascii: ";")) else { return putAmpersand() }
        let name = String(decoding: rest[..<end], as: UTF8.self)
        if let value = HTMLEntity.value(name) {
            at = end + 1
            guard !open.isEmpty || isInTag else { return }
            switch value {
            case 9, 10, 13, 0x20...0xD7FF, 0xE000...0xFFFD, 0x10000...0x10FFFF: out += "&#\(value);".utf8
            default: break
            }
        } else {
            putAmpersand()
        }
    }

    private var isInTag = false

    private mutating func putAmpersand() {
        if !open.isEmpty || isInTag { out += "&amp;".utf8 }
    }

    // MARK: - Markup

    private mutating func markup() throws(FeedError) {
        let rest = text[at...]
        if rest.starts(with: "<!--".utf8) { return skip(to: "-->", from: at + 4) }
        if rest.starts(with: "<![CDATA[".utf8) {
            let start = at + 9
            let end = find("]]>", from: start)
            if !open.isEmpty { for byte in text[start..<(end ?? text.count)] { put(byte) } }
            at = end.map { $0 + 3 } ?? text.count
            return
        }
        guard at + 1 < text.count else {
            at += 1
            return
        }
        switch text[at + 1] {
        case UInt8(ascii: "?"): skip(to: "?>", from: at + 2)
        case UInt8(ascii: "!") where open.isEmpty: skip(to: ">", from: at + 2)
        case UInt8(ascii: "/"): endTag()
        case let byte where Self.beginsName(byte): try startTag()
        default:
            at += 1
            if !open.isEmpty { put(UInt8(ascii: "<")) }
        }
    }

    private static func beginsName(_ byte: UInt8) -> Bool {
        (0x41...0x5A).contains(byte & 0xDF) || byte == UInt8(ascii: "_") || byte >= 0x80
    }

    private mutating func skip(to end: StaticString, from start: Int) {
        at = find(end, from: start).map { $0 + end.utf8CodeUnitCount } ?? text.count
    }

    private func find(_ pattern: StaticString, from start: Int) -> Int? {
        let pattern = Array(pattern.description.utf8)
        var from = start
        while from + pattern.count <= text.count {
            if text[from] == pattern[0], text[from..<from + pattern.count].elementsEqual(pattern) { return from }
            from += 1
        }
        return nil
    }

    private mutating func endTag() {
        at += 2
        let name = takeName()
        while at < text.count, text[at] != UInt8(ascii: ">"), text[at] != UInt8(ascii: "<") { at += 1 }
        if at < text.count, text[at] == UInt8(ascii: ">") { at += 1 }
        guard let depth = open.lastIndex(of: name) else { return }
        close(to: depth)
    }

    /// Ends elements until `depth` are left.
    private mutating func close(to depth: Int) {
        while open.count > depth, let name = open.popLast() {
            out += "</\(name)>".utf8
            if let item, item.depth == open.count { self.item = nil }
        }
        hasEnded = open.isEmpty && rootEnd != nil
    }

    private mutating func startTag() throws(FeedError) {
        at += 1
        let name = takeName()
        if Self.isItem(name), let item, open[item.depth] == name { close(to: item.depth) }
        guard open.count < FeedLimits.depth else {
            let line = 1 + text[..<at].lazy.filter { $0 == 10 }.count
            throw .malformed(line: line, column: 1, reason: "elements are nested deeper than \(FeedLimits.depth)")
        }
        let start = out.count
        out += "<\(name)".utf8
        if rootEnd == nil { rootEnd = out.count }
        isInTag = true
        defer { isInTag = false }
        var seen: Set<String> = []
        var isEmpty = Self.voidElements.contains(name)
        while true {
            while at < text.count, text[at] <= 0x20 { at += 1 }
            guard at < text.count else {  // The tag is cut off, so it is none.
                out.removeSubrange(start...)
                if rootEnd ?? 0 > out.count { rootEnd = nil }
                return
            }
            let byte = text[at]
            if byte == UInt8(ascii: ">") {
                at += 1
                break
            }
            if byte == UInt8(ascii: "<") { break }
            if byte == UInt8(ascii: "/"), at + 1 < text.count, text[at + 1] == UInt8(ascii: ">") {
                isEmpty = true
                at += 2
                break
            }
            if Self.beginsName(byte) { attribute(&seen) } else { at += 1 }
        }
        if isEmpty {
            out += "/>".utf8
            hasEnded = open.isEmpty
            return
        }
        out.append(UInt8(ascii: ">"))
        if item == nil, Self.isItem(name), !open.isEmpty { item = (start, open.count) }
        open.append(name)
    }

    private static func isItem(_ name: String) -> Bool {
        let local = name.split(separator: ":").last
        return local == "item" || local == "entry"
    }

    private mutating func attribute(_ seen: inout Set<String>) {
        let name = takeName(ofAttribute: true)
        let start = out.count
        out += " \(name)=\"".utf8
        let valueStart = out.count
        while at < text.count, text[at] <= 0x20 { at += 1 }
        if at < text.count, text[at] == UInt8(ascii: "=") {
            at += 1
            while at < text.count, text[at] <= 0x20 { at += 1 }
            let quote = at < text.count && (text[at] == 0x22 || text[at] == 0x27) ? text[at] : nil
            if quote != nil { at += 1 }
            while at < text.count {
                let byte = text[at]
                if let quote {
                    if byte == quote {
                        at += 1
                        break
                    }
                } else if byte <= 0x20 || byte == UInt8(ascii: ">") || byte == UInt8(ascii: "<") {
                    break
                } else if byte == UInt8(ascii: "/"), at + 1 < text.count, text[at + 1] == UInt8(ascii: ">") {
                    break
                }
                if byte == UInt8(ascii: "&") {
                    reference()
                } else {
                    put(byte)
                    at += 1
                }
            }
        } else {
            out += name.utf8
        }
        let isDeclaration = name.hasPrefix("xmlns:")
        let declared = String(name.dropFirst(6))
        let isAllowed = !isDeclaration || (declared != "xml" && declared != "xmlns" && out.count > valueStart)
        out.append(UInt8(ascii: "\""))
        guard seen.insert(name).inserted, isAllowed else {
            out.removeSubrange(start...)
            return
        }
        if isDeclaration, open.isEmpty { rootDeclares.insert(declared) }
    }

    /// A name as XML with namespaces has it: what it may not have becomes "_".
    private mutating func takeName(ofAttribute: Bool = false) -> String {
        let start = at
        while at < text.count, Self.beginsName(text[at]) || (0x2D...0x3A).contains(text[at]) && text[at] != 0x2F {
            at += 1
        }
        var parts = String(decoding: text[start..<at], as: UTF8.self).split(
            separator: ":", omittingEmptySubsequences: false)
        if parts.count > 2 { parts = [parts[0], Substring(parts[1...].joined(separator: "_"))] }
        let isName = parts.allSatisfy { $0.utf8.first.map(Self.beginsName) ?? false }
        guard isName else { return "_" + parts.joined(separator: "_") }
        guard parts.count == 2 else { return String(parts[0]) }
        if parts[0] == "xmlns" { return ofAttribute ? "xmlns:\(parts[1])" : "_\(parts[1])" }
        prefixes.insert(String(parts[0]))
        return "\(parts[0]):\(parts[1])"
    }

    /// Of HTML, which has no end tag for them. Not those that RSS uses for something else.
    private static let voidElements: Set<String> = [
        "area", "br", "col", "embed", "hr", "img", "input", "param", "track", "wbr",
    ]
}

extension Namespace {
    /// What the prefixes mean that feeds use without declaring them.
    static let wellKnown = [
        "atom": atom, "content": content, "dc": dublinCore, "xhtml": xhtml,
        "rdf": rdf,
        "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd", "media": "http://search.yahoo.com/mrss/",
        "slash": "http://purl.org/rss/1.0/modules/slash/", "sy": "http://purl.org/rss/1.0/modules/syndication/",
        "wfw": "http://wellformedweb.org/CommentAPI/", "geo": "http://www.w3.org/2003/01/geo/wgs84_pos#",
        "georss": "http://www.georss.org/georss", "feedburner": "http://rssnamespace.org/feedburner/ext/1.0",
        "dcterms": dublinTerms, "thr": "http://purl.org/syndication/thread/1.0",
    ]
}
