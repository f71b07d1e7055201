import QUIC

extension TransportError.Code {
    /// FC_PROTOCOL_VIOLATION. draft-navarre-quic-flexicast-02 uses the name and never assigns a value; this project
    /// takes the number of its transport parameter, in the range open to provisional codes (RFC 9000 section 22.4).
    public static let flexicastViolation = TransportError.Code(rawValue: 0xedf3)
}

extension TransportError {
    static func flexicast(_ reason: String, frameType: UInt64 = 0) -> TransportError {
        TransportError(.flexicastViolation, reason, frameType: frameType)
    }

    static func encoding(_ reason: String, frameType: UInt64) -> TransportError {
        TransportError(.frameEncodingError, reason, frameType: frameType)
    }
}
