import Wire

/// What a log has under a number.
public enum LogEntry: Sendable, Equatable {
    /// The part of this number.
    case part(Part)
    /// The part of this number is to be read from the store.
    case stored(StoredPart)
    /// No part has, or will have, these numbers: the one asked for and those behind it up to the next part.
    case void(Gap)
    /// The one asked for and those behind it are no longer kept, for the gap's reason.
    case gone(Gap)
    /// The number was not given out yet.
    case beyond
}

/// What comes next for a cursor.
public enum LogReading: Sendable, Equatable {
    /// The next part that the cursor has not settled.
    case part(Part)
    /// It is to be read from the store.
    case stored(StoredPart)
    /// Tell these, and settle them.
    case gap(Gap)
    /// All up to the live edge is settled or was read.
    case edge
}

extension ObjectLog {
    /// What there is under `sequence`.
    public func part(at sequence: UInt64) -> LogEntry {
        guard sequence < next else { return .beyond }
        guard sequence >= oldest else { return .gone(Gap(sequence..<oldest, .retention)) }
        let place = older.firstIndex(from: sequence)
        if place < older.count {
            let found = older[place]
            return found.sequence == sequence ? .stored(found) : hole(sequence..<found.sequence)
        }
        let index = parts.firstIndex(from: sequence)
        guard index < parts.count else { return hole(sequence..<next) }
        let found = parts[index].sequence
        return found == sequence ? .part(parts[index]) : hole(sequence..<found)
    }

    /// The first thing from `sequence` on that a receiver at `cursor` with these wants is to be sent or told. Parts that it
    /// does not want are told as a gap, so that its position can move on; of a long run of them a piece at a time.
    public func read(_ cursor: Cursor, from sequence: UInt64 = 0, wants: Wants = .everything) -> LogReading {
        guard let run = cursor.nextRun(from: sequence, below: next) else { return .edge }
        switch part(at: run.lowerBound) {
        case .beyond: return .edge
        case .stored(let part): return .stored(part)
        case .void(let gap), .gone(let gap):
            // No more than what the cursor has not settled: nothing is told twice.
            return .gap(Gap(run.clamped(to: gap.range), gap.reason))
        case .part(let part):
            if wants.include(part.header.name) { return .part(part) }
            let index = parts.firstIndex(from: run.lowerBound)
            var end = run.lowerBound
            for step in 0..<min(ObjectLimits.partsPerReading, parts.count - index) {
                let other = parts[index + step]
                guard other.sequence == end, end < run.upperBound, !wants.include(other.header.name) else { break }
                end += 1
            }
            return .gap(Gap(run.lowerBound..<end, .unwanted))
        }
    }

    /// The answer to a client's first POSITION, and the cursor that it is served from. What is gone or void from there on
    /// is found with `read`.
    /// `start`: the first number that one is served who has no position in this epoch.
    public func answer(
        _ message: PositionMessage, newcomersFrom start: UInt64 = 0, at now: WallTime
    ) -> (message: LogMessage, cursor: Cursor) {
        let answer: LogMessage.Answer
        let cursor: Cursor
        if message.epoch == epoch, message.cursor.end <= next {
            (answer, cursor) = (.taken, message.cursor)
        } else if message.epoch == epoch, isFollower {
            // Another head had read on already: what comes here next was given out there, and is sent once more.
            (answer, cursor) = (.taken, message.cursor.clamped(below: next))
        } else if message.epoch == nil {
            (answer, cursor) = (.fresh, Cursor(position: min(max(message.cursor.position, start, oldestWhole), next)))
        } else {
            // Beyond our end is not an error: the store may have lost what it promised to keep.
            (answer, cursor) = (.otherEpoch, Cursor(position: max(start, oldestWhole)))
        }
        let log = LogMessage(
            epoch: epoch, now: now, oldest: oldest, next: next, answer: answer, first: cursor.position)
        return (log, cursor)
    }

    /// The first number from which on all objects are kept whole: a newcomer can do nothing with the rest of one.
    private var oldestWhole: UInt64 {
        guard partCount > 0, case let (sequence, object) = place(0), sequence > object else { return oldest }
        let index = places(of: object).upperBound
        return index < partCount ? place(index).sequence : next
    }

    /// The number of the first part of the newest `count` objects.
    public func first(ofNewest count: Int) -> UInt64 {
        var left = count
        var first = next
        var index = partCount
        while index > 0 {
            let (sequence, object) = place(index - 1)
            if object != first {
                // The first parts of one that is longer than what is kept are gone.
                guard left > 0, object >= oldest else { break }
                left -= 1
                first = object
            }
            index -= Int(clamping: sequence - object) + 1
        }
        return first
    }

