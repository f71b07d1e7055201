import Wire

/// Numbers of parts that were forgotten before older ones.
struct Forgotten: Sendable, Equatable {
    var range: Range<UInt64>
    var reason: Gap.Reason
}

// What leaves the log out of turn, and what leaves memory for the store.
extension ObjectLog {
    /// The number of a part that is kept, counted from the oldest, and that of its object.
    func place(_ index: Int) -> (sequence: UInt64, object: UInt64) {
        guard index >= older.count else { return (older[index].sequence, older[index].object) }
        let index = index - older.count
        return (parts[index].sequence, parts[index].header.object)
    }

    /// The first part that is kept whose number is `sequence` or higher, counted from the oldest.
    func firstPlace(from sequence: UInt64) -> Int {
        let index = older.firstIndex(from: sequence)
        return index < older.count ? index : older.count + parts.firstIndex(from: sequence)
    }

    /// Where the parts of an object are that are kept, which are in a row.
    func places(of object: UInt64) -> Range<Int> {
        let first = firstPlace(from: object)
        var end = first
        while end < partCount, place(end).object == object { end += 1 }
        return first..<end
    }

    /// Removes parts wherever they are.
    mutating func remove(_ places: Range<Int>) {
        for index in places {
            if index < older.count {
                octetCount -= Int(older[index].octets)
            } else {
                octetCount -= parts[index - older.count].streamLength
                heldOctets -= parts[index - older.count].streamLength
            }
        }
        let count = older.count
        if places.upperBound > count {
            parts.remove((max(places.lowerBound, count) - count)..<(places.upperBound - count))
        }
        if places.lowerBound < count { older.remove(places.lowerBound..<min(places.upperBound, count)) }
    }

    /// Removes parts, whose numbers are then told as gone. Returns the numbers.
    @discardableResult
    mutating func forget(_ places: Range<Int>, _ reason: Gap.Reason) -> Range<UInt64> {
        guard !places.isEmpty else { return next..<next }
        let range = place(places.lowerBound).sequence..<(place(places.upperBound - 1).sequence + 1)
        remove(places)
        add(Forgotten(range: range, reason: reason))
        return range
    }

    /// Ranges become one where no part is kept between them, so that there are no more of them than parts, and one.
    mutating func add(_ new: Forgotten) {
        var place = (0..<forgotten.count).partitionPoint { forgotten[$0].range.lowerBound < new.range.lowerBound }
        var new = new
        if place > 0, !hasPart(in: forgotten[place - 1].range.upperBound..<new.range.lowerBound) {
            place -= 1
            new = forgotten.remove(at: place).joined(with: new)
        }
        if place < forgotten.count, !hasPart(in: new.range.upperBound..<forgotten[place].range.lowerBound) {
            new = new.joined(with: forgotten.remove(at: place))
        }
        forgotten.insert(new, at: place)
    }

    private func hasPart(in range: Range<UInt64>) -> Bool {
        let index = firstPlace(from: range.lowerBound)
        return index < partCount && place(index).sequence < range.upperBound
    }

    /// What there is under numbers without a part, from the first of them on.
    func hole(_ range: Range<UInt64>) -> LogEntry {
        let place = (0..<forgotten.count).partitionPoint { forgotten[$0].range.upperBound <= range.lowerBound }
        guard place < forgotten.count, forgotten[place].range.lowerBound < range.upperBound else {
            return .void(Gap(range, .void))
        }
        let known = forgotten[place]
        return known.range.lowerBound <= range.lowerBound
            ? .gone(Gap(range.lowerBound..<min(known.range.upperBound, range.upperBound), known.reason))
            : .void(Gap(range.lowerBound..<known.range.lowerBound, .void))
    }

    /// What lies below the oldest number is gone anyhow.
    mutating func forgetBelowOldest() {
        guard let first = forgotten.first, first.range.lowerBound < oldest else { return }
        forgotten.removeFirst((0..<forgotten.count).partitionPoint { forgotten[$0].range.upperBound <= oldest })
    }

    // MARK: Memory

    /// The store does not have a part that is now appended.
    mutating func noteUnstored(_ sequence: UInt64) {
        if unstored.last?.upperBound == sequence {
            unstored[unstored.count - 1] = unstored[unstored.count - 1].lowerBound..<(sequence + 1)
        } else {
            unstored.append(sequence..<(sequence + 1))
        }
    }

    /// Leaves what need not be in memory to the store. What waits for the store is there once, for both.
    mutating func applyMemoryLimit() {
        guard let memory, heldOctets > memory else { return }
        let readable = store.readable
        while heldOctets > memory, parts.count > 1 {
            let first = parts[0].sequence
            while let range = unstored.first, range.upperBound <= first { unstored.removeFirst() }
            if let range = unstored.first, range.contains(first) {
                // An object that is open cannot be forgotten: it waits until it is whole.
                guard parts[0].header.object != open?.first else { return }
                lose(parts[0].header.object)
            } else {
                guard first < readable else {
                    // What waits may take as much memory again, and the newest that the store has refused stay.
                    guard heldOctets > 2 * memory, let lost = oldestUnstored else { return }
                    lose(lost)
                    continue
                }
                older.append(StoredPart(parts[0]))
                heldOctets -= parts[0].streamLength
                parts.removeFirst()
            }
        }
    }

    /// The oldest object that the store has not all parts of, but for one that is open.
    private var oldestUnstored: UInt64? {
        for range in unstored {
            let index = parts.firstIndex(from: range.lowerBound)
            guard index < parts.count, range.contains(parts[index].sequence) else { continue }
            return parts[index].header.object == open?.first ? nil : parts[index].header.object
        }
        return nil
    }

    /// The store does not have a part that it should: its object is forgotten, and told as gone.
    public mutating func storeLacks(_ sequence: UInt64) {
        let place = older.firstIndex(from: sequence)
        guard place < older.count, older[place].sequence == sequence else { return }
        if older[place].object == open?.first {
            forget(place..<(place + 1), .retention)
        } else {
            lose(older[place].object)
        }
    }

    private mutating func lose(_ object: UInt64) {
        forget(places(of: object), .retention)
        objectCount -= 1
        statistics.objectsLost += 1
    }

    /// Numbers from `sequence` on of parts that are in the store alone, to be read at once: at least that one, and as many
    /// more as have no more than so many octets together.
    public func storedRun(from sequence: UInt64, octets: Int, parts most: Int) -> Range<UInt64> {
        let first = older.firstIndex(from: sequence)
        var end = sequence
        var sum = 0
        for index in first..<min(older.count, first + most) {
            sum += Int(older[index].octets)
            guard index == first || sum <= octets else { break }
            end = older[index].sequence + 1
        }
        return sequence..<end
    }

    /// What does not hold of the numbers that were forgotten, in words.
    func checkForgotten() -> String? {
        var place = oldest
        for range in forgotten.map(\.range) {
            if range.isEmpty || range.lowerBound < place || range.upperBound > next {
                return "the forgotten numbers \(range) are out of order, or beyond the live edge \(next)"
            }
            if hasPart(in: range) { return "a part of the forgotten numbers \(range) is kept" }
            place = range.upperBound
        }
        return nil
    }
}

extension Forgotten {
    /// Both, and what lies between. For a receiver it comes to the same.
    fileprivate func joined(with next: Forgotten) -> Forgotten {
        Forgotten(
            range: range.lowerBound..<next.range.upperBound, reason: reason == next.reason ? reason : .retention)
    }
}
