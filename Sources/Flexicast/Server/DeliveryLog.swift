import Wire

/// The recent objects of a source by their sequence number: what receivers that connect are given first, and what cursors
/// have still to send.
///
/// An object stays as long as it is among the newest `history`, or some cursor has still to send it and there is room. What
/// has waited for `patience` makes room when there is more than `liveCount` objects or `liveOctets`, and at `mostOctets`
/// nothing waits any more: who is that far behind has lost them.
struct DeliveryLog: Sendable {
    struct Limits: Sendable {
        /// Objects and octets that receivers who connect are given.
        var history = 100
        var historyOctets = 64 << 20
        /// What may wait for slow receivers beyond that.
        var liveCount = 4096
        var liveOctets = 64 << 20
        var mostOctets = 256 << 20
        var patience = Duration.seconds(10)
    }

    private struct Entry: Sendable {
        var bytes: [UInt8]
        var publishedAt: Instant
        static let none = Entry(bytes: [], publishedAt: Instant(nanoseconds: 0))
    }

    private var entries = Ring(filler: Entry.none, holdsReferences: true)
    private let limits: Limits
    /// Octets of all objects held.
    private(set) var octets = 0
    /// The first of the objects that receivers who connect are given.
    private(set) var historyStart: UInt64 = 0
    private var historyOctets = 0

    init(limits: Limits) { self.limits = limits }

    /// The sequence number that the next object gets.
    var end: UInt64 { entries.end }
    /// The lowest number that is held.
    var base: UInt64 { entries.base }
    var count: Int { entries.count }

    /// The object's octets; nil when it is not held.
    subscript(sequence: UInt64) -> [UInt8]? {
        sequence >= entries.base && sequence < entries.end ? entries[sequence].bytes : nil
    }

    mutating func append(_ bytes: [UInt8], at now: Instant) {
        entries.append(Entry(bytes: bytes, publishedAt: now))
        octets += bytes.count
        historyOctets += bytes.count
        while historyStart < end,
            end - historyStart > UInt64(limits.history) || historyOctets > limits.historyOctets
        {
            historyOctets -= entries[historyStart].bytes.count
            historyStart += 1
        }
    }

    /// Forgets what nobody needs, and what has waited too long. `needed` is the lowest number that a cursor has still to
    /// send.
    mutating func trim(needed: UInt64, at now: Instant) {
        while entries.base < historyStart {
            let oldest = entries[entries.base]
            let crowded =
                entries.count > max(limits.liveCount, limits.history) || octets > limits.liveOctets + historyOctets
            guard
                entries.base < needed || octets > limits.mostOctets
                    || crowded && now - oldest.publishedAt >= limits.patience
            else { return }
            octets -= oldest.bytes.count
            entries.removeFirst()
        }
    }
}
