import Wire

/// The receiver's side of a log: parts in, in any order and any number of times; objects out, each once. It knows which
/// numbers are settled, and so where the receiver goes on after it was cut off.
///
///     part ──> settled? ──> one part ────────────────────────> object
///                     └──> several ──> TrackedObject ──> all ──> object
///                                            └──> contradiction, gap, no room ──> failed
///
/// A number is settled when its object was given out, failed, or when it was told as a gap. Parts that wait for others are
/// not: a receiver that is started again does not have them. A part that does not fit ends its own object and nothing else.
///
/// Order of calls: after a connection is made, `logReceived` comes before its first part, for numbers mean nothing without
/// their epoch. `takeNotices` comes after each event.
public struct ObjectAssembler: Sendable {
    /// How objects of several parts are given out.
    public enum Mode: Sendable, Equatable {
        /// Whole: their parts wait for each other, within the limits.
        case whole
        /// Part by part as they come, so that nobody holds a whole large one.
        case parts
    }

    /// What a receiver holds at the most.
    public struct Limits: Sendable, Equatable {
        /// Octets of parts that wait for others of their object.
        public var octets: Int
        /// Objects of several parts that are not whole. Beyond it the oldest fails.
        public var objects: Int
        /// Ranges of settled numbers. Beyond it the oldest hole is given up and told as a gap.
        public var ranges: Int

        /// All must be above 0.
        public init(
            octets: Int = 64 << 20, objects: Int = 1024, ranges: Int = ObjectLimits.rememberedRanges
        ) {
            precondition(octets > 0 && objects > 0 && ranges > 0)
            self.octets = octets
            self.objects = objects
            self.ranges = ranges
        }
    }

    /// As it was made with.
    public let mode: Mode
    /// As it was made with.
    public let limits: Limits
    /// The epoch that all numbers are of; nil until the source has told it.
    public internal(set) var epoch: Epoch?
    /// The source's clock.
    public internal(set) var clock = ClockOffset()
    /// Counts since it was made.
    public internal(set) var statistics = AssemblyStatistics()
    /// Octets of parts that wait for others, with `TrackedObject.pieceOverhead` for each.
    public internal(set) var heldOctets = 0
    /// One past the last number there will ever be, once the source has said so.
    public internal(set) var end: UInt64?

    var settled: SequenceSet
    /// Above what was settled before a restart: of objects below it some parts may have been given out by then.
    var resumedBelow: UInt64 = 0
    /// Ascending, their runs do not overlap.
    var tracked: [TrackedObject] = []
    var notices: [AssemblyNotice] = []

    /// A receiver that knows nothing yet.
    public init(mode: Mode = .whole, limits: Limits = Limits()) {
        self.mode = mode
        self.limits = limits
        settled = SequenceSet()
    }

    /// A receiver that goes on where `resume` and `epoch` of an earlier one said.
    public init(resuming epoch: Epoch, at cursor: Cursor, mode: Mode = .whole, limits: Limits = Limits()) {
        self.mode = mode
        self.limits = limits
        self.epoch = epoch
        settled = SequenceSet(position: cursor.position)
        for range in cursor.ranges { settled.insert(range) }
        resumedBelow = settled.end
    }

    /// What is settled: to be kept where it outlives the receiver, together with what was given out.
    public var resume: Cursor { Cursor(settled) }

    /// What is settled or held: what a receiver says that was cut off and still has what it holds.
    public var statement: Cursor {
        var all = settled
        for object in tracked {
            for piece in object.pieces { all.insert((object.first + piece.index)..<(object.first + piece.index + 1)) }
        }
        return Cursor(all)
    }

    /// The POSITION message to send on a new connection, or when wants change.
    public func position(wants: Wants = .everything) -> PositionMessage {
        PositionMessage(epoch: epoch, cursor: statement, wants: wants)
    }

    /// All numbers below it are settled.
    public var settledBelow: UInt64 { settled.position }

    /// Objects of several parts that are not whole.
    public var objectsHeld: Int { tracked.count }

    /// Whether the log is at its end and all of it is settled.
    public var isFinished: Bool { end.map { settled.position >= $0 } ?? false }

    /// What else the last event brought about.
    public mutating func takeNotices() -> [AssemblyNotice] {
        if notices.isEmpty { return [] }
        defer { notices = [] }
        return notices
    }

    /// What does not hold of it, in words; nil when all does.
    public func checkInvariants() -> String? {
        if let problem = settled.checkInvariants() { return problem }
        if settled.rangeCount > limits.ranges { return "\(settled.rangeCount) ranges are remembered" }
        if tracked.count > limits.objects { return "\(tracked.count) objects are not whole, \(limits.objects) may be" }
        if heldOctets > limits.octets { return "\(heldOctets) octets are held, \(limits.octets) may be" }
        if heldOctets != tracked.reduce(0, { $0 + $1.charge }) { return "\(heldOctets) octets are counted, not held" }
        var end: UInt64 = 0
        for object in tracked {
            if object.first < end { return "object \(object.first) overlaps the one before it" }
            end = object.end
            if object.isEnded {
                if object.header.count != nil { return "object \(object.first) ended, and is known without need" }
                continue
            }
            if isCutOff(object) { return "object \(object.first) cannot go on and was not given up" }
            if object.hasAllParts { return "object \(object.first) is whole and was not given out" }
            if mode == .parts, !object.pieces.isEmpty { return "parts of object \(object.first) are held" }
            if mode == .whole {
                if UInt64(object.pieces.count) != object.received { return "object \(object.first) lost a part" }
                if settled.intersects(object.run) { return "object \(object.first) is partly settled" }
            }
            for (a, b) in zip(object.pieces, object.pieces.dropFirst()) where a.index >= b.index {
                return "parts of object \(object.first) are out of order"
            }
        }
        return nil
    }
}

/// What a receiver has done so far.
public struct AssemblyStatistics: Sendable, Equatable {
    /// Parts that were new.
    public var parts: UInt64 = 0
    /// Parts that came again, or had been told as gaps.
    var duplicates: UInt64 = 0
    /// Parts of objects that had been given up, or were older than what the receiver started with.
    public var partsOfEnded: UInt64 = 0
    /// Octets of new parts' bodies that came by the flow.
    public var octetsFromFlow: UInt64 = 0
    /// Octets of new parts' bodies that came on the connection.
    var octetsFromConnection: UInt64 = 0
    /// Objects given out whole, or whose last part was.
    public var objects: UInt64 = 0
    /// Objects given up.
    public var failures: UInt64 = 0
    /// Numbers told as gaps that were wanted.
    public var missing: UInt64 = 0
    /// Of them, those of objects whose lifetime had ended.
    public var expired: UInt64 = 0
    /// Numbers told as gaps because nobody asked for them on the connection (`Wants`).
    public var unwanted: UInt64 = 0
    /// Holes given up because there were too many.
    public var holesGivenUp: UInt64 = 0

    /// All zero.
    public init() {}
}
