/// A stream's number on one connection (RFC 9000 section 2.1).
public struct StreamID: Hashable, Comparable, Sendable {
    /// As on the wire: the two lowest bits are initiator and direction (RFC 9000 section 2.1). Below 2^62.
    public var rawValue: UInt64

    /// - Parameter rawValue: as on the wire, below 2^62.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The `index`-th stream, from 0, of the kind that `initiator` opens.
    public init(initiator: Role, bidirectional: Bool, index: UInt64) {
        rawValue = index << 2 | (bidirectional ? 0 : 2) | (initiator == .server ? 1 : 0)
    }

    /// The end that opens it.
    public var initiator: Role { rawValue & 1 == 0 ? .client : .server }
    /// Whether both ends send on it; else only its initiator does.
    public var isBidirectional: Bool { rawValue & 2 == 0 }
    /// Position among the streams of its kind, from 0.
    public var index: UInt64 { rawValue >> 2 }

    public static func < (a: StreamID, b: StreamID) -> Bool { a.rawValue < b.rawValue }
}
