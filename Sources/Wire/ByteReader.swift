/// A bounds-checked cursor over received octets. Every read either succeeds whole or returns nil and leaves the
/// cursor where it was, so that a parser can name what was truncated.
public struct ByteReader: ~Copyable, ~Escapable {
    /// All octets, read and unread.
    public let bytes: Span<UInt8>
    /// Index of the next octet to read.
    public private(set) var offset: Int

    @inlinable
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>) {
        self.init(bytes, at: 0)
    }

    /// A cursor that starts at `offset`, which must lie in `0...bytes.count`.
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>, at offset: Int) {
        precondition(offset >= 0 && offset <= bytes.count)
        self.bytes = bytes
        self.offset = offset
    }

    public var remaining: Int { bytes.count - offset }
    public var isAtEnd: Bool { offset == bytes.count }

    /// Moves forward by `count` octets; false, and no move, when there are fewer.
    @_lifetime(self: copy self)
    public mutating func skip(_ count: Int) -> Bool {
        guard count >= 0, count <= remaining else { return false }
        offset += count
        return true
    }

    @_lifetime(self: copy self)
    public mutating func uint8() -> UInt8? {
        guard offset < bytes.count else { return nil }
        defer { offset += 1 }
        return bytes[offset]
    }

    /// The next octet, left unread.
    public func peek() -> UInt8? {
        offset < bytes.count ? bytes[offset] : nil
    }

    @_lifetime(self: copy self)
    public mutating func uint16() -> UInt16? {
        guard let value = bigEndian(2) else { return nil }
        return UInt16(truncatingIfNeeded: value)
    }

    @_lifetime(self: copy self)
    public mutating func uint32() -> UInt32? {
        guard let value = bigEndian(4) else { return nil }
        return UInt32(truncatingIfNeeded: value)
    }

    @_lifetime(self: copy self)
    public mutating func uint64() -> UInt64? {
        guard remaining >= 8 else { return nil }
        var value: UInt64 = 0
        for index in 0..<8 { value = value << 8 | UInt64(bytes[offset &+ index]) }
        offset += 8
        return value
    }

    /// An unsigned integer of `width` octets (0 to 8), most significant first.
    @_lifetime(self: copy self)
    public mutating func bigEndian(_ width: Int) -> UInt64? {
        guard width >= 0, width <= 8, width <= remaining else { return nil }
        var value: UInt64 = 0
        for index in offset..<(offset + width) {
            value = value << 8 | UInt64(bytes[index])
        }
        offset += width
        return value
    }

    /// A variable-length integer, 0 to 2^62-1 (RFC 9000 section 16).
    @_lifetime(self: copy self)
    public mutating func varint() -> UInt64? {
        guard offset < bytes.count else { return nil }
        let first = bytes[offset]
        if first < 0x40 {
            offset += 1
            return UInt64(first)
        }
        let width = 1 << Int(first >> 6)
        guard let value = bigEndian(width) else { return nil }
        return value & (UInt64.max >> UInt64(66 - 8 * width))
    }

    /// The next `count` octets as a view.
    @_lifetime(copy self)
    public mutating func take(_ count: Int) -> Span<UInt8>? {
        guard count >= 0, count <= remaining else { return nil }
        let span = bytes.extracting(offset..<(offset + count))
        offset += count
        return span
    }

    /// The next `count` octets as an array of their own.
    @_lifetime(self: copy self)
    public mutating func array(_ count: Int) -> [UInt8]? {
        guard count >= 0, count <= remaining else { return nil }
        var out: [UInt8] = []
        out.append(bytes.extracting(offset..<(offset + count)))
        offset += count
        return out
    }
}

extension [UInt8] {
    /// Appends a copy of `span`.
    @inlinable
    public mutating func append(_ span: Span<UInt8>) {
        append(addingCapacity: span.count) { output in
            for index in span.indices { output.append(span[index]) }
        }
    }

    /// An array of its own with the octets of `span`.
    @inlinable
    public init(_ span: Span<UInt8>) {
        self = []
        append(span)
    }
}
