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

/// What is remembered of one packet number until every member has settled it.
struct PacketRecord: Sendable {
    var sentAt: Instant
    /// Octets of all packets before this one.
    var octetsBefore: UInt64
    /// Index of its first frame. For a skipped number: the end of the run of skipped numbers it is in.
    var frames: UInt64
    var frameCount: UInt16
    var skipped: Bool
    /// Its frames are queued for the flow, or were sent on it again.
    var repairedOnFlow: Bool
    /// Members that have reported it lost.
    var missing: UInt32
    /// How many acknowledgements had come, of anything by anyone, when the first of them did.
    var firstReport: UInt32 = 0

    static let none = PacketRecord(
        sentAt: Instant(nanoseconds: 0), octetsBefore: 0, frames: 0, frameCount: 0, skipped: true,
        repairedOnFlow: false, missing: 0)
}

/// The packets that some member has not settled, by packet number, with their frames.
struct PacketLog: Sendable {
    private(set) var packets: Ring<PacketRecord>
    private(set) var frames = Ring(filler: FrameRecord.none)
    /// The skipped numbers in the log, and the last few before it, as disjoint ranges, lowest first.
    private var skips = Ring(filler: UInt64(0)...0)
    private static var skipsKept: Int { 32 }
    private(set) var octetsSent: UInt64 = 0
    /// Of them, those of packets that are forgotten.
    private var octetsForgotten: UInt64 = 0

    init(firstPacketNumber: UInt64) {
        packets = Ring(filler: .none, startingAt: firstPacketNumber)
    }

    /// The packet number after the last one sent or skipped.
    var next: UInt64 { packets.end }
    /// The lowest packet number that is remembered.
    var base: UInt64 { packets.base }

    subscript(packetNumber: UInt64) -> PacketRecord { packets[packetNumber] }

    /// Counts a member's report; `acknowledgements` is how many have come so far. Returns how many members miss the
    /// packet, and how many acknowledgements it took to learn of them.
    mutating func markReported(_ packetNumber: UInt64, acknowledgements: UInt64) -> (missing: UInt32, of: UInt32) {
        let now = UInt32(truncatingIfNeeded: acknowledgements)
        if packets[packetNumber].missing == 0 { packets[packetNumber].firstReport = now }
        packets[packetNumber].missing += 1
        return (packets[packetNumber].missing, now &- packets[packetNumber].firstReport &+ 1)
    }

    mutating func markRepairedOnFlow(_ packetNumber: UInt64) { packets[packetNumber].repairedOnFlow = true }

    func frame(_ index: UInt64) -> FrameRecord { frames[index] }

    @inline(__always)
    mutating func appendFrame(_ frame: FrameRecord) { frames.append(frame) }

    /// Gives the next packet number to a packet with the `frameCount` frames from `firstFrame` on.
    @inline(__always)
    mutating func appendPacket(firstFrame: UInt64, frameCount: UInt16, octets: Int, at now: Instant) {
        packets.append(
            PacketRecord(
                sentAt: now, octetsBefore: octetsSent, frames: firstFrame, frameCount: frameCount, skipped: false,
                repairedOnFlow: false, missing: 0))
        octetsSent += UInt64(octets)
    }

    /// The same for `count` packets of one size, each with one frame of `length` octets, the first from `offset` of the
    /// stream on and each of the others from where the one before ends.
    @inline(__always)
    mutating func appendPackets(
        _ count: Int, octets: Int, stream: UInt64, offset: UInt32, length: UInt16, at now: Instant
    ) {
        let firstFrame = frames.end
        let before = octetsSent
        packets.append(count) { index in
            PacketRecord(
                sentAt: now, octetsBefore: before &+ UInt64(truncatingIfNeeded: index &* octets),
                frames: firstFrame &+ UInt64(truncatingIfNeeded: index), frameCount: 1, skipped: false,
                repairedOnFlow: false, missing: 0)
        }
        frames.append(count) { index in
            FrameRecord(
                stream: stream, offset: offset &+ UInt32(truncatingIfNeeded: index) &* UInt32(length), length: length,
                fin: false)
        }
        octetsSent += UInt64(count * octets)
    }

    /// Leaves out packet numbers up to `end`: nobody can have received them, so nobody may acknowledge them.
    mutating func skip(upTo end: UInt64, at now: Instant) {
        guard end > next else { return }
        skips.append(next...(end - 1))
        while packets.end < end {
            packets.append(
                PacketRecord(
                    sentAt: now, octetsBefore: octetsSent, frames: end, frameCount: 0, skipped: true,
                    repairedOnFlow: false, missing: 0))
        }
    }

    /// Whether `range` holds a skipped number: binary search among those remembered.
    func coversSkipped(_ range: ClosedRange<UInt64>) -> Bool {
        var low = skips.base
        var high = skips.end
        while low < high {
            let middle = low + (high - low) / 2
            if skips[middle].upperBound < range.lowerBound { low = middle + 1 } else { high = middle }
        }
        return low < skips.end && skips[low].lowerBound <= range.upperBound
    }

    /// Octets of the packets that are remembered.
    var octetsHeld: UInt64 { octetsSent - octetsForgotten }

    /// Forgets packets below `floor` and what their frames held of `streams`.
    mutating func forget(below floor: UInt64, releasing streams: inout StreamStore) {
        guard floor > packets.base else { return }
        var kept = floor
        while kept < next, packets[kept].skipped { kept = packets[kept].frames }
        let end = kept < next ? packets[kept].frames : frames.end
        octetsForgotten = kept < next ? packets[kept].octetsBefore : octetsSent
        var first = frames.base
        while first < end {
            let stream = frames[first].stream
            var last = first + 1
            while last < end, frames[last].stream == stream { last += 1 }
            streams.release(stream, frames: UInt32(last - first))
            first = last
        }
        frames.removeFirst(upTo: end)
        packets.removeFirst(upTo: floor)
        while skips.count > Self.skipsKept, skips[skips.base].upperBound < floor { skips.removeFirst() }
    }

    /// The lowest packet number, at least `from`, that was sent after `time`: binary search.
    func first(sentAfter time: Instant, from: UInt64) -> UInt64 {
        var low = max(from, base)
        var high = next
        while low < high {
            let middle = low + (high - low) / 2
            if packets[middle].sentAt <= time { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Records held now, for tests and memory limits.
    var recordsHeld: Int { packets.count + frames.count }
}
