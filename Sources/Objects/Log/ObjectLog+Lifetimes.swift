import Wire

/// When objects end that have an end, the next one first.
struct LifetimeQueue: Sendable {
    private var entries: [(end: Instant, first: UInt64)] = []
    /// Of the entries, those that were taken.
    private var head = 0

    var count: Int { entries.count - head }
    var next: (end: Instant, first: UInt64)? { head < entries.count ? entries[head] : nil }

    /// Most come in the order in which they end, and go to the back.
    mutating func insert(_ end: Instant, _ first: UInt64) {
        entries.insert((end, first), at: (head..<entries.count).partitionPoint { entries[$0].end <= end })
    }

    mutating func removeFirst() {
        head += 1
        if head >= 64, head >= entries.count / 2 {
            entries.removeFirst(head)
            head = 0
        }
    }

    mutating func keep(where isWanted: (UInt64) -> Bool) {
        entries.removeFirst(head)
        head = 0
        entries.removeAll { !isWanted($0.first) }
    }
}

// Objects that are worth nothing from some time on. Their parts leave the log then, and their numbers are told as gaps with
// the reason `lifetime`.
extension ObjectLog {
    /// When `endLifetime` has something to do; nil when it never will.
    public var nextLifetimeEnd: Instant? {
        guard let end = open?.end else { return lifetimes.next?.end }
        return min(end, lifetimes.next?.end ?? .distantFuture)
    }

    /// Forgets an object whose lifetime is over at `now`, also one that is open, which is then so no more. To be called until nil.
    /// - Returns: the numbers of its parts, of one that is whole those that were kept; and whether it was open, so that whoever has all of
    ///   them has still to be told. Nil when there is no such object.
    public mutating func endLifetime(at now: Instant) -> (numbers: Range<UInt64>, wasOpen: Bool)? {
        if let object = open, let end = object.end, end <= now {
            open = nil
            statistics.objectsExpired += 1
            _ = remove(object.first, from: parts.firstIndex(from: max(object.first, oldest)))
            return (object.first..<(object.first + object.parts), true)
        }
        while let (end, first) = lifetimes.next, end <= now {
            lifetimes.removeFirst()
            let index = parts.firstIndex(from: max(first, oldest))
            // Else retention has forgotten it.
            guard index < parts.count, parts[index].header.object == first else { continue }
            objectCount -= 1
            statistics.objectsExpired += 1
            return (remove(first, from: index), false)
        }
        return nil
    }

    /// Notes the end of an object that is whole.
    mutating func note(_ end: Instant, of first: UInt64) {
        lifetimes.insert(end, first)
        // Those that retention has forgotten leave when there are as many of them as of the others.
        guard lifetimes.count > 2 * objectCount + Self.mostForgotten else { return }
        let kept = parts.isEmpty ? next : parts[0].header.object
        lifetimes.keep { $0 >= kept }
    }

    private static var mostForgotten: Int { 64 }

    /// Removes the parts of an object, which are in a row from one place on.
    private mutating func remove(_ object: UInt64, from index: Int) -> Range<UInt64> {
        var end = index
        while end < parts.count, parts[end].header.object == object {
            octetCount -= parts[end].streamLength
            end += 1
        }
        guard end > index else { return next..<next }
        let range = parts[index].sequence..<(parts[end - 1].sequence + 1)
        parts.remove(index..<end)
        addExpired(range)
        return range
    }

    /// Ranges become one where no part is kept between them, so that there are no more of them than parts, and one.
    private mutating func addExpired(_ range: Range<UInt64>) {
        var place = (0..<expired.count).partitionPoint { expired[$0].lowerBound < range.lowerBound }
        var range = range
        if place > 0, !hasPart(in: expired[place - 1].upperBound..<range.lowerBound) {
            place -= 1
            range = expired.remove(at: place).lowerBound..<range.upperBound
        }
        if place < expired.count, !hasPart(in: range.upperBound..<expired[place].lowerBound) {
            range = range.lowerBound..<expired.remove(at: place).upperBound
        }
        expired.insert(range, at: place)
    }

    private func hasPart(in range: Range<UInt64>) -> Bool {
        let index = parts.firstIndex(from: range.lowerBound)
        return index < parts.count && parts[index].sequence < range.upperBound
    }

    /// What there is under numbers without a part, from the first of them on.
    func hole(_ range: Range<UInt64>) -> LogEntry {
        let place = (0..<expired.count).partitionPoint { expired[$0].upperBound <= range.lowerBound }
        guard place < expired.count, expired[place].lowerBound < range.upperBound else {
            return .void(Gap(range, .void))
        }
        let known = expired[place]
        return known.lowerBound <= range.lowerBound
            ? .gone(Gap(range.lowerBound..<min(known.upperBound, range.upperBound), .lifetime))
            : .void(Gap(range.lowerBound..<known.lowerBound, .void))
    }

    /// What lies below the oldest number is gone anyhow.
    mutating func forgetExpired() {
        guard let first = expired.first, first.lowerBound < oldest else { return }
        expired.removeFirst((0..<expired.count).partitionPoint { expired[$0].upperBound <= oldest })
    }

    /// What does not hold of the numbers whose lifetime is over, in words.
    func checkExpired() -> String? {
        var place = oldest
        for range in expired {
            if range.isEmpty || range.lowerBound < place || range.upperBound > next {
                return "the expired numbers \(range) are out of order, or beyond the live edge \(next)"
            }
            if hasPart(in: range) { return "a part of the expired numbers \(range) is kept" }
            place = range.upperBound
        }
        return nil
    }
}
