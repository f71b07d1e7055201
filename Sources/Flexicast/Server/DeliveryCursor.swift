import QUIC
import Wire

/// What one receiver still has to be sent on its own connection: whole parts that were not begun there, by sequence
/// number. It costs the same however much gathers.
///
/// What went out on the flow while the receiver was a member is charged to its flow control already; what did not has to
/// be charged when it goes.
struct DeliveryCursor: Sendable {
    private(set) var pending = RangeSet()
    /// Those of `pending` that are to be charged when they go.
    private(set) var uncharged = RangeSet()
    /// Those that are gone for good, and cannot be told as a gap yet.
    private(set) var untold = RangeSet()
    /// Everything from here on is pending, as it is published, and to be charged; nil while the receiver is a member.
    private(set) var follows: UInt64?
    /// Parts that go again though the receiver has them, because no more ranges than `mostRanges` are kept.
    private(set) var sentAgain: UInt64 = 0

    /// Ranges kept. Of `uncharged` there may be as many more as a member is published parts that the flow does not
    /// carry; `isCrowded` then says that it is too far behind.
    static let mostRanges = 128

    var isCrowded: Bool { uncharged.count > Self.mostRanges }

    /// The lowest part to be sent among those before `end`.
    func lowest(before end: UInt64) -> UInt64? {
        let followed = follows.flatMap { $0 < end ? $0 : nil }
        guard let first = pending.first else { return followed }
        return min(first.lowerBound, followed ?? .max)
    }

    /// The next part to send of those before `end`: the lowest, or without `mayCharge` the lowest that was charged
    /// before. Nil when there is none.
    func next(before end: UInt64, mayCharge: Bool) -> (sequence: UInt64, isCharged: Bool)? {
        if mayCharge {
            guard let lowest = lowest(before: end) else { return nil }
            return (lowest, pending.contains(lowest) && !uncharged.contains(lowest))
        }
        for index in 0..<pending.count {
            var found: UInt64?
            uncharged.forEachGap(in: pending[index]) { gap in if found == nil { found = gap.lowerBound } }
            if let found { return (found, true) }
        }
        return nil
    }

    /// None of these is to be sent: they are gone for good.
    mutating func drop(_ range: Range<UInt64>) {
        guard let last = range.last else { return }
        pending.remove(range.lowerBound...last)
        uncharged.remove(range.lowerBound...last)
        guard let start = follows, start <= last else { return }
        if start < range.lowerBound { add(start..<range.lowerBound, isCharged: false) }
        follows = range.upperBound
    }

    /// None of these is to be sent: they are gone for good, and are told as a gap once `takeUpUntold` is called.
    mutating func putOff(_ range: Range<UInt64>) {
        drop(range)
        guard let last = range.last else { return }
        untold.insert(range.lowerBound...last)
        while untold.count > Self.mostRanges { sentAgain += UInt64(untold.fillFirstGap().count) }
    }

    /// What was put off is due again. It was charged, as far as it was sent.
    mutating func takeUpUntold() {
        for index in 0..<untold.count {
            add(untold[index].lowerBound..<(untold[index].upperBound + 1), isCharged: true)
        }
        untold.removeAll()
    }

    /// One past the last part of those in a row that are to be sent, from `sequence` on, which is.
    func endOfRun(from sequence: UInt64) -> UInt64 {
        var end = sequence
        for index in 0..<pending.count where pending[index].contains(sequence) { end = pending[index].upperBound + 1 }
        return follows.map { $0 <= end ? .max : end } ?? end
    }

    /// The part is on its way.
    mutating func took(_ sequence: UInt64) {
        if follows == sequence {
            follows = sequence + 1
        } else {
            pending.remove(sequence...sequence)
            uncharged.remove(sequence...sequence)
        }
    }

    /// Everything from `sequence` on is to be sent, as it is published.
    mutating func follow(from sequence: UInt64) {
        stop(at: sequence)
        follows = sequence
    }

    /// What is published from `end` on comes another way.
    mutating func stop(at end: UInt64) {
        if let start = follows, start < end { add(start..<end, isCharged: false) }
        follows = nil
    }

    /// These have to be sent too.
    mutating func add(_ range: Range<UInt64>, isCharged: Bool) {
        guard let last = range.last else { return }
        pending.insert(range.lowerBound...last)
        if !isCharged { uncharged.insert(range.lowerBound...last) }
        while pending.count > Self.mostRanges {
            // The receiver has what lies in the oldest gap, and gets it once more. Between parts that came on another
            // connection it did so too; else it was charged here.
            let isUncharged = uncharged.contains(pending[0].upperBound) && uncharged.contains(pending[1].lowerBound)
            let gap = pending.fillFirstGap()
            if isUncharged { uncharged.insert(gap) }
            sentAgain += UInt64(gap.count)
        }
    }

    /// Whether the part is to be sent.
    func contains(_ sequence: UInt64) -> Bool {
        pending.contains(sequence) || follows.map { sequence >= $0 } ?? false
    }
}

extension RangeSet {
    /// Makes one of the two lowest ranges. Returns what lay between them.
    fileprivate mutating func fillFirstGap() -> ClosedRange<UInt64> {
        let gap = (self[0].upperBound + 1)...(self[1].lowerBound - 1)
        insert(gap)
        return gap
    }
}
