import Wire

extension ObjectAssembler {
    /// What the source says of its log, on a path with this round trip.
    public enum LogAnswer: Sendable, Equatable {
        /// The receiver goes on where it was.
        case resumed
        /// Numbers start anew: from `first` on, all that comes is new.
        case started(first: UInt64)
    }

    /// LOG has come. A later one on the same connection, which tells the clock and the live edge again, says `taken`.
    /// Throws when the source took a position in an epoch that was not stated.
    public mutating func logReceived(
        _ log: LogMessage, roundTrip: Duration, at now: Instant
    ) throws(ObjectsError) -> LogAnswer {
        guard log.answer != .taken || log.epoch == epoch else { throw .epochMismatch }
        clock.add(source: log.now, roundTrip: roundTrip, at: now)
        switch log.answer {
        case .taken: return .resumed
        case .fresh where log.epoch == epoch: return .resumed
        case .fresh where epoch == nil:
            epoch = log.epoch
            // What is older than where it starts is not missing.
            for index in tracked.indices.reversed() where tracked[index].first < log.first { remove(index) }
            settleAlone(0..<log.first)
            return .started(first: log.first)
        case .fresh, .otherEpoch:
            epoch = log.epoch
            for object in tracked where !object.isEnded { note(object, .epochEnded) }
            tracked = []
            heldOctets = 0
            settled = SequenceSet(position: log.first)
            resumedBelow = 0
            end = nil
            return .started(first: log.first)
        }
    }

    /// GAP has come: nothing will be sent for its numbers. Those that were not settled are told once, by `takeNotices`,
    /// and what they belong to fails. Throws when the message holds what it may not.
    public mutating func gapReceived(_ gap: Gap) throws(ObjectsError) {
        try gap.check()
        giveUp(gap.range, gap.reason)
    }

    /// END has come: no part has the number `sequence` or a higher one.
    public mutating func endReceived(_ sequence: UInt64) { end = sequence }

    private mutating func giveUp(_ range: Range<UInt64>, _ reason: Gap.Reason) {
        var place = range.lowerBound
        while let missing = settled.firstMissing(in: place..<range.upperBound) {
            if reason == .unwanted {
                statistics.unwanted += UInt64(missing.count)
            } else {
                statistics.missing += UInt64(missing.count)
                if reason == .lifetime { statistics.expired += UInt64(missing.count) }
                notices.append(.gap(Gap(missing, reason)))
            }
            place = missing.upperBound
        }
        var hit = range
        // From above, so that those not yet looked at keep their places.
        for index in tracked.indices.reversed() {
            let object = tracked[index]
            guard !object.isEnded, object.run.overlaps(range) else { continue }
            // What was given out part by part may still be given up by the source, or end before it is whole.
            let isGivenUp = reason == .void || reason == .lifetime && object.header.count == nil
            guard isGivenUp || settled.firstMissing(in: object.run.clamped(to: range)) != nil else { continue }
            if reason != .unwanted { note(object, .gap(reason)) }
            remove(index)
            hit = min(hit.lowerBound, object.first)..<max(hit.upperBound, object.end)
        }
        settle(hit)
    }

    /// Settles `range`, and gives up the oldest hole when there are too many.
    mutating func settle(_ range: Range<UInt64>) {
        settled.insert(range)
        failCutOff(in: range)
        while settled.rangeCount > limits.ranges {
            statistics.holesGivenUp += 1
            giveUp(settled.position..<settled[0].lowerBound, .tooManyHoles)
        }
    }

    /// Whether an object of unknown length cannot go on, because the number that its next part would have is settled: by
    /// a gap, or by what was published after the object was abandoned.
    func isCutOff(_ object: TrackedObject) -> Bool {
        guard object.header.count == nil, !object.isEnded, settled.contains(object.end) else { return false }
        // Given out part by part, it may have been the object's own, before a restart.
        return mode == .whole || object.first >= resumedBelow
    }

    private mutating func failCutOff(in range: Range<UInt64>) {
        if tracked.isEmpty { return }
        // Runs ascend: those that end in `range` are the last to start below it, and those that start in it.
        var index = max(firstIndex(from: range.lowerBound) - 1, 0)
        var cut: [UInt64] = []
        while index < tracked.count, tracked[index].first < range.upperBound {
            if range.contains(tracked[index].end), isCutOff(tracked[index]) { cut.append(tracked[index].first) }
            index += 1
        }
        for first in cut {
            if let index = self.index(of: first), isCutOff(tracked[index]) { fail(index, .gap(nil)) }
        }
    }

    /// Settles what of `range` belongs to no other object that is tracked.
    mutating func settleAlone(_ range: Range<UInt64>) {
        var pieces: [Range<UInt64>] = []
        var place = range.lowerBound
        for object in tracked where !object.isEnded && object.run.overlaps(range) {
            if object.first > place { pieces.append(place..<object.first) }
            place = max(place, object.end)
        }
        if place < range.upperBound { pieces.append(place..<range.upperBound) }
        for piece in pieces { settle(piece) }
    }

    /// Gives the object up at `index` for what one of its parts says.
    mutating func end(_ index: Int, _ reason: FailureReason) -> AssemblyFailure {
        let object = tracked[index]
        remove(index)
        settle(object.run)
        return AssemblyFailure(object: object.first, name: object.header.name, reason: reason)
    }

    /// Fails the oldest object that holds parts, other than `first`, until there is room for `charge` more octets.
    mutating func makeRoom(_ charge: Int, for first: UInt64) {
        while heldOctets + charge > limits.octets {
            guard let index = tracked.firstIndex(where: { $0.first != first && !$0.pieces.isEmpty }) else { return }
            fail(index, .noRoom)
        }
    }

    /// Forgets one object, so that another can be tracked: one that was given up before, or the oldest.
    mutating func makePlace() {
        if let index = tracked.firstIndex(where: \.isEnded) {
            tracked.remove(at: index)
        } else {
            let first = tracked[0].first
            fail(0, .noRoom)
            if let index = index(of: first) { tracked.remove(at: index) }
        }
    }

    mutating func fail(_ index: Int, _ reason: FailureReason) {
        let object = tracked[index]
        note(object, reason)
        remove(index)
        settle(object.run)
    }

    private mutating func note(_ object: TrackedObject, _ reason: FailureReason) {
        statistics.failures += 1
        notices.append(.failed(AssemblyFailure(object: object.first, name: object.header.name, reason: reason)))
    }

    /// Lets go of an object's parts. It is known on while its end is not, so that its later parts are not taken for those
    /// of a new one.
    private mutating func remove(_ index: Int) {
        heldOctets -= tracked[index].charge
        if tracked[index].header.count != nil { tracked.remove(at: index) } else { tracked[index].finish() }
    }

    /// The object with this first part, if it is tracked.
    func index(of first: UInt64) -> Int? {
        let index = firstIndex(from: first)
        return index < tracked.count && tracked[index].first == first ? index : nil
    }

    /// The first object that starts at `first` or above.
    func firstIndex(from first: UInt64) -> Int {
        guard let last = tracked.last, last.first >= first else { return tracked.count }
        return (0..<tracked.count).partitionPoint { tracked[$0].first < first }
    }
}
