/// A cursor that writes octets straight into a send buffer.
///
/// The caller asks `remaining` before it writes; a write past the end is a mistake of ours and traps.
public struct ByteWriter: ~Copyable, ~Escapable {
    private var bytes: MutableSpan<UInt8>
    /// Index of the next octet to write.
    public private(set) var offset: Int
    /// Octets from the end of the buffer that writes must leave free (an authentication tag, for one).
    public var reserved: Int

    @_lifetime(copy bytes)
    public init(_ bytes: consuming MutableSpan<UInt8>, at offset: Int = 0) {
        precondition(offset >= 0 && offset <= bytes.count)
        self.bytes = bytes
        self.offset = offset
        self.reserved = 0
    }

    /// Octets that may still be written.
    public var remaining: Int { bytes.count - reserved - offset }
    /// Size of the whole buffer.
    public var capacity: Int { bytes.count }

    @_lifetime(self: copy self)
    public mutating func uint8(_ value: UInt8) {
        bytes[offset] = value
        offset += 1
    }

    @_lifetime(self: copy self)
    public mutating func uint16(_ value: UInt16) { bigEndian(UInt64(value), width: 2) }

    @_lifetime(self: copy self)
    public mutating func uint32(_ value: UInt32) { bigEndian(UInt64(value), width: 4) }

    @_lifetime(self: copy self)
    public mutating func uint64(_ value: UInt64) { bigEndian(value, width: 8) }

    /// The low `width` octets (0 to 8) of `value`, most significant first.
    @_lifetime(self: copy self)
    public mutating func bigEndian(_ value: UInt64, width: Int) {
        var shift = 8 * width
        for index in offset..<(offset + width) {
            shift -= 8
            bytes[index] = UInt8(truncatingIfNeeded: value >> UInt64(shift))
        }
        offset += width
    }

    /// A variable-length integer in its shortest form (RFC 9000 section 16); `value` below 2^62.
    @_lifetime(self: copy self)
    public mutating func varint(_ value: UInt64) {
        varint(value, width: Varint.length(value))
    }

    /// A variable-length integer in 1, 2, 4 or 8 octets, which must be enough for `value`.
    @_lifetime(self: copy self)
    public mutating func varint(_ value: UInt64, width: Int) {
        let tag = UInt64(width.trailingZeroBitCount)
        precondition(value < 1 << UInt64(8 * width - 2), "varint \(value) does not fit \(width) octets")
        bigEndian(value | tag << UInt64(8 * width - 2), width: width)
    }

    @_lifetime(self: copy self)
    public mutating func octets(_ span: Span<UInt8>) {
        var target = bytes._mutatingExtracting(offset..<(offset + span.count))
        for index in span.indices { target[index] = span[index] }
        offset += span.count
    }

    /// `count` zero octets.
    @_lifetime(self: copy self)
    public mutating func zeros(_ count: Int) {
        for index in offset..<(offset + count) { bytes[index] = 0 }
        offset += count
    }

    /// Leaves `count` octets to be filled in later with `patch`.
    @_lifetime(self: copy self)
    public mutating func advance(_ count: Int) {
        precondition(count >= 0 && offset + count <= bytes.count)
        offset += count
    }

    /// Goes back to `offset`, which must not lie after the current one: what was written since is given up.
    @_lifetime(self: copy self)
    public mutating func rewind(to offset: Int) {
        precondition(offset >= 0 && offset <= self.offset)
        self.offset = offset
    }

    /// Overwrites `width` octets at `position` with `value`, most significant first.
    @_lifetime(self: copy self)
    public mutating func patch(_ value: UInt64, width: Int, at position: Int) {
        let here = offset
        offset = position
        bigEndian(value, width: width)
        offset = here
    }
}

extension [UInt8] {
    /// An array made by `body` writing into a scratch buffer of `capacity` octets; it holds what was written.
    public static func written(capacity: Int, _ body: (inout ByteWriter) -> Void) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: capacity)
        let used: Int
        do {
            var writer = ByteWriter(bytes.mutableSpan)
            body(&writer)
            used = writer.offset
        }
        bytes.removeLast(capacity - used)
        return bytes
    }
}
