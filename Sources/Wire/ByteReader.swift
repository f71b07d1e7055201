/// A bounds-checked cursor over received octets. Every read either succeeds whole or returns nil and leaves the
/// cursor where it was, so that a parser can name what was truncated.
public struct ByteReader: ~Copyable, ~Escapable {
    /// All octets, read and unread.
    public let bytes: Span<UInt8>
    @usableFromInline var position: Int
    /// Index of the next octet to read.
    @inlinable
    public var offset: Int { position }

    /// A cursor at the first octet.
    @inlinable
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>) {
        self.init(bytes, at: 0)
    }

    /// A cursor that starts at `offset`, which must lie in `0...bytes.count`.
    @inlinable
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>, at offset: Int) {
        precondition(offset >= 0 && offset <= bytes.count)
        self.bytes = bytes
        position = offset
    }

    /// Octets that were not read.
    @inlinable
    public var remaining: Int { bytes.count - position }
    /// Whether every octet was read.
    @inlinable
    public var isAtEnd: Bool { position == bytes.count }

    /// Moves forward by `count` octets; false, and no move, when there are fewer.
    @inlinable
    @inline(__always)
    @_lifetime(self: copy self)
    public mutating func skip(_ count: Int) -> Bool {
        guard count >= 0, count <= remaining else { return false }
        position += count
        return true
    }

    /// The next octet; nil, and no move, when there is none.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func uint8() -> UInt8? {
        guard position < bytes.count else { return nil }
        defer { position += 1 }
        return bytes[position]
    }

    /// The next octet, left unread.
    @inlinable
    public func peek() -> UInt8? {
        position < bytes.count ? bytes[position] : nil
    }

    /// The next two octets, the most significant first; nil, and no move, when there are fewer.
    @inlinable
    @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint16() -> UInt16? {
        guard remaining >= 2 else { return nil }
        let word = bytes.extracting(position..<(position + 2))
        position += 2
        return UInt16(word[0]) << 8 | UInt16(word[1])
    }

    /// The next four octets, the most significant first; nil, and no move, when there are fewer.
    @inlinable
    @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint32() -> UInt32? {
        guard remaining >= 4 else { return nil }
        let word = bytes.extracting(position..<(position + 4))
        position += 4
        return UInt32(word[0]) << 24 | UInt32(word[1]) << 16 | UInt32(word[2]) << 8 | UInt32(word[3])
    }

    /// The next eight octets, the most significant first; nil, and no move, when there are fewer.
    @inlinable
    @inline(__always)
    @_lifetime(self: copy self)
    public mutating func uint64() -> UInt64? {
        guard remaining >= 8 else { return nil }
        let word = bytes.extracting(position..<(position + 8))
        position += 8
        let high = UInt64(word[0]) << 56 | UInt64(word[1]) << 48 | UInt64(word[2]) << 40 | UInt64(word[3]) << 32
        return high | UInt64(word[4]) << 24 | UInt64(word[5]) << 16 | UInt64(word[6]) << 8 | UInt64(word[7])
    }

    /// An unsigned integer of `width` octets (0 to 8), most significant first.
    @_lifetime(self: copy self)
    public mutating func bigEndian(_ width: Int) -> UInt64? {
        guard width >= 0, width <= 8, width <= remaining else { return nil }
        var value: UInt64 = 0
        for index in position..<(position + width) {
            value = value << 8 | UInt64(bytes[index])
        }
        position += width
        return value
    }

    /// A variable-length integer, 0 to 2^62-1 (RFC 9000 section 16).
    @inlinable
    @inline(__always)
    @_lifetime(self: copy self)
    public mutating func varint() -> UInt64? {
        guard position < bytes.count else { return nil }
        let first = bytes[position]
        if first < 0x40 {
            position += 1
            return UInt64(first)
        }
        switch first >> 6 {
        case 1: return uint16().map { UInt64($0 & 0x3fff) }
        case 2: return uint32().map { UInt64($0 & 0x3fff_ffff) }
        default: return uint64().map { $0 & Varint.max }
        }
    }

    /// The next `count` octets as a view.
    @inlinable
    @inline(__always)
    @_lifetime(copy self)
    public mutating func take(_ count: Int) -> Span<UInt8>? {
        guard count >= 0, count <= remaining else { return nil }
        let span = bytes.extracting(position..<(position + count))
        position += count
        return span
    }

    /// The next `count` octets as an array of their own.
    @_lifetime(self: copy self)
    public mutating func array(_ count: Int) -> [UInt8]? {
        guard count >= 0, count <= remaining else { return nil }
        var out: [UInt8] = []
        out.append(bytes.extracting(position..<(position + count)))
        position += count
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
