import Wire

extension MembershipReport {
    /// Whether the IP header of `packet`, which this report was read from, is as its protocol would have it
    /// (RFC 7450 section 5.3.3.4): one hop, the Router Alert option, the destination that goes with the message, and
    /// internetwork control as precedence of IGMPv3 (RFC 9776 section 4, RFC 2236 section 2, RFC 9777 section 5, RFC 2710
    /// section 3). The source may be any.
    ///
    /// VLC leaves room for the option and leaves it blank; that passes for it.
    func hasProperHeader(_ packet: Span<UInt8>) -> Bool {
        guard let header = try? IPHeader(packet), header.hopLimit == 1, isDestination(header.destination) else {
            return false
        }
        guard header.destination.isIPv4 else { return Self.alertsRouters(hopByHop: packet) }
        guard isOldVersion || packet[1] & 0xe0 == 0xc0 else { return false }
        return Self.alertsRouters(options: packet)
    }

    private func isDestination(_ address: IPAddress) -> Bool {
        guard isOldVersion, let record = records.first else {
            return address == (family == .ipv4 ? .v4(0xe000_0016) : .v6(0xff02 << 112 | 0x16))
        }
        switch (family, record.kind) {
        case (_, .isExclude): return address == record.group
        // Old hosts send a leave to its group, which routers are to take too (RFC 2236 section 9).
        case (.ipv4, _): return address == .v4(0xe000_0002) || address == record.group
        case (.ipv6, _): return address == .v6(0xff02 << 112 | 2)
        }
    }

    /// RFC 2113 section 2.1.
    private static func alertsRouters(options packet: Span<UInt8>) -> Bool {
        var reader = ByteReader(packet.extracting(20..<(Int(packet[0] & 15) * 4)))
        if reader.remaining == 4, reader.uint32() == 0 { return true }
        reader = ByteReader(packet.extracting(20..<(Int(packet[0] & 15) * 4)))
        while let kind = reader.uint8(), kind != 0 {
            if kind == 1 { continue }
            guard let length = reader.uint8(), length >= 2 else { return false }
            if kind == 0x94, length == 4 { return reader.uint16() == 0 }
            guard reader.skip(Int(length) - 2) else { return false }
        }
        return false
    }

    /// RFC 2711 section 2.1; the value of MLD is 0.
    private static func alertsRouters(hopByHop packet: Span<UInt8>) -> Bool {
        guard packet[6] == 0 else { return false }
        var reader = ByteReader(packet.extracting(42..<(40 + 8 * (Int(packet[41]) + 1))))
        while let kind = reader.uint8() {
            if kind == 0 { continue }
            guard let length = reader.uint8() else { return false }
            if kind == 5, length == 2 { return reader.uint16() == 0 }
            guard reader.skip(Int(length)) else { return false }
        }
        return false
    }
}
