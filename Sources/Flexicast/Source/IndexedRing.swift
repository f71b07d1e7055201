/// A queue addressed by an ever-growing index: element `i` keeps its index while it lives, and lookup is one mask.
/// It grows by doubling and then stays: in steady state nothing is allocated.
struct IndexedRing<Element: Sendable>: Sendable {
    private var storage: [Element]
    private let filler: Element
    /// Index of the oldest element.
    private(set) var base: UInt64
    /// One past the index of the newest.
    private(set) var end: UInt64

    private static var smallest: Int { 256 }
    /// A ring larger than this gives memory back when it has not needed it.
    private static var largestIdle: Int { 8192 }
    /// Elements held at the most since it was last empty.
    private var most = 0

    init(filler: Element, startingAt start: UInt64 = 0) {
        self.filler = filler
        storage = Array(repeating: filler, count: Self.smallest)
        base = start
        end = start
    }

    var count: Int { Int(end - base) }
    var isEmpty: Bool { base == end }
    var capacity: Int { storage.count }
    var indices: Range<UInt64> { base..<end }

    @inline(__always)
    private func place(_ index: UInt64) -> Int { Int(truncatingIfNeeded: index) & (storage.count &- 1) }

    subscript(index: UInt64) -> Element {
        _read {
            precondition(index >= base && index < end)
            yield storage[place(index)]
        }
        _modify {
            precondition(index >= base && index < end)
            yield &storage[place(index)]
        }
    }

    // Inlined, so that an element is made where it stays.
    @inline(__always)
    mutating func append(_ element: consuming Element) {
        let held = Int(truncatingIfNeeded: end &- base)
        if held == storage.count { grow() }
        storage[place(end)] = element
        end &+= 1
        if held >= most { most = held &+ 1 }
    }

    mutating func removeFirst() { removeFirst(upTo: base + 1) }

    /// Halves what was less than a quarter full, so that a flow whose every acknowledgement empties it keeps its ring.
    private mutating func emptied() {
        if storage.count > Self.largestIdle, most < storage.count / 4 {
            storage = Array(repeating: filler, count: storage.count / 2)
        }
        most = 0
    }

    mutating func removeFirst(upTo index: UInt64) {
        precondition(index >= base && index <= end)
        base = index
        if isEmpty { emptied() }
    }

    private mutating func grow() {
        var larger = Array(repeating: filler, count: storage.count * 2)
        let mask = UInt64(larger.count - 1)
        for index in base..<end { larger[Int(truncatingIfNeeded: index & mask)] = storage[place(index)] }
        storage = larger
    }
}
