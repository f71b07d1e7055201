import Wire

/// What the network says about a datagram that a gateway sent: an ICMP error.
public struct GatewayNotice: Hashable, Sendable {
    /// What is said.
    public enum Kind: Hashable, Sendable {
        /// Nobody is there, or a filter is before it.
        case unreachable
        /// The relay itself says that the host cannot be reached: Linux does when it takes no more gateways.
        case full
        /// The datagram was larger than the path takes.
        case tooLarge
    }

    /// What is said of the datagram.
    public var kind: Kind
    /// Where the datagram was sent to.
    public var destination: SocketAddress
    /// The message type and nonce of the datagram, where the error quotes that much of it: a router may leave out all of
    /// the payload (RFC 792).
    public var quotedNonce: (type: UInt8, nonce: UInt32)? { Self.nonce(in: quoted) }
    private var quoted: [UInt8]

    /// `quoted`: the first octets of the datagram's UDP payload, as far as they are known.
    public init(_ kind: Kind, destination: SocketAddress, quoted: [UInt8] = []) {
        self.kind = kind
        self.destination = destination
        self.quoted = quoted
    }

    private static func nonce(in quoted: [UInt8]) -> (type: UInt8, nonce: UInt32)? {
        var reader = ByteReader(quoted.span)
        // Updates and Teardowns have the response MAC before it.
        guard let type = reader.uint8(), reader.skip(type >= 5 ? 7 : 3), let nonce = reader.uint32() else { return nil }
        return (type, nonce)
    }
}
