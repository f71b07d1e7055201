import Wire

/// Received octets of one stream or CRYPTO stream: out of order in, in order out (RFC 9000 section 2.2). What comes twice is
/// dropped, and where copies differ the first one stays.
///
/// In order, every octet is copied once, to the end of one array that the reader then takes whole: at once, or with
/// `consume` before it when all of the stream is there. What lies beyond a hole waits in separate segments, each of which
/// grows while its own octets come in order.
struct ReceiveBuffer: Sendable {
    private struct Segment: Sendable {
        var offset: UInt64
        var bytes: [UInt8]
        var end: UInt64 { offset + UInt64(bytes.count) }
    }

    /// Everything below was read or consumed.
    private(set) var readOffset: UInt64 = 0
    /// One past the highest octet that was taken in.
    private(set) var highest: UInt64 = 0
    /// Octets held and neither read nor consumed.
    private(set) var buffered = 0
    /// Octets that were not taken because there were too many holes.
    private(set) var refused: UInt64 = 0

    /// The octets from `heldOffset` on.
    private var ready: [UInt8]
    /// How many of them were consumed.
    private(set) var consumed = 0
    /// As long as the whole may become: room for it is made at once when a part of it is there.
    private let expected: Int
    /// What lies beyond the first hole: ascending, not overlapping.
    private var segments: [Segment] = []

    /// - Parameter room: an empty array that octets are put into as long as it has room for them.
    init(expected: Int = 0, room: consuming [UInt8] = []) {
        self.expected = expected
        ready = room
    }

    /// The first octet that was not taken out.
    var heldOffset: UInt64 { readOffset - UInt64(consumed) }
    /// One past the last octet before the first hole.
    var contiguousEnd: UInt64 { heldOffset + UInt64(ready.count) }
    var segmentCount: Int { segments.count }
    /// Octets that can be read or consumed.
    var readable: Int { ready.count - consumed }

    /// Takes in the octets of `bytes`, which start at `offset`; `offset + bytes.count` must be below 2^62. `room` is how
    /// many more segments may be made. Returns how many octets were new.
    mutating func insert(
        _ bytes: Span<UInt8>, at offset: UInt64, room: Int = StreamBounds.segmentsPerConnection
    ) -> Int {
        let end = offset + UInt64(bytes.count)
        let front = contiguousEnd
        guard end > front else { return 0 }
        let start = max(offset, front)
        let added: Int
        if start > front {
            added = insertBeyondHole(bytes, at: offset, from: start, room: room)
        } else if segments.isEmpty {
            append(bytes.extracting(droppingFirst: Int(start - offset)))
            highest = end
            added = Int(end - start)
        } else {
            added = insertAtFront(bytes, at: offset, from: start)
        }
        buffered += added
        return added
    }

    /// Takes in what lies in the packets of a run, from `first` on, as long as each holds nothing but the next octets of stream
    /// `id`, up to `limit`, and there is room without asking for memory: how many packets and octets.
    @inline(__always)
    mutating func insertNext(
        _ datagrams: Span<UInt8>, _ run: RunPlan, from first: Int, id: StreamID, limit: UInt64
    ) -> (packets: Int, octets: Int) {
        guard segments.isEmpty else { return (0, 0) }
        let front = contiguousEnd
        var end = front
        var next = first
        let last = run.count
        ready.append(addingCapacity: min(ready.capacity - ready.count, (last - first) * run.packetSize)) { output in
            while next < last {
                var reader = ByteReader(datagrams.extracting(run.payload(next)))
                guard reader.varint() == FrameType.streamWithOffset, reader.varint() == id.rawValue,
                    reader.varint() == end, reader.remaining <= output.freeCapacity,
                    UInt64(reader.remaining) <= limit - end, let octets = reader.take(reader.remaining)
                else { return }
                end += UInt64(octets.count)
                for index in octets.indices { output.append(octets[index]) }
                next += 1
            }
        }
        highest = end
        buffered += Int(end - front)
        return (next - first, Int(end - front))
    }

