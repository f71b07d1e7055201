import Wire

/// The streams that the flow still has to send or may have to repair, by stream index.
///
/// A stream's octets stay until its last octet has been sent and no remembered packet or queued repair carries any
/// of them. Indices that never go on the flow leave a hole that costs nothing once its neighbours have gone.
struct StreamStore: Sendable {
    private struct Entry: Sendable {
        var octets = StreamOctets()
        /// Frames in the packet log and in the repair queue; those of the stream at the cursor are in `newReferences`.
        var references: UInt32 = 0
        var onFlow = false
        /// It was sent, and is not worth repairing.
        var isExpired = false
    }

    /// What the end of a stream's lifetime comes upon.
    enum Expiry {
        /// It is not held, or expired before.
        case notHeld
        /// Its first packets have left: it is brought to its end.
        case begun
        /// Nothing of it has left, and nothing will; so many octets did not wait in vain.
        case unsent(octets: Int)
        /// All of it has left.
        case sent
    }

    private var entries: IndexedRing<Entry>
    /// The first stream that is not sent to its end: those before it are, or never go on the flow.
    private(set) var cursor: UInt64
    // The stream at the cursor, empty when there is none. Its pieces stand here because every packet reads them, each by
    // itself because all of them would be copied to get at one.
    private(set) var currentHead = ShortOctets()
    private(set) var currentBody: ArraySlice<UInt8> = []
    private(set) var currentCount = 0
    /// Octets of it sent for the first time.
    private(set) var sent = 0
    /// Frames of it in the packet log and in the repair queue, less those that have gone since.
    private var newReferences: UInt32 = 0
    /// Octets not yet sent for the first time.
    private(set) var queuedOctets: UInt64 = 0
    /// Octets of all streams held.
    private(set) var octetsHeld: UInt64 = 0

    /// - Parameter first: the index of the first stream.
    init(from first: UInt64 = 0) {
        entries = IndexedRing(filler: Entry(), startingAt: first)
        cursor = first
    }

    /// The index that the next stream gets.
    var next: UInt64 { entries.end }
    var isDrained: Bool { cursor == entries.end }
    var streamsHeld: Int { entries.count }

    func octets(_ index: UInt64) -> StreamOctets { entries[index].octets }

    /// The streams before `end` that are not sent whole, or may be sent again.
    func held(before end: UInt64) -> [UInt64] {
        guard entries.base < min(end, next) else { return [] }
        return (entries.base..<min(end, next)).filter {
            entries[$0].onFlow && !entries[$0].isExpired && ($0 >= cursor || entries[$0].references > 0)
        }
    }

    /// The streams that are not sent whole, and from which octet on they are not.
    func unsent(from first: UInt64) -> [(index: UInt64, offset: Int)] {
        (max(cursor, first)..<max(cursor, first, next)).filter { entries[$0].onFlow }
            .map { ($0, $0 == cursor ? sent : 0) }
    }

    @inline(__always)
    mutating func append(_ octets: consuming StreamOctets) {
        queuedOctets += UInt64(octets.count)
        octetsHeld += UInt64(octets.count)
        entries.append(Entry(octets: octets, references: 0, onFlow: true))
        if cursor + 1 == next { setCurrent() }
    }

    /// Uses up an index for a stream that is sent by unicast only.
    mutating func appendOffFlow() {
        entries.append(Entry())
        if cursor + 1 == next { moveCursor() }
    }

    /// Notes that as many frames carry the next `count` octets of the stream at the cursor, and with `fin` its end.
    mutating func sentNew(_ count: Int, frames: UInt32, fin: Bool) {
        queuedOctets -= UInt64(count)
        sent += count
        newReferences += frames
        if fin { moveCursor() }
    }

    mutating func retain(_ index: UInt64) {
        if index == cursor { newReferences += 1 } else { entries[index].references += 1 }
    }

    /// As many frames of the stream are settled.
    mutating func release(_ index: UInt64, frames: UInt32 = 1) {
        if index == cursor {
            newReferences -= frames
        } else {
            entries[index].references -= frames
            if index == entries.base { forgetSettled() }
        }
    }

    /// The stream is worth nothing any more.
    mutating func expire(_ index: UInt64) -> Expiry {
        guard index >= entries.base, index < next, entries[index].onFlow, !entries[index].isExpired else {
            return .notHeld
        }
        guard index >= cursor else {
            entries[index].isExpired = true
            return .sent
        }
        if index == cursor, sent > 0 { return .begun }
        let count = entries[index].octets.count
        queuedOctets -= UInt64(count)
        octetsHeld -= UInt64(count)
        entries[index] = Entry()
        if index == cursor { moveCursor() }
        return .unsent(octets: count)
    }

    func isExpired(_ index: UInt64) -> Bool { entries[index].isExpired }

    /// Gives up everything that is not sent yet: nobody is left to hear it.
    mutating func dropUnsent() {
        while !isDrained {
            queuedOctets -= UInt64(currentCount - sent)
            moveCursor()
        }
    }

    /// Puts the cursor on the next stream that goes on the flow.
    private mutating func moveCursor() {
        entries[cursor].references += newReferences
        newReferences = 0
        sent = 0
        let before = cursor
        repeat { cursor += 1 } while cursor < next && !entries[cursor].onFlow
        setCurrent()
        if before == entries.base { forgetSettled() }
    }

    // Not with the octets handed over, which would all be copied.
    private mutating func setCurrent() {
        guard !isDrained else {
            currentHead = ShortOctets()
            currentBody = []
            currentCount = 0
            return
        }
        currentHead = entries[cursor].octets.head
        currentBody = entries[cursor].octets.body
        currentCount = entries[cursor].octets.count
    }

    private mutating func forgetSettled() {
        var end = entries.base
        while end < cursor, entries[end].references == 0 {
            octetsHeld -= UInt64(entries[end].octets.count)
            // The ring keeps what it is given until the place is used again.
            entries[end].octets = StreamOctets()
            end += 1
        }
        if end > entries.base { entries.removeFirst(upTo: end) }
    }
}
