import FoundationEssentials

/// IRI references in feeds (RFC 3986 section 4).
enum Reference {
    static func hasScheme(_ text: String) -> Bool {
        guard let colon = text.utf8.firstIndex(of: UInt8(ascii: ":")), let first = text.utf8.first,
            (0x41...0x5A).contains(first & 0xDF)
        else { return false }
        return text.utf8[..<colon].allSatisfy {
            (0x41...0x5A).contains($0 & 0xDF) || (0x30...0x39).contains($0) || $0 == 0x2B || $0 == 0x2D || $0 == 0x2E
        }
    }

    /// Means something else in another place. A reference into the same document ("#top") does not.
    static func isRelative(_ text: String) -> Bool { !text.isEmpty && !text.hasPrefix("#") && !hasScheme(text) }

    /// RFC 3986 section 5. Gives `reference` back when `base` does not help.
    static func resolve(_ reference: String, against base: String?) -> String {
        guard !hasScheme(reference), let base, let url = URL(string: base),
            let resolved = URL(string: reference, relativeTo: url)
        else { return reference }
        return resolved.absoluteString
    }

    /// `text` as a part of a URN: everything but RFC 3986's unreserved characters is percent-encoded.
    static func encoded(_ text: String) -> String {
        var out = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: out.unicodeScalars.append(.init(byte))
            default: out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return out
    }
}

extension String {
    /// Without XML's white space at both ends.
    var trimmed: String {
        let space: (Character) -> Bool = { $0 == " " || $0 == "\n" || $0 == "\t" || $0 == "\r" || $0 == "\r\n" }
        var rest = self[...].drop(while: space)
        while let last = rest.last, space(last) { rest.removeLast() }
        return String(rest)
    }

    /// On one line.
    var oneLine: String { split { $0.isWhitespace }.joined(separator: " ") }

    /// The text that HTML shows: tags removed, the common character references resolved.
    var withoutMarkup: String {
        var out = ""
        var rest = self[...]
        while let at = rest.firstIndex(where: { $0 == "<" || $0 == "&" }) {
            out += rest[..<at]
            rest = rest[at...]
            if rest.first == "<" {
                guard let close = rest.firstIndex(of: ">") else { break }
                rest = rest[rest.index(after: close)...]
            } else if let end = rest.prefix(12).firstIndex(of: ";"),
                let character = Self.character(rest[rest.index(after: at)..<end])
            {
                out.append(character)
                rest = rest[rest.index(after: end)...]
            } else {
                out.append("&")
                rest = rest.dropFirst()
            }
        }
        return out + rest
    }

    private static func character(_ name: Substring) -> Character? {
        if name.hasPrefix("#") {
            let isHex = name.hasPrefix("#x") || name.hasPrefix("#X")
            let value = UInt32(name.dropFirst(isHex ? 2 : 1), radix: isHex ? 16 : 10)
            return value.flatMap(Unicode.Scalar.init).map(Character.init)
        }
        return ["lt": "<", "gt": ">", "amp": "&", "quot": "\"", "apos": "'", "nbsp": " "][name]
    }
}
