import Wire

/// REPORT: what a client that was asked to says of its reception, now and then (docs/objects.md, "REPORT"). Nobody can verify it.
public struct ReportMessage: Sendable, Equatable {
    /// How the client gets parts.
    public enum Way: UInt64, Sendable, CaseIterable {
        /// On its connection.
        case connection = 0
        /// On the flow, by its group.
        case group = 1
        /// On the flow, through a relay.
        case relay = 2
    }

    /// How it gets parts now.
    public var way = Way.connection
    /// Objects that it has, since it began.
    public var objects: UInt64 = 0
    /// Packets of flows that never came, since it began.
    public var packetsLost: UInt64 = 0
    /// Times that it went back from a flow to its connection.
    public var fallbacks: UInt64 = 0
    /// Objects that the latencies are of: those since the report before.
    public var count: UInt64 = 0
    /// Latency that half of them do not exceed, in microseconds.
    public var median: UInt64 = 0
    /// Latency that 95 of 100 do not exceed, in microseconds.
    public var percent95: UInt64 = 0
    /// The most that the estimate of the source's clock may be wrong by, in microseconds.
    public var uncertainty: UInt64 = 0

    /// Of a client that has nothing yet.
    public init() {}

    func append(to out: inout [UInt8]) {
        out.appendVarint(way.rawValue)
        for value in [objects, packetsLost, fallbacks, count, median, percent95, uncertainty] {
            out.appendVarint(min(value, Varint.max))
        }
    }

    @_lifetime(reader: copy reader)
    init(_ reader: inout ByteReader) throws(ObjectsError) {
        guard reader.remaining <= ObjectLimits.reportOctets else {
            throw .tooLong(.report, limit: UInt64(ObjectLimits.reportOctets))
        }
        let way = try reader.number(.report)
        guard let way = Way(rawValue: way) else { throw .value(.report, field: "way", way, wanted: "0, 1 or 2") }
        self.way = way
        objects = try reader.number(.report)
        packetsLost = try reader.number(.report)
        fallbacks = try reader.number(.report)
        count = try reader.number(.report)
        median = try reader.number(.report)
        percent95 = try reader.number(.report)
        uncertainty = try reader.number(.report)
        // A later version may say more.
        _ = reader.skip(reader.remaining)
    }
}
