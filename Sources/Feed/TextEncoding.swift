/// Makes UTF-8 of a document in any encoding we read, so that everything after this sees one encoding only.
///
/// The order of evidence is that of RFC 7303 section 3 and XML 1.0 appendix F: a byte order mark, the pattern of the first
/// octets, the encoding that the protocol named, the encoding that the XML declaration names. The declaration itself is
/// taken off, since it no longer tells the truth.
///
/// What is not possible in a Unicode encoding or in US-ASCII is an error: the document is damaged. In the legacy encodings
/// an octet without a meaning is common (GBK named GB2312, say) and becomes U+FFFD, so that one letter is lost and not the
/// feed.
enum TextEncoding {
    /// The document's text as valid UTF-8, without a byte order mark and an XML declaration.
    ///
    /// - Parameter charset: what the protocol named that brought the document. A name that we do not know, or that
    ///   the octets contradict, is passed over: many servers name one encoding for all that they have.
    static func decode(_ bytes: [UInt8], charset: String? = nil) throws(FeedError) -> [UInt8] {
        if let (form, mark) = unicodeForm(bytes) {
            return withoutDeclaration(try unicode(bytes, from: mark, form)[...])
        }
        let label = charset?.trimmed.lowercased()
        if let label, !isWide(label), let text = try? decode(bytes, label: label) {
            return withoutDeclaration(text[...])
        }
        let name = declaredEncoding(bytes) ?? "UTF-8"
        // The declaration was readable octet by octet, so it cannot be one of these.
        if isWide(name.lowercased()) {
            throw .invalidEncoding(name.contains("32") ? "UTF-32" : name.contains("16") ? "UTF-16" : name, offset: 0)
        }
        guard let text = try decode(bytes, label: name.lowercased()) else { throw .unknownEncoding(name) }
        return withoutDeclaration(text[...])
    }

