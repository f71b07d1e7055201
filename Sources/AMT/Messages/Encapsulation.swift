import Wire

// What a relay does to multicast packets on their way into tunnels. It is a router, so that a packet has one hop less
// when it leaves; its mark stays. Only packets that do not fit the tunnel, and those that a sender's kernel has not made
// final yet, are made anew here.

/// What forwarding needs to know of a packet.
public struct DataHeader: Hashable, Sendable {
    /// Who sent the packet, by its IP header.
    public var source: IPAddress
    /// The destination: a multicast address beyond the link.
    public var group: IPAddress
    /// Octets of the packet; there may be padding behind it.
    public var length: Int
    /// A router must not make fragments of it: DF, or IPv6.
    public var dontFragment: Bool
    /// TTL or hop limit.
    public var hopLimit: UInt8
    /// The mark of congestion (RFC 3168 section 5).
    public var ecn: ECN

    /// nil when `packet` is no multicast packet that may leave its link, or is cut short: relays ignore it
    /// (RFC 7450 section 5.3.3.6). Checksums are the receivers' matter.
    @inline(always)
    public init?(_ packet: Span<UInt8>) {
        guard packet.count >= 20 else { return nil }
        switch packet[0] >> 4 {
        case 4:
            // Of a known size, so that no index is checked and a word is one load.
            let head = packet.extracting(first: 20)
            length = Int(head[2]) << 8 | Int(head[3])
            guard length >= 20, length <= packet.count else { return nil }
            let from = UInt32(head[12]) << 24 | UInt32(head[13]) << 16 | UInt32(head[14]) << 8 | UInt32(head[15])
            let to = UInt32(head[16]) << 24 | UInt32(head[17]) << 16 | UInt32(head[18]) << 8 | UInt32(head[19])
            (source, group) = (.v4(from), .v4(to))
            dontFragment = head[6] & 0x40 != 0
            hopLimit = head[8]
            ecn = ECN(rawValue: packet[1] & 3) ?? .notECT
        case 6:
            var reader = ByteReader(packet, at: 4)
            guard let payload = reader.uint16(), 40 + Int(payload) <= packet.count, reader.skip(1),
                let hops = reader.uint8(), let from = reader.address6(), let to = reader.address6()
            else { return nil }
            (source, group) = (.v6(from), .v6(to))
            length = 40 + Int(payload)
            dontFragment = true
            hopLimit = hops
            ecn = ECN(rawValue: packet[1] >> 4 & 3) ?? .notECT
        default: return nil
        }
        guard group.isMulticast, !group.isLinkLocalGroup else { return nil }
    }
}

/// Takes a hop from a packet that has one left to give (RFC 1812 section 5.3.1): a packet with one hop left is for its
/// own link. The header checksum of IPv4 follows (RFC 1624).
@inline(always)
public func takeHop(from packet: inout MutableSpan<UInt8>) {
    guard packet[0] >> 4 == 4 else {
        packet[7] &-= 1
        return
    }
    packet[8] &-= 1
    let sum = (UInt32(packet[10]) << 8 | UInt32(packet[11])) + 0x100
    let folded = (sum & 0xffff) + sum >> 16
    packet[10] = UInt8(truncatingIfNeeded: folded >> 8)
    packet[11] = UInt8(truncatingIfNeeded: folded)
}

/// Octets of outer headers: IP, UDP and AMT's own (RFC 7450 section 5.3.3.6.1).
public func tunnelOverhead(outerIPv4: Bool) -> Int {
    (outerIPv4 ? 20 : 40) + UDPHeader.length + Message.dataHeaderLength
}

