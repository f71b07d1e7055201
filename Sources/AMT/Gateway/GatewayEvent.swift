import Wire

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
