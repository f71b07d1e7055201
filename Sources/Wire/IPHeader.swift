/// Numbers of the protocols that follow an IP header.
public enum IPProtocol {
    /// IGMP (RFC 3376).
    public static let igmp: UInt8 = 2
    /// UDP (RFC 768).
    public static let udp: UInt8 = 17
    /// ICMPv6 (RFC 4443), which MLD is part of.
    public static let icmpv6: UInt8 = 58
}

/// Why octets are no IP packet that can be used.
public enum IPError: Error, Hashable, Sendable {
    /// Fewer octets than the headers or the packet's own length ask for.
    case truncated
    /// Neither version 4 nor 6, or a header length that cannot be.
    case malformed
    /// The header checksum of IPv4 does not match.
    case checksum
}

/// An IPv4 header with its options (RFC 791 section 3.1), or an IPv6 header with its extension headers (RFC 8200).
public struct IPHeader: Hashable, Sendable {
    /// Where this packet lies in the datagram that was fragmented.
    public struct Fragment: Hashable, Sendable {
        /// The same in all fragments of a datagram; 16 bits over IPv4, 32 over IPv6.
        public var identification: UInt32
        /// Octets of the datagram's payload before this fragment's.
        public var offset: Int
        /// Whether further fragments follow.
        public var hasMore: Bool

        /// `offset`: octets, a multiple of 8.
        public init(identification: UInt32, offset: Int, hasMore: Bool) {
            self.identification = identification
            self.offset = offset
            self.hasMore = hasMore
        }
    }

    /// Who sent it, as the header says.
    public var source: IPAddress
    /// Where it goes.
    public var destination: IPAddress
    /// What follows all headers: UDP, IGMP, ….
    public var protocolNumber: UInt8
    /// The TTL or hop limit.
    public var hopLimit: UInt8
    /// The two lower bits of the traffic class, or of what was IPv4's type of service (RFC 3168).
    public var ecn: ECN
    /// Octets before the payload, options and extension headers counted in.
    public var headerLength: Int
    /// Octets of the whole packet.
    public var totalLength: Int
    /// Set when the packet is one of several fragments.
    public var fragment: Fragment?
    /// DF; always true for IPv6, which routers do not fragment.
    public var dontFragment: Bool

    /// Where the payload lies in the packet.
    public var payload: Range<Int> { headerLength..<totalLength }

    /// Extension headers followed; more is taken for an attack.
    private static let extensionLimit = 8

    /// Reads the headers at the start of `packet`, which may be longer than the packet says it is.
    /// - Throws: `IPError`. The checksum of IPv4 is checked.
    public init(_ packet: Span<UInt8>) throws(IPError) {
        guard packet.count > 0 else { throw .truncated }
        switch packet[0] >> 4 {
        case 4: self = try Self.version4(packet)
        case 6: self = try Self.version6(packet)
        default: throw .malformed
        }
    }

    private static func version4(_ packet: Span<UInt8>) throws(IPError) -> IPHeader {
        guard packet.count >= 20 else { throw .truncated }
        let length = Int(packet[0] & 15) * 4
        guard length >= 20 else { throw .malformed }
        var reader = ByteReader(packet, at: 1)
        guard let service = reader.uint8(), let total = reader.uint16(), let identification = reader.uint16(),
            let position = reader.uint16(), let hopLimit = reader.uint8(), let number = reader.uint8(),
            reader.uint16() != nil, let source = reader.uint32(), let destination = reader.uint32()
        else { throw .truncated }
        guard Int(total) >= length else { throw .malformed }
        guard Int(total) <= packet.count else { throw .truncated }
        var sum = InternetChecksum()
        sum.add(packet.extracting(0..<length))
        guard sum.value == 0 else { throw .checksum }
        var fragment: Fragment?
        if position & 0x3fff != 0 {
            fragment = Fragment(
                identification: UInt32(identification), offset: Int(position & 0x1fff) * 8,
                hasMore: position & 0x2000 != 0)
        }
        return IPHeader(
            source: .v4(source), destination: .v4(destination), protocolNumber: number, hopLimit: hopLimit,
            ecn: ECN(rawValue: service & 3) ?? .notECT, headerLength: length, totalLength: Int(total),
            fragment: fragment, dontFragment: position & 0x4000 != 0)
    }

