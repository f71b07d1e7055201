/// A stream's number on one connection (RFC 9000 section 2.1).
public struct StreamID: Hashable, Comparable, Sendable {
    public var rawValue: UInt64

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The `index`-th stream, from 0, of the kind that `initiator` opens.
    public init(initiator: Role, bidirectional: Bool, index: UInt64) {
        rawValue = index << 2 | (bidirectional ? 0 : 2) | (initiator == .server ? 1 : 0)
    }

    public var initiator: Role { rawValue & 1 == 0 ? .client : .server }
    public var isBidirectional: Bool { rawValue & 2 == 0 }
    /// Position among the streams of its kind, from 0.
    public var index: UInt64 { rawValue >> 2 }

    public static func < (a: StreamID, b: StreamID) -> Bool { a.rawValue < b.rawValue }
}
