import Objects
import Wire

/// Parts that are read from the log's store for receivers, because memory does not hold them. A receiver has one read at a
/// time, and what it brings is there for others too.
///
///     ask ──> waiting ──nextRead──> under way ──partsRead──> kept for a while, and who waits is served
struct StoredReads: Sendable {
    /// Reads under way at once.
    static let most = 16
    /// Octets of one read, but of a larger part alone; and parts.
    static let octets = ObjectLimits.streamOctets
    static let parts = 256
    /// Octets of parts that are kept: what all reads bring in one turn must fit.
    static let keptOctets = 32 << 20
    /// After a read that failed.
    static let pause = Duration.seconds(1)

    private struct Read: Sendable {
        var numbers: Range<UInt64>
        var receivers: [ReceiverID]
    }

    private var waiting: [(id: ReceiverID, sequence: UInt64)] = []
    /// Of those, the ones that were taken.
    private var taken = 0
    private var underWay: [Read] = []
    private var kept: [UInt64: Part] = [:]
    /// Their numbers, oldest first; those already gone among them.
    private var order = IndexedRing(filler: UInt64(0))
    private(set) var keptOctets = 0
    private var pausedUntil: Instant?

    /// Receivers that wait for a read, or for the end of one.
    var receiverCount: Int { waiting.count - taken + underWay.reduce(0) { $0 + $1.receivers.count } }
    var underWayCount: Int { underWay.count }

    /// When reading may go on, if somebody waits for that.
    var deadline: Instant { taken < waiting.count ? pausedUntil ?? .distantFuture : .distantFuture }

    mutating func timerFired(at now: Instant) {
        if let time = pausedUntil, time <= now { pausedUntil = nil }
    }

    func part(_ sequence: UInt64) -> Part? { kept[sequence] }

    mutating func ask(_ sequence: UInt64, for id: ReceiverID) { waiting.append((id, sequence)) }

    /// The receiver is gone.
    mutating func forget(_ id: ReceiverID) {
        waiting.removeFirst(taken)
        taken = 0
        waiting.removeAll { $0.id == id }
        for index in underWay.indices { underWay[index].receivers.removeAll { $0 == id } }
    }

    /// Who has waited longest, if one more read may begin.
    mutating func next() -> (id: ReceiverID, sequence: UInt64)? {
        guard pausedUntil == nil, underWay.count < Self.most, taken < waiting.count else { return nil }
        defer {
            taken += 1
            if taken == waiting.count {
                waiting.removeAll(keepingCapacity: true)
                taken = 0
            }
        }
        return waiting[taken]
    }

    /// Whether a read is under way that brings the part; then it is for that receiver too.
    mutating func join(_ sequence: UInt64, _ id: ReceiverID) -> Bool {
        guard let index = underWay.firstIndex(where: { $0.numbers.contains(sequence) }) else { return false }
        underWay[index].receivers.append(id)
        return true
    }

    mutating func begin(_ numbers: Range<UInt64>, for id: ReceiverID) {
        underWay.append(Read(numbers: numbers, receivers: [id]))
    }

    /// Those for whom the read was; nil when there is none of these numbers.
    mutating func end(_ numbers: Range<UInt64>) -> [ReceiverID]? {
        guard let index = underWay.firstIndex(where: { $0.numbers == numbers }) else { return nil }
        return underWay.remove(at: index).receivers
    }

    /// It failed, and is tried again after a pause.
    mutating func failed(_ numbers: Range<UInt64>, _ receivers: [ReceiverID], at now: Instant) {
        pausedUntil = now + Self.pause
        for id in receivers { ask(numbers.lowerBound, for: id) }
    }

    mutating func keep(_ part: Part) {
        guard kept.updateValue(part, forKey: part.sequence) == nil else { return }
        order.append(part.sequence)
        keptOctets += part.streamLength
        while keptOctets > Self.keptOctets, let old = kept.removeValue(forKey: order[order.base]) {
            keptOctets -= old.streamLength
            order.removeFirst()
        }
    }
}

// Reading is asked for here and done by others: it takes a disk's time.
extension FlowServer {
    /// Numbers of parts to be read from the log's store; nil when nothing is to be read now. `partsRead` is to follow for each.
    public mutating func nextRead() -> Range<UInt64>? {
        while let (id, sequence) = reads.next() {
            guard let slot = slot(of: id), seats[slot].reading == .asked else { continue }
            guard case .stored = log.part(at: sequence), reads.part(sequence) == nil else {
                readEnded(slot)
                continue
            }
            if reads.join(sequence, id) { continue }
            let run = log.storedRun(from: sequence, octets: StoredReads.octets, parts: StoredReads.parts)
            reads.begin(run, for: id)
            return run
        }
        return nil
    }

    /// The parts with these numbers were read, or why they were not. Those that the store does not have are gone: receivers
    /// are told.
    public mutating func partsRead(_ numbers: Range<UInt64>, _ result: Result<[Part], LogStoreError>, at now: Instant) {
        guard let receivers = reads.end(numbers) else { return }
        defer { assertInvariants() }
        switch result {
        case .success(let parts):
            var place = numbers.lowerBound
            for part in parts where numbers.contains(part.sequence) && part.sequence >= place {
                lack(place..<part.sequence)
                place = part.sequence + 1
                if case .stored = log.part(at: part.sequence) { reads.keep(part) }
            }
            lack(place..<numbers.upperBound)
            storedPartsRead += UInt64(parts.count)
            for id in receivers { if let slot = slot(of: id) { readEnded(slot) } }
        case .failure(let error):
            readFailures += 1
            lastReadFailure = error.reason
            reads.failed(numbers, receivers, at: now)
        }
    }

    /// Those of these that the log has left to its store are not there.
    private mutating func lack(_ numbers: Range<UInt64>) {
        for number in numbers { log.storeLacks(number) }
    }

    private mutating func readEnded(_ slot: Int) {
        seats[slot].reading = .ended
        touch(slot)
    }

    /// The receiver needs a part that is to be read.
    mutating func read(_ sequence: UInt64, for slot: Int) {
        guard seats[slot].reading != .asked else { return }
        seats[slot].reading = .asked
        reads.ask(sequence, for: id(of: slot))
    }

    /// The receiver needs nothing more.
    mutating func leaveReads(_ slot: Int) {
        if seats[slot].reading == .asked { reads.forget(id(of: slot)) }
        seats[slot].reading = .none
    }

    /// What does not hold of reads, in words.
    func checkReads() -> String? {
        let asked = seats.count { $0.reading == .asked }
        if asked != reads.receiverCount { return "\(asked) receivers wait for reads, \(reads.receiverCount) are known" }
        if reads.underWayCount > StoredReads.most { return "\(reads.underWayCount) reads are under way" }
        return reads.keptOctets > StoredReads.keptOctets ? "\(reads.keptOctets) octets of parts are kept" : nil
    }
}
