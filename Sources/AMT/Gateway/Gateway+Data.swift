import Wire

/// A UDP packet out of the tunnel.
public struct GatewayDelivery: Hashable, Sendable {
    /// Who sent the packet, by the headers inside the tunnel.
    public var source: SocketAddress
    /// Its group and port.
    public var group: SocketAddress
    /// The mark that counts after the tunnel (RFC 6040 section 4.2).
    public var ecn: ECN
    /// TTL or hop limit.
    public var hopLimit: UInt8
    /// Where the UDP payload lies in the datagram that was received.
    public var payload: Range<Int>
    /// The UDP payload, when it came in fragments; `payload` is a range of it then.
    public var reassembled: [UInt8]?
}

// What comes out of the tunnel (RFC 7450 section 5.2.3.3), and whether it is sound.
extension Gateway {
    mutating func dataReceived(_ bytes: Span<UInt8>, outer: ECN, at now: Instant) -> GatewayDelivery? {
        let packet = bytes.extracting(Message.dataHeaderLength..<bytes.count)
        guard let header = try? IPHeader(packet), header.destination.isMulticast else {
            counters.damaged += 1
            return nil
        }
        guard
            channels.contains(where: { $0.group == header.destination && ($0.source ?? header.source) == header.source }
            )
        else {
            counters.notSubscribed += 1
            return nil
        }
        // Whatever is wrong with it: the tunnel works.
        trust()
        silentAt = now + configuration.silence
        silence = configuration.silence
        guard header.protocolNumber == IPProtocol.udp, let ecn = Self.combined(header.ecn, outer: outer) else {
            counters.damaged += 1
            return nil
        }
        if header.fragment != nil {
            counters.fragments += 1
            let whole = reassembly.add(header, packet.extracting(header.payload), at: now)
            counters.reassemblyFailures = reassembly.dropped
            guard let whole else { return nil }
            return deliver(whole.span, at: 0, header, ecn, reassembled: whole)
        }
        return deliver(
            packet.extracting(header.payload), at: Message.dataHeaderLength + header.headerLength, header, ecn,
            reassembled: nil)
    }

    private mutating func deliver(
        _ datagram: Span<UInt8>, at offset: Int, _ header: IPHeader, _ ecn: ECN, reassembled: [UInt8]?
    ) -> GatewayDelivery? {
        guard let udp = UDPHeader(datagram), udp.isIntact(datagram, from: header.source, to: header.destination) else {
            counters.damaged += 1
            return nil
        }
        counters.packetsDelivered += 1
        counters.octetsDelivered += UInt64(udp.length - UDPHeader.length)
        return GatewayDelivery(
            source: SocketAddress(header.source, port: udp.sourcePort),
            group: SocketAddress(header.destination, port: udp.destinationPort), ecn: ecn,
            hopLimit: header.hopLimit, payload: (offset + UDPHeader.length)..<(offset + udp.length),
            reassembled: reassembled)
    }

    /// The mark that counts after the tunnel (RFC 6040 section 4.2); nil: congestion that the sender cannot be told of,
    /// so that the packet is dropped.
    static func combined(_ inner: ECN, outer: ECN) -> ECN? {
        switch (inner, outer) {
        case (.notECT, .ce): nil
        case (.notECT, _), (.ce, _): inner
        case (_, .ce): .ce
        case (.ect0, .ect1): .ect1
        default: inner
        }
    }
}
