/// Variable-length integers (RFC 9000 section 16).
public enum Varint {
    /// The largest value, 2^62-1.
    public static let max: UInt64 = (1 << 62) - 1

    /// Octets of the shortest form of `value`: 1, 2, 4 or 8.
    @inlinable
    public static func length(_ value: UInt64) -> Int {
        value < 1 << 6 ? 1 : value < 1 << 14 ? 2 : value < 1 << 30 ? 4 : 8
    }

    /// How many of the values `first`, `first + step`, `first + 2 * step` and so on have the length of `first`. `first` is no
    /// more than `max`, and `step` is not 0.
    @inlinable
    public static func alike(from first: UInt64, by step: UInt64) -> UInt64 {
        ((1 << (8 * length(first) - 2)) - 1 - first) / step + 1
    }
}
