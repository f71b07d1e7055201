import Wire

/// Why a connection ended.
public enum CloseReason: Sendable, Equatable {
    /// We closed it because of a protocol error, or with NO_ERROR.
    case local(TransportError)
    case localApplication(code: UInt64, reason: String)
    case peer(TransportError)
    case peerApplication(code: UInt64, reason: String)
    /// Nothing came for the idle timeout, or the handshake took too long (RFC 9000 section 10.1).
    case idleTimeout
    /// The peer lost its state (RFC 9000 section 10.3).
    case statelessReset
    /// The server speaks only these versions (RFC 9000 section 6).
    case versionNegotiation([UInt32])
}

extension CloseReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .local(let error): error.code == .noError ? "closed" : "closed by us, \(error)"
        case .localApplication(let code, let reason): "closed by us, application code \(code): \(reason)"
        case .peer(let error): error.code == .noError ? "closed by the peer" : "closed by the peer, \(error)"
        case .peerApplication(let code, let reason): "closed by the peer, application code \(code): \(reason)"
        case .idleTimeout: "timed out: nothing was heard from the peer"
        case .statelessReset: "the peer has lost the connection's state"
        case .versionNegotiation(let versions):
            "the server speaks only versions \(versions.map { "0x" + String($0, radix: 16) })"
        }
    }
}

/// What the shell around a `Connection` has to do or may want to know, in order.
public enum ConnectionEvent: Sendable {
    /// CRYPTO octets in order, for TLS.
    case handshakeBytes(ProtectionLevel, [UInt8])
    /// Keys of this level are no longer needed.
    case discardKeys(ProtectionLevel)
    /// The handshake is complete: streams may be opened.
    case connected
    /// RFC 9001 section 4.1.2.
    case confirmed
    /// The peer may be given this many more connection IDs: answer with `provideConnectionID`.
    case connectionIDsWanted(Int)
    /// The peer will not use this ID of ours any more.
    case connectionIDRetired(ConnectionID)
    /// For a later connection's first Initial (RFC 9000 section 8.1.3).
    case newToken([UInt8])
    /// The peer has begun a stream on which both may send.
    case streamOpened(StreamID)
    case streamReadable(StreamID)
    case streamReset(StreamID, code: UInt64)
    case streamStopped(StreamID, code: UInt64)
    /// All octets of a stream we sent are acknowledged.
    case streamSent(StreamID)
    /// Flow control or stream credit has grown.
    case writable
    case datagram([UInt8])
    case peerAddressChanged(SocketAddress)
    case closed(CloseReason)
    /// Closing or draining is over: forget the connection.
    case drained
}

/// An opened packet, as packet protection hands it to the connection.
public struct ReceivedPacket: Sendable {
    public var level: ProtectionLevel
    public var packetNumber: UInt64
    public var destination: ConnectionID
    /// From a long header.
    public var source: ConnectionID
    public var from: SocketAddress
    public var to: SocketAddress?
    public var ecn: ECN
    /// Which 1-RTT key opened it (RFC 9001 section 6).
    public var keyGeneration: UInt64
    /// Whether the header's reserved bits were zero, as they must be.
    public var reservedBitsAreZero: Bool
    /// When it arrived, if it had to wait for its keys: the wait belongs to the acknowledgement delay (RFC 9000 section 13.2.5).
    public var arrival: Instant?

    public init(
        level: ProtectionLevel, packetNumber: UInt64, destination: ConnectionID, source: ConnectionID = .empty,
        from: SocketAddress, to: SocketAddress? = nil, ecn: ECN = .notECT, keyGeneration: UInt64 = 0,
        reservedBitsAreZero: Bool = true, arrival: Instant? = nil
    ) {
        self.level = level
        self.packetNumber = packetNumber
        self.destination = destination
        self.source = source
        self.from = from
        self.to = to
        self.ecn = ecn
        self.keyGeneration = keyGeneration
        self.reservedBitsAreZero = reservedBitsAreZero
        self.arrival = arrival
    }
}

/// A datagram that was written into the send buffer, or several alike.
public struct OutgoingDatagram: Sendable, Equatable {
    /// Octets, of all of them.
    public var count: Int
    /// Octets of each, the last possibly shorter.
    public var segment: Int
    public var to: SocketAddress
    /// The local address to send from, when one is known.
    public var from: SocketAddress?
    public var ecn: ECN
    /// It may be larger than the path or the interface takes: it has to leave alone, so that nothing is lost with it.
    public var isProbe = false
}

/// Counts since the connection began.
public struct ConnectionStatistics: Sendable, Equatable {
    public var datagramsReceived: UInt64 = 0
    public var datagramsSent: UInt64 = 0
    public var octetsReceived: UInt64 = 0
    public var octetsSent: UInt64 = 0
    /// Octets of those datagrams that carried stream data.
    public var octetsSentWithStreams: UInt64 = 0
    public var packetsReceived: UInt64 = 0
    public var packetsDuplicate: UInt64 = 0
    public var packetsLost: UInt64 = 0
    public var datagramFramesDropped: UInt64 = 0
    /// DATAGRAM frames received and dropped, because as many as may waited for the application already.
    public var datagramFramesUnread: UInt64 = 0
    /// NEW_TOKEN frames dropped, because as many as may waited to be sent, or to be read.
    public var newTokensDropped: UInt64 = 0
    public var pathResponsesDropped: UInt64 = 0
    public var flowPacketsReceived: UInt64 = 0
    public var flowPacketsDuplicate: UInt64 = 0
}
