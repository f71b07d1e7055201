import Wire

/// A domain name: labels without the root's empty one. Names that differ only in the case of ASCII letters are equal
/// (RFC 4343).
public struct DomainName: Hashable, Sendable {
    /// The most octets a name has in a message (RFC 1035 section 3.1).
    public static let octetLimit = 255

    /// The labels, letters in lower case; each has 1 to 63 octets.
    public let labels: [[UInt8]]

    private init(labels: [[UInt8]]) { self.labels = labels }

    /// Octets in a message, uncompressed.
    public var octets: Int { labels.reduce(1) { $0 + 1 + $1.count } }

    /// Whether it is the root, which has no labels.
    public var isRoot: Bool { labels.isEmpty }

    /// Reads `relay.example.net`, with or without the last dot. Escapes are not known; nil for what is no name.
    public init?(_ text: some StringProtocol) {
        var parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard !text.isEmpty else { return nil }
        if parts.last?.isEmpty == true { parts.removeLast() }
        // The root is written as its dot alone.
        if parts.count == 1, parts[0].isEmpty { parts = [] }
        let labels = parts.map { $0.map(Self.folded) }
        guard labels.allSatisfy({ (1...63).contains($0.count) }) else { return nil }
        self.init(labels: labels)
        guard octets <= Self.octetLimit else { return nil }
    }

    /// The name that stands for an address: `5.2.0.192.in-addr.arpa` (RFC 1035 section 3.5), or its 32 nibbles under
    /// `ip6.arpa` (RFC 3596 section 2.5).
    public init(reverseOf address: IPAddress) {
        switch address {
        case .v4(let bits):
            let digits = (0..<4).map { Array(String(bits >> UInt32(8 * $0) & 255).utf8) }
            self.init(labels: digits + [Array("in-addr".utf8), Array("arpa".utf8)])
        case .v6(let bits):
            let nibbles = (0..<32).map { Array(String(bits >> UInt128(4 * $0) & 15, radix: 16).utf8) }
            self.init(labels: nibbles + [Array("ip6".utf8), Array("arpa".utf8)])
        }
    }

    /// This name below `other`; nil when it would be too long.
    public func below(_ other: DomainName) -> DomainName? {
        let name = DomainName(labels: labels + other.labels)
        return name.octets <= Self.octetLimit ? name : nil
    }

    /// This name with its end `old` replaced by `new`, as a DNAME record does (RFC 6672 section 2.2); nil when it does
    /// not lie below `old`, or becomes too long.
    public func replacing(_ old: DomainName, with new: DomainName) -> DomainName? {
        guard labels.count > old.labels.count, labels.suffix(old.labels.count).elementsEqual(old.labels) else {
            return nil
        }
        return DomainName(labels: Array(labels.dropLast(old.labels.count))).below(new)
    }

    private static func folded(_ octet: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(octet) ? octet | 0x20 : octet
    }

    /// Reads the name at `offset` of a message and moves `offset` behind it. Nil, and `offset` anywhere, for what is no
    /// name. A compression pointer (RFC 1035 section 4.1.4) must lead back, so that there is no way around in circles.
    static func read(_ message: Span<UInt8>, at offset: inout Int, compressed: Bool) -> DomainName? {
        var labels: [[UInt8]] = []
        var length = 1
        var position = offset
        var lowest = offset
        var hasJumped = false
        while true {
            guard position >= 0, position < message.count else { return nil }
            let first = Int(message[position])
            switch first {
            case 0:
                if !hasJumped { offset = position + 1 }
                return DomainName(labels: labels)
            case 1...63:
                length += first + 1
                guard length <= octetLimit, position + 1 + first <= message.count else { return nil }
                labels.append((position + 1..<position + 1 + first).map { folded(message[$0]) })
                position += 1 + first
            case 0xc0...0xff:
                guard compressed, position + 1 < message.count else { return nil }
                let target = (first & 0x3f) << 8 | Int(message[position + 1])
                guard target < lowest else { return nil }
                if !hasJumped { offset = position + 2 }
                hasJumped = true
                lowest = target
                position = target
            default: return nil
            }
        }
    }

    @_lifetime(writer: copy writer)
    func write(to writer: inout ByteWriter) {
        for label in labels {
            writer.uint8(UInt8(label.count))
            writer.octets(label.span)
        }
        writer.uint8(0)
    }
}

extension DomainName: CustomStringConvertible {
    /// The name with its last dot. Octets that are no visible ASCII are decimal escapes (RFC 1035 section 5.1).
    public var description: String {
        if labels.isEmpty { return "." }
        return labels.map { label in
            label.map { octet in
                switch octet {
                case UInt8(ascii: "."), UInt8(ascii: "\\"): "\\" + String(UnicodeScalar(octet))
                case 0x21...0x7e: String(UnicodeScalar(octet))
                default: "\\" + String(repeating: "0", count: octet < 10 ? 2 : octet < 100 ? 1 : 0) + String(octet)
                }
            }.joined() + "."
        }.joined()
    }
}

extension ByteReader {
    /// The next domain name; nil, and the cursor stays, when there is none.
    @_lifetime(self: copy self)
    mutating func domainName(compressed: Bool) -> DomainName? {
        var end = offset
        guard let name = DomainName.read(bytes, at: &end, compressed: compressed), skip(end - offset) else {
            return nil
        }
        return name
    }
}
