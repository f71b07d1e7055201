/// What members have said of a packet that they lost.
struct LossMark: Sendable {
    var packetNumber: UInt64
    /// Members that have reported it lost.
    var missing: UInt32
    /// How many acknowledgements had come, of anything by anyone, when the first of them did.
    var firstReport: UInt32
    /// Its frames are queued for the flow, or were sent on it again.
    var repairedOnFlow: Bool

    static let none = LossMark(packetNumber: .max, missing: 0, firstReport: 0, repairedOnFlow: false)
}

/// The marks of the packets in the log that somebody has lost: a hash table with linear probing. Numbers that were left out
/// take no room in it, however many they are, and a mark is forgotten with its packet, when its place is needed.
struct LossMarks: Sendable {
    private var marks: [LossMark] = []
    /// Places in use, of forgotten packets too.
    private var used = 0

    private static var smallest: Int { 64 }
    /// More places than that are given back when the log is empty.
    private static var largestIdle: Int { 512 }

    var capacity: Int { marks.count }

    subscript(place: Int) -> LossMark {
        get { marks[place] }
        set { marks[place] = newValue }
    }

    /// Where the packet's mark is, if it has one.
    func find(_ packetNumber: UInt64) -> Int? {
        guard !marks.isEmpty else { return nil }
        var place = first(packetNumber)
        while marks[place].packetNumber != LossMark.none.packetNumber {
            if marks[place].packetNumber == packetNumber { return place }
            place = (place + 1) & (marks.count - 1)
        }
        return nil
    }

    /// Where the packet's mark is, made if there is none. Packets before `base` are forgotten.
    mutating func place(of packetNumber: UInt64, base: UInt64) -> Int {
        if let place = find(packetNumber) { return place }
        if (used + 1) * 4 > marks.count * 3 { rebuild(base: base) }
        used += 1
        return insert(LossMark(packetNumber: packetNumber, missing: 0, firstReport: 0, repairedOnFlow: false))
    }

    /// The log is empty.
    mutating func removeAll() {
        guard used > 0 else { return }
        used = 0
        if marks.count > Self.largestIdle {
            marks = []
        } else {
            for place in marks.indices { marks[place] = .none }
        }
    }

    /// Neighbours are put far apart (Fibonacci hashing): a long run of losses would be a long run to search.
    private func first(_ packetNumber: UInt64) -> Int {
        let bits = UInt64(marks.count.trailingZeroBitCount)
        return Int(truncatingIfNeeded: (packetNumber &* 0x9e37_79b9_7f4a_7c15) >> (64 - bits))
    }

    private mutating func insert(_ mark: LossMark) -> Int {
        var place = first(mark.packetNumber)
        while marks[place].packetNumber != LossMark.none.packetNumber { place = (place + 1) & (marks.count - 1) }
        marks[place] = mark
        return place
    }

    /// Leaves out forgotten marks, and makes room so that less than half is in use.
    private mutating func rebuild(base: UInt64) {
        let kept = marks.filter { $0.packetNumber >= base && $0.packetNumber != LossMark.none.packetNumber }
        var count = Self.smallest
        while count <= kept.count * 2 { count *= 2 }
        marks = [LossMark](repeating: .none, count: count)
        used = kept.count
        for mark in kept { _ = insert(mark) }
    }
}
