import QUIC
import Wire

/// FC_ANNOUNCE, FC_STATE and FC_KEY as a log shows them: draft-navarre-quic-flexicast-02 section 11's fields, but not the secret.
public enum LoggedFlexicastFrames: LoggedExtension {
    /// One of the three frames.
    public static func read(_ type: UInt64, _ body: Span<UInt8>) -> (frame: LoggedFrame, length: Int)? {
        var reader = ByteReader(body)
        var frame: LoggedFrame
        do throws(TransportError) {
            switch type {
            case FlexicastFrameType.announce:
                let announce = try AnnounceFrame(parsing: &reader)
                frame = start("fc_announce", announce.flowID, announce.sequence)
                frame.add("source", .text("\(announce.parameters.source)"))
                frame.add("group", .text("\(announce.parameters.group)"))
                frame.add("port", .number(UInt64(announce.parameters.port)))
                frame.add(
                    "ack_delay", .microseconds(UInt64(max(0, announce.parameters.ackDelay.nanoseconds / 1000))))
            case FlexicastFrameType.state:
                let state = try StateFrame(parsing: &reader)
                frame = start("fc_state", state.flowID, state.sequence)
                frame.add("action", .text("\(state.action)"))
            case FlexicastFrameType.key:
                let key = try KeyFrame(parsing: &reader)
                frame = start("fc_key", key.flowID, key.sequence)
                frame.add("packet_number", .number(key.packetNumber))
                frame.add("algorithm", .number(UInt64(key.suite.rawValue)))
            default: return nil
            }
        } catch { return nil }
        return (frame, reader.offset)
    }

    private static func start(_ type: String, _ id: FlowID, _ sequence: UInt64) -> LoggedFrame {
        var frame = LoggedFrame(type)
        frame.add("flow_id", .text("\(id)"))
        frame.add("sequence_number", .number(sequence))
        return frame
    }
}
