/// Sequence numbers that no part will come for, told by number so that nothing is missed silently.
public struct Gap: Hashable, Sendable {
    /// Why no part will come.
    public struct Reason: RawRepresentable, Hashable, Sendable {
        public var rawValue: UInt64
        public init(rawValue: UInt64) { self.rawValue = rawValue }

        /// The log keeps them no longer.
        public static let retention = Reason(rawValue: 0)
        /// The numbers were reserved and never used, or what they held was given up by the source before it was whole.
        public static let void = Reason(rawValue: 1)
        /// They could not be served while they were worth something.
        public static let lifetime = Reason(rawValue: 2)
        /// The receiver does not want them; told so that its position can move on.
        public static let unwanted = Reason(rawValue: 3)
        /// The receiver itself gave them up, because it had more holes than it remembers. Never on the wire, which has no
        /// room for the value.
        public static let tooManyHoles = Reason(rawValue: .max)
    }

    /// The lowest of the numbers.
    public var first: UInt64
    /// How many there are, at least 1.
    public var count: UInt64
    /// Why nothing will come.
    public var reason: Reason

    /// `count`: at least 1; the last number must be below `ObjectLimits.sequences`.
    public init(first: UInt64, count: UInt64, reason: Reason) {
        self.first = first
        self.count = count
        self.reason = reason
    }

    init(_ range: Range<UInt64>, _ reason: Reason) {
        self.init(first: range.lowerBound, count: UInt64(range.count), reason: reason)
    }

    /// The numbers; `check()` must hold.
    public var range: Range<UInt64> { first..<(first + count) }

    /// Throws when the numbers are none, or go beyond the last sequence number.
    public func check() throws(ObjectsError) {
        guard first < ObjectLimits.sequences else {
            throw .value(.gap, field: "first sequence number", first, wanted: "below 2^60")
        }
        guard count > 0, count <= ObjectLimits.sequences - first else {
            throw .value(.gap, field: "count", count, wanted: "at least 1, and the last number below 2^60")
        }
    }
}

extension Gap.Reason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .retention: "no longer kept"
        case .void: "never filled"
        case .lifetime: "too old to be sent"
        case .unwanted: "not wanted"
        case .tooManyHoles: "given up, because more holes than are remembered were open"
        default: "reason \(rawValue)"
        }
    }
}
