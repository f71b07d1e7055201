import Wire

/// A part as the source keeps it: its stream, made once and sent on the flow and on any number of connections.
public struct Part: Sendable, Equatable {
    public let header: PartHeader
    /// All octets of the part's stream: the prelude, then the body. Copies share them.
    public let stream: [UInt8]
    /// Octets of the prelude.
    public let preludeLength: Int

    /// The part's own octets.
    public var body: ArraySlice<UInt8> { stream[preludeLength...] }
    public var sequence: UInt64 { header.sequence }
    /// Octets of the body.
    public var bodyLength: Int { stream.count - preludeLength }

    /// Writes the stream. Throws when a field of `header` holds what it may not, or `body` has more than
    /// `ObjectLimits.partOctets`.
    public init(_ header: PartHeader, body: some Collection<UInt8>) throws(ObjectsError) {
        try header.check()
        guard body.count <= ObjectLimits.partOctets else {
            throw .tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
        }
        var stream: [UInt8] = []
        stream.reserveCapacity(header.preludeLength + body.count)
        header.append(to: &stream)
        self.header = header
        preludeLength = stream.count
        stream.append(contentsOf: body)
        self.stream = stream
    }

    /// Reads a stream that is all there. Throws when it is no part, says what it may not, or is too long.
    public init(stream: [UInt8]) throws(ObjectsError) {
        guard let (header, prelude) = try PartHeader.parse(stream.span) else { throw .truncated(.header) }
        guard stream.count - prelude <= ObjectLimits.partOctets else {
            throw .tooLong(.part, limit: UInt64(ObjectLimits.partOctets))
        }
        self.header = header
        self.stream = stream
        preludeLength = prelude
    }
}