    private static func version6(_ packet: Span<UInt8>) throws(IPError) -> IPHeader {
        var reader = ByteReader(packet)
        guard let word = reader.uint32(), let length = reader.uint16(), var next = reader.uint8(),
            let hopLimit = reader.uint8(), let source = reader.address6(), let destination = reader.address6()
        else { throw .truncated }
        let total = 40 + Int(length)
        guard total <= packet.count else { throw .truncated }
        var fragment: Fragment?
        var count = 0
        // Hop-by-hop, routing, destination options and fragment headers (RFC 8200 section 4).
        while [0, 43, 60, 44].contains(next), fragment == nil {
            count += 1
            guard count <= extensionLimit else { throw .malformed }
            let start = reader.offset
            guard let following = reader.uint8(), let size = reader.uint8() else { throw .truncated }
            if next == 44 {
                guard let position = reader.uint16(), let identification = reader.uint32() else { throw .truncated }
                if position & 0xfff9 != 0 {
                    fragment = Fragment(
                        identification: identification, offset: Int(position & 0xfff8), hasMore: position & 1 != 0)
                }
            } else {
                guard reader.skip(8 * (Int(size) + 1) - 2) else { throw .truncated }
            }
            guard reader.offset <= total, reader.offset > start else { throw .truncated }
            next = following
        }
        return IPHeader(
            source: .v6(source), destination: .v6(destination), protocolNumber: next, hopLimit: hopLimit,
            ecn: ECN(rawValue: UInt8(truncatingIfNeeded: word >> 20) & 3) ?? .notECT, headerLength: reader.offset,
            totalLength: total, fragment: fragment, dontFragment: true)
    }

    private init(
        source: IPAddress, destination: IPAddress, protocolNumber: UInt8, hopLimit: UInt8, ecn: ECN, headerLength: Int,
        totalLength: Int, fragment: Fragment?, dontFragment: Bool
    ) {
        self.source = source
        self.destination = destination
        self.protocolNumber = protocolNumber
        self.hopLimit = hopLimit
        self.ecn = ecn
        self.headerLength = headerLength
        self.totalLength = totalLength
        self.fragment = fragment
        self.dontFragment = dontFragment
    }
}

extension IPHeader {
    /// Octets that `write` needs before the payload.
    public static func length(isIPv4: Bool, routerAlert: Bool) -> Int {
        isIPv4 ? (routerAlert ? 24 : 20) : (routerAlert ? 48 : 40)
    }

    /// Writes the header of a packet with `payloadLength` octets behind it; both addresses are of one IP version.
    /// - Parameters:
    ///   - writer: must have room for `length(isIPv4:routerAlert:)` octets.
    ///   - source: who sends the packet.
    ///   - destination: where it goes.
    ///   - number: what follows, for one `IPProtocol.udp`.
    ///   - payloadLength: octets; header and payload have at most 65535 over IPv4.
    ///   - hopLimit: the TTL over IPv4.
    ///   - trafficClass: the TOS octet or traffic class, ECN counted in.
    ///   - routerAlert: adds the Router Alert option (RFC 2113, RFC 2711), as IGMP and MLD messages have it.
    ///   - identification: names the packet among those that may be fragmented; IPv4 only, like `dontFragment`.
    ///   - dontFragment: forbids routers to fragment the packet, which over IPv6 they never do.
    @_lifetime(writer: copy writer)
    public static func write(
        to writer: inout ByteWriter, from source: IPAddress, to destination: IPAddress, protocol number: UInt8,
        payloadLength: Int, hopLimit: UInt8, trafficClass: UInt8 = 0, routerAlert: Bool = false,
        identification: UInt16 = 0, dontFragment: Bool = true
    ) {
        switch (source, destination) {
        case (.v4(let source), .v4(let destination)):
            let length = length(isIPv4: true, routerAlert: routerAlert)
            let words: [UInt16] = [
                UInt16(0x40 | length / 4) << 8 | UInt16(trafficClass), UInt16(length + payloadLength),
                identification, dontFragment ? 0x4000 : 0, UInt16(hopLimit) << 8 | UInt16(number),
            ]
            var sum = InternetChecksum()
            for word in words {
                sum.add(word)
                writer.uint16(word)
            }
            sum.add(source)
            sum.add(destination)
            if routerAlert { sum.add(0x9404_0000 as UInt32) }
            writer.uint16(sum.value)
            writer.uint32(source)
            writer.uint32(destination)
            if routerAlert { writer.uint32(0x9404_0000) }
        case (.v6(let source), .v6(let destination)):
            writer.uint32(6 << 28 | UInt32(trafficClass) << 20)
            writer.uint16(UInt16(payloadLength + (routerAlert ? 8 : 0)))
            writer.uint8(routerAlert ? 0 : number)
            writer.uint8(hopLimit)
            writer.address(.v6(source))
            writer.address(.v6(destination))
            if routerAlert {
                writer.uint8(number)
                writer.bigEndian(0x00_0502_0000_0100, width: 7)
            }
        default: preconditionFailure("\(source) and \(destination) are of different IP versions")
        }
    }
}

extension ByteReader {
    /// The next sixteen octets as an IPv6 address; nil, and no move, when there are fewer.
    @_lifetime(self: copy self)
    public mutating func address6() -> UInt128? {
        guard remaining >= 16, let high = uint64(), let low = uint64() else { return nil }
        return UInt128(high) << 64 | UInt128(low)
    }
}

extension ByteWriter {
    /// The 4 or 16 octets of `address`.
    @_lifetime(self: copy self)
    public mutating func address(_ address: IPAddress) {
        switch address {
        case .v4(let bits): uint32(bits)
        case .v6(let bits):
            uint64(UInt64(truncatingIfNeeded: bits >> 64))
            uint64(UInt64(truncatingIfNeeded: bits))
        }
    }
}
