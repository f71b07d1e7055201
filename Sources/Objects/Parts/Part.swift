import Wire

/// A part as the source keeps it, from which its stream is written on the flow and on any number of connections.
public struct Part: Sendable, Equatable {
    /// Which part it is, and of which object.
    public private(set) var header: PartHeader
    /// The part's own octets: a piece of its object, whose octets are shared and not copied.
    public private(set) var body: ArraySlice<UInt8>
    /// Octets of the prelude.
    public private(set) var preludeLength: Int

    /// The part's number in the log.
    public var sequence: UInt64 { header.sequence }
    /// Octets of the whole stream: the prelude, then the body.
    public var streamLength: Int { preludeLength + body.count }

    /// A part with this body. Throws when a field of `header` holds what it may not, or `body` has more than
    /// `ObjectLimits.partOctets`.
    public init(_ header: consuming PartHeader, body: consuming ArraySlice<UInt8>) throws(ObjectsError) {
        try header.check()
        guard body.count <= ObjectLimits.partOctets else {
            throw .tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
        }
        preludeLength = header.preludeLength
        self.header = header
        self.body = body
    }

    /// The same, for a body that is an array.
    public init(_ header: PartHeader, body: [UInt8]) throws(ObjectsError) { try self.init(header, body: body[...]) }

    /// Reads a stream that is all there. Throws when it is no part, says what it may not, or is too long.
    public init(stream: [UInt8]) throws(ObjectsError) {
        guard let (header, prelude) = try PartHeader.parse(stream.span) else { throw .truncated(.header) }
        guard stream.count - prelude <= ObjectLimits.partOctets else {
            throw .tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
        }
        self.header = header
        body = stream[prelude...]
        preludeLength = prelude
    }

    /// The octets of its stream. The body is shared, unless the prelude is very long.
    public var octets: StreamOctets {
        guard preludeLength <= ShortOctets.most else { return StreamOctets(stream) }
        return StreamOctets(
            head: ShortOctets(count: preludeLength) { header.write(preludeLength, into: &$0) }, body: body)
    }

    /// The octets of its stream in one piece, put together anew.
    public var stream: [UInt8] {
        [UInt8].written(capacity: preludeLength) { header.write(preludeLength, into: &$0) } + body
    }

    /// Holds nothing any more.
    mutating func letGo() {
        body = []
        header.name = ""
        header.mediaType = ""
    }
}
