import Wire

/// Puts fragments of IP packets together (RFC 791 section 3.2, RFC 8200 section 4.5), within bounds: what a source sends
/// in pieces must not cost a receiver more than this.
struct Reassembly: Sendable {
    /// Packets that may be incomplete at once; a further one takes the place of the oldest.
    static let packetLimit = 16
    /// Pieces of one packet.
    static let pieceLimit = 64
    /// How long a packet may stay incomplete.
    static let lifetime = Duration.seconds(15)

    private struct Key: Hashable {
        var source: IPAddress
        var destination: IPAddress
        var identification: UInt32
    }

    private struct Packet {
        var key: Key
        var since: Instant
        var pieces: [(offset: Int, octets: [UInt8])] = []
        /// Octets of the whole, once the last piece is there.
        var total: Int?

        var whole: [UInt8]? {
            guard let total, pieces.reduce(0, { $0 + $1.octets.count }) == total else { return nil }
            return pieces.sorted { $0.offset < $1.offset }.reduce(into: []) { $0 += $1.octets }
        }
    }

    private var packets: [Packet] = []
    /// Packets given up: too old, too many, in too many pieces, or with pieces that overlap.
    private(set) var dropped: UInt64 = 0

    /// Takes the payload of one fragment; the whole payload when it was the last that lacked.
    mutating func add(_ header: IPHeader, _ payload: Span<UInt8>, at now: Instant) -> [UInt8]? {
        guard let fragment = header.fragment else { return nil }
        let before = packets.count
        packets.removeAll { $0.since + Self.lifetime <= now }
        dropped += UInt64(before - packets.count)
        let key = Key(
            source: header.source, destination: header.destination, identification: fragment.identification)
        let index: Int
        if let known = packets.firstIndex(where: { $0.key == key }) {
            index = known
        } else {
            if packets.count == Self.packetLimit {
                packets.removeFirst()
                dropped += 1
            }
            packets.append(Packet(key: key, since: now))
            index = packets.count - 1
        }
        let end = fragment.offset + payload.count
        // A piece twice is no harm; one that differs from what is there condemns the packet (RFC 5722).
        if packets[index].pieces.contains(where: { $0.offset == fragment.offset && $0.octets.count == payload.count }) {
            return nil
        }
        let overlaps = packets[index].pieces.contains {
            $0.offset < end && fragment.offset < $0.offset + $0.octets.count
        }
        let isPastEnd =
            if let total = packets[index].total {
                end > total || !fragment.hasMore
            } else {
                !fragment.hasMore && packets[index].pieces.contains { $0.offset >= end }
            }
        guard !overlaps, !isPastEnd, end <= 65_535, payload.count > 0, packets[index].pieces.count < Self.pieceLimit,
            !fragment.hasMore || payload.count % 8 == 0
        else {
            packets.remove(at: index)
            dropped += 1
            return nil
        }
        packets[index].pieces.append((fragment.offset, [UInt8](payload)))
        if !fragment.hasMore { packets[index].total = end }
        guard let whole = packets[index].whole else { return nil }
        packets.remove(at: index)
        return whole
    }
}
