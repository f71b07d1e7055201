/// A cursor that writes octets straight into a send buffer.
///
/// The caller asks `remaining` before it writes; a write past the end is a mistake of ours and traps.
public struct ByteWriter: ~Copyable, ~Escapable {
    // Inlined into other modules: a packet is written in a hundred small steps.
    @usableFromInline var bytes: MutableSpan<UInt8>
    @usableFromInline var position: Int
    /// Index of the next octet to write.
    @inlinable public var offset: Int { position }
    /// Octets from the end of the buffer that writes must leave free (an authentication tag, for one).
    public var reserved: Int

    @inlinable
    @_lifetime(copy bytes)
    public init(_ bytes: consuming MutableSpan<UInt8>, at offset: Int = 0) {
        precondition(offset >= 0 && offset <= bytes.count)
        self.bytes = bytes
        self.position = offset
        self.reserved = 0
    }

    /// Octets that may still be written.
    @inlinable public var remaining: Int { bytes.count - reserved - position }
    /// Size of the whole buffer.
    public var capacity: Int { bytes.count }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint8(_ value: UInt8) {
        bytes[position] = value
        position += 1
    }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint16(_ value: UInt16) {
        bytes[position] = UInt8(truncatingIfNeeded: value >> 8)
        bytes[position + 1] = UInt8(truncatingIfNeeded: value)
        position += 2
    }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint32(_ value: UInt32) {
        bytes[position] = UInt8(truncatingIfNeeded: value >> 24)
        bytes[position + 1] = UInt8(truncatingIfNeeded: value >> 16)
        bytes[position + 2] = UInt8(truncatingIfNeeded: value >> 8)
        bytes[position + 3] = UInt8(truncatingIfNeeded: value)
        position += 4
    }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint64(_ value: UInt64) {
        uint32(UInt32(truncatingIfNeeded: value >> 32))
        uint32(UInt32(truncatingIfNeeded: value))
    }

    /// The low `width` octets (0 to 8) of `value`, most significant first.
    @_lifetime(self: copy self)
    public mutating func bigEndian(_ value: UInt64, width: Int) {
        var shift = 8 * width
        for index in position..<(position + width) {
            shift -= 8
            bytes[index] = UInt8(truncatingIfNeeded: value >> UInt64(shift))
        }
        position += width
    }

    /// A variable-length integer in its shortest form (RFC 9000 section 16); `value` below 2^62.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func varint(_ value: UInt64) {
        varint(value, width: Varint.length(value))
    }

    /// A variable-length integer in 1, 2, 4 or 8 octets, which must be enough for `value`.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func varint(_ value: UInt64, width: Int) {
        let tag = UInt64(width.trailingZeroBitCount)
        precondition(value < 1 << UInt64(8 * width - 2), "varint \(value) does not fit \(width) octets")
        let tagged = value | tag << UInt64(8 * width - 2)
        switch width {
        case 1: uint8(UInt8(truncatingIfNeeded: tagged))
        case 2: uint16(UInt16(truncatingIfNeeded: tagged))
        case 4: uint32(UInt32(truncatingIfNeeded: tagged))
        default: uint64(tagged)
        }
    }

    @_lifetime(self: copy self)
    public mutating func octets(_ span: Span<UInt8>) {
        var target = bytes._mutatingExtracting(position..<(position + span.count))
        for index in span.indices { target[index] = span[index] }
        position += span.count
    }

    /// `count` zero octets.
    @_lifetime(self: copy self)
    public mutating func zeros(_ count: Int) {
        for index in position..<(position + count) { bytes[index] = 0 }
        position += count
    }

    /// Leaves `count` octets to be filled in later with `patch`.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func advance(_ count: Int) {
        precondition(count >= 0 && position + count <= bytes.count)
        position += count
    }

    /// Goes back to `offset`, which must not lie after the current one: what was written since is given up.
    @_lifetime(self: copy self)
    public mutating func rewind(to offset: Int) {
        precondition(offset >= 0 && offset <= position)
        position = offset
    }

    /// Overwrites `width` octets at `position` with `value`, most significant first.
    @_lifetime(self: copy self)
    public mutating func patch(_ value: UInt64, width: Int, at position: Int) {
        let here = self.position
        self.position = position
        bigEndian(value, width: width)
        self.position = here
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
