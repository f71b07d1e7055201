import Objects
import Wire

/// Objects that are being written, in the order in which they were opened: the first is on its way, what is written to the
/// others waits for it. A pure value.
struct WriterQueue {
    /// What is to be published next.
    struct Piece {
        var object: BroadcastObject
        var bytes: [UInt8]
        /// The object begins with it, and is of this name, type and length.
        var isFirst: Bool
        var isLast: Bool
        var name: String
        var mediaType: String
        var length: UInt64?
        var end: Instant?
    }

    private struct Writer {
        var object: BroadcastObject
        var name: String
        var mediaType: String
        var length: UInt64?
        /// The end of its lifetime, if it has one.
        var end: Instant?
        /// What was written and not taken, from `taken` on.
        var bytes: [UInt8] = []
        var taken = 0
        var hasBegun = false
        var isFinished = false
        var count: Int { bytes.count - taken }
    }

    private var writers: [Writer] = []
    private var opened: UInt64 = 0
    /// Octets that were written and not taken.
    private(set) var octets = 0

    /// The object that goes out now.
    var first: BroadcastObject? { writers.first?.object }
    /// Octets of it that were written and not taken.
    var firstOctets: Int { writers.first?.count ?? 0 }

    mutating func open(
        name: String, mediaType: String, length: UInt64?, until end: Instant? = nil
    ) -> BroadcastObject {
        let object = BroadcastObject(number: opened)
        opened += 1
        writers.append(Writer(object: object, name: name, mediaType: mediaType, length: length, end: end))
        return object
    }

    /// False when the object is finished or reset.
    mutating func write(_ object: BroadcastObject, _ added: [UInt8]) -> Bool {
        guard let index = index(of: object), !writers[index].isFinished else { return false }
        if writers[index].count == 0 {
            writers[index].bytes = added
            writers[index].taken = 0
        } else {
            writers[index].bytes += added
        }
        octets += added.count
        return true
    }

    /// Nothing more is written to it; false when that was so already.
    mutating func finish(_ object: BroadcastObject) -> Bool {
        guard let index = index(of: object), !writers[index].isFinished else { return false }
        writers[index].isFinished = true
        return true
    }

    /// Forgets an object that is not finished: whether parts of it may be out; nil when it is unknown.
    mutating func remove(_ object: BroadcastObject) -> Bool? {
        guard let index = index(of: object) else { return nil }
        let writer = writers.remove(at: index)
        octets -= writer.count
        return writer.hasBegun
    }

    /// When `expire` has something to do; nil when it never will.
    var nextEnd: Instant? { writers.lazy.compactMap(\.end).min() }

    /// Forgets the objects whose lifetime is over at `now`: how many of them had not begun, and were published nothing of.
    mutating func expire(at now: Instant) -> Int {
        var count = 0
        writers.removeAll { writer in
            guard let end = writer.end, end <= now else { return false }
            octets -= writer.count
            if !writer.hasBegun { count += 1 }
            return true
        }
        return count
    }

    /// Takes the next piece to publish; nil when there is none. Without `all` a piece is a full part.
    mutating func next(all: Bool) -> Piece? {
        guard let writer = writers.first else { return nil }
        let size = min(ObjectLimits.partOctets, writer.count)
        let isLast = writer.isFinished && size == writer.count
        guard size == ObjectLimits.partOctets || isLast || all && size > 0 else { return nil }
        let whole = writer.taken == 0 && size == writer.bytes.count
        let piece = Piece(
            object: writer.object,
            bytes: whole ? writer.bytes : Array(writer.bytes[writer.taken..<(writer.taken + size)]),
            isFirst: !writer.hasBegun, isLast: isLast, name: writer.name, mediaType: writer.mediaType,
            length: writer.length, end: writer.end)
        octets -= size
        if isLast {
            writers.removeFirst()
        } else {
            writers[0].hasBegun = true
            writers[0].taken += size
            if writers[0].count == 0 {
                writers[0].bytes = []
                writers[0].taken = 0
            }
        }
        return piece
    }

    private func index(of object: BroadcastObject) -> Int? { writers.firstIndex { $0.object == object } }
}
