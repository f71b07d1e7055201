import Wire

/// The life of one log: sequence numbers mean the same within an epoch and nothing outside it. A log that lost its memory
/// of which numbers it gave out starts another.
public struct Epoch: Hashable, Sendable {
    /// Octets of an epoch on the wire.
    public static let octets = 16

    /// The first eight octets, most significant first.
    public var high: UInt64
    /// The last eight octets, most significant first.
    public var low: UInt64

    /// An epoch of sixteen octets that were written or received before; a new one comes from `init(from:)`.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A new epoch. With a good generator no two are ever the same.
    public init(from random: inout some RandomNumberGenerator) {
        self.init(high: random.next(), low: random.next())
    }

    @_lifetime(reader: copy reader)
    init?(_ reader: inout ByteReader) {
        guard reader.remaining >= Self.octets, let high = reader.uint64(), let low = reader.uint64() else { return nil }
        self.init(high: high, low: low)
    }
}

extension Epoch: CustomStringConvertible {
    public var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}
