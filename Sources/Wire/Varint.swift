/// Variable-length integers (RFC 9000 section 16).
public enum Varint {
    /// The largest value, 2^62-1.
    public static let max: UInt64 = (1 << 62) - 1

    /// Octets of the shortest form of `value`: 1, 2, 4 or 8.
    @inlinable
    public static func length(_ value: UInt64) -> Int {
        value < 1 << 6 ? 1 : value < 1 << 14 ? 2 : value < 1 << 30 ? 4 : 8
    }
}
