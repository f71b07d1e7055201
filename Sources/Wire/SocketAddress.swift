/// An IPv4 or IPv6 address.
public enum IPAddress: Hashable, Sendable {
    /// The 32-bit address, its first octet most significant.
    case v4(UInt32)
    /// The 128-bit address, its first octet most significant.
    case v6(UInt128)

    /// Whether it is of IPv4, not of IPv6.
    public var isIPv4: Bool { if case .v4 = self { true } else { false } }

    /// Whether every bit is zero: "any" when bound to, "withdrawn" in an FC_ANNOUNCE.
    public var isUnspecified: Bool {
        switch self {
        case .v4(let bits): bits == 0
        case .v6(let bits): bits == 0
        }
    }

    /// 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291 section 2.7).
    public var isMulticast: Bool {
        switch self {
        case .v4(let bits): bits >> 28 == 0xe
        case .v6(let bits): bits >> 120 == 0xff
        }
    }

    /// 232.0.0.0/8 or ff3x::/32, the ranges reserved for source-specific multicast (RFC 4607 section 1).
    public var isSourceSpecificMulticast: Bool {
        switch self {
        case .v4(let bits): bits >> 24 == 232
        case .v6(let bits): bits >> 116 == 0xff3 && (bits >> 96) & 0xffff == 0
        }
    }

    /// 127.0.0.0/8 or ::1.
    public var isLoopback: Bool {
        switch self {
        case .v4(let bits): bits >> 24 == 127
        case .v6(let bits): bits == 1
        }
    }

    /// The IPv4 address inside an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2), else the address itself.
    public var unmapped: IPAddress {
        if case .v6(let bits) = self, bits >> 32 == 0xffff { .v4(UInt32(truncatingIfNeeded: bits)) } else { self }
    }

    /// Parses `192.0.2.1` or `2001:db8::1`; nil when `text` is neither. Scope suffixes are not part of an address.
    public init?(_ text: some StringProtocol) {
        if text.contains(":") {
            guard let bits = Self.parseIPv6(text) else { return nil }
            self = .v6(bits)
        } else {
            guard let bits = Self.parseIPv4(text) else { return nil }
            self = .v4(bits)
        }
    }

    private static func parseIPv4(_ text: some StringProtocol) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bits: UInt32 = 0
        for part in parts {
            // "010" is refused: some readers would take it as octal.
            guard part.count <= 3, part.allSatisfy({ $0.isASCII && $0.isNumber }), let octet = UInt8(part),
                part.count == 1 || part.first != "0"
            else { return nil }
            bits = bits << 8 | UInt32(octet)
        }
        return bits
    }

    private static func parseIPv6(_ text: some StringProtocol) -> UInt128? {
        var halves: [[UInt16]] = [[]]
        var rest = Substring(text)
        if rest.hasPrefix("::") {
            halves.append([])
            rest = rest.dropFirst(2)
        }
        while !rest.isEmpty {
            let piece = rest.prefix { $0 != ":" }
            rest = rest.dropFirst(piece.count)
            if piece.contains(".") {
                guard rest.isEmpty, let v4 = parseIPv4(piece) else { return nil }
                halves[halves.count - 1] += [UInt16(v4 >> 16), UInt16(truncatingIfNeeded: v4)]
                break
            }
            guard (1...4).contains(piece.count), piece.allSatisfy(\.isHexDigit), let group = UInt16(piece, radix: 16)
            else { return nil }
            halves[halves.count - 1].append(group)
            if rest.hasPrefix("::") {
                guard halves.count == 1 else { return nil }
                halves.append([])
                rest = rest.dropFirst(2)
            } else if rest.hasPrefix(":") {
                rest = rest.dropFirst()
                if rest.isEmpty { return nil }
            }
        }
        let count = halves.reduce(0) { $0 + $1.count }
        guard halves.count == 1 ? count == 8 : count <= 7 else { return nil }
        let groups =
            halves.count == 1
            ? halves[0] : halves[0] + [UInt16](repeating: 0, count: 8 - count) + halves[1]
        return groups.reduce(0) { $0 << 16 | UInt128($1) }
    }
}

extension IPAddress: CustomStringConvertible {
    /// Dotted decimal, or the canonical IPv6 form (RFC 5952).
    public var description: String {
        switch self {
        case .v4(let bits):
            return "\(bits >> 24).\(bits >> 16 & 255).\(bits >> 8 & 255).\(bits & 255)"
        case .v6(let bits):
            if bits >> 32 == 0xffff, case let v4 = self.unmapped { return "::ffff:\(v4)" }
            let groups = (0..<8).map { UInt16(truncatingIfNeeded: bits >> UInt128(112 - 16 * $0)) }
            // The longest run of at least two zero groups, the first of equals, becomes "::".
            var best = 0..<0
            var start = 0
            while start < 8 {
                guard groups[start] == 0 else {
                    start += 1
                    continue
                }
                var end = start
                while end < 8, groups[end] == 0 { end += 1 }
                if end - start > max(best.count, 1) { best = start..<end }
                start = end
            }
            let text = { (range: Range<Int>) in range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
            return best.isEmpty ? text(0..<8) : text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
        }
    }
}

/// An IP address and a UDP port.
public struct SocketAddress: Hashable, Sendable {
    /// The address of the host, or of the group.
    public var address: IPAddress
    /// The UDP port, 0 to 65535; 0 is "any" when bound to.
    public var port: UInt16

    /// `port`: the UDP port; 0 is "any" when bound to.
    public init(_ address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// Parses `192.0.2.1:443` or `[2001:db8::1]:443`; nil when `text` is neither.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        guard let address = IPAddress(host) else { return nil }
        self.init(address, port: port)
    }
}

extension SocketAddress: CustomStringConvertible {
    public var description: String {
        address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}
