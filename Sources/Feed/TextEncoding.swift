/// Makes UTF-8 of a document in any encoding we read, so that everything after this sees one encoding only.
///
/// The order of evidence is XML 1.0 appendix F: a byte order mark, the pattern of the first octets, the encoding that
/// the XML declaration names. The declaration itself is taken off, since it no longer tells the truth.
enum TextEncoding {
    /// The document's text as valid UTF-8.
    static func decode(_ bytes: [UInt8]) throws(FeedError) -> [UInt8] {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { return try utf8(bytes, from: 3, name: "UTF-8") }
        if bytes.starts(with: [0xFF, 0xFE]) { return try utf16(bytes, from: 2, littleEndian: true) }
        if bytes.starts(with: [0xFE, 0xFF]) { return try utf16(bytes, from: 2, littleEndian: false) }
        if bytes.starts(with: [0x3C, 0, 0x3F, 0]) { return try utf16(bytes, from: 0, littleEndian: true) }
        if bytes.starts(with: [0, 0x3C, 0, 0x3F]) { return try utf16(bytes, from: 0, littleEndian: false) }
        let name = declaredEncoding(bytes) ?? "UTF-8"
        switch name.lowercased() {
        case "utf-8", "utf8": return try utf8(bytes, from: 0, name: "UTF-8")
        case "us-ascii", "ascii":
            if let offset = bytes.firstIndex(where: { $0 >= 0x80 }) {
                throw .invalidEncoding("US-ASCII", offset: offset)
            }
            return withoutDeclaration(bytes[...])
        case "iso-8859-1", "latin1", "iso8859-1", "iso_8859-1":
            return withoutDeclaration(singleByte(bytes, upper: { UInt16($0) })[...])
        case "windows-1252", "cp1252":
            return withoutDeclaration(singleByte(bytes, upper: { windows1252[Int($0) - 0x80] ?? UInt16($0) })[...])
        case "utf-16", "utf-16le", "utf-16be":
            // The declaration was readable octet by octet, so it cannot be UTF-16.
            throw .invalidEncoding("UTF-16", offset: 0)
        default: throw .unknownEncoding(name)
        }
    }

    private static func utf8(_ bytes: [UInt8], from start: Int, name: String) throws(FeedError) -> [UInt8] {
        guard let offset = firstInvalid(bytes) else { return withoutDeclaration(bytes[start...]) }
        throw .invalidEncoding(name, offset: offset)
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
        return withoutDeclaration(out[...])
    }

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
