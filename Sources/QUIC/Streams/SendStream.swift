import Wire

/// The sending part of one stream (RFC 9000 section 3.1). `sendCompleted` or an acknowledged RESET_STREAM ends it, and the
/// table forgets it.
///
/// Every octet is in at most one of `fresh` (to be sent for the first time, and charged to flow control then) and `again`
/// (lost, or a repair of what went over a multicast flow: charged before). `sent` holds what this connection has sent and
/// answers for; `acknowledged` is a part of it.
struct SendStream: Sendable {
    enum State: Sendable {
        /// Ready, Send and Data Sent of the RFC: which of them follows from the octets and the end.
        case sending
        case resetSent
    }

    /// How far the end of the stream has got.
    enum End: Sendable {
        /// Not written, or not ours to send.
        case none
        case fresh
        case sent
        case again
        case acknowledged
    }

    let id: StreamID
    private(set) var state = State.sending
    /// What was written, and is sent again as it was (RFC 9000 section 2.2).
    private(set) var content = StreamContent()
    private(set) var fresh = OctetSet()
    private(set) var again = OctetSet()
    private(set) var sent = OctetSet()
    private(set) var acknowledged = OctetSet()
    private(set) var ending = End.none
    /// Where the stream ends, once that was written: nothing is sent beyond it (RFC 9000 section 4.5).
    private(set) var finalSize: UInt64?
    /// The first offset that the peer does not allow yet, whatever has become of the other direction (RFC 9000 section 4.4).
    private(set) var maxStreamData: UInt64
    /// Parts of a shared stream, given with `sendRange`: complete when everything asked for was acknowledged.
    let isRanged: Bool
    private(set) var resetCode: UInt64 = 0

    /// A shared stream that this connection has yet to charge to the peer's stream limit, when octet 0 goes out.
    var owesStreamCredit = false
    /// The table's queues that this stream is in.
    var isQueuedFresh = false
    var isQueuedAgain = false
    var isQueuedControl = false
    /// Taken out of the queue for fresh data until the peer raises a limit.
    var awaitsStreamData = false
    var awaitsStreamCredit = false
    var owesReset = false
    var owesBlocked = false
    /// The limit that the last STREAM_DATA_BLOCKED named.
    var blockedAt: UInt64?

    init(id: StreamID, maxStreamData: UInt64, isRanged: Bool) {
        self.id = id
        self.maxStreamData = maxStreamData
        self.isRanged = isRanged
    }

    // Inlined, these: the whole struct, with five arrays to retain, would be copied for the call.
    @inline(__always)
    var hasFresh: Bool { state == .sending && (!fresh.isEmpty || ending == .fresh) }
    @inline(__always)
    var hasAgain: Bool { state == .sending && (!again.isEmpty || ending == .again) }
    /// The next fresh octet lies beyond the peer's limit for this stream.
    @inline(__always)
    var isBlocked: Bool { fresh.first.map { $0.lowerBound >= maxStreamData } ?? false }
    /// The next thing to go out is the beginning of the stream.
    @inline(__always)
    var isAtStart: Bool { fresh.first.map { $0.lowerBound == 0 } ?? (finalSize == 0) }

    /// Everything was sent and acknowledged.
    @inline(__always)
    var isComplete: Bool {
        guard state == .sending, fresh.isEmpty, again.isEmpty else { return false }
        switch ending {
        case .acknowledged: break
        case .none: guard isRanged else { return false }
        case .fresh, .sent, .again: return false
        }
        return sent == acknowledged
    }

    // MARK: - What to send

    mutating func write(_ octets: StreamOctets, fin: Bool) {
        let start = content.end
        content.append(octets)
        fresh.insert(start..<content.end)
        if fin {
            finalSize = content.end
            ending = .fresh
        }
    }

    /// See `StreamTable.sendRange`.
    mutating func sendRange(_ octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool) {
        guard state == .sending else { return }
        if content.end < octets.count { content.replace(with: octets) }
        var wanted = OctetSet()
        wanted.insert(range.clamped(to: 0..<content.end))
        // What was sent is acknowledged, on its way or found lost already: it needs nothing more.
        wanted.subtract(sent)
        if counted {
            wanted.subtract(again)
            let isStart = content.end == 0 ? fin && ending == .none : wanted.contains(0) && !fresh.contains(0)
            if isStart { owesStreamCredit = true }
            fresh.formUnion(wanted)
        } else {
            fresh.subtract(wanted)
            again.formUnion(wanted)
        }
        if fin {
            finalSize = content.end
            if ending == .none { ending = counted ? .fresh : .again }
        }
    }

