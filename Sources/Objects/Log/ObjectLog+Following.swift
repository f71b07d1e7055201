import Wire

/// What another log has under its next numbers, for one that follows it.
public enum FollowedEntry: Sendable, Equatable {
    /// The next part, with the number that it has there.
    case part(Part)
    /// What is there is no object, or none that can become whole: nobody ever gets these.
    case void(Range<UInt64>)
    /// What was there is there no longer.
    case lost(Range<UInt64>)

    /// One past its last number.
    public var end: UInt64 {
        switch self {
        case .part(let part): part.sequence + 1
        case .void(let range), .lost(let range): range.upperBound
        }
    }
}

// A log whose numbers are another's, which many may follow: each has the same parts under the same numbers, so that a receiver
// goes on at any of them where it was at another.
extension ObjectLog {
    /// A log that follows another one from a number on, and keeps none of what is before it. It forgets with the process.
    public init(following epoch: Epoch, from first: UInt64, retention: Retention = Retention()) throws(LogError) {
        try self.init(MemoryStore(epoch: epoch, from: first), retention: retention, memory: nil, isFollower: true)
    }

    /// Takes what the followed log has under its next numbers. What lies below the live edge is left out.
    /// - Parameter take: is handed the part where it is.
    /// - Returns: what those who have read everything before must be told of; in order.
    public mutating func follow(
        _ entry: FollowedEntry, take: (borrowing Part) -> Void = { _ in }
    ) throws(LogError) -> [Gap] {
        guard entry.end <= ObjectLimits.sequences else { throw .numbersExhausted }
        guard entry.end > next else { return [] }
        var gaps: [Gap] = []
        guard case .part(let part) = entry else {
            // Numbers of an object are in a row.
            if let gap = abandon() { gaps.append(gap) }
            if case .lost(let range) = entry {
                pass(max(range.lowerBound, next), &gaps)
                add(Forgotten(range: next..<range.upperBound, reason: .retention))
                gaps.append(Gap(next..<range.upperBound, .retention))
                move(to: range.upperBound)
            } else {
                pass(entry.end, &gaps)
            }
            return gaps
        }
        if let object = open, !part.continues(object, next: next) {
            if let gap = abandon() { gaps.append(gap) }
        }
        if open == nil {
            guard part.header.index == 0 else {
                pass(part.sequence + 1, &gaps)
                return gaps
            }
            pass(part.sequence, &gaps)
            open = OpenObject(
                name: part.header.name, mediaType: part.header.mediaType, declaredLength: part.header.length,
                published: part.header.published, end: nil, first: part.sequence)
        }
        open?.parts += 1
        open?.octets += UInt64(part.body.count)
        take(part)
        statistics.partsAppended += 1
        keep(part)
        move(to: part.sequence + 1)
        if part.header.count == part.header.index + 1 {
            open = nil
            objectCount += 1
            statistics.objectsAppended += 1
        }
        applyRetention(at: nil)
        return gaps
    }

    /// All numbers below `end` that were not used are void.
    private mutating func pass(_ end: UInt64, _ gaps: inout [Gap]) {
        guard end > next else { return }
        gaps.append(Gap(next..<end, .void))
        move(to: end)
    }

    private mutating func move(to number: UInt64) {
        next = number
        reserved = number
        if partCount == 0 { oldest = number }
    }
}

extension Part {
    /// Whether it is the next part of an object that has begun.
    fileprivate func continues(_ object: OpenObject, next: UInt64) -> Bool {
        sequence == next && header.object == object.first && header.index == object.parts
            && header.published == object.published && header.name.utf8.elementsEqual(object.name.utf8)
            && header.mediaType.utf8.elementsEqual(object.mediaType.utf8)
    }
}
