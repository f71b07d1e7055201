import Wire

/// What really left, over the last quarter of a second or a little more.
struct RateMeter: Sendable {
    private var since: Instant
    private var before: (octets: UInt64, streams: UInt64, packetOctets: UInt64) = (0, 0, 0)
    /// Octets of new stream data, and new streams.
    private(set) var octetsPerSecond: UInt64 = 0
    private(set) var streamsPerSecond: UInt64 = 0
    /// Bits of packets.
    private(set) var bitsPerSecond: UInt64 = 0

    static var window: Duration { .milliseconds(250) }
    private static var windowNanoseconds: Int64 { 250_000_000 }

    init(now: Instant) { since = now }

    /// Takes note of all that was sent so far.
    @inline(__always)
    mutating func note(octets: UInt64, streams: UInt64, packetOctets: UInt64, at now: Instant) {
        if now.nanoseconds - since.nanoseconds >= Self.windowNanoseconds {
            measure(octets: octets, streams: streams, packetOctets: packetOctets, at: now)
        }
    }

    private mutating func measure(octets: UInt64, streams: UInt64, packetOctets: UInt64, at now: Instant) {
        let seconds = Double((now - since).nanoseconds) / 1e9
        octetsPerSecond = UInt64(Double(octets - before.octets) / seconds)
        streamsPerSecond = UInt64(Double(streams - before.streams) / seconds)
        bitsPerSecond = UInt64(Double(packetOctets - before.packetOctets) * 8 / seconds)
        since = now
        before = (octets, streams, packetOctets)
    }
}
