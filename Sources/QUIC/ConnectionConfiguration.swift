import Wire

/// What one endpoint wants of its connections.
public struct ConnectionConfiguration: Sendable {
    /// Our transport parameters; the connection fills in the connection IDs and, at a server, the stateless reset token.
    public var parameters: TransportParameters
    /// Send a PING when nothing ack-eliciting was sent for this long; nil: never.
    public var keepAlive: Duration?
    /// How long the handshake may take.
    public var handshakeTimeout: Duration = .seconds(10)
    /// Largest UDP payload that path MTU discovery tries, in octets.
    public var maxDatagramSize = 1452
    /// The transport parameter whose presence in both ends' parameters, together with multipath, switches on an
    /// extension that shares server-initiated unidirectional streams between connections (Flexicast: 0xedf3).
    public var extensionParameter: UInt64?

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
