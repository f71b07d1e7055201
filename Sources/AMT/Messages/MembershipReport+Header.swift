import Wire

extension MembershipReport {
    /// Whether the IP header of `packet`, which this report was read from, is one of a report (RFC 7450 section 5.3.3.4): one
    /// hop, and the destination that goes with the message (RFC 9776 section 4.2.14, RFC 2236 section 9, RFC 9777 section
    /// 5.2.14, RFC 2710 section 3), or one of the groups. The source may be any.
    ///
    /// What the protocols say of Router Alert and precedence is for routers on the way, of which a tunnel has none, and gateways
    /// in use differ: some leave the option blank, or pass on what hosts sent without.
    func hasProperHeader(_ packet: Span<UInt8>) -> Bool {
        guard let header = try? IPHeader(packet), header.hopLimit == 1 else { return false }
        return routers.contains(header.destination) || records.contains { $0.group == header.destination }
    }

    /// Where reports of this kind go, if not to their group.
    private var routers: [IPAddress] {
        switch (isOldVersion, family) {
        case (false, .ipv4): [.v4(0xe000_0016)]
        case (false, .ipv6): [.v6(0xff02 << 112 | 0x16)]
        case (true, _) where records.first?.kind == .isExclude: []
        case (true, .ipv4): [.v4(0xe000_0002)]
        case (true, .ipv6): [.v6(0xff02 << 112 | 2)]
        }
    }
}
