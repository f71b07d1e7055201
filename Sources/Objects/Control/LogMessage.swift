import Wire

/// LOG: what a source says of its log, in answer to POSITION (docs/objects.md, "LOG").
public struct LogMessage: Sendable, Equatable {
    /// The version of the format that is written and understood.
    public static let version: UInt64 = 1

    /// What became of the position that the client stated.
    public enum Answer: UInt64, Sendable {
        /// It is taken: the client is served from there.
        case taken = 0
        /// It is of another epoch, or lies beyond the end of this one: the client starts at the oldest part kept.
        case otherEpoch = 1
        /// The client had no epoch, and starts where it asked to, or at the oldest part kept.
        case fresh = 2
    }

    /// The epoch of the source's log, which all numbers are of.
    public var epoch: Epoch
    /// The source's clock as the message was written.
    public var now: WallTime
    /// The lowest number that is kept.
    public var oldest: UInt64
    /// The number that the next part gets: the live edge.
    public var next: UInt64
    /// What became of the position that the client stated.
    public var answer: Answer
    /// The first number that the client is served or told of.
    public var first: UInt64

    /// `first`: at most `next`, and below `oldest` only when the position is `taken`: what is gone is told as a gap.
    public init(epoch: Epoch, now: WallTime, oldest: UInt64, next: UInt64, answer: Answer, first: UInt64) {
        self.epoch = epoch
        self.now = now
        self.oldest = oldest
        self.next = next
        self.answer = answer
        self.first = first
    }

    private func check() throws(ObjectsError) {
        guard next <= ObjectLimits.sequences else {
            throw .value(.log, field: "live edge", next, wanted: "at most 2^60")
        }
        guard oldest <= next else {
            throw .value(.log, field: "oldest part kept", oldest, wanted: "at most the live edge")
        }
        guard first <= next else {
            throw .value(.log, field: "first part served", first, wanted: "at most the live edge")
        }
        guard answer == .taken || first >= oldest else {
            throw .value(.log, field: "first part served", first, wanted: "at least the oldest part kept")
        }
    }

    func append(to out: inout [UInt8]) throws(ObjectsError) {
        try check()
        out.appendVarint(Self.version)
        out.appendBigEndian(epoch.high, width: 8)
        out.appendBigEndian(epoch.low, width: 8)
        out.appendBigEndian(UInt64(bitPattern: now.nanoseconds), width: 8)
        out.appendVarint(oldest)
        out.appendVarint(next)
        out.appendVarint(answer.rawValue)
        out.appendVarint(first)
    }

    @_lifetime(reader: copy reader)
    init(_ reader: inout ByteReader) throws(ObjectsError) {
        let version = try reader.number(.log)
        guard version == Self.version else { throw .version(.log, version) }
        guard let epoch = Epoch(&reader), let time = reader.uint64() else { throw .truncated(.log) }
        self.epoch = epoch
        now = WallTime(nanoseconds: Int64(bitPattern: time))
        oldest = try reader.number(.log)
        next = try reader.number(.log)
        let code = try reader.number(.log)
        guard let answer = Answer(rawValue: code) else {
            throw .value(.log, field: "answer", code, wanted: "0 (taken), 1 (another epoch) or 2 (fresh)")
        }
        self.answer = answer
        first = try reader.number(.log)
        try check()
    }
}
