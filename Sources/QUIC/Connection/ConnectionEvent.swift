import Wire

/// Why a connection ended.
public enum CloseReason: Sendable, Equatable {
    /// We closed it because of a protocol error, or with NO_ERROR.
    case local(TransportError)
    /// We closed it with a code of the application's.
    case localApplication(code: UInt64, reason: String)
    /// The peer closed it because of a protocol error, or with NO_ERROR (CONNECTION_CLOSE of type 0x1c, RFC 9000 section 19.19).
    case peer(TransportError)
    /// The peer's application closed it (CONNECTION_CLOSE of type 0x1d).
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
    /// The peer has completed the handshake too: it is confirmed (RFC 9001 section 4.1.2).
    case confirmed
    /// The peer may be given this many more connection IDs: answer with `provideConnectionID`.
    case connectionIDsWanted(Int)
    /// The peer will not use this ID of ours any more.
    case connectionIDRetired(ConnectionID)
    /// For a later connection's first Initial (RFC 9000 section 8.1.3).
    case newToken([UInt8])
    /// The peer has begun a stream on which both may send.
    case streamOpened(StreamID)
    /// Octets of this stream can be read, or its end: `read` or `gather`. It comes once until they are taken.
    case streamReadable(StreamID)
    /// The peer has given up sending on this stream, with its application's code (RESET_STREAM). What was not read is gone.
    case streamReset(StreamID, code: UInt64)
    /// The peer reads this stream no more, for its application's reason (STOP_SENDING). It has been reset with the same code.
    case streamStopped(StreamID, code: UInt64)
    /// All octets of a stream we sent are acknowledged.
    case streamSent(StreamID)
    /// Flow control or stream credit has grown.
    case writable
    /// A DATAGRAM frame's octets (RFC 9221), and which way they came.
    case datagram([UInt8], StreamOrigin)
    /// The peer has another address, which is validated first (RFC 9000 section 9).
    case peerAddressChanged(SocketAddress)
    /// The peer will not use this path any more, and we have said the same; it is not path 0, but a flow's.
    case pathAbandoned(UInt64)
    /// The connection has ended, at either end, and takes and brings nothing more. `drained` follows, at once or in a while.
    case closed(CloseReason)
    /// Closing or draining is over: forget the connection.
    case drained
}

/// An opened packet, as packet protection hands it to the connection.
public struct ReceivedPacket: Sendable {
    /// Whose keys opened it.
    public var level: ProtectionLevel
    /// Whole, as it was restored from the 1 to 4 octets that travel (RFC 9000 section 17.1).
    public var packetNumber: UInt64
    /// The destination ID in its header: one of ours, or the one that a client's first Initial made up.
    public var destination: ConnectionID
    /// From a long header.
    public var source: ConnectionID
    /// The address that its datagram came from.
    public var from: SocketAddress
    /// Our address that it was sent to; nil when the socket did not say.
    public var to: SocketAddress?
    /// The ECN field of its datagram (RFC 9000 section 13.4).
    public var ecn: ECN
    /// Which 1-RTT key opened it (RFC 9001 section 6).
    public var keyGeneration: UInt64
    /// Whether the header's reserved bits were zero, as they must be.
    public var reservedBitsAreZero: Bool
    /// When it arrived, if it had to wait for its keys: the wait belongs to the acknowledgement delay (RFC 9000 section 13.2.5).
    public var arrival: Instant?

    /// A packet as it was opened. The defaults are those of a short header, in a datagram of which the socket says no more than
    /// who sent it.
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
    /// The peer's address.
    public var to: SocketAddress
    /// The local address to send from, when one is known.
    public var from: SocketAddress?
    /// The ECN field to send with (RFC 9000 section 13.4).
    public var ecn: ECN
    /// It may be larger than the path or the interface takes: it has to leave alone, so that nothing is lost with it.
    public var isProbe = false
}

/// Counts since the connection began.
public struct ConnectionStatistics: Sendable, Equatable {
    /// UDP datagrams that came, also those of which no packet could be opened.
    public var datagramsReceived: UInt64 = 0
    /// UDP datagrams written into the send buffer.
    public var datagramsSent: UInt64 = 0
    /// Octets of the UDP payloads that came.
    public var octetsReceived: UInt64 = 0
    /// Octets of UDP payloads sent.
    public var octetsSent: UInt64 = 0
    /// Octets of those datagrams that carried stream data or DATAGRAM frames.
    public var octetsSentWithStreams: UInt64 = 0
    /// Packets opened and not seen before; those of flows are `flowPacketsReceived`.
    public var packetsReceived: UInt64 = 0
    /// Packets opened whose number had come before.
    var packetsDuplicate: UInt64 = 0
    /// Packets taken for lost (RFC 9002 section 6.1); some may turn out to have been only late.
    public var packetsLost: UInt64 = 0
    /// DATAGRAM frames not queued, because the peer takes none of that size.
    public var datagramFramesRefused: UInt64 = 0
    /// DATAGRAM frames not sent, because too many waited.
    public var datagramFramesDropped: UInt64 = 0
    /// DATAGRAM frames received and dropped, because as many as may waited for the application already.
    public var datagramFramesUnread: UInt64 = 0
    /// NEW_TOKEN frames dropped, because as many as may waited to be sent, or to be read.
    public var newTokensDropped: UInt64 = 0
    /// PATH_CHALLENGE frames not answered: too many answers waited, or too few octets had come for one (RFC 9000 section 8.1).
    public var pathResponsesDropped: UInt64 = 0
    /// Packets of flows whose numbers were new.
    public var flowPacketsReceived: UInt64 = 0
    /// Packets of flows whose numbers had come before.
    var flowPacketsDuplicate: UInt64 = 0
}
