import QUIC
import Wire

/// What a source says about a flow: where its packets go and how often to acknowledge them.
public struct FlowParameters: Hashable, Sendable {
    /// The source of the (S,G) pair; unspecified for any-source multicast.
    public var source: IPAddress
    /// A multicast group, or a receiver's own address for a replicated flow.
    public var group: IPAddress
    /// The UDP port that packets of the flow are sent to.
    public var port: UInt16
    /// The time a receiver may gather packets before it acknowledges; whole milliseconds on the wire.
    public var ackDelay: Duration

    /// Source and group must be of one IP version.
    public init(source: IPAddress, group: IPAddress, port: UInt16, ackDelay: Duration) {
        precondition(source.isIPv4 == group.isIPv4, "source and group differ in IP version")
        self.source = source
        self.group = group
        self.port = port
        self.ackDelay = ackDelay
    }

    /// Null addresses: the flow is no more (draft section 11.1).
    public var isWithdrawn: Bool { source.isUnspecified && group.isUnspecified }

    /// Parameters that withdraw a flow of the same IP version.
    public var withdrawn: FlowParameters {
        let null: IPAddress = group.isIPv4 ? .v4(0) : .v6(0)
        return FlowParameters(source: null, group: null, port: 0, ackDelay: .zero)
    }
}

/// FC_ANNOUNCE (draft section 11.1), source to receiver.
public struct AnnounceFrame: Hashable, Sendable {
    /// The flow that is announced, changed or withdrawn.
    public var flowID: FlowID
    /// Orders announcements of this flow on this connection; a receiver ignores one that is not higher.
    public var sequence: UInt64
    /// The flow from now on; `FlowParameters.withdrawn` for one that is no more.
    public var parameters: FlowParameters

    /// `sequence`: higher than in any announcement of the flow on this connection before.
    public init(flowID: FlowID, sequence: UInt64, parameters: FlowParameters) {
        self.flowID = flowID
        self.sequence = sequence
        self.parameters = parameters
    }

    /// The longest delay taken over from the wire: longer ones would let a flow go unacknowledged for good.
    static let longestAckDelay: UInt64 = 60_000

    /// Reads the frame after its type. Throws FRAME_ENCODING_ERROR.
    @_lifetime(reader: copy reader)
    public init(parsing reader: inout ByteReader) throws(TransportError) {
        let type = FlexicastFrameType.announce
        flowID = try reader.flowID(frameType: type)
        guard let sequence = reader.varint(), let version = reader.uint8() else {
            throw .encoding("FC_ANNOUNCE is truncated", frameType: type)
        }
        guard version == 4 || version == 6 else {
            throw .encoding("FC_ANNOUNCE with IP version \(version)", frameType: type)
        }
        guard let source = reader.address(version), let group = reader.address(version), let port = reader.uint16(),
            let delay = reader.uint64()
        else { throw .encoding("FC_ANNOUNCE is truncated", frameType: type) }
        self.sequence = sequence
        parameters = FlowParameters(
            source: source, group: group, port: port,
            ackDelay: .milliseconds(Int64(min(delay, Self.longestAckDelay))))
    }

    /// The whole frame, type included.
    public var encoded: [UInt8] {
        [UInt8].written(capacity: 80) { writer in
            writer.varint(FlexicastFrameType.announce)
            writer.flowID(flowID)
            writer.varint(sequence)
            writer.uint8(parameters.group.isIPv4 ? 4 : 6)
            writer.address(parameters.source)
            writer.address(parameters.group)
            writer.uint16(parameters.port)
            writer.uint64(UInt64(max(0, parameters.ackDelay.nanoseconds / 1_000_000)))
        }
    }
}

extension ByteReader {
    @_lifetime(self: copy self)
    fileprivate mutating func address(_ version: UInt8) -> IPAddress? {
        if version == 4 { return uint32().map { .v4($0) } }
        guard remaining >= 16, let high = uint64(), let low = uint64() else { return nil }
        return .v6(UInt128(high) << 64 | UInt128(low))
    }
}

extension ByteWriter {
    @_lifetime(self: copy self)
    fileprivate mutating func address(_ address: IPAddress) {
        switch address {
        case .v4(let bits): uint32(bits)
        case .v6(let bits):
            uint64(UInt64(truncatingIfNeeded: bits >> 64))
            uint64(UInt64(truncatingIfNeeded: bits))
        }
    }
}
