/// A reason to close the connection: a transport error code (RFC 9000 section 20.1), with words for the log and the
/// CONNECTION_CLOSE frame.
public struct TransportError: Error, Equatable, Sendable {
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: UInt64
        public init(rawValue: UInt64) { self.rawValue = rawValue }

        public static let noError = Code(rawValue: 0x00)
        public static let internalError = Code(rawValue: 0x01)
        public static let connectionRefused = Code(rawValue: 0x02)
        public static let flowControlError = Code(rawValue: 0x03)
        public static let streamLimitError = Code(rawValue: 0x04)
        public static let streamStateError = Code(rawValue: 0x05)
        public static let finalSizeError = Code(rawValue: 0x06)
        public static let frameEncodingError = Code(rawValue: 0x07)
        public static let transportParameterError = Code(rawValue: 0x08)
        public static let connectionIDLimitError = Code(rawValue: 0x09)
        public static let protocolViolation = Code(rawValue: 0x0a)
        public static let invalidToken = Code(rawValue: 0x0b)
        public static let applicationError = Code(rawValue: 0x0c)
        public static let cryptoBufferExceeded = Code(rawValue: 0x0d)
        public static let keyUpdateError = Code(rawValue: 0x0e)
        public static let aeadLimitReached = Code(rawValue: 0x0f)
        public static let noViablePath = Code(rawValue: 0x10)

        /// A TLS alert (RFC 9001 section 4.8).
        public static func crypto(alert: UInt8) -> Code { Code(rawValue: 0x100 + UInt64(alert)) }
    }

    public var code: Code
    /// The type of the frame that caused it, 0 when none did or it is unknown.
    public var frameType: UInt64
    public var reason: String

    public init(_ code: Code, _ reason: String, frameType: UInt64 = 0) {
        self.code = code
        self.frameType = frameType
        self.reason = reason
    }
}

extension TransportError: CustomStringConvertible {
    public var description: String { "error 0x\(String(code.rawValue, radix: 16)): \(reason)" }
}
