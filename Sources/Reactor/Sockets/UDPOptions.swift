/// How a UDP socket is set up. The defaults suit a QUIC endpoint.
public struct UDPOptions: Sendable {
    /// Bind to an address that a closed socket still lingers on, and to a multicast port others have bound too.
    public var reuseAddress = false
    /// Share the port with other sockets that ask for the same; the kernel spreads unicast over them.
    public var reusePort = false
    /// Octets of the kernel's receive buffer; nil leaves the system's default, which holds three coalesced messages
    /// only. Taken past `net.core.rmem_max` where the process may, else as far as that goes.
    public var receiveBuffer: Int? = 4 << 20
    /// Octets of the kernel's send buffer, likewise bound by `net.core.wmem_max`.
    public var sendBuffer: Int? = 4 << 20
    /// Name of the interface that multicast leaves by and that link-local IPv6 destinations lie on; nil leaves it to
    /// the routing table.
    public var multicastInterface: String?
    /// TTL (hop limit) of multicast.
    public var multicastTTL: UInt8 = 1
    /// TTL (hop limit) of unicast; nil is the system's.
    public var unicastTTL: UInt8?
    /// Whether this host's own members hear what the socket sends to a group.
    public var multicastLoop = false
    /// Let the kernel coalesce received datagrams (UDP_GRO); they are handed out one by one all the same.
    public var coalesce = true
    /// Send runs of equal-sized datagrams as one segmented send (UDP_SEGMENT) where the interface takes it.
    public var segment = true
    /// On an IPv6 socket, leave IPv4 to others; false serves both.
    public var onlyIPv6 = true
    /// Set DF and ignore the cached path MTU (RFC 9000 section 14: QUIC packets must not be fragmented). Turn it off
    /// for a multicast flow that a Linux router forwards: with DF set, that router silently drops every segmented
    /// send that reaches it whole.
    public var dontFragment = true
    /// Tell the handler what ICMP says of the datagrams that were sent; else it goes unheard.
    public var receiveErrors = false
    /// Octets of the send arena, in whole chunks of 64 KiB: the bound of what waits in a blocked socket.
    public var sendArena = 1 << 20

    /// Whether to send straight from the arena, on io_uring: for a socket that sends much to few destinations. The arena
    /// is then locked in memory.
    public var zeroCopy = ZeroCopyMode.off

    /// What suits a QUIC endpoint.
    public init() {}
}
