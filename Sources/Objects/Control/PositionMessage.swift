import Wire

/// POSITION: what a client says of where it is, first of all on its control stream and again whenever its wants change
/// (docs/objects.md, "POSITION").
public struct PositionMessage: Sendable, Equatable {
    /// The version of the format that is written and understood.
    public static let version: UInt64 = 1

    /// The epoch that the position is of; nil when the client has none yet.
    public var epoch: Epoch?
    /// What is settled. Without an epoch, its position is the earliest part that the client would take: 0 for all that is
    /// kept, `newest` for nothing that was published before.
    public var cursor: Cursor
    /// What is to come on the connection.
    public var wants: Wants

    /// The position of a client without an epoch that wants nothing from before.
    public static let newest = ObjectLimits.sequences

    /// `epoch`: nil for a client that has none; `cursor` then says from where on it takes parts.
    public init(epoch: Epoch?, cursor: Cursor, wants: Wants = .everything) {
        self.epoch = epoch
        self.cursor = cursor
        self.wants = wants
    }

    func append(to out: inout [UInt8]) throws(ObjectsError) {
        out.appendVarint(Self.version)
        out.appendVarint(epoch == nil ? 0 : UInt64(Epoch.octets))
        if let epoch {
            out.appendBigEndian(epoch.high, width: 8)
            out.appendBigEndian(epoch.low, width: 8)
        }
        out.appendVarint(cursor.position)
        let ranges = cursor.ranges
        out.appendVarint(UInt64(ranges.count))
        var end = cursor.position
        for range in ranges {
            out.appendVarint(range.lowerBound - end)
            out.appendVarint(UInt64(range.count))
            end = range.upperBound
        }
        switch wants {
        case .everything: out.appendVarint(0)
        case .named(let prefixes):
            try Self.check(count: prefixes.count)
            out.appendVarint(UInt64(prefixes.count))
            for prefix in prefixes {
                guard prefix.utf8.count <= ObjectLimits.nameOctets else {
                    throw .tooLong(.prefix, limit: UInt64(ObjectLimits.nameOctets))
                }
                out.appendText(prefix)
            }
        }
    }

    private static func check(count: Int) throws(ObjectsError) {
        guard count > 0 else {
            throw .value(.position, field: "number of prefixes", 0, wanted: "1 to 64, or 'everything'")
        }
        guard count <= ObjectLimits.wantedPrefixes else {
            throw .tooMany(.prefix, UInt64(count), limit: UInt64(ObjectLimits.wantedPrefixes))
        }
    }

    @_lifetime(reader: copy reader)
    init(_ reader: inout ByteReader) throws(ObjectsError) {
        let version = try reader.number(.position)
        guard version == Self.version else { throw .version(.position, version) }
        let length = try reader.number(.position)
        guard length == 0 || length == UInt64(Epoch.octets) else {
            throw .value(.position, field: "length of the epoch", length, wanted: "0 or 16")
        }
        if length > 0 {
            guard let epoch = Epoch(&reader) else { throw .truncated(.position) }
            self.epoch = epoch
        }
        cursor = try Self.cursor(&reader)
        let count = try reader.number(.position)
        guard count <= UInt64(ObjectLimits.wantedPrefixes) else {
            throw .tooMany(.prefix, count, limit: UInt64(ObjectLimits.wantedPrefixes))
        }
        var prefixes: [String] = []
        for _ in 0..<Int(count) {
            prefixes.append(try reader.text(.prefix, limit: ObjectLimits.nameOctets, in: .position))
        }
        wants = prefixes.isEmpty ? .everything : .named(prefixes)
    }

    @_lifetime(reader: copy reader)
    private static func cursor(_ reader: inout ByteReader) throws(ObjectsError) -> Cursor {
        let position = try reader.number(.position)
        guard position <= ObjectLimits.sequences else {
            throw .value(.position, field: "position", position, wanted: "at most 2^60")
        }
        var cursor = Cursor(position: position)
        let count = try reader.number(.position)
        guard count <= UInt64(ObjectLimits.settledRanges) else {
            throw .tooMany(.position, count, limit: UInt64(ObjectLimits.settledRanges))
        }
        var end = position
        for _ in 0..<Int(count) {
            let gap = try reader.number(.position)
            let length = try reader.number(.position)
            guard gap > 0, length > 0, gap <= ObjectLimits.sequences - end,
                length <= ObjectLimits.sequences - end - gap
            else { throw .ranges(at: end) }
            cursor.settle((end + gap)..<(end + gap + length))
            end += gap + length
        }
        return cursor
    }
}
