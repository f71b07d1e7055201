import Wire

/// What an AMTRELAY resource record says (type 260, RFC 8777 section 4.2): which relay forwards a source's packets.
public struct AMTRelayRecord: Hashable, Sendable {
    /// Where the relay is.
    public enum Relay: Hashable, Sendable {
        /// Type 0: no relay is to be used for this source.
        case none
        /// Type 1 or 2.
        case address(IPAddress)
        /// Type 3: the addresses of this name.
        case name(DomainName)
    }

    /// Records of a lower precedence are tried first.
    public var precedence: UInt8
    /// D: the relay may be sent a Request at once, without discovery.
    public var isDiscoveryOptional: Bool
    /// The fields type and relay.
    public var relay: Relay

    /// A record as a zone would have it.
    public init(precedence: UInt8, isDiscoveryOptional: Bool = false, relay: Relay) {
        self.precedence = precedence
        self.isDiscoveryOptional = isDiscoveryOptional
        self.relay = relay
    }

    /// Reads RDATA. Nil for a type above 3, for lengths that do not fit the type, and for addresses that no relay has.
    public init?(_ data: Span<UInt8>) {
        var reader = ByteReader(data)
        guard let precedence = reader.uint8(), let kind = reader.uint8() else { return nil }
        self.precedence = precedence
        isDiscoveryOptional = kind & 0x80 != 0
        switch kind & 0x7f {
        case 0: relay = .none
        case 1:
            guard let bits = reader.uint32() else { return nil }
            relay = .address(.v4(bits))
        case 2:
            guard let high = reader.uint64(), let low = reader.uint64() else { return nil }
            relay = .address(.v6(UInt128(high) << 64 | UInt128(low)))
        case 3:
            // Not compressed (RFC 8777 section 4.2.4), and the root has no address.
            guard let name = reader.domainName(compressed: false), !name.isRoot else { return nil }
            relay = .name(name)
        default: return nil
        }
        guard reader.isAtEnd else { return nil }
        if case .address(let address) = relay, !address.canBeRelay { return nil }
    }
}

extension IPAddress {
    /// Whether a relay can have this address.
    var canBeRelay: Bool { !isMulticast && !isUnspecified && self != .v4(.max) }
}
