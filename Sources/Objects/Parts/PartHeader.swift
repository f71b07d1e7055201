import Wire

/// What stands at the start of a part's stream: which part it is, and of which object (docs/objects.md, "Part").
///
/// Each part carries all of it, so that any part tells what its object is and parts can be checked against each other.
public struct PartHeader: Sendable {
    /// The version of the format that is written and understood.
    public static let version: UInt64 = 1

    /// The number of this part in the log.
    public var sequence: UInt64
    /// Which part of its object it is, from 0.
    public var index: UInt64
    /// How many parts the object has; nil when that was not known as this part was written.
    public var count: UInt64?
    /// Octets of the whole object; nil when that was not known as this part was written.
    public var length: UInt64?
    /// When the object was published, by the source's clock.
    public var published: WallTime
    /// The media type (RFC 6838), for one `application/atom+xml`. May be empty.
    public var mediaType: String
    /// The object's name, compared octet by octet. May be empty.
    public var name: String

    /// The defaults are an object's only part. Nothing is looked at before `check`.
    public init(
        sequence: UInt64, index: UInt64 = 0, count: UInt64? = 1, length: UInt64?, published: WallTime,
        mediaType: String = "", name: String = ""
    ) {
        self.sequence = sequence
        self.index = index
        self.count = count
        self.length = length
        self.published = published
        self.mediaType = mediaType
        self.name = name
    }

    /// The sequence number of the object's first part, which names the object in its epoch.
    public var object: UInt64 { sequence &- index }

    /// Throws when a field holds what it may not.
    public func check() throws(ObjectsError) {
        guard sequence < ObjectLimits.sequences else {
            throw .value(.header, field: "sequence number", sequence, wanted: "below 2^60")
        }
        guard index <= sequence else {
            throw .value(.header, field: "index", index, wanted: "at most the sequence number")
        }
        if let count {
            guard count > index, count <= ObjectLimits.sequences - object else {
                throw .value(
                    .header, field: "number of parts", count,
                    wanted: "above the index, and the last part's number below 2^60")
            }
        }
        if let length {
            guard length < Varint.max else {
                throw .value(.header, field: "object length", length, wanted: "below 2^62 - 1")
            }
            // Divided, not multiplied: the count may be anything.
            let needed =
                length / UInt64(ObjectLimits.partOctets) + (length % UInt64(ObjectLimits.partOctets) == 0 ? 0 : 1)
            if let count, needed > count {
                throw .value(.header, field: "object length", length, wanted: "at most what its parts can hold")
            }
        }
        guard mediaType.utf8.count <= ObjectLimits.mediaTypeOctets else {
            throw .tooLong(.mediaType, limit: UInt64(ObjectLimits.mediaTypeOctets))
        }
        guard name.utf8.count <= ObjectLimits.nameOctets else {
            throw .tooLong(.name, limit: UInt64(ObjectLimits.nameOctets))
        }
    }

    /// The field in which this part, by its header, cannot belong to the same object as `other`; nil when it can.
    func contradiction(to other: PartHeader) -> ObjectsError.Field? {
        if object != other.object { return .sequence }
        if published != other.published { return .published }
        if let count, let known = other.count, count != known { return .count }
        if let length, let known = other.length, length != known { return .length }
        // By octets: Swift calls texts equal that are written with different octets.
        if !name.utf8.elementsEqual(other.name.utf8) { return .name }
        if !mediaType.utf8.elementsEqual(other.mediaType.utf8) { return .mediaType }
        return nil
    }
}

extension PartHeader: Equatable {
    public static func == (a: PartHeader, b: PartHeader) -> Bool {
        a.sequence == b.sequence && a.count == b.count && a.length == b.length && a.contradiction(to: b) == nil
    }
}

extension PartHeader {
    /// Octets of the header behind the two numbers that start a prelude, and of the whole prelude.
    private var fieldsLength: Int {
        let (type, name) = (mediaType.utf8.count, name.utf8.count)
        return Varint.length(sequence) + Varint.length(index) + Varint.length(count ?? 0)
            + Varint.length(lengthField) + 8 + Varint.length(UInt64(type)) + type
            + Varint.length(UInt64(name)) + name
    }
    /// The length as it is written: 0 says that it is not known.
    private var lengthField: UInt64 { if let length { length + 1 } else { 0 } }
    var preludeLength: Int {
        let fields = fieldsLength
        return Varint.length(Self.version) + Varint.length(UInt64(fields)) + fields
    }

    /// Writes the prelude, which has `length` octets, as it stands at the start of the stream; `check()` must hold.
    @inline(__always)
    @_lifetime(writer: copy writer)
    func write(_ length: Int, into writer: inout ByteWriter) {
        // Behind the version and the number of what follows, which are one octet each when that is below 64.
        let fields = length <= 65 ? length - 2 : fieldsLength
        writer.varint(Self.version)
        writer.varint(UInt64(fields))
        writer.varint(sequence)
        writer.varint(index)
        writer.varint(count ?? 0)
        writer.varint(lengthField)
        writer.uint64(UInt64(bitPattern: published.nanoseconds))
        write(mediaType, into: &writer)
        write(name, into: &writer)
    }

    @inline(__always)
    @_lifetime(writer: copy writer)
    private func write(_ text: String, into writer: inout ByteWriter) {
        let count = text.utf8.count
        writer.varint(UInt64(count))
        if count > 0 { for octet in text.utf8 { writer.uint8(octet) } }
    }

    /// The header at the start of `octets`, and how many octets its prelude has; nil when it is not all there yet.
    ///
    /// What is wrong is said as soon as it can be: an unknown version or a length beyond the limit before the rest is there.
    public static func parse(_ octets: Span<UInt8>) throws(ObjectsError) -> (header: PartHeader, prelude: Int)? {
        var reader = ByteReader(octets)
        guard let version = reader.varint() else { return nil }
        guard version == Self.version else { throw .version(.header, version) }
        guard let length = reader.varint() else { return nil }
        guard length <= UInt64(ObjectLimits.headerOctets) else {
            throw .tooLong(.header, limit: UInt64(ObjectLimits.headerOctets))
        }
        guard let content = reader.take(Int(length)) else { return nil }
        return (try parse(fields: content), reader.offset)
    }

    private static func parse(fields: Span<UInt8>) throws(ObjectsError) -> PartHeader {
        var reader = ByteReader(fields)
        let sequence = try reader.number(.header)
        let index = try reader.number(.header)
        let count = try reader.number(.header)
        let length = try reader.number(.header)
        guard let time = reader.uint64() else { throw .truncated(.header) }
        let mediaType = try reader.text(.mediaType, limit: ObjectLimits.mediaTypeOctets, in: .header)
        let name = try reader.text(.name, limit: ObjectLimits.nameOctets, in: .header)
        let header = PartHeader(
            sequence: sequence, index: index, count: count == 0 ? nil : count, length: length == 0 ? nil : length - 1,
            published: WallTime(nanoseconds: Int64(bitPattern: time)), mediaType: mediaType, name: name)
        try header.check()
        // Extension fields: none is known, so each is stepped over.
        while !reader.isAtEnd {
            _ = try reader.number(.extension)
            let length = try reader.number(.extension)
            guard length <= UInt64(reader.remaining), reader.skip(Int(length)) else { throw .truncated(.extension) }
        }
        return header
    }
}
