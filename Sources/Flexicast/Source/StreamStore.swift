/// The streams that the flow still has to send or may have to repair, by stream index.
///
/// A stream's octets stay until its last octet has been sent and no remembered packet or queued repair carries any
/// of them. Indices that never go on the flow leave a hole that costs nothing once its neighbours have gone.
struct StreamStore: Sendable {
    struct Entry: Sendable {
        var bytes: [UInt8] = []
        /// Octets sent for the first time.
        var sent: UInt32 = 0
        /// The FIN has been sent.
        var finished = true
        /// Frames in the packet log and in the repair queue.
        var references: UInt32 = 0
        var onFlow = false

        /// Notes that `count` more octets are sent: where they began, and whether they were the last.
        mutating func take(_ count: Int) -> (offset: UInt32, fin: Bool) {
            let offset = sent
            sent += UInt32(count)
            references += 1
            finished = Int(sent) == bytes.count
            return (offset, finished)
        }

        /// A frame is settled: whether that was the last that held the stream.
        mutating func release() -> Bool {
            references -= 1
            return references == 0 && finished
        }
    }

    private var entries = Ring(filler: Entry(), holdsReferences: true)
    /// The first stream that is not sent to its end.
    private(set) var cursor: UInt64 = 0
    /// Octets not yet sent for the first time.
    private(set) var queuedOctets: UInt64 = 0
    /// Octets of all streams held.
    private(set) var octetsHeld: UInt64 = 0

    /// The index that the next stream gets.
    var next: UInt64 { entries.end }
    var isDrained: Bool { cursor == entries.end }
    var streamsHeld: Int { entries.count }

    subscript(index: UInt64) -> Entry {
        _read { yield entries[index] }
    }

    /// The streams before `end` that are not sent whole, or may be sent again.
    func held(before end: UInt64) -> [UInt64] {
        guard entries.base < min(end, next) else { return [] }
        return (entries.base..<min(end, next)).filter {
            entries[$0].onFlow && (!entries[$0].finished || entries[$0].references > 0)
        }
    }

    mutating func append(_ bytes: [UInt8]) {
        queuedOctets += UInt64(bytes.count)
        octetsHeld += UInt64(bytes.count)
        entries.append(Entry(bytes: bytes, sent: 0, finished: false, references: 0, onFlow: true))
    }

    /// Uses up an index for a stream that is sent by unicast only.
    mutating func appendOffFlow() {
        entries.append(Entry())
        advance()
    }

    /// Notes that a packet carries the next `count` octets of the stream at the cursor.
    mutating func sentNew(_ count: Int) -> (offset: UInt32, fin: Bool) {
        queuedOctets -= UInt64(count)
        let taken = entries[cursor].take(count)
        if taken.fin { moveCursor() }
        return taken
    }

    mutating func retain(_ index: UInt64) { entries[index].references += 1 }

    mutating func release(_ index: UInt64) {
        if entries[index].release() { advance() }
    }

    /// Gives up everything that is not sent yet: nobody is left to hear it.
    mutating func dropUnsent() {
        while cursor < entries.end {
            queuedOctets -= UInt64(entries[cursor].bytes.count) - UInt64(entries[cursor].sent)
            entries[cursor].finished = true
            moveCursor()
        }
        advance()
    }

    private mutating func moveCursor() {
        while cursor < entries.end, entries[cursor].finished { cursor += 1 }
        advance()
    }

    private mutating func advance() {
        if cursor < entries.end, entries[cursor].finished { cursor = nextUnfinished() }
        while !entries.isEmpty {
            let base = entries.base
            guard entries[base].finished, entries[base].references == 0 else { break }
            octetsHeld -= UInt64(entries[base].bytes.count)
            entries.removeFirst()
        }
        cursor = max(cursor, entries.base)
    }

    private func nextUnfinished() -> UInt64 {
        var index = cursor
        while index < entries.end, entries[index].finished { index += 1 }
        return index
    }
}
