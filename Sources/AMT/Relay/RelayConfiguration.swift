import Wire

/// How a relay behaves. The defaults suit a public relay on one host.
public struct RelayConfiguration: Sendable {
    /// When Queries carry the G flag and the gateway's address, which lets gateways tear down a tunnel they left behind.
    public enum GatewayFields: String, Sendable, CaseIterable {
        /// To every gateway, as RFC 7450 section 5.3.3.3 would have it.
        case always
        /// To none.
        case never
        /// Not towards those known to drop such Queries: Linux (P at 0x80, or source port 2268) and VLC (Requests of 9
        /// octets).
        case auto
    }

    /// The address put into Relay Advertisements over IPv4; nil: the address that the Discovery was sent to. A relay that is
    /// found at an anycast address must give its own here (RFC 7450 section 5.1.2.5).
    public var advertisedIPv4: IPAddress?
    /// The same for gateways that ask over IPv6.
    public var advertisedIPv6: IPAddress?
    /// QQIC: how often gateways come again.
    public var queryInterval: Duration = .seconds(125)
    /// By when gateways answer a query (RFC 7450 section 5.3.3.3: small, since nobody else is asked).
    public var queryResponse: Duration = .milliseconds(100)
    /// QRV.
    public var robustness: UInt8 = 2
    /// How long a leave is held back: a gateway that passes on the reports of several hosts as they are, without its own
    /// state, leaves too early otherwise.
    public var leaveLatency: Duration = .zero
    /// Age at which the secret behind response MACs is replaced, at most two hours (RFC 7450 section 5.3.6).
    public var secretLifetime: Duration = .seconds(3600)
    /// How long an open tunnel accepts the MAC and nonce of its last Update again, beyond the secrets' time: for gateways that
    /// ask once and repeat what they got, such as VLC.
    public var repeatedMACLifetime: Duration = .seconds(7 * 86_400)
    /// When Queries carry the gateway's address and port (RFC 7450 section 5.1.4).
    public var gatewayFields = GatewayFields.auto
    /// Groups outside the source-specific ranges, and any-source joins of them, are served too.
    public var allowsAnySource = true

    /// Groups that gateways may ask for.
    public var groups = PrefixFilter()
    /// Sources that gateways may ask for.
    public var sources = PrefixFilter()

    /// Bits of IP packets a second that one tunnel is given at the most; nil: all there are.
    public var endpointRate: UInt64?
    /// Bits of IP packets a second that are taken of one channel at the most; nil: all there are. What one source sends
    /// too much is at no other's cost (compare draft-ietf-mboned-cbacc).
    public var channelRate: UInt64?
    /// Channels that are accounted for one by one; others are so together.
    public var namedChannelLimit = 100
    /// Tunnels at once.
    public var endpointLimit = 100_000
    /// Tunnels of one IPv4 address or IPv6 /64 at once: gateways behind one translator.
    public var endpointsPerAddressLimit = 1024
    /// Groups of one tunnel at once.
    public var groupsPerEndpointLimit = 64
    /// Sources of one group in one tunnel at once.
    public var sourcesPerGroupLimit = 64
    /// Channels of one tunnel at once.
    public var channelsPerEndpointLimit = 256
    /// Joins towards the network at once for the tunnels of one IPv4 address or IPv6 /64. A channel that several want is counted for
    /// one of them.
    public var channelsPerAddressLimit = 1024
    /// Joins towards the network at once.
    public var upstreamLimit = 4096
    /// Share of `upstreamLimit`, in percent, that is kept for addresses with fewer than `fewChannels`.
    public static let keptPercent = 25
    /// See `keptPercent`.
    public static let fewChannels = 16
    /// Requests and Discoveries per second that one tunnel is answered, and twice as many at once. Who forges its address and port
    /// can use them up, so that there are more than any gateway needs.
    public var tunnelRequestRate = 500
    /// Membership Updates per second of one tunnel that are heeded, and twice as many at once.
    public var tunnelUpdateRate = 100
    /// Requests and Discoveries per second that strangers at one address are answered.
    public var requestRate = 20
    /// Requests and Discoveries at once that strangers at one address are answered.
    public var requestBurst = 100
    /// Requests and Discoveries per second that senders without a tunnel are answered, all together: what a flood from
    /// forged addresses can make the relay do. Gateways that have a tunnel are not counted here.
    public var strangerRate = 20_000
    /// Requests and Discoveries at once that strangers are answered.
    public var strangerBurst = 2_000
    /// Places of the table that counts requests; a power of two.
    public var requestPlaces = 1 << 16
    /// Share of `endpointLimit` or `upstreamLimit`, in percent, from which new gateways are told to go elsewhere (L flag).
    public var nearlyFullPercent = 90
    /// ICMP errors in a row, without a word from the gateway between them, that end a tunnel (RFC 7450 section 5.3.3.6.4).
    public var unreachableLimit = 3
    /// Octets of the largest IP packet on every path to a gateway, outer headers included (RFC 7450 section 5.3.3.6.1); nil:
    /// that of the link which it leaves by.
    public var tunnelMTU: Int?
    /// Octets of the largest IP packet on the link that each of the relay's own addresses is on.
    public var linkMTUs: [IPAddress: Int] = [:]
    /// The same for an address that is not among them: Ethernet's.
    public static let usualMTU = 1500
    /// Whether ICMP errors lower a tunnel's MTU (RFC 7450 sections 5.3.3.6.1 and 6.1).
    public var followsPathMTU = false
    /// Octets of the IP packet below which no ICMP error lowers a tunnel's MTU (RFC 7450 section 5.3.3.6.1).
    public var minimumMTU = 1280

    /// The defaults.
    public init() {}

    /// Octets of the largest IP packet that a tunnel from `local` begins with. Unless told otherwise the path is taken to
    /// carry what its first link does (RFC 7450 section 5.3.3.6.1).
    public func pathMTU(from local: IPAddress) -> Int { tunnelMTU ?? linkMTUs[local] ?? Self.usualMTU }

    /// Group Membership Interval, and the endpoint timer (RFC 7450 section 5.3.3.7): longer than `queryInterval`.
    public var membershipInterval: Duration {
        queryInterval * Int(max(1, robustness)) + max(queryResponse, .seconds(10))
    }
}
