/// A cursor that writes octets straight into a send buffer.
///
/// The caller asks `remaining` before it writes; a write past the end is a mistake of ours and traps.
public struct ByteWriter: ~Copyable, ~Escapable {
    // Inlined into other modules: a packet is written in a hundred small steps. Raw, because a word is then checked and
    // stored as one.
    @usableFromInline var bytes: MutableRawSpan
    @usableFromInline var position: Int
    /// Index of the next octet to write.
    @inlinable public var offset: Int { position }
    /// Octets from the end of the buffer that writes must leave free (an authentication tag, for one).
    public var reserved: Int

    /// Writes from the first octet of `buffer` on, with nothing reserved.
    @inlinable
    @_lifetime(&buffer)
    public init(_ buffer: inout MutableSpan<UInt8>) {
        bytes = MutableRawSpan(_elements: &buffer)
        position = 0
        reserved = 0
    }

    /// Octets that may still be written.
    @inlinable public var remaining: Int { bytes.byteCount - reserved - position }
    /// Size of the whole buffer.
    @inlinable public var capacity: Int { bytes.byteCount }

    /// One octet. As with all that is written, the caller keeps out of what is `reserved`; beyond the buffer it traps.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint8(_ value: UInt8) { store(value) }

    /// Two octets, the most significant first.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint16(_ value: UInt16) { store(value.bigEndian) }

    /// Four octets, the most significant first.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint32(_ value: UInt32) { store(value.bigEndian) }

    /// Eight octets, the most significant first.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint64(_ value: UInt64) { store(value.bigEndian) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    mutating func store<Value: BitwiseCopyable>(_ value: Value) {
        bytes.storeBytes(of: value, toByteOffset: position, as: Value.self)
        position += MemoryLayout<Value>.size
    }

    /// The low `width` octets (0 to 8) of `value`, most significant first.
    @_lifetime(self: copy self)
    public mutating func bigEndian(_ value: UInt64, width: Int) {
        var shift = 8 * width
        while shift > 0 {
            shift -= 8
            uint8(UInt8(truncatingIfNeeded: value >> UInt64(shift)))
        }
    }

    /// A variable-length integer in its shortest form (RFC 9000 section 16); `value` below 2^62.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func varint(_ value: UInt64) {
        if value < 1 << 6 {
            uint8(UInt8(truncatingIfNeeded: value))
        } else if value < 1 << 14 {
            uint16(UInt16(truncatingIfNeeded: value) | 0x4000)
        } else if value < 1 << 30 {
            uint32(UInt32(truncatingIfNeeded: value) | 0x8000_0000)
        } else {
            precondition(value < 1 << 62, "varint \(value) does not fit 8 octets")
            uint64(value | 0xc000_0000_0000_0000)
        }
    }

    /// A variable-length integer in 1, 2, 4 or 8 octets, which must be enough for `value`.
    @_lifetime(self: copy self)
    public mutating func varint(_ value: UInt64, width: Int) {
        precondition(value < 1 << UInt64(8 * width - 2), "varint \(value) does not fit \(width) octets")
        bigEndian(value | UInt64(width.trailingZeroBitCount) << UInt64(8 * width - 2), width: width)
    }

    /// Writes all of `block` and moves on by `count` octets: what comes next is written over the rest of it.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func block<let size: Int>(_ block: InlineArray<size, UInt8>, moving count: Int) {
        precondition(count >= 0 && count <= size)
        bytes.storeBytes(of: block, toByteOffset: position, as: InlineArray<size, UInt8>.self)
        position += count
    }

    /// All octets of `span`, in order.
    @_lifetime(self: copy self)
    public mutating func octets(_ span: Span<UInt8>) {
        let count = span.count
        precondition(count <= bytes.byteCount - position)
        var next = 0
        while count - next >= 1024 {
            storeBlock(InlineArray<1024, UInt8>.self, of: span, at: next)
            next += 1024
        }
        if count - next >= 512 {
            storeBlock(InlineArray<512, UInt8>.self, of: span, at: next)
            next += 512
        }
        if count - next >= 256 {
            storeBlock(InlineArray<256, UInt8>.self, of: span, at: next)
            next += 256
        }
        // A last block that overlaps those before is cheaper than what is left of it in pieces.
        if next < count {
            if count >= 256 {
                storeBlock(InlineArray<256, UInt8>.self, of: span, at: count - 256)
            } else if count >= 128 {
                storeBlock(InlineArray<128, UInt8>.self, of: span, at: 0)
                storeBlock(InlineArray<128, UInt8>.self, of: span, at: count - 128)
            } else if count >= 16 {
                while next < count - 16 {
                    storeBlock(InlineArray<16, UInt8>.self, of: span, at: next)
                    next += 16
                }
                storeBlock(InlineArray<16, UInt8>.self, of: span, at: count - 16)
            } else {
                while next < count {
                    bytes.storeBytes(of: span[next], toByteOffset: position + next, as: UInt8.self)
                    next += 1
                }
            }
        }
        position += count
    }

    /// Writes the octets of `span` from `first` on, `count` of them. Of the room behind them it makes free use: what comes
    /// next is written over it.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func octets(of span: Span<UInt8>, from first: Int, count: Int) {
        precondition(first >= 0 && count >= 0 && count <= span.count - first && count <= bytes.byteCount - position)
        // One block, rounded up, for the packets of an Internet path.
        let room = min(span.count - first, bytes.byteCount - position)
        if count > 1024, count <= 1280, room >= 1280 {
            storeBlock(InlineArray<1280, UInt8>.self, of: span.extracting(first..<(first + 1280)), at: 0)
            position += count
        } else if count > 1280, count <= 1536, room >= 1536 {
            storeBlock(InlineArray<1536, UInt8>.self, of: span.extracting(first..<(first + 1536)), at: 0)
            position += count
        } else {
            octets(span.extracting(first..<(first + count)))
        }
    }

    /// Swift 6.3 has no way to copy one span to another. Octet by octet, the compiler has to reckon with an overlap; a block
    /// of known size it copies as one, by `memmove` if it is large.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    mutating func storeBlock<let count: Int>(
        _ type: InlineArray<count, UInt8>.Type, of span: Span<UInt8>, at first: Int
    ) {
        let source = span.extracting(first..<(first + count))
        precondition(source.count == count)
        bytes.storeBytes(
            of: InlineArray<count, UInt8> { source[$0] }, toByteOffset: position + first, as: type)
    }

    /// `count` zero octets.
    @_lifetime(self: copy self)
    public mutating func zeros(_ count: Int) {
        for _ in 0..<count { uint8(0) }
    }

    /// Leaves `count` octets to be filled in later with `patch`.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func advance(_ count: Int) {
        precondition(count >= 0 && position + count <= bytes.byteCount)
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
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            body(&writer)
            used = writer.offset
        }
        bytes.removeLast(capacity - used)
        return bytes
    }
}
