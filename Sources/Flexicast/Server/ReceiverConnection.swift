import QUIC
import Wire

/// What a `FlowServer` needs of the QUIC connection to one receiver. `Connection` is one; a test may stand in for it.
public protocol ReceiverConnection: ~Copyable {
    /// Where the receiver is, and our own address on that path once it is known.
    var remoteAddress: SocketAddress { get }
    var localAddress: SocketAddress? { get }
    /// Whether the receiver has shown that it is there (RFC 9000 section 8).
    var isRemoteAddressValidated: Bool { get }
    var peerParameters: TransportParameters? { get }
    var localParameters: TransportParameters { get }
    /// Both ends offered the extension, and multipath.
    var isExtensionNegotiated: Bool { get }

    /// Octets and unidirectional streams that the receiver's flow control still allows (RFC 9000 section 4).
    var sendCredit: UInt64 { get }
    var streamCredit: UInt64 { get }
    /// What more could be sent at once if it were asked for.
    var sendRoom: SendRoom { get }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64)
    /// See `Connection.sendStreamRange`.
    mutating func sendStreamRange(
        _ id: StreamID, _ octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool)
    /// See `Connection.sendDatagram`.
    mutating func sendDatagram(_ bytes: [UInt8]) -> Bool
    mutating func chargeExternal(octets: UInt64, streams count: UInt64)
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID
    /// See `Connection.read`.
    mutating func read(_ id: StreamID) -> StreamChunk?
    /// Octets written to the stream that are not acknowledged.
    func heldOctets(of id: StreamID) -> Int
    mutating func write(_ id: StreamID, _ octets: StreamOctets, fin: Bool) throws(StreamError)
    /// See `Connection.reset`.
    mutating func reset(_ id: StreamID, code: UInt64)
    mutating func close(_ error: TransportError, at now: Instant)
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant)
}

extension Connection: ReceiverConnection {}
