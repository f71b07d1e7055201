import QUIC
import Wire

/// What a receiver's packets said about flows, in order, between the connection that reads the packets and the
/// `FlowServer` that acts on them.
public struct ReceivedFrames: FrameExtension, Sendable {
    enum Frame: Sendable {
        case state(StateFrame)
        case acknowledgement(pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration)
    }

    /// Frames kept at once: a batch of datagrams from an honest receiver has a few.
    public static let limit = 1024

    private var frames: [Frame] = []
    private var taken = 0

    /// Nothing received yet.
    public init() {}

    /// Keeps an FC_STATE. Throws FC_PROTOCOL_VIOLATION for frames that only sources send (draft section 11), and INTERNAL_ERROR
    /// beyond `limit`.
    public mutating func frameReceived(type: UInt64, body: Span<UInt8>, at now: Instant) throws(TransportError) -> Int?
    {
        switch type {
        case FlexicastFrameType.state:
            var reader = ByteReader(body)
            try keep(.state(StateFrame(parsing: &reader)))
            return reader.offset
        // Draft sections 11.1 and 11.3: these are a source's.
        case FlexicastFrameType.announce: throw .flexicast("FC_ANNOUNCE from a receiver", frameType: type)
        case FlexicastFrameType.key: throw .flexicast("FC_KEY from a receiver", frameType: type)
        default: return nil
        }
    }

    /// Keeps a PATH_ACK. Throws INTERNAL_ERROR beyond `limit`.
    public mutating func pathAcknowledged(
        pathID: UInt64, ranges: [ClosedRange<UInt64>], ackDelay: Duration, at now: Instant
    ) throws(TransportError) {
        try keep(.acknowledgement(pathID: pathID, ranges: ranges, ackDelay: ackDelay))
    }

    /// The error for a frame that a flow may not carry (draft sections 7 and 11).
    public func forbiddenOnFlow(type: UInt64) -> TransportError { .forbiddenOnFlow(type) }

    private mutating func keep(_ frame: Frame) throws(TransportError) {
        guard frames.count < Self.limit else {
            throw TransportError(.internalError, "more than \(Self.limit) frames about flows at once")
        }
        frames.append(frame)
    }

    /// The oldest frame that was not taken yet.
    mutating func next() -> Frame? {
        guard taken < frames.count else {
            if taken > 0 { frames.removeAll(keepingCapacity: true) }
            taken = 0
            return nil
        }
        defer { taken += 1 }
        return frames[taken]
    }
}

extension TransportError {
    /// Frames of the extension never travel on a flow (draft section 11), nor does PATH_ACK (draft section 7); of QUIC's
    /// own, few do.
    static func forbiddenOnFlow(_ type: UInt64) -> TransportError {
        switch type {
        case FlexicastFrameType.announce, FlexicastFrameType.state, FlexicastFrameType.key, 0x3e, 0x3f:
            .flexicast("frame 0x\(String(type, radix: 16)) on a multicast flow", frameType: type)
        default:
            TransportError(
                .protocolViolation, "frame 0x\(String(type, radix: 16)) on a multicast flow", frameType: type)
        }
    }
}
