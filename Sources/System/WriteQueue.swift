import Objects
import Wire

/// What waits to be written to a log's database, and when it is. Pure: the thread that writes asks it what to do.
///
///     append ──> batch │ batch │ batch ──> next: write ──> written, or failed and tried again after a pause
///
/// What came within `interval` goes in one commit, or sooner when a batch is full. Memory is bounded by `octetLimit`:
/// beyond it a part is refused.
///
/// Numbers are reserved on disk ahead of those who ask for them: from `reserved` to `durable` they are in hand, and are
/// given out by adding up. As soon as fewer than `block` are, the writer is asked for that many more.
struct WriteQueue: Sendable {
    /// How long a part waits for others to be written with.
    static let interval = Duration.milliseconds(50)
    /// Octets and parts that go in one commit. Whoever reserves numbers waits for the commit that is under way.
    static let batchOctets = 1 << 20
    static let batchParts = 256
    /// Numbers in hand, at least, while the disk keeps up: as many as a log asks for at a time.
    static let block = ObjectLog.blockSize
    /// What a part counts for beside its stream.
    static let partOverhead = 256
    /// The pause after a failure; it doubles up to the longest.
    static let shortestPause = Duration.milliseconds(500)
    static let longestPause = Duration.seconds(30)

    enum Step: Equatable, Sendable {
        /// Write the parts, and trim below the number; then say `written` or `failed`.
        case write([Part], trimBelow: UInt64)
        /// Reserve as many numbers more; then say `reserved`, or `reservationFailed`.
        case reserve(UInt64)
        /// Nothing to do until then; nil for until something comes.
        case wait(until: Instant?)
        /// All is done; close the database.
        case end
    }

    private struct Batch {
        var parts: [Part] = []
        var octets = 0
        func takes(_ charge: Int) -> Bool { parts.count < batchParts && octets + charge <= batchOctets }
    }

    private enum Phase { case open, closing, closed }

    let octetLimit: Int
    /// Octets that wait, those of the batch that is being written among them.
    private(set) var octets = 0
    /// Up to where numbers are given out.
    private(set) var reserved: UInt64
    /// Up to where they are on disk as given out.
    private(set) var durable: UInt64
    /// The lowest number that a part may have.
    private(set) var nextSequence: UInt64
    /// The parts that came, and those of which nothing is to be done any more.
    private(set) var appended: UInt64 = 0
    private(set) var settled: UInt64 = 0
    /// Up to where was asked to trim, and up to where that is durable.
    private(set) var trimAsked: UInt64
    private(set) var trimDone: UInt64
    private(set) var failures: UInt64 = 0
    private(set) var lastFailure: String?
    private(set) var refused: UInt64 = 0
    private(set) var lost: UInt64 = 0
    /// How many wait for the database, before whom nothing is written.
    var waitingReaders = 0

    private var batches: [Batch] = []
    private var isWriting = false
    /// Trimmed parts are still to be deleted.
    private var isDeleting: Bool
    /// When what waits must be written.
    private var due: Instant?
    private var pausedUntil: Instant?
    /// Reserving ahead has failed, and is tried again then. Who runs out of numbers tries by himself, and says why.
    private var aheadPausedUntil: Instant?
    private var pause = shortestPause
    /// Up to where somebody waits for it.
    private var hurriedParts: UInt64 = 0
    private var hurriedTrim: UInt64 = 0
    private var phase = Phase.open

    init(octetLimit: Int, reserved: UInt64, nextSequence: UInt64, oldest: UInt64, isDeleting: Bool) {
        self.octetLimit = octetLimit
        self.reserved = reserved
        durable = reserved
        self.nextSequence = nextSequence
        trimAsked = oldest
        trimDone = oldest
        self.isDeleting = isDeleting
    }

    /// Parts below it do not wait.
    var firstWaiting: UInt64 { batches.first?.parts.first?.sequence ?? nextSequence }
    /// Why what comes now may not be written.
    var trouble: String? {
        if let lastFailure { return lastFailure }
        return octets > octetLimit / 2 ? "the disk is too slow: \(octets) octets wait for it" : nil
    }
    private var isHurried: Bool { settled < hurriedParts || trimDone < hurriedTrim }
    private var hasWork: Bool { !batches.isEmpty || trimAsked > trimDone || isDeleting }
    private var wantsBlock: Bool {
        isOpen && durable - reserved < Self.block && durable <= ObjectLimits.sequences - Self.block
    }
    var isOpen: Bool { phase == .open }
    var isClosed: Bool { phase == .closed }

    // MARK: numbers

    /// Numbers in a row for somebody, or how many are missing on disk for that.
    enum Reservation: Equatable, Sendable {
        case first(UInt64)
        case missing(UInt64)
    }

    mutating func take(_ count: UInt64) throws(LogStoreError) -> Reservation {
        guard isOpen else { throw LogStoreError("the store is closed") }
        guard count <= durable - reserved else { return .missing(count - (durable - reserved)) }
        defer { reserved += count }
        return .first(reserved)
    }

    /// All below `end` are on disk as given out.
    mutating func reserved(upTo end: UInt64) {
        durable = max(durable, end)
        aheadPausedUntil = nil
    }

