import Wire

/// Packet numbers on the wire (RFC 9000 section 17.1 and Appendix A).
public enum PacketNumber {
    /// Octets, 1 to 4, with which `full` must be written so that the peer can tell it from every number that may still
    /// be in flight: the field spans more than twice the distance to the largest acknowledged number.
    public static func length(_ full: UInt64, largestAcked: UInt64?) -> Int {
        let unacknowledged: UInt64
        if let largestAcked {
            unacknowledged = full > largestAcked ? full - largestAcked : 1
        } else {
            unacknowledged = full + 1
        }
        return unacknowledged < 1 << 7 ? 1 : unacknowledged < 1 << 15 ? 2 : unacknowledged < 1 << 23 ? 3 : 4
    }

    /// The full number behind the low `length` octets, 1 to 4, where `largest` is the largest number received so far.
    @inlinable
    public static func decode(truncated: UInt64, length: Int, largest: UInt64?) -> UInt64 {
        let expected = largest.map { $0 + 1 } ?? 0
        let window: UInt64 = 1 << UInt64(8 * length)
        let half = window / 2
        let candidate = (expected & ~(window - 1)) | (truncated & (window - 1))
        if candidate + half <= expected && candidate < (1 << 62) - window { return candidate + window }
        // The largest number there is may be announced as the next one to expect: nothing lies above it.
        if candidate > Varint.max || candidate > expected + half && candidate >= window { return candidate - window }
        return candidate
    }
}
