/// What a relay has seen. Plain totals.
public struct RelayCounters: Sendable, Equatable {
    /// Relay Discoveries (RFC 7450 section 5.1.1).
    public var discoveries: UInt64 = 0
    /// Requests (RFC 7450 section 5.1.3).
    public var requests: UInt64 = 0
    /// Membership Updates (RFC 7450 section 5.1.5).
    public var updates: UInt64 = 0
    /// Teardowns (RFC 7450 section 5.1.7).
    public var teardowns: UInt64 = 0
    /// Messages that only gateways should get, of unknown type or version, or too short.
    public var unexpected: UInt64 = 0
    /// Discoveries and Requests not answered, and Updates not heeded, because of the rate of their sender, or of all strangers.
    public var rateLimited: UInt64 = 0
    /// Updates and Teardowns whose MAC is not ours: forged, or of a secret long gone.
    public var invalidMAC: UInt64 = 0
    /// Updates whose report is damaged or none.
    public var invalidReports: UInt64 = 0
    /// Records of groups that are not forwarded: link-local, not multicast, or any-source where that is not allowed.
    public var ignoredRecords: UInt64 = 0
    /// Sources in records that cannot be or may not be asked for.
    public var ignoredSources: UInt64 = 0
    /// Tunnels refused because there are too many in all, or of one address.
    public var refusedEndpoints: UInt64 = 0
    /// Groups or sources refused because the tunnel, or the relay, has too many.
    public var refusedJoins: UInt64 = 0
    /// Tunnels opened.
    public var endpointsOpened: UInt64 = 0
    /// Tunnels ended because no Update came in time (RFC 7450 section 5.3.3.7).
    public var endpointsExpired: UInt64 = 0
    /// Tunnels ended by a Teardown (RFC 7450 section 5.3.3.5).
    public var endpointsTornDown: UInt64 = 0
    /// Tunnels ended because the network says that the gateway is not there (RFC 7450 section 5.3.3.6.4).
    public var endpointsUnreachable: UInt64 = 0
    /// ICMP errors about open tunnels.
    public var notices: UInt64 = 0

    /// All zero.
    public init() {}
}

/// What a relay has forwarded. Plain totals.
public struct ForwardingCounters: Sendable, Equatable {
    /// Multicast packets captured that might be forwarded.
    public var packetsIn: UInt64 = 0
    /// Copies sent into tunnels.
    public var packetsOut: UInt64 = 0
    /// Octets of the AMT messages of those copies.
    public var octetsOut: UInt64 = 0
    /// Packets captured that no gateway asked for.
    public var unwanted: UInt64 = 0
    /// Copies not sent because the tunnel cannot carry them and they must not be fragmented.
    public var tooLarge: UInt64 = 0
    /// ICMP messages that told a sender what size fits (RFC 7450 section 5.3.3.6.2).
    public var tooLargeTold: UInt64 = 0
    /// Packets for their own link only: no hop is left to take.
    public var expired: UInt64 = 0
    /// Copies not sent because their tunnel had had its rate.
    public var overRate: UInt64 = 0
    /// Packets not forwarded because their channel had had its rate.
    public var overChannelRate: UInt64 = 0
    /// Copies not sent because the send queue was full.
    public var queueFull: UInt64 = 0
    /// Packets that are no sound multicast packets.
    public var damaged: UInt64 = 0

    /// All zero.
    public init() {}
}
