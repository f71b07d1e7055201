import Wire

/// The general query inside a Membership Query: IGMPv3 (RFC 9776 section 4.1) or MLDv2 (RFC 9777 section 5.1).
public struct GeneralQuery: Hashable, Sendable {
    /// IPv4: IGMPv3; IPv6: MLDv2.
    public var family: DataFamily
    /// By when a host shall have answered. The codes are coarse: 0.1 s and up for IGMP, 1 ms and up for MLD.
    public var maximumResponse: Duration
    /// QRV: how often a host sends each change.
    public var robustness: UInt8
    /// QQIC: time between two queries, whole seconds up to 31 744.
    public var interval: Duration

    /// `robustness`: at most 7, which is all that its field holds.
    public init(family: DataFamily, maximumResponse: Duration, robustness: UInt8, interval: Duration) {
        self.family = family
        self.maximumResponse = maximumResponse
        self.robustness = robustness
        self.interval = interval
    }

    /// An IP packet with this query, as a relay sends it (RFC 7450 section 5.3.3.3). It has the Router Alert option,
    /// without which Linux and VLC do not listen.
    public func packet(from source: IPAddress? = nil) -> [UInt8] {
        switch family {
        case .ipv4:
            [UInt8].written(capacity: 36) { writer in
                let group: IPAddress = .v4(0xe000_0001)
                IPHeader.write(
                    to: &writer, from: source ?? .v4(0), to: group, protocol: IPProtocol.igmp, payloadLength: 12,
                    hopLimit: 1, trafficClass: 0xc0, routerAlert: true)
                let code = Self.code(UInt64(max(1, maximumResponse.nanoseconds / 100_000_000)), mantissaBits: 4)
                let words: [UInt16] = [0x1100 | code, 0, 0, 0, UInt16(robustness & 7) << 8 | intervalCode, 0]
                var sum = InternetChecksum()
                for word in words { sum.add(word) }
                for (index, word) in words.enumerated() { writer.uint16(index == 1 ? sum.value : word) }
            }
        case .ipv6:
            [UInt8].written(capacity: 76) { writer in
                let group = IPAddress.v6(0xff02 << 112 | 1)
                let from = source ?? .v6(0xfe80 << 112 | 1)
                IPHeader.write(
                    to: &writer, from: from, to: group, protocol: IPProtocol.icmpv6, payloadLength: 28, hopLimit: 1,
                    routerAlert: true)
                let code = Self.code(UInt64(max(1, maximumResponse.nanoseconds / 1_000_000)), mantissaBits: 12)
                var words = [UInt16](repeating: 0, count: 14)
                words[0] = 0x8200
                words[2] = code
                words[12] = UInt16(robustness & 7) << 8 | intervalCode
                var sum = InternetChecksum(from: from, to: group, protocol: IPProtocol.icmpv6, length: 28)
                for word in words { sum.add(word) }
                words[1] = sum.value
                for word in words { writer.uint16(word) }
            }
        }
    }

    private var intervalCode: UInt16 { Self.code(UInt64(max(1, interval.components.seconds)), mantissaBits: 4) }

    /// Reads a general query of either family; nil when `packet` is anything else, a query of IGMPv2 or MLDv1, damaged, or cut
    /// short. Its source may be any (RFC 7450 sections 5.2.1 and 5.2.3.5.4).
    public init?(_ packet: Span<UInt8>) {
        guard let header = try? IPHeader(packet), header.fragment == nil else { return nil }
        let body = packet.extracting(header.payload)
        var reader = ByteReader(body)
        switch (header.destination, header.protocolNumber) {
        case (.v4, IPProtocol.igmp):
            var sum = InternetChecksum()
            sum.add(body)
            guard sum.value == 0, reader.uint8() == 0x11, let code = reader.uint8(), reader.skip(2),
                reader.uint32() == 0
            else { return nil }
            self.init(
                family: .ipv4, maximumResponse: .milliseconds(100 * Self.value(UInt64(code), mantissaBits: 4)),
                robustness: 2, interval: .seconds(125))
        case (.v6, IPProtocol.icmpv6):
            var sum = InternetChecksum(
                from: header.source, to: header.destination, protocol: IPProtocol.icmpv6, length: body.count)
            sum.add(body)
            guard sum.value == 0, reader.uint8() == 130, reader.skip(3), let code = reader.uint16(), reader.skip(2),
                reader.address6() == 0
            else { return nil }
            self.init(
                family: .ipv6, maximumResponse: .milliseconds(Self.value(UInt64(code), mantissaBits: 12)),
                robustness: 2, interval: .seconds(125))
        default: return nil
        }
        // Older queries end here (RFC 9776 section 7.1, RFC 9777 section 8.1), and of general ones no source follows.
        guard let flags = reader.uint8(), let code = reader.uint8(), let sources = reader.uint16(), sources == 0 else {
            return nil
        }
        // Zero means the defaults (RFC 9776 section 4.1.6).
        if flags & 7 != 0 { robustness = flags & 7 }
        let seconds = Self.value(UInt64(code), mantissaBits: 4)
        if seconds != 0 { interval = .seconds(seconds) }
    }

    /// Values from half the field's range on are floating point: three bits of exponent, and a mantissa with a hidden 1
    /// (RFC 9776 section 4.1.1, RFC 9777 section 5.1.3). Too large a value becomes the largest.
    static func code(_ value: UInt64, mantissaBits: UInt64) -> UInt16 {
        let limit: UInt64 = 8 << mantissaBits
        if value < limit { return UInt16(value) }
        for exponent: UInt64 in 0..<8 where value >> (exponent + 3) < 2 << mantissaBits {
            let mantissa = value >> (exponent + 3) & ((1 << mantissaBits) - 1)
            return UInt16(limit | exponent << mantissaBits | mantissa)
        }
        return UInt16(2 * limit - 1)
    }

    static func value(_ code: UInt64, mantissaBits: UInt64) -> UInt64 {
        let limit: UInt64 = 8 << mantissaBits
        if code < limit { return code }
        let exponent = code >> mantissaBits & 7
        return (code & ((1 << mantissaBits) - 1) | 1 << mantissaBits) << (exponent + 3)
    }
}
