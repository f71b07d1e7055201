import Objects
import Synchronization
import Wire

/// The thread that writes a log's database, and what others ask of it.
///
/// The database goes from hand to hand under a mutex. Who loads, or needs more numbers than are in hand, says so in the
/// queue first, and the writer lets them go before its next commit.
final class LogWriter: Sendable {
    let queue: Monitor<WriteQueue>
    private let database: Mutex<LogDatabase?>
    private let counts = Mutex(SQLiteLogStatistics())
    private let directory: Mutex<DirectoryLock?>
    private let lastRoom: Mutex<ReserveFile>

    /// Numbers reserved where the disk takes nothing more, with the last room there is: the source goes on with them until it
    /// does.
    static let lastBlock: UInt64 = 1 << 20

    /// Takes the directory, opens the database in it and starts the thread.
    init(directory path: String, limits: SQLiteLogLimits, fresh: Epoch, startsAnew: Bool) throws(LogStoreError) {
        let lock = try DirectoryLock(path)
        let opened = try LogDatabase(
            "\(path)/\(SQLiteLogStore.fileName)", octetLimit: limits.databaseOctets, fresh: fresh,
            startsAnew: startsAnew)
        var room = ReserveFile("\(path)/reserve")
        room.keep(at: monotonicNow())
        lastRoom = Mutex(room)
        // SQLite makes its files' content durable, and of their names only that of the write-ahead log.
        try lock.sync()
        queue = Monitor(
            WriteQueue(
                octetLimit: limits.queueOctets, reserved: opened.next, nextSequence: max(opened.end, opened.oldest),
                oldest: opened.oldest, isDeleting: opened.hasTrimmedParts))
        directory = Mutex(lock)
        database = Mutex(opened)
        startThread("log") { [self] in run() }
    }

    // MARK: what is asked of it

    func load(holding octets: Int) throws(LogStoreError) -> StoredLog {
        try withDatabase { (database) throws(LogStoreError) in
            let (older, parts, damaged) = try database.parts(holding: octets)
            counts.withLock { $0.partsDamaged += damaged }
            // What is in hand was given to nobody.
            let next = queue.change { $0.reserved }
            return StoredLog(
                epoch: database.epoch, next: next, oldest: database.oldest, older: older, parts: parts)
        }
    }

    func bodies() throws(LogStoreError) -> Set<Int64> {
        try withDatabase { (database) throws(LogStoreError) in try database.bodies() }
    }

