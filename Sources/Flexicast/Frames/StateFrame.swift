import QUIC
import Wire

/// FC_STATE (draft section 11.2): a receiver's place in a flow. JOIN and READY come from receivers only.
public struct StateFrame: Hashable, Sendable {
    /// What the sender does, or asks for; the raw value is the one on the wire.
    /// Any other number is a violation (draft section 11.2.1).
    public enum Action: UInt64, Sendable {
        /// The receiver joins the flow, and asks for its key.
        case join = 1
        /// The receiver leaves the flow; or the source refuses its JOIN, or puts it out.
        case leave = 2
        /// The draft's text also calls it LISTEN. Here it means: a packet of the flow has been opened.
        case ready = 3
    }

    /// The flow in question, which was announced before.
    public var flowID: FlowID
    /// Orders the FC_STATE frames of one sender about this flow; one that is not higher is stale.
    public var sequence: UInt64
    /// The sender's part in the flow from now on.
    public var action: Action

    /// `sequence`: higher than in any FC_STATE of the flow that this end has sent before.
    public init(flowID: FlowID, sequence: UInt64, action: Action) {
        self.flowID = flowID
        self.sequence = sequence
        self.action = action
    }

    /// Reads the frame after its type. Throws FRAME_ENCODING_ERROR, or FC_PROTOCOL_VIOLATION for an unknown action.
    @_lifetime(reader: copy reader)
    public init(parsing reader: inout ByteReader) throws(TransportError) {
        let type = FlexicastFrameType.state
        flowID = try reader.flowID(frameType: type)
        guard let sequence = reader.varint(), let code = reader.uint64() else {
            throw .encoding("FC_STATE is truncated", frameType: type)
        }
        guard let action = Action(rawValue: code) else {
            throw .flexicast("FC_STATE with unknown action \(code)", frameType: type)
        }
        self.sequence = sequence
        self.action = action
    }

    /// The whole frame, type included.
    public var encoded: [UInt8] {
        [UInt8].written(capacity: 48) { writer in
            writer.varint(FlexicastFrameType.state)
            writer.flowID(flowID)
            writer.varint(sequence)
            writer.uint64(action.rawValue)
        }
    }
}