    mutating func reservationFailed(at now: Instant) { aheadPausedUntil = now + Self.shortestPause }

    // MARK: what comes

    /// Takes in a part. Returns whether the writer must be woken. When it throws, the part was not taken.
    mutating func append(_ part: Part, at now: Instant) throws(LogStoreError) -> Bool {
        guard isOpen else { throw LogStoreError("the store is closed") }
        guard part.sequence >= nextSequence, part.sequence < reserved else {
            throw LogStoreError(
                "part \(part.sequence) is out of turn; the next is one of \(nextSequence) to below \(reserved)")
        }
        let charge = Self.charge(part)
        guard octets + charge <= octetLimit else {
            refused += 1
            let cause = lastFailure.map { ": \($0)" } ?? "; the disk is too slow, or the limit too low"
            throw LogStoreError(
                "part \(part.sequence) is not kept: \(octets) of at most \(octetLimit) octets wait for the disk\(cause)"
            )
        }
        nextSequence = part.sequence + 1
        appended += 1
        octets += charge
        if let last = batches.indices.last, !(isWriting && last == 0), batches[last].takes(charge) {
            batches[last].parts.append(part)
            batches[last].octets += charge
            return false
        }
        batches.append(Batch(parts: [part], octets: charge))
        return schedule(at: now) || batches.count == 2
    }

    /// Forgets all below `sequence`, what waits among it. Returns whether the writer must be woken.
    mutating func trim(below asked: UInt64, at now: Instant) throws(LogStoreError) -> Bool {
        guard isOpen else { throw LogStoreError("the store is closed") }
        let sequence = min(asked, reserved)
        guard sequence > trimAsked else { return false }
        trimAsked = sequence
        nextSequence = max(nextSequence, sequence)
        isDeleting = true
        let first = isWriting ? 1 : 0
        while first < batches.count, let part = batches[first].parts.first, part.sequence < sequence {
            let kept = batches[first].parts.firstIndex { $0.sequence >= sequence } ?? batches[first].parts.count
            for part in batches[first].parts[..<kept] {
                batches[first].octets -= Self.charge(part)
                octets -= Self.charge(part)
                settled += 1
            }
            batches[first].parts.removeFirst(kept)
            if batches[first].parts.isEmpty { batches.remove(at: first) }
        }
        return schedule(at: now)
    }

    /// Somebody waits for what is here to be written: it is tried at once.
    mutating func hurry() {
        hurriedParts = appended
        hurriedTrim = trimAsked
        pausedUntil = nil
    }

    /// Takes nothing more, and writes what waits; what fails now is lost.
    mutating func close() {
        guard isOpen else { return }
        phase = .closing
        pausedUntil = nil
    }

    private mutating func schedule(at now: Instant) -> Bool {
        guard due == nil else { return false }
        due = now + Self.interval
        return true
    }

    private static func charge(_ part: Part) -> Int { part.streamLength + partOverhead }

    // MARK: what the writer does

    /// What to do now.
    mutating func next(at now: Instant) -> Step {
        if phase == .closed { return .end }
        if waitingReaders > 0 { return .wait(until: nil) }
        // Deleting goes on when the log is opened again; nothing is lost with it.
        if phase == .closing, batches.isEmpty, trimAsked == trimDone { return .end }
        if let aheadPausedUntil, now >= aheadPausedUntil { self.aheadPausedUntil = nil }
        if wantsBlock, aheadPausedUntil == nil { return .reserve(Self.block) }
        let again = wantsBlock ? aheadPausedUntil : nil
        guard hasWork else {
            due = nil
            return .wait(until: again)
        }
        if let pausedUntil, now < pausedUntil { return .wait(until: min(pausedUntil, again ?? pausedUntil)) }
        pausedUntil = nil
        if !isHurried, isOpen, batches.count < 2, let due, now < due {
            return .wait(until: min(due, again ?? due))
        }
        isWriting = !batches.isEmpty
        // What comes from now on sets its own; what is left without one is late already.
        due = nil
        return .write(batches.first?.parts ?? [], trimBelow: trimAsked)
    }

    /// What `next` said is durable. `trimmed` is the number that it said; `isDeleting` tells that trimmed parts are left.
    mutating func written(trimmed: UInt64, isDeleting: Bool) {
        trimDone = trimmed
        self.isDeleting = isDeleting || trimAsked > trimmed
        if isWriting { settled += UInt64(removeFirstBatch()) }
        isWriting = false
        pause = Self.shortestPause
        lastFailure = nil
    }

    /// It was not written, and stays. A log that is closing gives it up.
    mutating func failed(_ reason: String, at now: Instant) {
        failures += 1
        lastFailure = reason
        isWriting = false
        hurriedParts = 0
        hurriedTrim = 0
        guard isOpen else {
            while !batches.isEmpty { lost += UInt64(removeFirstBatch()) }
            trimAsked = trimDone
            return
        }
        pausedUntil = now + pause
        pause = min(pause * 2, Self.longestPause)
    }

    /// The database is closed.
    mutating func ended() { phase = .closed }

    private mutating func removeFirstBatch() -> Int {
        let batch = batches.removeFirst()
        octets -= batch.octets
        return batch.parts.count
    }
}
