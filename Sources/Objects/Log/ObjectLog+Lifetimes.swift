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
            forget(places(of: object.first), .lifetime)
            return (object.first..<(object.first + object.parts), true)
        }
        while let (end, first) = lifetimes.next, end <= now {
            lifetimes.removeFirst()
            let places = places(of: first)
            // Else retention has forgotten it.
            guard !places.isEmpty else { continue }
            objectCount -= 1
            statistics.objectsExpired += 1
            return (forget(places, .lifetime), false)
        }
        return nil
    }

    /// Notes the end of an object that is whole.
    mutating func note(_ end: Instant, of first: UInt64) {
        lifetimes.insert(end, first)
        // Those that retention has forgotten leave when there are as many of them as of the others.
        guard lifetimes.count > 2 * objectCount + Self.mostForgotten else { return }
        let kept = partCount == 0 ? next : place(0).object
        lifetimes.keep { $0 >= kept }
    }

    private static var mostForgotten: Int { 64 }
}