    /// Forgets objects that are too old at `now`.
    public mutating func expire(at now: WallTime) { applyRetention(at: now) }

    /// When the oldest object is too old; nil when there is none or age is no limit.
    public var nextExpiry: WallTime? {
        guard let age = retention.age, objectCount > 0, partCount > 0 else { return nil }
        return (older.isEmpty ? parts[0].header.published : older[0].published) + age
    }

    mutating func applyRetention(at now: WallTime?) {
        let before = oldest
        while objectCount > 0, isOverLimit(at: now) { forgetOldest() }
        // One that is longer than all that is kept passes through.
        if let limit = retention.octets, objectCount == (open == nil ? 1 : 0) {
            while octetCount > limit, partCount > 1 { forgetFirstPart() }
        }
        if memory != nil { applyMemoryLimit() }
        guard oldest != before else { return }
        do {
            try store.trim(below: oldest)
        } catch {
            statistics.storeFailures += 1
        }
    }

    private func isOverLimit(at now: WallTime?) -> Bool {
        // An object that is open is the newest one.
        let total = objectCount + (open == nil ? 0 : 1)
        if total > 1 {
            if let limit = retention.objects, total > limit { return true }
            if let limit = retention.octets, octetCount > limit { return true }
        }
        if let now, let end = nextExpiry { return end <= now }
        return false
    }

    private mutating func forgetOldest() {
        guard partCount > 0 else { return }
        if older.isEmpty {
            forgetFirstObjectInMemory()
        } else {
            let object = older[0].object
            repeat { forgetFirstPart() } while partCount > 0 && place(0).object == object
        }
        objectCount -= 1
        statistics.objectsForgotten += 1
    }

    // What each object comes to in a log that is in memory whole.
    private mutating func forgetFirstObjectInMemory() {
        let object = parts[0].header.object
        repeat {
            removeFirstInMemory()
        } while !parts.isEmpty && parts[0].header.object == object
        oldest = parts.isEmpty ? next : parts[0].sequence
        if !forgotten.isEmpty { forgetBelowOldest() }
    }

    @inline(__always)
    private mutating func removeFirstInMemory() {
        let length = parts[0].streamLength
        octetCount -= length
        heldOctets -= length
        parts.removeFirst()
    }

    private mutating func forgetFirstPart() {
        if older.isEmpty {
            removeFirstInMemory()
        } else {
            octetCount -= Int(older[0].octets)
            older.removeFirst()
        }
        oldest = partCount == 0 ? next : place(0).sequence
        forgetBelowOldest()
    }

    /// What does not hold of it, in words; nil when all does.
    public func checkInvariants() -> String? {
        if oldest > next { return "the oldest number \(oldest) lies above the live edge \(next)" }
        if next > reserved { return "the live edge \(next) lies above what is reserved, \(reserved)" }
        var edge = oldest
        var objects = 0
        var octets = 0
        var before: StoredPart?
        for index in 0..<partCount {
            let part = index < older.count ? older[index] : StoredPart(parts[index - older.count])
            if part.sequence < edge { return "part \(part.sequence) comes after \(edge)" }
            if part.sequence >= next { return "part \(part.sequence) lies beyond the live edge \(next)" }
            let follows = before?.object == part.object
            // Of the first object the first parts may be gone, when it is longer than what is kept; of one that is open, some.
            let wanted = follows ? (before?.index ?? 0) + 1 : 0
            if index > 0, part.index != wanted, part.object != open?.first {
                return
                    "part \(part.sequence) is number \(part.index) of an object whose earlier parts are not kept"
            }
            if part.isLast { objects += 1 }
            octets += Int(part.octets)
            edge = part.sequence + 1
            before = part
        }
        if let problem = checkForgotten() { return problem }
        if objects != objectCount { return "\(objects) objects are kept, and \(objectCount) are counted" }
        if octets != octetCount { return "\(octets) octets are kept, and \(octetCount) are counted" }
        let held = (0..<parts.count).reduce(0) { $0 + parts[$1].streamLength }
        if held != heldOctets { return "\(held) octets are in memory, and \(heldOctets) are counted" }
        if let before, !before.isLast, open == nil { return "the last object is not whole, and none is open" }
        if let limit = retention.octets, octets > limit { return "\(octets) octets are kept, \(limit) may be" }
        if let limit = retention.objects, objects > max(limit, 1) {
            return "\(objects) objects are kept, \(limit) may be"
        }
        return nil
    }
}
