import Wire

/// What the network says about a packet into a tunnel: an ICMP error (RFC 792, RFC 4443). It may be forged by anybody who
/// can guess the ports, so that it takes several to end a tunnel, and a lower MTU has a floor.
public struct TunnelNotice: Hashable, Sendable {
    /// What is said.
    public enum Kind: Hashable, Sendable {
        /// Nobody is there, or a filter is before it.
        case unreachable
        /// The largest IP packet that gets through.
        case tooLarge(mtu: Int)
    }

    /// What is said of the packet.
    public var kind: Kind
    /// Where the packet came from.
    public var relay: SocketAddress
    /// Where the packet went to.
    public var gateway: SocketAddress

    /// Reads what a raw ICMP socket delivers: with the IP header for IPv4, without for IPv6. Nil when it is no error
    /// about a UDP packet.
    public init?(_ octets: Span<UInt8>, isIPv4: Bool) {
        var reader = ByteReader(octets)
        if isIPv4 {
            guard let header = try? IPHeader(octets), header.protocolNumber == 1, header.fragment == nil,
                reader.skip(header.headerLength)
            else { return nil }
        }
        guard let type = reader.uint8(), let code = reader.uint8(), reader.skip(2), let parameter = reader.uint32()
        else { return nil }
        switch (isIPv4, type, code) {
        case (true, 3, 4): kind = .tooLarge(mtu: Int(parameter & 0xffff))
        case (true, 3, _), (false, 1, _): kind = .unreachable
        case (false, 2, _): kind = .tooLarge(mtu: Int(parameter))
        default: return nil
        }
        // The packet that caused it, cut short after its first octets.
        let source: IPAddress
        let destination: IPAddress
        if isIPv4 {
            guard let first = reader.uint8(), first >> 4 == 4, first & 15 >= 5, reader.skip(8),
                reader.uint8() == IPProtocol.udp,
                reader.skip(2), let from = reader.uint32(), let to = reader.uint32(),
                reader.skip(4 * Int(first & 15) - 20)
            else { return nil }
            (source, destination) = (.v4(from), .v4(to))
        } else {
            guard let first = reader.uint8(), first >> 4 == 6, reader.skip(5), reader.uint8() == IPProtocol.udp,
                reader.skip(1), let from = reader.address6(), let to = reader.address6()
            else { return nil }
            (source, destination) = (.v6(from), .v6(to))
        }
        guard let from = reader.uint16(), let to = reader.uint16() else { return nil }
        relay = SocketAddress(source, port: from)
        gateway = SocketAddress(destination, port: to)
    }
}
