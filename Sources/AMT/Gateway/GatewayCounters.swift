/// What a gateway has seen. Plain totals.
public struct GatewayCounters: Sendable, Equatable {
    /// Relay Discoveries sent (RFC 7450 section 5.1.1).
    public var discoveriesSent: UInt64 = 0
    /// Requests sent (RFC 7450 section 5.1.3).
    public var requestsSent: UInt64 = 0
    /// Membership Updates (RFC 7450 section 5.1.5), without those sent again.
    public var updatesSent: UInt64 = 0
    /// Teardowns (RFC 7450 section 5.1.7), without those sent again.
    public var teardownsSent: UInt64 = 0
    /// Membership Queries that answer a Request of ours (RFC 7450 section 5.1.4).
    public var queriesReceived: UInt64 = 0
    /// UDP packets delivered out of the tunnel.
    public var packetsDelivered: UInt64 = 0
    /// Octets of the UDP payloads of what was delivered.
    public var octetsDelivered: UInt64 = 0
    /// Messages from others than the relay, of the wrong nonce, or that only relays get.
    public var unexpected: UInt64 = 0
    /// Data of a source or group not asked for.
    public var notSubscribed: UInt64 = 0
    /// Data whose lengths or checksums are wrong, or that is not UDP.
    public var damaged: UInt64 = 0
    /// Fragments received.
    public var fragments: UInt64 = 0
    /// Packets given up for lack of a fragment, or for fragments that do not fit together.
    public var reassemblyFailures: UInt64 = 0
    /// ICMP errors about messages of ours.
    public var notices: UInt64 = 0
    /// ICMP errors that say that a message of ours is too large for the path.
    public var tooLarge: UInt64 = 0
    /// ICMP errors about nothing that we sent: forged, or late.
    public var noticesIgnored: UInt64 = 0
    /// Times a relay was given up because the network says that it is not there.
    public var unreachable: UInt64 = 0

    /// All zero.
    public init() {}
}
