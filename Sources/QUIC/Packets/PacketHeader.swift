import Wire

/// The part of a packet's header that header protection leaves in the clear (RFC 9000 section 17, RFC 8999).
/// All offsets are indices into the datagram.
public struct PacketHeader: Sendable, Equatable {
    /// The kinds of packets, by form, version and type of the header (RFC 9000 section 17).
    public enum Kind: Sendable, Equatable {
        /// Type 0x00 of a long header (RFC 9000 section 17.2.2).
        case initial
        /// Type 0x01: not spoken here.
        case zeroRTT
        /// Type 0x02 (RFC 9000 section 17.2.4).
        case handshake
        /// Type 0x03: neither a packet number nor packet protection (RFC 9000 section 17.2.5).
        case retry
        /// A long header of version 0: neither a packet number nor packet protection (RFC 9000 section 17.2.1).
        case versionNegotiation
        /// A short header (RFC 9000 section 17.3.1).
        case oneRTT
        /// A long header of a version other than 1: only the connection IDs are meaningful (RFC 8999 section 5.1).
        case unknownVersion
    }

    /// From which follows what else there is.
    public var kind: Kind
    /// Of a long header, as it is there; of a short one always 1, which it does not name.
    public var version: UInt32
    /// Destination Connection ID.
    public var destination: ConnectionID
    /// Empty in a short header.
    public var source: ConnectionID
    /// Where an Initial's or Retry's token lies; empty otherwise.
    public var token: Range<Int>
    /// Index of the packet's first octet.
    public var start: Int
    /// Where the packet number begins; for kinds without one, where the rest of the packet begins.
    public var packetNumberOffset: Int
    /// Just after the packet; the next coalesced packet begins here.
    public var end: Int

    /// The version of RFC 9000.
    public static let version1: UInt32 = 1

    /// Whether the packet that begins at `start` has a short header with the destination `id`.
    @inline(__always)
    public static func isShort(_ datagram: Span<UInt8>, at start: Int, to id: ConnectionID) -> Bool {
        guard datagram.count - start > id.count, datagram[start] & 0xc0 == 0x40 else { return false }
        var reader = ByteReader(datagram, at: start + 1)
        if id.count == 8 { return reader.uint64() == id.prefix }
        return reader.connectionID(id.count) == id
    }

    /// Whether all datagrams, which lie back to back, each of `size` octets but for the last, begin like that.
    public static func areShort(_ datagrams: Span<UInt8>, ofSize size: Int, to id: ConnectionID) -> Bool {
        for start in stride(from: 0, to: datagrams.count, by: size) where !isShort(datagrams, at: start, to: id) {
            return false
        }
        return true
    }

    /// Reads the packet that begins at `start`. `shortIDLength` is the length of the connection IDs that we hand out.
    /// nil: not a packet that can be read; the rest of the datagram is dropped (RFC 9000 section 12.2). So is one without the
    /// fixed bit (RFC 9000 sections 17.2 and 17.3.1), with a longer ID than there may be, or cut short (RFC 9000
    /// section 10.3). The spin bit may be either (RFC 9000 section 17.4).
    public static func parse(_ datagram: Span<UInt8>, at start: Int, shortIDLength: Int) -> PacketHeader? {
        var reader = ByteReader(datagram, at: start)
        guard let first = reader.uint8() else { return nil }
        guard first & 0x80 != 0 else {
            guard first & 0x40 != 0, let destination = reader.connectionID(shortIDLength) else { return nil }
            return PacketHeader(
                kind: .oneRTT, version: version1, destination: destination, source: .empty, token: 0..<0, start: start,
                packetNumberOffset: reader.offset, end: datagram.count)
        }
        guard let version = reader.uint32(),
            let destinationLength = reader.uint8(), let destination = reader.connectionID(Int(destinationLength)),
            let sourceLength = reader.uint8(), let source = reader.connectionID(Int(sourceLength))
        else { return nil }
        var header = PacketHeader(
            kind: .unknownVersion, version: version, destination: destination, source: source, token: 0..<0,
            start: start, packetNumberOffset: reader.offset, end: datagram.count)
        guard version == version1 else {
            if version == 0 { header.kind = .versionNegotiation }
            return header
        }
        guard first & 0x40 != 0 else { return nil }
        switch first >> 4 & 3 {
        case 0:
            header.kind = .initial
            guard let length = reader.varint(), length <= UInt64(reader.remaining) else { return nil }
            header.token = reader.offset..<(reader.offset + Int(length))
            guard reader.skip(Int(length)) else { return nil }
        case 1: header.kind = .zeroRTT
        case 2: header.kind = .handshake
        default:
            header.kind = .retry
            guard reader.remaining >= 16 else { return nil }
            header.token = reader.offset..<(datagram.count - 16)
            return header
        }
        guard let length = reader.varint(), length <= UInt64(reader.remaining) else { return nil }
        header.packetNumberOffset = reader.offset
        header.end = reader.offset + Int(length)
        return header
    }
}

/// Version Negotiation packets (RFC 9000 sections 6 and 17.2.1).
public enum VersionNegotiation {
    /// The answer to a long-header datagram of a version we do not speak, or nil when it deserves none: too short to be a
    /// first packet (RFC 9000 section 5.2.2; so that the answer never outgrows the question), or itself a Version Negotiation
    /// packet (RFC 9000 section 6.1).
    public static func response(to datagram: Span<UInt8>, random: inout SeededRandom) -> [UInt8]? {
        guard datagram.count >= 1200 else { return nil }
        var reader = ByteReader(datagram)
        guard let first = reader.uint8(), first & 0x80 != 0, let version = reader.uint32(),
            version != 0, version != PacketHeader.version1,
            // Other versions may use connection IDs of up to 255 octets: echo them whatever they are.
            let destinationLength = reader.uint8(), let destination = reader.array(Int(destinationLength)),
            let sourceLength = reader.uint8(), let source = reader.array(Int(sourceLength))
        else { return nil }
        return [UInt8].written(capacity: 600) { writer in
            writer.uint8(0xc0 | UInt8(truncatingIfNeeded: random.next()) & 0x3f)
            writer.uint32(0)
            writer.uint8(UInt8(source.count))
            writer.octets(source.span)
            writer.uint8(UInt8(destination.count))
            writer.octets(destination.span)
            // A reserved version keeps clients honest about versions they do not know (RFC 9000 section 6.3).
            writer.uint32(UInt32(truncatingIfNeeded: random.next()) & 0xf0f0_f0f0 | 0x0a0a_0a0a)
            writer.uint32(PacketHeader.version1)
        }
    }

    /// The versions that a Version Negotiation packet offers.
    public static func versions(in datagram: Span<UInt8>, header: PacketHeader) -> [UInt32] {
        var reader = ByteReader(datagram, at: header.packetNumberOffset)
        var versions: [UInt32] = []
        while let version = reader.uint32() { versions.append(version) }
        return versions
    }
}
