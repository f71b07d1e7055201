import Wire

/// What a protocol built on QUIC does with the frames that QUIC itself does not know, and with acknowledgements of
/// packets that did not travel on the connection's own path. `Connection` calls it while it parses a 1-RTT packet.
public protocol FrameExtension {
    /// Takes the frame whose type was just read and returns how many octets of `body` it occupies, or nil when the
    /// type is not one of the extension's or was not negotiated. `body` reaches to the end of the packet.
    /// Throws to close the connection.
    mutating func frameReceived(type: UInt64, body: Span<UInt8>, at now: Instant) throws(TransportError) -> Int?

    /// A PATH_ACK for a path other than 0 (draft-ietf-quic-multipath-21 section 4.1). `ranges` holds the acknowledged packet
    /// numbers, highest first, all below 2^62; nothing more has been checked. Throws to close the connection.
    mutating func pathAcknowledged(
        pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
    ) throws(TransportError)

    /// The error for a frame of `type` in a packet of a shared flow, where only STREAM, RESET_STREAM, DATAGRAM, PING and PADDING may be.
    func forbiddenOnFlow(type: UInt64) -> TransportError
}

extension FrameExtension {
    /// PROTOCOL_VIOLATION: what an extension that says nothing of its own answers.
    public func forbiddenOnFlow(type: UInt64) -> TransportError {
        TransportError(.protocolViolation, "frame 0x\(String(type, radix: 16)) on a shared flow", frameType: type)
    }
}

/// Plain QUIC.
public struct NoExtension: FrameExtension {
    /// An extension without a state.
    public init() {}
    /// Knows no frame: the connection closes with FRAME_ENCODING_ERROR (RFC 9000 section 12.4).
    public mutating func frameReceived(
        type: UInt64, body: Span<UInt8>, at now: Instant
    ) throws(TransportError) -> Int? { nil }
    /// Nothing is sent on other paths than the connection's own, so that nothing is acknowledged.
    public mutating func pathAcknowledged(
        pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
    ) throws(TransportError) {}
}
