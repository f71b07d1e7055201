/// No more than a few octets, kept in place, so that they cost no allocation.
public struct ShortOctets: Sendable {
    /// How many there may be.
    @inlinable public static var most: Int { 64 }

    @usableFromInline var octets = InlineArray<64, UInt8>(repeating: 0)
    /// How many there are.
    public let count: Int

    /// `count` octets, all of which `write` writes.
    @inlinable
    @inline(__always)
    public init(count: Int, _ write: (inout ByteWriter) -> Void) {
        precondition(count <= Self.most, "\(count) octets are not few")
        self.count = count
        var span = octets.mutableSpan
        var writer = ByteWriter(&span)
        write(&writer)
    }

    /// None.
    @inlinable
    public init() { count = 0 }

    /// Writes those in `range`. Of the room behind them it makes free use: what comes next is written over it.
    @inlinable
    @_lifetime(writer: copy writer)
    public func write(_ range: Range<Int>, into writer: inout ByteWriter) {
        precondition(range.upperBound <= count)
        if range.lowerBound == 0, writer.remaining >= Self.most {
            writer.block(octets, moving: range.upperBound)
        } else {
            writer.octets(octets.span.extracting(range))
        }
    }

    /// All of them in an array of their own.
    public var array: [UInt8] { [UInt8].written(capacity: count) { write(0..<count, into: &$0) } }
}

/// All octets of a stream, in two pieces: a head of its own, and a body that many streams and others may share, held by
/// reference.
public struct StreamOctets: Sendable {
    /// The first octets of the stream.
    public let head: ShortOctets
    /// The octets behind `head`, up to the end of the stream.
    public let body: ArraySlice<UInt8>
    /// Octets of the whole stream.
    public let count: Int

    /// A stream of `head`, then `body`, which is not copied.
    @inlinable
    public init(head: ShortOctets = ShortOctets(), body: ArraySlice<UInt8>) {
        self.head = head
        self.body = body
        count = head.count + body.count
    }

    /// A stream that has no head.
    @inlinable
    public init(_ octets: [UInt8] = []) { self.init(body: octets[...]) }

    /// All of them in one piece.
    public var array: [UInt8] { head.array + body }

    /// Writes those in `range`.
    @inlinable
    @inline(__always)
    @_lifetime(writer: copy writer)
    public func write(_ range: Range<Int>, into writer: inout ByteWriter) {
        let split = head.count
        if range.lowerBound < split { head.write(range.clamped(to: 0..<split), into: &writer) }
        guard range.upperBound > split else { return }
        let first = max(range.lowerBound, split) - split
        writer.octets(body.span.extracting(first..<(range.upperBound - split)))
    }
}
