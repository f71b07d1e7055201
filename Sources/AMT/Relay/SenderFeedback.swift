import Wire

/// What a relay tells the sender of packets that a tunnel does not take: ICMP "fragmentation needed" and ICMPv6 "packet too big",
/// with the size that fits (RFC 7450 sections 5.3.3.6.2.1 and 5.3.3.6.2.2).
///
/// Only in the source-specific ranges, where a group has one sender that can act on it, and few: whoever can forge a
/// source address could have them sent to others.
struct SenderFeedback: Sendable {
    /// Messages a second, and at once.
    static let rate = TokenRate(perSecond: 10, burst: 10)
    /// Octets of the packet that are quoted: the message stays below 576 octets (RFC 1812 section 4.3.2.3).
    static let quoteLimit = 528

    private var bucket = TokenBucket()

    /// The message for the sender of `packet`, of which some tunnel takes no more than `limit` octets; nil when none is due.
    /// The checksum of ICMPv6 is left to the kernel, which knows the addresses.
    mutating func tooLarge(
        _ packet: Span<UInt8>, _ header: DataHeader, limit: Int, at now: Instant
    ) -> [UInt8]? {
        guard header.dontFragment, header.group.isSourceSpecificMulticast, !header.source.isUnspecified,
            bucket.take(Self.rate, at: now)
        else { return nil }
        let quote = packet.extracting(0..<min(header.length, Self.quoteLimit))
        let isIPv4 = header.source.isIPv4
        var message = [UInt8].written(capacity: 8 + quote.count) { writer in
            writer.uint16(isIPv4 ? 0x0304 : 0x0200)
            writer.uint16(0)
            // What the tunnel takes, even below the 1280 octets of every IPv6 link, which a host may not believe
            // (RFC 7450 section 5.3.3.6.2.2, RFC 8201 section 4).
            writer.uint32(UInt32(min(limit, 65_535)))
            writer.octets(quote)
        }
        if isIPv4 {
            var sum = InternetChecksum()
            sum.add(message.span)
            message[2] = UInt8(sum.value >> 8)
            message[3] = UInt8(sum.value & 255)
        }
        return message
    }
}
