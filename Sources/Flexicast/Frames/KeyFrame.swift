import QUIC
import Wire

/// FC_KEY (draft section 11.3), source to receiver: a traffic secret of the flow, from which both ends derive
/// "quic key", "quic iv" and "quic hp" (RFC 9001 section 5.1).
public struct KeyFrame: Hashable, Sendable {
    /// The flow whose packets are sealed with keys of this secret.
    public var flowID: FlowID
    /// Orders the FC_KEY frames of this flow on this connection.
    public var sequence: UInt64
    /// The first packet number that the receiver has to take with this key.
    public var packetNumber: UInt64
    /// What the packets are sealed with; its TLS code point is the frame's Algorithm.
    public var suite: CipherSuite
    /// `suite.secretLength` octets.
    public var secret: [UInt8]

    /// `secret`: must have `suite.secretLength` octets before it is sent.
    public init(flowID: FlowID, sequence: UInt64, packetNumber: UInt64, suite: CipherSuite, secret: [UInt8]) {
        self.flowID = flowID
        self.sequence = sequence
        self.packetNumber = packetNumber
        self.suite = suite
        self.secret = secret
    }

    /// Reads the frame after its type. Throws FRAME_ENCODING_ERROR, or FC_PROTOCOL_VIOLATION for an algorithm that
    /// is not one of the three of `CipherSuite` or a key of another length than its hash.
    @_lifetime(reader: copy reader)
    public init(parsing reader: inout ByteReader) throws(TransportError) {
        let type = FlexicastFrameType.key
        flowID = try reader.flowID(frameType: type)
        guard let sequence = reader.varint(), let packetNumber = reader.varint(), let length = reader.varint(),
            let secret = reader.array(Int(clamping: length)), let algorithm = reader.uint64()
        else { throw .encoding("FC_KEY is truncated", frameType: type) }
        guard let code = UInt16(exactly: algorithm), let suite = CipherSuite(rawValue: code) else {
            throw .flexicast("FC_KEY with unknown algorithm \(algorithm)", frameType: type)
        }
        guard secret.count == suite.secretLength else {
            throw .flexicast("FC_KEY with a key of \(secret.count) octets, not \(suite.secretLength)", frameType: type)
        }
        self.sequence = sequence
        self.packetNumber = packetNumber
        self.suite = suite
        self.secret = secret
    }

    /// The whole frame, type included.
    public var encoded: [UInt8] {
        [UInt8].written(capacity: 128) { writer in
            writer.varint(FlexicastFrameType.key)
            writer.flowID(flowID)
            writer.varint(sequence)
            writer.varint(packetNumber)
            writer.varint(UInt64(secret.count))
            writer.octets(secret.span)
            writer.uint64(UInt64(suite.rawValue))
        }
    }
}
