import Wire

/// Something that has a number in a log.
protocol Numbered {
    var sequence: UInt64 { get }
    /// Holds nothing any more that takes room elsewhere.
    mutating func letGo()
}

extension Part: Numbered {}

extension StoredPart: Numbered {
    mutating func letGo() {}
}

/// Parts of a log by ascending sequence number: in at the end, out at the front.
struct SequenceQueue<Element: Numbered & Sendable>: Sendable {
    private var storage: [Element] = []
    private var head = 0

    var count: Int { storage.count - head }
    var isEmpty: Bool { count == 0 }

    /// The `index`-th part from the front, read where it is.
    subscript(index: Int) -> Element {
        @inline(__always)
        _read {
            precondition(index >= 0)
            yield storage[head + index]
        }
    }

    mutating func append(_ part: consuming Element) { storage.append(part) }

    @inline(__always)
    mutating func removeFirst() {
        // Given up at once, for its octets are what counts; the place itself goes with many others.
        storage[head].letGo()
        head += 1
        if head >= 64, head >= storage.count / 2 {
            storage.removeFirst(head)
            head = 0
        }
    }

    /// Removes parts wherever they are, at the cost of moving the fewer of those before and behind them.
    mutating func remove(_ range: Range<Int>) {
        guard range.lowerBound < count - range.upperBound else {
            storage.removeSubrange((head + range.lowerBound)..<(head + range.upperBound))
            return
        }
        for index in (0..<range.lowerBound).reversed() { storage.swapAt(head + index, head + index + range.count) }
        for _ in range { removeFirst() }
    }

    mutating func removeLast() { storage.removeLast() }

    /// The first part whose number is `sequence` or higher. Numbers are rarely left out, so that it is most often found
    /// at once.
    func firstIndex(from sequence: UInt64) -> Int {
        guard !isEmpty, sequence > self[0].sequence else { return 0 }
        let first = self[0].sequence
        var high = count
        let distance = sequence - first
        if distance < UInt64(count) {
            let guess = Int(distance)
            if self[guess].sequence == sequence { return guess }
            // Numbers ascend, so that the part at `guess` has at least this one.
            high = guess
        }
        return (0..<high).partitionPoint { self[$0].sequence < sequence }
    }
}
