import Wire

/// How a gateway behaves.
public struct GatewayConfiguration: Sendable {
    /// Whether the address given is one to discover a relay at; else it is a relay's own (D bit of RFC 8777).
    public var discovers = true
    /// The longest time between two Requests, whatever the relay asks for: what keeps a translator's binding alive while
    /// no data comes.
    public var refreshLimit: Duration = .seconds(60)
    /// The first retransmission comes after this; later ones after up to twice as long each, until `longestRetry`
    /// (RFC 7450 sections 5.2.3.4.3 and 5.2.3.5.3).
    public var firstRetry: Duration = .seconds(1)
    public var longestRetry: Duration = .seconds(120)
    /// Unanswered Requests after which a relay is looked for anew.
    public var requestAttempts = 4
    /// Without data for this long, the relay may have forgotten the tunnel: a Request finds out. Doubles each time that
    /// no data follows.
    public var silence: Duration = .seconds(3)
    /// Whether relays are told that marks of congestion are passed on (RFC 9601). One that does not answer such a
    /// Request is asked without: Linux drops it.
    public var declaresECN = true
    /// How long a relay that served us is given to answer when the network says that it is gone.
    public var grace: Duration = .seconds(1)
    /// The shortest time between two of those graces: what forged errors can make the gateway ask.
    public var graceInterval: Duration = .seconds(10)
    /// Channels of one gateway.
    public var channelLimit = 256

    public init() {}
}

/// What a gateway has seen. Plain totals.
public struct GatewayCounters: Sendable, Equatable {
    public var discoveriesSent: UInt64 = 0
    public var requestsSent: UInt64 = 0
    public var updatesSent: UInt64 = 0
    public var teardownsSent: UInt64 = 0
    public var queriesReceived: UInt64 = 0
    /// Multicast Data delivered, and the octets of its UDP payloads.
    public var packetsDelivered: UInt64 = 0
    public var octetsDelivered: UInt64 = 0
    /// Messages from others than the relay, of the wrong nonce, or that only relays get.
    public var unexpected: UInt64 = 0
    /// Data of a source or group not asked for.
    public var notSubscribed: UInt64 = 0
    /// Data whose lengths or checksums are wrong, or that is not UDP.
    public var damaged: UInt64 = 0
    /// Fragments received, and packets given up for lack of one.
    public var fragments: UInt64 = 0
    public var reassemblyFailures: UInt64 = 0
    /// ICMP errors about messages of ours, and of those the ones that say a message was too large for the path.
    public var notices: UInt64 = 0
    public var tooLarge: UInt64 = 0
    /// ICMP errors about nothing that we sent: forged, or late.
    public var noticesIgnored: UInt64 = 0
    /// Times a relay was given up because the network says that it is not there.
    public var unreachable: UInt64 = 0

    public init() {}
}

/// Something that happened to a tunnel.
public enum GatewayEvent: Hashable, Sendable {
    /// A relay answered: its address.
    case relayFound(SocketAddress)
    /// The relay was told what is wanted; data may come.
    case joined(SocketAddress)
    /// Nobody answers, for the n-th time in a row.
    case noAnswer(attempt: Int)
    /// The relay takes no new gateways (L flag): another one would be better.
    case limited
    /// No data came for a while: the relay is asked again.
    case silent
    /// The network says that nobody is there.
    case unreachable(SocketAddress)
}

/// A UDP packet out of the tunnel.
public struct GatewayDelivery: Hashable, Sendable {
    public var source: SocketAddress
    public var group: SocketAddress
    public var ecn: ECN
    /// TTL or hop limit.
    public var hopLimit: UInt8
    /// Where the UDP payload lies in the datagram that was received.
    public var payload: Range<Int>
    /// The UDP payload, when it came in fragments; `payload` is a range of it then.
    public var reassembled: [UInt8]?
}