    func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        let begin = monotonicNow()
        let first: UInt64
        switch try queue.change({ (queue) throws(LogStoreError) in try queue.take(count) }) {
        case .first(let number):
            first = number
            queue.wake()
        case .missing: first = try reserveNow(count)
        }
        counts.withLock {
            $0.reservations += 1
            $0.longestReservation = max($0.longestReservation, monotonicNow() - begin)
        }
        return first
    }

    /// More numbers than are in hand: waits for the disk.
    private func reserveNow(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        try withDatabase { (database) throws(LogStoreError) in
            while true {
                // The writer, or somebody else, may have been here meanwhile.
                switch try queue.change({ (queue) throws(LogStoreError) in try queue.take(count) }) {
                case .first(let number): return number
                case .missing(let missing): try reserve(missing, in: &database)
                }
            }
        }
    }

    /// Has more numbers in hand.
    private func reserve(_ count: UInt64, in database: inout LogDatabase) throws(LogStoreError) {
        _ = try database.reserve(count)
        let end = database.next
        queue.change { $0.reserved(upTo: end) }
    }

    /// Waits until all that came before is durable, or an attempt has failed.
    func flush() throws(LogStoreError) {
        let (parts, trim, failures) = queue.change { queue in
            queue.hurry()
            return (queue.appended, queue.trimAsked, queue.failures)
        }
        queue.wake()
        let failure: String? = queue.wait { queue in
            if queue.settled >= parts, queue.trimDone >= trim {
                return .done(queue.lost > 0 ? "parts were lost as the store closed" : nil)
            }
            if queue.failures > failures { return .done(queue.lastFailure ?? "writing failed") }
            return queue.isClosed ? .done("the store is closed") : .wait(until: nil)
        }
        if let failure { throw LogStoreError(failure) }
    }

    /// Writes what waits, and waits until the database is closed and the directory given back.
    func close() {
        queue.change { $0.close() }
        queue.wake()
        queue.wait { $0.isClosed ? .done(()) : .wait(until: nil) }
        directory.withLock { $0 = nil }
    }

    var statistics: SQLiteLogStatistics {
        var out = counts.withLock { $0 }
        queue.change { queue in
            out.partsRefused = queue.refused
            out.partsLost = queue.lost
            out.failures = queue.failures
            out.lastFailure = queue.lastFailure
            out.waitingOctets = queue.octets
            out.numbersInHand = queue.durable - queue.reserved
        }
        return out
    }

    private func withDatabase<R: Sendable>(
        _ body: (inout LogDatabase) throws(LogStoreError) -> R
    ) throws(LogStoreError) -> R {
        queue.change { $0.waitingReaders += 1 }
        defer {
            queue.change { $0.waitingReaders -= 1 }
            queue.wake()
        }
        return try database.withLock { (database) throws(LogStoreError) in
            guard database != nil else { throw LogStoreError("the store is closed") }
            return try body(&database!)
        }
    }

    // MARK: the thread

    private func run() {
        while true {
            let step: WriteQueue.Step = queue.wait { queue in
                switch queue.next(at: monotonicNow()) {
                case .wait(let time): .wait(until: time)
                case let step: .done(step)
                }
            }
            switch step {
            case .write(let parts, let trimmed): write(parts, trimBelow: trimmed)
            case .reserve(let count): reserveAhead(count)
            case .wait: break
            case .end:
                end()
                return
            }
        }
    }

    private func reserveAhead(_ count: UInt64) {
        do throws(LogStoreError) {
            try database.withLock { (database) throws(LogStoreError) in
                guard database != nil else { return }
                try reserve(count, in: &database!)
            }
        } catch {
            reserveWithLastRoom()
            queue.change { $0.reservationFailed(at: monotonicNow()) }
        }
    }

    /// The disk takes nothing more.
    private func reserveWithLastRoom() {
        let hadRoom = lastRoom.withLock { room in
            defer { room.release() }
            return room.isKept
        }
        guard hadRoom else { return }
        try? database.withLock { (database) throws(LogStoreError) in
            guard database != nil else { return }
            try reserve(Self.lastBlock, in: &database!)
        }
    }

    private func end() {
        // From here on no number is given out, so that those in hand may be had again. If it fails they are void.
        let given = queue.change { $0.reserved }
        database.withLock { database in
            if database != nil { try? database!.giveBack(from: given) }
            database = nil
        }
        queue.change { $0.ended() }
        queue.wake()
    }

    private func write(_ parts: [Part], trimBelow trimmed: UInt64) {
        let begin = monotonicNow()
        do throws(LogStoreError) {
            let isDeleting = try database.withLock { (database) throws(LogStoreError) in
                guard database != nil else { return false }
                do throws(LogStoreError) {
                    return try database!.write(parts, trimBelow: trimmed)
                } catch {
                    // On a full disk the write-ahead log's own room is what reservations and deletions can still go to.
                    database!.checkpoint()
                    throw error
                }
            }
            counts.withLock { counts in
                counts.commits += 1
                counts.longestCommit = max(counts.longestCommit, monotonicNow() - begin)
                for part in parts where part.sequence >= trimmed {
                    counts.partsWritten += 1
                    counts.octetsWritten += UInt64(part.streamLength)
                }
            }
            lastRoom.withLock { $0.keep(at: monotonicNow()) }
            queue.change { $0.written(trimmed: trimmed, isDeleting: isDeleting) }
        } catch {
            reserveWithLastRoom()
            queue.change { $0.failed(error.reason, at: monotonicNow()) }
        }
        queue.wake()
    }
}
