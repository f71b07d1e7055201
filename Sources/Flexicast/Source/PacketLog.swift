import Wire

/// A part of a stream that one packet carries.
struct FrameRecord: Sendable {
    /// Index of the stream among the flow's streams (`StreamID.index`).
    var stream: UInt64
    var offset: UInt32
    var length: UInt16
    var fin: Bool

    static let none = FrameRecord(stream: 0, offset: 0, length: 0, fin: false)
}

/// Packet numbers in a row that are alike: one packet; packets that one stream fills; or numbers that were left out.
private struct PacketRun: Sendable {
    var first: UInt64
    var end: UInt64
    var sentAt: Instant
    /// Octets of all packets before the first.
    var octetsBefore: UInt64
    /// Index of the first packet's first frame. Of several packets the log has only that one: each of the others carries
    /// as many octets, from where those of the one before end.
    var frames: UInt64
    /// Frames and octets of each packet.
    var frameCount: UInt16
    var octets: UInt16
    var skipped: Bool

    static let none = PacketRun(
        first: 0, end: 0, sentAt: Instant(nanoseconds: 0), octetsBefore: 0, frames: 0, frameCount: 0, octets: 0,
        skipped: true)

    var isSingle: Bool { end == first + 1 }
}

/// What is remembered of one packet number until every member has settled it.
struct PacketRecord: Sendable {
    fileprivate let run: PacketRun
    fileprivate let packetNumber: UInt64

    var sentAt: Instant { run.sentAt }
    var skipped: Bool { run.skipped }
    var frameCount: Int { Int(run.frameCount) }
    /// The number after those left out that it is among; otherwise not the packet's own.
    var skippedUpTo: UInt64 { run.end }
}

/// The packets that some member has not settled, by packet number, with their frames.
///
/// A source that sends as fast as it can has a hundred thousand of them, so that what is written for each is felt: a run
/// that one stream fills is one entry, found by binary search, and what few packets need, those lost, is apart.
struct PacketLog: Sendable {
    private var runs = IndexedRing(filler: PacketRun.none)
    private(set) var frames = IndexedRing(filler: FrameRecord.none)
    private var marks = LossMarks()
    /// The skipped numbers in the log, and the last few before it, as disjoint ranges, lowest first.
    private var skips = IndexedRing(filler: UInt64(0)...0)
    private static var skipsKept: Int { 32 }
    private(set) var octetsSent: UInt64 = 0
    /// Of them, those of packets that are forgotten.
    private var octetsForgotten: UInt64 = 0
    /// The packet number after the last one sent or skipped.
    private(set) var next: UInt64
    /// The lowest packet number that is remembered.
    private(set) var base: UInt64

    init(firstPacketNumber: UInt64) {
        next = firstPacketNumber
        base = firstPacketNumber
    }

    subscript(packetNumber: UInt64) -> PacketRecord {
        precondition(packetNumber >= base && packetNumber < next)
        return PacketRecord(run: runs[place(of: packetNumber)], packetNumber: packetNumber)
    }

