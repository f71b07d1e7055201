/// A reason to close the connection: a transport error code (RFC 9000 section 20.1), with words for the log and the
/// CONNECTION_CLOSE frame.
public struct TransportError: Error, Equatable, Sendable {
    /// An error code, 0 to 2^62 - 1; the names are RFC 9000 section 20.1's, where each is defined.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: UInt64
        public init(rawValue: UInt64) { self.rawValue = rawValue }

        /// NO_ERROR: the connection is closed for no fault of anybody's.
        public static let noError = Code(rawValue: 0x00)
        /// INTERNAL_ERROR: we cannot go on, and it is not the peer's fault.
        public static let internalError = Code(rawValue: 0x01)
        /// CONNECTION_REFUSED: the server lets nobody in now.
        public static let connectionRefused = Code(rawValue: 0x02)
        /// FLOW_CONTROL_ERROR: more octets than a limit allows (RFC 9000 section 4.1).
        public static let flowControlError = Code(rawValue: 0x03)
        /// STREAM_LIMIT_ERROR: more streams than the limit allows (RFC 9000 section 4.6).
        public static let streamLimitError = Code(rawValue: 0x04)
        /// STREAM_STATE_ERROR: a frame for a stream that cannot have it in its state (RFC 9000 section 3).
        public static let streamStateError = Code(rawValue: 0x05)
        /// FINAL_SIZE_ERROR: the final size changed, or octets lie beyond it (RFC 9000 section 4.5).
        public static let finalSizeError = Code(rawValue: 0x06)
        /// FRAME_ENCODING_ERROR: a frame that cannot be read, or of an unknown type.
        public static let frameEncodingError = Code(rawValue: 0x07)
        /// TRANSPORT_PARAMETER_ERROR: malformed, missing or forbidden transport parameters (RFC 9000 section 7.4).
        public static let transportParameterError = Code(rawValue: 0x08)
        /// CONNECTION_ID_LIMIT_ERROR: more connection IDs than active_connection_id_limit.
        public static let connectionIDLimitError = Code(rawValue: 0x09)
        /// PROTOCOL_VIOLATION: what no other code says better.
        public static let protocolViolation = Code(rawValue: 0x0a)
        /// INVALID_TOKEN: a client's Initial with a token that is not good (RFC 9000 section 8.1.2).
        public static let invalidToken = Code(rawValue: 0x0b)
        /// APPLICATION_ERROR: the application closed before its own codes could be sent (RFC 9000 section 10.2.3).
        public static let applicationError = Code(rawValue: 0x0c)
        /// CRYPTO_BUFFER_EXCEEDED: more CRYPTO octets out of order than are held (RFC 9000 section 7.5).
        public static let cryptoBufferExceeded = Code(rawValue: 0x0d)
        /// KEY_UPDATE_ERROR: a key update that breaks RFC 9001 section 6's rules.
        public static let keyUpdateError = Code(rawValue: 0x0e)
        /// AEAD_LIMIT_REACHED: a key has sealed, or failed to open, as many packets as it may (RFC 9001 section 6.6).
        public static let aeadLimitReached = Code(rawValue: 0x0f)
        /// NO_VIABLE_PATH: no path to the peer answers.
        public static let noViablePath = Code(rawValue: 0x10)

        /// A TLS alert (RFC 9001 section 4.8).
        public static func crypto(alert: UInt8) -> Code { Code(rawValue: 0x100 + UInt64(alert)) }
    }

    /// What CONNECTION_CLOSE says to the peer.
    public var code: Code
    /// The type of the frame that caused it, 0 when none did or it is unknown.
    public var frameType: UInt64
    /// Words for people, in CONNECTION_CLOSE too; what they say, nobody acts on.
    public var reason: String

    /// `frameType`: that of the frame at fault; 0 when there is none.
    public init(_ code: Code, _ reason: String, frameType: UInt64 = 0) {
        self.code = code
        self.frameType = frameType
        self.reason = reason
    }
}

extension TransportError: CustomStringConvertible {
    public var description: String { "error 0x\(String(code.rawValue, radix: 16)): \(reason)" }
}
