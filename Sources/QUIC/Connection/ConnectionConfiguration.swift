import Wire

/// What one endpoint wants of its connections.
public struct ConnectionConfiguration: Sendable {
    /// Our transport parameters; the connection fills in the connection IDs and, at a server, the stateless reset token.
    public var parameters: TransportParameters
    /// Send a PING when nothing ack-eliciting was sent for this long; nil: never.
    public var keepAlive: Duration?
    /// The same while the peer does not answer, so that it is soon known when it is back: probes come less and less often
    /// (RFC 9002 section 6.2.1). These PINGs are held back by the congestion window as all else is. Nil: `keepAlive`.
    public var unansweredKeepAlive: Duration?
    /// How long the handshake may take.
    public var handshakeTimeout: Duration = .seconds(10)
    /// Largest UDP payload that path MTU discovery tries, in octets; 1200 tries none. More than 1452 is only tried by who
    /// has so much to send that it pays (RFC 8899).
    public var maxDatagramSize = Self.datagramSizeLimit
    /// The transport parameter whose presence in both ends' parameters, together with multipath, switches on an
    /// extension that shares server-initiated unidirectional streams between connections (Flexicast: 0xedf3).
    public var extensionParameter: UInt64?

    /// What an Ethernet packet of 9000 octets carries over IPv4. More, which only memory carries, was not quicker.
    public static let datagramSizeLimit = 8972

    /// - Parameter parameters: what to offer the peer, connection IDs left out: those the connection puts in itself.
    public init(parameters: TransportParameters = .standard) { self.parameters = parameters }
}

extension TransportParameters {
    /// Windows and limits that suit feeds, files and media.
    public static var standard: TransportParameters {
        var parameters = TransportParameters()
        parameters.maxIdleTimeout = .seconds(30)
        parameters.initialMaxData = 16 << 20
        parameters.initialMaxStreamDataBidiLocal = 4 << 20
        parameters.initialMaxStreamDataBidiRemote = 4 << 20
        parameters.initialMaxStreamDataUni = 4 << 20
        parameters.initialMaxStreamsBidi = 100
        parameters.initialMaxStreamsUni = 1024
        parameters.activeConnectionIDLimit = UInt64(RemoteConnectionIDs.limit)
        parameters.maxUDPPayloadSize = 65527
        return parameters
    }
}