    /// As `decode`, of a document that it does not take: what is impossible becomes U+FFFD, or the character of
    /// Windows-1252 where most that is beyond ASCII is no UTF-8. Something may stand before the XML declaration.
    static func recover(_ bytes: [UInt8], charset: String? = nil) -> [UInt8] {
        let bytes = fromDeclaration(bytes)
        if let text = try? decode(bytes, charset: charset) { return text }
        if let (form, mark) = unicodeForm(bytes) {
            switch form {
            case .utf8: break
            case .utf16(let littleEndian):
                let units = stride(from: mark, to: bytes.count - 1, by: 2).map { at in
                    littleEndian
                        ? UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8
                        : UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1])
                }
                return withoutDeclaration(Array(String(decoding: units, as: UTF16.self).utf8)[...])
            case .utf32(let littleEndian):
                let units = stride(from: mark, to: bytes.count - 3, by: 4).map { at in
                    let octets = littleEndian ? bytes[at..<at + 4].reversed() : Array(bytes[at..<at + 4])
                    return octets.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                }
                return withoutDeclaration(Array(String(decoding: units, as: UTF32.self).utf8)[...])
            }
        }
        let text = String(decoding: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes[3...] : bytes[...], as: UTF8.self)
        let beyond = text.unicodeScalars.lazy.filter { $0.value >= 0x80 }
        let isUTF8 = 2 * beyond.count { $0.value != 0xFFFD } >= beyond.count
        let found = isUTF8 ? Array(text.utf8) : singleByte(bytes, upper: { windows1252[Int($0) - 0x80] ?? UInt16($0) })
        return withoutDeclaration(found[...])
    }

    /// From the XML declaration on, when something else stands before it that is no feed.
    private static func fromDeclaration(_ bytes: [UInt8]) -> [UInt8] {
        let head = String(decoding: bytes.prefix(4096).map { $0 < 0x80 ? $0 : 0x3F }, as: UTF8.self)
        guard unicodeForm(bytes) == nil, let found = head.firstRange(of: "<?xml ") else { return bytes }
        let before = head[..<found.lowerBound].lowercased()
        guard !["<rss", "<feed", "rdf"].contains(where: before.contains) else { return bytes }
        return Array(bytes[head.utf8.distance(from: head.startIndex, to: found.lowerBound)...])
    }

    /// Nil for a label that we do not know.
    private static func decode(_ bytes: [UInt8], label: String) throws(FeedError) -> [UInt8]? {
        switch label {
        case "utf-8", "utf8": return try utf8(bytes, from: 0)
        case "us-ascii", "ascii":
            if let offset = bytes.firstIndex(where: { $0 >= 0x80 }) {
                throw .invalidEncoding("US-ASCII", offset: offset)
            }
            return bytes
        // Whoever says ISO-8859-1 means Windows-1252, which has characters where the other has controls.
        case "iso-8859-1", "latin1", "iso8859-1", "iso_8859-1", "windows-1252", "cp1252":
            return singleByte(bytes, upper: { windows1252[Int($0) - 0x80] ?? UInt16($0) })
        default: return legacy[label].flatMap { convert(bytes, from: $0) }
        }
    }

    // MARK: - Unicode

    private enum Form {
        case utf8
        case utf16(littleEndian: Bool)
        case utf32(littleEndian: Bool)
    }

    /// What a mark or the first octets tell, and the length of the mark; nil when the octets are to be read one by one.
    ///
    /// A NUL is no character of XML, so one in the first characters means that they take more than an octet each, and its
    /// place tells how they are written. The mark of UTF-32 is seen before that of UTF-16, which it begins with.
    private static func unicodeForm(_ bytes: [UInt8]) -> (Form, mark: Int)? {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { return (.utf8, 3) }
        if bytes.starts(with: [0xFF, 0xFE, 0, 0]) { return (.utf32(littleEndian: true), 4) }
        if bytes.starts(with: [0, 0, 0xFE, 0xFF]) { return (.utf32(littleEndian: false), 4) }
        if bytes.starts(with: [0xFF, 0xFE]) { return (.utf16(littleEndian: true), 2) }
        if bytes.starts(with: [0xFE, 0xFF]) { return (.utf16(littleEndian: false), 2) }
        guard bytes.count >= 4 else { return nil }
        switch (bytes[0], bytes[1], bytes[2], bytes[3]) {
        case (0, 0, 0, 1...): return (.utf32(littleEndian: false), 0)
        case (1..., 0, 0, 0): return (.utf32(littleEndian: true), 0)
        case (0, 1..., _, _): return (.utf16(littleEndian: false), 0)
        case (1..., 0, _, _): return (.utf16(littleEndian: true), 0)
        default: return nil
        }
    }

    private static func isWide(_ label: String) -> Bool {
        ["utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be", "ucs-2", "ucs-4"].contains(label)
            || label.hasPrefix("iso-10646-ucs-")
    }

    private static func unicode(_ bytes: [UInt8], from start: Int, _ form: Form) throws(FeedError) -> [UInt8] {
        switch form {
        case .utf8: try utf8(bytes, from: start)
        case .utf16(let littleEndian): try utf16(bytes, from: start, littleEndian: littleEndian)
        case .utf32(let littleEndian): try utf32(bytes, from: start, littleEndian: littleEndian)
        }
    }

    private static func utf8(_ bytes: [UInt8], from start: Int) throws(FeedError) -> [UInt8] {
        guard let offset = firstInvalid(bytes) else { return start == 0 ? bytes : Array(bytes[start...]) }
        throw .invalidEncoding("UTF-8", offset: offset)
    }

    /// The offset of the first octet that breaks UTF-8, nil when there is none.
    private static func firstInvalid(_ bytes: [UInt8]) -> Int? {
        if String(validating: bytes, as: Unicode.UTF8.self) != nil { return nil }
        var decoder = Unicode.UTF8.ForwardParser()
        var source = bytes.makeIterator()
        var offset = 0
        while true {
            switch decoder.parseScalar(from: &source) {
            case .valid(let scalar): offset += scalar.count
            case .error: return offset
            case .emptyInput: return offset
            }
        }
    }

    private static func utf16(_ bytes: [UInt8], from start: Int, littleEndian: Bool) throws(FeedError) -> [UInt8] {
        guard (bytes.count - start).isMultiple(of: 2) else { throw .invalidEncoding("UTF-16", offset: bytes.count - 1) }
        let units = stride(from: start, to: bytes.count, by: 2).lazy.map { at in
            littleEndian
                ? UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8 : UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1])
        }
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var decoder = Unicode.UTF16.ForwardParser()
        var source = units.makeIterator()
        var offset = start
        loop: while true {
            switch decoder.parseScalar(from: &source) {
            case .valid(let scalar):
                offset += 2 * scalar.count
                out.append(contentsOf: Unicode.Scalar(Unicode.UTF16.decode(scalar)).utf8)
            case .error: throw .invalidEncoding("UTF-16", offset: offset)
            case .emptyInput: break loop
            }
        }
        return out
    }

    private static func utf32(_ bytes: [UInt8], from start: Int, littleEndian: Bool) throws(FeedError) -> [UInt8] {
        guard (bytes.count - start).isMultiple(of: 4) else { throw .invalidEncoding("UTF-32", offset: bytes.count - 1) }
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count / 4)
        for at in stride(from: start, to: bytes.count, by: 4) {
            var value: UInt32 = 0
            for octet in 0..<4 {
                value |= UInt32(bytes[at + octet]) << UInt32(littleEndian ? 8 * octet : 24 - 8 * octet)
            }
            guard let scalar = Unicode.Scalar(value) else { throw .invalidEncoding("UTF-32", offset: at) }
            out.append(contentsOf: scalar.utf8)
        }
        return out
    }

    // MARK: - Other encodings

    private static func singleByte(_ bytes: [UInt8], upper: (UInt8) -> UInt16) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count + bytes.count / 8)
        for byte in bytes {
            if byte < 0x80 {
                out.append(byte)
            } else {
                out.append(contentsOf: (Unicode.Scalar(upper(byte)) ?? "\u{FFFD}").utf8)
            }
        }
        return out
    }

    /// Where Windows-1252 differs from ISO-8859-1: 0x80 to 0x9F; nil for the five it leaves undefined.
    private static let windows1252: [UInt16?] =
        [
            0x20AC, nil, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, nil,
            0x017D, nil, nil, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A,
            0x0153, nil, 0x017E, 0x0178,
        ] + [UInt16?](repeating: nil, count: 96)

    /// iconv's names by the labels in use (WHATWG Encoding Standard section 4.2). Nothing else reaches iconv.
    private static let legacy: [String: String] = {
        var names: [String: String] = [:]
        for part in 2...16 where part != 11 && part != 12 {
            for label in ["iso-8859-", "iso8859-", "iso_8859-"] { names["\(label)\(part)"] = "ISO-8859-\(part)" }
        }
        for page in [1250, 1251] + Array(1253...1258) {
            for label in ["windows-", "cp", "x-cp"] { names["\(label)\(page)"] = "CP\(page)" }
        }
        for (name, labels) in [
            "CP874": ["windows-874", "tis-620", "iso-8859-11"],
            "KOI8-R": ["koi8-r", "koi8", "cskoi8r"], "KOI8-U": ["koi8-u"],
            "IBM866": ["ibm866", "cp866", "866"],
            "MACINTOSH": ["macintosh", "x-mac-roman"],
            "CP932": ["shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j", "cp932"],
            "EUC-JP-MS": ["euc-jp", "x-euc-jp"],
            "ISO-2022-JP": ["iso-2022-jp"],
            "GB18030": ["gb18030", "gbk", "x-gbk", "gb2312", "gb_2312-80", "cp936", "windows-936"],
            "BIG5-HKSCS": ["big5", "big5-hkscs", "cn-big5", "x-x-big5"],
            "CP949": ["euc-kr", "ks_c_5601-1987", "korean", "windows-949", "cp949"],
        ] { for label in labels { names[label] = name } }
        return names
    }()

    /// The value of `encoding` in an XML declaration of ASCII-like octets.
    private static func declaredEncoding(_ bytes: [UInt8]) -> String? {
        guard let end = declarationEnd(bytes[...]) else { return nil }
        let text = String(decoding: bytes[..<end], as: Unicode.ASCII.self)
        guard let at = text.firstRange(of: "encoding") else { return nil }
        let rest = text[at.upperBound...].drop { $0.isWhitespace || $0 == "=" }
        guard let quote = rest.first, quote == "\"" || quote == "'" else { return nil }
        return String(rest.dropFirst().prefix { $0 != quote })
    }

    /// The index after `?>` of a leading XML declaration, nil when there is none.
    private static func declarationEnd(_ bytes: ArraySlice<UInt8>) -> Int? {
        guard bytes.starts(with: Array("<?xml".utf8)), bytes.count > 6,
            [0x20, 9, 10, 13].contains(bytes[bytes.startIndex + 5])
        else { return nil }
        guard let close = bytes.prefix(512).firstIndex(of: UInt8(ascii: ">")) else { return nil }
        return close + 1
    }

    private static func withoutDeclaration(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        guard let end = declarationEnd(bytes) else { return Array(bytes) }
        // Line breaks stay, so that a line number in an error is the one an editor shows.
        return bytes[..<end].filter { $0 == 10 } + bytes[end...]
    }
}