    /// Gives the stream up: no octet of it is sent from then on (RFC 9000 section 3.3), and the RESET_STREAM stays as it is
    /// when it is sent again (RFC 9000 section 13.3). The final size is what flow control was charged for; of a shared
    /// stream the receiver may have more than this connection sent, so that it is the size of the whole.
    mutating func reset(code: UInt64) {
        guard state == .sending else { return }
        state = .resetSent
        resetCode = code
        finalSize = isRanged ? max(content.end, sent.end) : sent.end
        owesReset = true
        owesBlocked = false
        fresh.removeAll()
        again.removeAll()
        content.discard()
    }

    mutating func raise(maxStreamData limit: UInt64) {
        maxStreamData = max(maxStreamData, limit)
    }

    // MARK: - Frames

    /// Writes the next STREAM frame of octets to be sent again. nil when it does not fit.
    @_lifetime(writer: copy writer)
    mutating func writeAgain(into writer: inout ByteWriter) -> SentFrame? {
        let range = again.first ?? endRange
        guard let frame = writeFrame(range, into: &writer) else { return nil }
        again.remove(frame)
        return didWrite(frame)
    }

    /// Writes the next STREAM frame of fresh octets, `credit` of them at the most. nil when it does not fit.
    @_lifetime(writer: copy writer)
    mutating func writeFresh(into writer: inout ByteWriter, credit: UInt64) -> SentFrame? {
        var range = endRange
        if let next = fresh.first {
            let stop = min(next.upperBound, maxStreamData)
            range = next.lowerBound..<min(stop, next.lowerBound + min(credit, stop - next.lowerBound))
        }
        guard let frame = writeFrame(range, into: &writer) else { return nil }
        fresh.remove(frame)
        return didWrite(frame)
    }

    /// Fresh octets before the end of the stream were written.
    mutating func bulkWritten(_ range: Range<UInt64>) {
        fresh.remove(range)
        sent.insert(range)
    }

    private var endRange: Range<UInt64> {
        let end = finalSize ?? content.end
        return end..<end
    }

    private mutating func didWrite(_ frame: Range<UInt64>) -> SentFrame {
        sent.insert(frame)
        let fin = frame.upperBound == finalSize && ending != .none
        if fin, ending != .acknowledged { ending = .sent }
        return .stream(id: id, offset: frame.lowerBound, length: frame.count, fin: fin)
    }

    /// Writes a STREAM frame with as much of `range` as fits (RFC 9000 section 19.8) and returns what that was.
    @_lifetime(writer: copy writer)
    private func writeFrame(_ range: Range<UInt64>, into writer: inout ByteWriter) -> Range<UInt64>? {
        let header = 1 + Varint.length(id.rawValue) + (range.lowerBound > 0 ? Varint.length(range.lowerBound) : 0)
        let room = writer.remaining - header
        var count = range.count
        // Only a frame that fills the packet to its end may leave its length out.
        let fills = count > 0 && room <= count
        if fills {
            count = room
        } else {
            guard room >= 1 else { return nil }
            count = min(count, room - 1)
            if Varint.length(UInt64(count)) > 1 { count = min(count, room - Varint.length(UInt64(count))) }
        }
        guard count >= min(range.count, StreamBounds.smallestFragment) else { return nil }
        let frame = range.lowerBound..<(range.lowerBound + UInt64(count))
        let fin = frame.upperBound == finalSize && ending != .none
        writer.uint8(0x08 | (range.lowerBound > 0 ? 0x04 : 0) | (fills ? 0 : 0x02) | (fin ? 0x01 : 0))
        writer.varint(id.rawValue)
        if range.lowerBound > 0 { writer.varint(range.lowerBound) }
        if !fills { writer.varint(UInt64(count)) }
        content.write(frame, into: &writer)
        return frame
    }

    // MARK: - What became of it

    mutating func acknowledge(_ range: Range<UInt64>, fin: Bool) {
        guard state == .sending else { return }
        sent.insert(range)
        acknowledged.insert(range)
        again.remove(range)
        fresh.remove(range)
        if fin { ending = .acknowledged }
        if !isRanged { content.release(below: acknowledged.prefix) }
    }

    mutating func lose(_ range: Range<UInt64>, fin: Bool) {
        guard state == .sending else { return }
        var lost = OctetSet()
        lost.insert(range)
        lost.subtract(acknowledged)
        again.formUnion(lost)
        if fin, ending == .sent { ending = .again }
    }
}
