/// Where a receiver is in a log: all below `position` is settled, and up to `ObjectLimits.settledRanges` ranges above it. A
/// constant amount of memory, whatever was lost.
///
/// *Settled* is a number that nothing more is to be sent for: its part was given out, or it was told as a gap. When one
/// more range would be needed than there may be, the smallest is forgotten: its parts are sent again, which costs octets
/// and loses nothing. `sentAgain` counts them.
public struct Cursor: Sendable {
    private var settled: SequenceSet
    /// Parts that were settled and forgotten, so that they are sent again.
    public private(set) var sentAgain: UInt64 = 0

    /// A cursor with nothing settled from `position` on.
    public init(position: UInt64 = 0) { settled = SequenceSet(position: position) }

    init(_ set: SequenceSet) {
        settled = SequenceSet(position: set.position)
        for range in set.ranges { settle(range) }
    }

    /// The lowest number that is not settled.
    public var position: UInt64 { settled.position }

    /// The settled ranges above the position, ascending; none touches another or the position.
    public var ranges: [Range<UInt64>] { Array(settled.ranges) }

    /// One past the highest settled number.
    public var end: UInt64 { settled.end }

    /// Whether `sequence` is settled.
    public func contains(_ sequence: UInt64) -> Bool { settled.contains(sequence) }

    /// The lowest number from `sequence` on and below `liveEdge` that is not settled.
    public func next(from sequence: UInt64 = 0, below liveEdge: UInt64) -> UInt64? {
        let number = settled.firstMissing(from: sequence)
        return number < liveEdge ? number : nil
    }

    /// The same with all numbers behind it up to the next that is settled.
    public func nextRun(from sequence: UInt64 = 0, below liveEdge: UInt64) -> Range<UInt64>? {
        sequence < liveEdge ? settled.firstMissing(in: sequence..<liveEdge) : nil
    }

    /// The same with nothing settled from `end` on.
    func clamped(below end: UInt64) -> Cursor {
        var cursor = Cursor(position: min(position, end))
        for range in settled.ranges where range.lowerBound < end { cursor.settle(range.clamped(to: 0..<end)) }
        return cursor
    }

    /// How many numbers below `liveEdge` are not settled.
    public func unsettled(below liveEdge: UInt64) -> UInt64 { settled.missingCount(below: liveEdge) }

    /// Nothing more is to be sent for `sequence`, which is below `ObjectLimits.sequences`.
    public mutating func settle(_ sequence: UInt64) { settle(sequence..<(sequence + 1)) }

    /// Nothing more is to be sent for any of `range`.
    public mutating func settle(_ range: Range<UInt64>) {
        settled.insert(range)
        guard settled.rangeCount > ObjectLimits.settledRanges else { return }
        // Of ranges of the same size the highest: the others are nearer to the position, which takes them in for good.
        var smallest = 0
        for index in 1..<settled.rangeCount where settled[index].count <= settled[smallest].count { smallest = index }
        sentAgain += UInt64(settled[smallest].count)
        settled.removeRange(at: smallest)
    }

    /// What does not hold of it, in words; nil when all does.
    public func checkInvariants() -> String? {
        if settled.rangeCount > ObjectLimits.settledRanges { return "\(settled.rangeCount) ranges are held" }
        return settled.checkInvariants()
    }
}

extension Cursor: Equatable {
    /// Whether the same numbers are settled, however they came to be.
    public static func == (a: Cursor, b: Cursor) -> Bool { a.settled == b.settled }
}
