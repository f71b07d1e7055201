import Wire

// Headers and messages are written once and kept, so they grow in arrays of their own instead of a packet's buffer.
extension [UInt8] {
    /// Appends `value`, which is below 2^62, in its shortest form (RFC 9000 section 16).
    mutating func appendVarint(_ value: UInt64) {
        let width = Varint.length(value)
        precondition(value <= Varint.max, "varint \(value) does not fit 8 octets")
        appendBigEndian(value | UInt64(width.trailingZeroBitCount) << UInt64(8 * width - 2), width: width)
    }

    /// Appends the low `width` octets of `value`, most significant first.
    mutating func appendBigEndian(_ value: UInt64, width: Int) {
        var shift = 8 * width
        while shift > 0 {
            shift -= 8
            append(UInt8(truncatingIfNeeded: value >> UInt64(shift)))
        }
    }

    /// Appends the length of `text` in octets, then its octets.
    mutating func appendText(_ text: String) {
        appendVarint(UInt64(text.utf8.count))
        append(contentsOf: text.utf8)
    }
}

extension ByteReader {
    /// A variable-length integer that must be there.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func number(_ element: ObjectsError.Element) throws(ObjectsError) -> UInt64 {
        guard let value = varint() else { throw .truncated(element) }
        return value
    }

    /// A text of at most `limit` octets behind its length.
    @_lifetime(self: copy self)
    mutating func text(
        _ element: ObjectsError.Element, limit: Int, in whole: ObjectsError.Element
    ) throws(ObjectsError) -> String {
        let length = try number(whole)
        guard length <= UInt64(limit) else { throw .tooLong(element, limit: UInt64(limit)) }
        if length == 0 { return "" }
        guard let octets = take(Int(length)) else { throw .truncated(whole) }
        do {
            return String(copying: try UTF8Span(validating: octets))
        } catch {
            throw .notText(element)
        }
    }
}