    /// The run of a packet number in the log, or the first one.
    private func place(of packetNumber: UInt64) -> UInt64 {
        var low = runs.base
        guard packetNumber >= runs[low].end else { return low }
        var high = runs.end
        // runs[low] begins at or before it, runs[high] after.
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if runs[middle].first <= packetNumber { low = middle } else { high = middle }
        }
        return low
    }

    // MARK: Sending

    @inline(__always)
    mutating func appendFrame(_ frame: FrameRecord) { frames.append(frame) }

    /// Gives the next packet number to a packet with the frames from `firstFrame` on.
    @inline(__always)
    mutating func appendPacket(firstFrame: UInt64, octets: Int, at now: Instant) {
        append(
            PacketRun(
                first: next, end: next &+ 1, sentAt: now, octetsBefore: octetsSent, frames: firstFrame,
                frameCount: UInt16(truncatingIfNeeded: frames.end &- firstFrame),
                octets: UInt16(truncatingIfNeeded: octets), skipped: false))
    }

    /// The same for `count` packets of one size, the first with this frame and each of the others with one as long, which
    /// begins where the one before ends.
    mutating func appendPackets(_ count: Int, octets: Int, frame: FrameRecord, at now: Instant) {
        append(
            PacketRun(
                first: next, end: next + UInt64(count), sentAt: now, octetsBefore: octetsSent, frames: frames.end,
                frameCount: 1, octets: UInt16(octets), skipped: false))
        frames.append(frame)
    }

    /// Leaves out packet numbers up to `end`: nobody can have received them, so nobody may acknowledge them.
    mutating func skip(upTo end: UInt64, at now: Instant) {
        guard end > next else { return }
        skips.append(next...(end - 1))
        append(
            PacketRun(
                first: next, end: end, sentAt: now, octetsBefore: octetsSent, frames: frames.end, frameCount: 0,
                octets: 0, skipped: true))
    }

    @inline(__always)
    private mutating func append(_ run: PacketRun) {
        octetsSent += UInt64(run.octets) * (run.end - run.first)
        next = run.end
        runs.append(run)
    }

    // MARK: What a packet carried

    /// The frames of a packet: 0 up to its `frameCount`.
    func frame(_ index: Int, of packet: PacketRecord) -> FrameRecord {
        var frame = frames[packet.run.frames + UInt64(index)]
        if !packet.run.isSingle {
            frame.offset += UInt32(truncatingIfNeeded: packet.packetNumber - packet.run.first) * UInt32(frame.length)
        }
        return frame
    }

    /// Octets of the packets that are remembered.
    var octetsHeld: UInt64 { octetsSent - octetsForgotten }

    /// Octets of the packets from one number on, which is in the log, up to another, or up to the end of the log.
    func octets(from first: UInt64, to end: UInt64) -> UInt64 {
        guard first < end, first < next else { return 0 }
        return (end < next ? octetsBefore(end) : octetsSent) - octetsBefore(first)
    }

    private func octetsBefore(_ packetNumber: UInt64) -> UInt64 {
        let run = runs[place(of: packetNumber)]
        return run.octetsBefore + UInt64(run.octets) * (packetNumber - run.first)
    }

    /// Whether `range` holds a skipped number: binary search among those remembered.
    func coversSkipped(_ range: ClosedRange<UInt64>) -> Bool {
        let low = (skips.base..<skips.end).partitionPoint { skips[$0].upperBound < range.lowerBound }
        return low < skips.end && skips[low].lowerBound <= range.upperBound
    }

    /// The lowest packet number, at least `from`, that was sent after `time`: binary search.
    func first(sentAfter time: Instant, from: UInt64) -> UInt64 {
        let low = (runs.base..<runs.end).partitionPoint { runs[$0].sentAt <= time }
        return max(from, base, low < runs.end ? runs[low].first : next)
    }

    // MARK: Losses

    /// Counts a member's report; `acknowledgements` is how many have come so far. Returns how many members miss the
    /// packet, and how many acknowledgements it took to learn of them.
    mutating func markReported(_ packetNumber: UInt64, acknowledgements: UInt64) -> (missing: UInt32, of: UInt32) {
        precondition(packetNumber >= base && packetNumber < next)
        let now = UInt32(truncatingIfNeeded: acknowledgements)
        let place = marks.place(of: packetNumber, base: base)
        if marks[place].missing == 0 { marks[place].firstReport = now }
        marks[place].missing += 1
        return (marks[place].missing, now &- marks[place].firstReport &+ 1)
    }

    mutating func markRepairedOnFlow(_ packetNumber: UInt64) {
        precondition(packetNumber >= base && packetNumber < next)
        marks[marks.place(of: packetNumber, base: base)].repairedOnFlow = true
    }

    func isRepairedOnFlow(_ packetNumber: UInt64) -> Bool {
        marks.find(packetNumber).map { marks[$0].repairedOnFlow } ?? false
    }

    // MARK: Forgetting

    /// Forgets packets below `floor` and what their frames held of `streams`.
    mutating func forget(below floor: UInt64, releasing streams: inout StreamStore) {
        guard floor > base else { return }
        // Neighbouring frames of a stream are released as one.
        var gone = (stream: UInt64(0), frames: UInt32(0))
        func release(_ stream: UInt64, _ count: UInt32, _ streams: inout StreamStore) {
            if stream != gone.stream {
                if gone.frames > 0 { streams.release(gone.stream, frames: gone.frames) }
                gone = (stream, 0)
            }
            gone.frames += count
        }
        while !runs.isEmpty, runs[runs.base].first < floor {
            let run = runs[runs.base]
            if run.isSingle {
                for index in 0..<UInt64(run.frameCount) { release(frames[run.frames + index].stream, 1, &streams) }
            } else if !run.skipped {
                let count = min(run.end, floor) - max(run.first, base)
                release(frames[run.frames].stream, UInt32(truncatingIfNeeded: count), &streams)
            }
            octetsForgotten = run.octetsBefore + UInt64(run.octets) * (min(run.end, floor) - run.first)
            guard run.end <= floor else { break }
            frames.removeFirst(upTo: run.frames + UInt64(run.frameCount))
            runs.removeFirst()
        }
        if gone.frames > 0 { streams.release(gone.stream, frames: gone.frames) }
        base = floor
        if runs.isEmpty { marks.removeAll() }
        while skips.count > Self.skipsKept, skips[skips.base].upperBound < floor { skips.removeFirst() }
    }

    /// Records held now, for tests and memory limits.
    var recordsHeld: Int { runs.count + frames.count }
    /// Records there is room for.
    var capacity: Int { runs.capacity + frames.capacity + marks.capacity }
}