    /// All octets from `heldOffset` up to the first hole, which are then no longer held; nil when there are none.
    mutating func read() -> [UInt8]? {
        guard !ready.isEmpty else { return nil }
        consume()
        consumed = 0
        var taken: [UInt8] = []
        swap(&taken, &ready)
        return taken
    }

    /// All octets up to the first hole count as read, and stay.
    mutating func consume() {
        readOffset += UInt64(readable)
        buffered -= readable
        consumed = ready.count
    }

    @inline(__always)
    private mutating func append(_ bytes: Span<UInt8>) {
        let count = ready.count + bytes.count
        if count > ready.capacity, count < expected {
            let part = expected / StreamBounds.reserve
            ready.reserveCapacity(count < part ? min(part, count * StreamBounds.reserve) : expected)
        }
        ready.append(bytes)
    }

    /// Lets go of everything that is held.
    mutating func discard() {
        ready = []
        consumed = 0
        segments = []
        buffered = 0
    }

    /// How many of the `count` octets from `offset` on are new.
    func missing(_ count: Int, at offset: UInt64) -> Int {
        let end = offset + UInt64(count)
        var cursor = max(offset, contiguousEnd)
        guard cursor < end else { return 0 }
        var total = end - cursor
        var index = firstSegment(endingAfter: cursor)
        while index < segments.count, segments[index].offset < end {
            cursor = max(cursor, segments[index].offset)
            total -= min(end, segments[index].end) - cursor
            index += 1
        }
        return Int(total)
    }

    private mutating func insertAtFront(_ bytes: Span<UInt8>, at offset: UInt64, from start: UInt64) -> Int {
        let end = offset + UInt64(bytes.count)
        var cursor = start
        var added = 0
        var used = 0
        while used < segments.count {
            if segments[used].offset == cursor {
                // The hole before this segment is filled.
                ready.append(contentsOf: segments[used].bytes)
                cursor = contiguousEnd
                used += 1
            } else if cursor < end {
                let stop = min(end, segments[used].offset)
                append(bytes.extracting(Int(cursor - offset)..<Int(stop - offset)))
                added += Int(stop - cursor)
                cursor = stop
            } else {
                break
            }
        }
        if cursor < end {
            append(bytes.extracting(droppingFirst: Int(cursor - offset)))
            added += Int(end - cursor)
        }
        if used > 0 { segments.removeFirst(used) }
        highest = max(highest, end)
        return added
    }

    private mutating func insertBeyondHole(
        _ bytes: Span<UInt8>, at offset: UInt64, from start: UInt64, room: Int
    ) -> Int {
        let end = offset + UInt64(bytes.count)
        var cursor = start
        var added = 0
        var room = min(room, StreamBounds.segmentsPerStream - segments.count)
        var index = firstSegment(endingAtOrAfter: start)
        while cursor < end {
            let reaches = index < segments.count && segments[index].offset <= cursor
            let next = reaches ? index + 1 : index
            if reaches { cursor = max(cursor, segments[index].end) }
            let stop = next < segments.count ? min(end, segments[next].offset) : end
            if cursor < stop {
                let piece = bytes.extracting(Int(cursor - offset)..<Int(stop - offset))
                if reaches {
                    segments[index].bytes.append(piece)
                    index += 1
                } else if room > 0 {
                    segments.insert(Segment(offset: cursor, bytes: [UInt8](piece)), at: index)
                    room -= 1
                } else {
                    refused += stop - cursor
                    cursor = stop
                    continue
                }
                added += Int(stop - cursor)
                highest = max(highest, stop)
                cursor = stop
            } else if reaches {
                index += 1
            }
        }
        return added
    }

    private func firstSegment(endingAtOrAfter offset: UInt64) -> Int {
        // Nearly always the last one, which the newest octets follow.
        if let last = segments.last, last.end < offset { return segments.count }
        return (0..<segments.count).partitionPoint { segments[$0].end < offset }
    }

    private func firstSegment(endingAfter offset: UInt64) -> Int { firstSegment(endingAtOrAfter: offset + 1) }
}