/// The UDP packets that a sender on this machine handed to its kernel as one segmented send (UDP_SEGMENT): each with
/// `segment` octets of payload, the last possibly fewer, and with its own lengths and checksums. Nil when `packet` is no
/// such thing.
public func splitSegments(_ packet: Span<UInt8>, segment: Int) -> [[UInt8]]? {
    guard segment > 0, let header = try? IPHeader(packet), header.protocolNumber == IPProtocol.udp,
        header.fragment == nil, header.totalLength - header.headerLength >= UDPHeader.length
    else { return nil }
    let start = header.headerLength + UDPHeader.length
    var packets: [[UInt8]] = []
    for offset in stride(from: start, to: header.totalLength, by: segment) {
        let count = min(segment, header.totalLength - offset)
        var octets = [UInt8](packet.extracting(0..<start))
        octets.append(packet.extracting(offset..<(offset + count)))
        put(UInt16(UDPHeader.length + count), into: &octets, at: header.headerLength + 4)
        put(0, into: &octets, at: header.headerLength + 6)
        let sum = UDPHeader.checksum(
            octets.span.extracting(header.headerLength..<octets.count), from: header.source, to: header.destination)
        put(sum, into: &octets, at: header.headerLength + 6)
        if header.source.isIPv4 {
            let identification = UInt16(octets[4]) << 8 | UInt16(octets[5])
            put(UInt16(octets.count), into: &octets, at: 2)
            put(identification &+ UInt16(truncatingIfNeeded: packets.count), into: &octets, at: 4)
            sealHeader(&octets, length: header.headerLength)
        } else {
            put(UInt16(octets.count - 40), into: &octets, at: 4)
        }
        packets.append(octets)
    }
    return packets
}

/// The fragments of an IPv4 `packet` that are at most `limit` octets each (RFC 791 section 3.2); nil when it must not be
/// fragmented or is no sound packet.
public func fragments(_ packet: Span<UInt8>, limit: Int) -> [[UInt8]]? {
    guard let header = try? IPHeader(packet), header.source.isIPv4, !header.dontFragment else { return nil }
    // Options that are not copied into every fragment are rare enough to be left in all of them.
    let room = (limit - header.headerLength) / 8 * 8
    guard room >= 8 else { return nil }
    let before = header.fragment?.offset ?? 0
    guard before + header.payload.count <= 65_535 else { return nil }
    var packets: [[UInt8]] = []
    for offset in stride(from: header.headerLength, to: header.totalLength, by: room) {
        let count = min(room, header.totalLength - offset)
        let isLast = offset + count == header.totalLength && !(header.fragment?.hasMore ?? false)
        var octets = [UInt8](packet.extracting(0..<header.headerLength))
        octets.append(packet.extracting(offset..<(offset + count)))
        put(UInt16(octets.count), into: &octets, at: 2)
        put(UInt16((before + offset - header.headerLength) / 8) | (isLast ? 0 : 0x2000), into: &octets, at: 6)
        sealHeader(&octets, length: header.headerLength)
        packets.append(octets)
    }
    return packets
}

private func put(_ value: UInt16, into octets: inout [UInt8], at offset: Int) {
    octets[offset] = UInt8(value >> 8)
    octets[offset + 1] = UInt8(value & 255)
}

private func sealHeader(_ octets: inout [UInt8], length: Int) {
    put(0, into: &octets, at: 10)
    var sum = InternetChecksum()
    sum.add(octets.span.extracting(0..<length))
    put(sum.value, into: &octets, at: 10)
}

/// A UDP packet made again from what survived of it. Routers may fragment it.
/// `identification`: names it among packets that may be fragmented; IPv4 only.
public func udpPacket(
    _ payload: Span<UInt8>, from source: SocketAddress, to group: SocketAddress, hopLimit: UInt8, ecn: ECN,
    identification: UInt16
) -> [UInt8] {
    let length = UDPHeader.length + payload.count
    var bytes = [UInt8](repeating: 0, count: (group.address.isIPv4 ? 20 : 40) + length)
    let start = bytes.count - length
    do {
        var span = bytes.mutableSpan
        var writer = ByteWriter(&span)
        IPHeader.write(
            to: &writer, from: source.address, to: group.address, protocol: IPProtocol.udp, payloadLength: length,
            hopLimit: hopLimit, trafficClass: ecn.rawValue, identification: identification, dontFragment: false)
        writer.uint16(source.port)
        writer.uint16(group.port)
        writer.uint16(UInt16(length))
        writer.uint16(0)
        writer.octets(payload)
    }
    let sum = UDPHeader.checksum(bytes.span.extracting(start..<bytes.count), from: source.address, to: group.address)
    put(sum, into: &bytes, at: start + 6)
    return bytes
}
