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
    /// The longest time between two retransmissions.
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

    /// The defaults suit a receiver on the public Internet.
    public init() {}
}
