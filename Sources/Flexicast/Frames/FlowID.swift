import QUIC
import Wire

/// A Flexicast Flow ID: 1 to 20 octets, the destination connection ID of every packet of the flow (draft section 5.1).
public typealias FlowID = ConnectionID

/// The three frame types of draft-navarre-quic-flexicast-02 section 11, which leaves their values open: these are ours.
/// They travel in 1-RTT packets on the unicast path only, elicit an acknowledgement and are repeated when lost.
public enum FlexicastFrameType {
    /// FC_ANNOUNCE (draft section 11.1).
    public static let announce: UInt64 = 0xf2
    /// FC_STATE (draft section 11.2).
    public static let state: UInt64 = 0xf4
    /// FC_KEY (draft section 11.3).
    public static let key: UInt64 = 0xf5
}

extension ByteReader {
    /// The Length octet and the Flexicast Flow ID that every frame of the extension starts with.
    /// A length outside 1...20 is a FRAME_ENCODING_ERROR (draft sections 11.1, 11.2 and 11.3).
    @_lifetime(self: copy self)
    mutating func flowID(frameType: UInt64) throws(TransportError) -> FlowID {
        guard let length = uint8() else {
            throw .encoding("flexicast frame ends before its flow id", frameType: frameType)
        }
        guard length >= 1, length <= 20 else {
            throw .encoding("flexicast flow id of \(length) octets, 1 to 20 are allowed", frameType: frameType)
        }
        guard let octets = take(Int(length)), let id = FlowID(octets) else {
            throw .encoding("flexicast frame ends within its flow id", frameType: frameType)
        }
        return id
    }
}

extension ByteWriter {
    @_lifetime(self: copy self)
    mutating func flowID(_ id: FlowID) {
        precondition(id.count >= 1, "a flexicast flow id has at least one octet")
        uint8(UInt8(id.count))
        for index in 0..<id.count { uint8(id[index]) }
    }
}
