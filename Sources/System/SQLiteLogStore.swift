import Objects
import Wire

/// A store that outlives the process: a database in a directory of its own. A source that is killed and started again goes
/// on in the same epoch, with the same parts under the same numbers (docs/objects.md, "The durable store").
///
/// A reservation is on disk before `reserve` returns. A block of numbers is reserved ahead by a thread, so that `reserve`
/// waits for the disk only when more are asked for than that thread keeps up with. Parts are written by the same thread, many in one commit: what was appended within the last moments before a kill may be
/// lost, and those numbers are void. `flush` waits for them.
///
/// Copies are the same store. It closes with its last copy, or by `close`.
public struct SQLiteLogStore: LogStore {
    /// The database's name in its directory. Two more files beside it, `-wal` and `-shm`, belong to it.
    public static let fileName = "objects.sqlite"

    private let handle: Handle

    /// Closes the store as the last copy goes.
    private final class Handle: Sendable {
        let writer: LogWriter
        let reader: LogReader
        init(_ writer: LogWriter, _ reader: LogReader) { (self.writer, self.reader) = (writer, reader) }
        deinit { close() }

        func close() {
            // First, so that the last to close the database is who may tidy up behind it.
            reader.close()
            writer.close()
        }
    }

    /// Opens the log in `directory`, or makes one with a new epoch. A directory that is missing is made.
    ///
    /// - Parameters:
    ///   - directory: for this log alone. One process at a time may use it.
    ///   - limits: how much it holds.
    ///   - startsAnew: an existing log goes on with its parts and numbers in a new epoch. Needed once for a directory that
    ///     was brought back from a backup: numbers that were given after it was made would be given again.
    ///   - random: what a new epoch is made of; it must be of the operating system's quality.
    /// - Throws: when the directory or the database cannot be used, is another program's, of a newer version, damaged, or
    ///   in use by another process. Nothing is ever removed or put right by itself, because numbers could then be given
    ///   twice.
    public init(
        directory: String, limits: SQLiteLogLimits = SQLiteLogLimits(), startsAnew: Bool = false,
        random: inout some RandomNumberGenerator
    ) throws(LogStoreError) {
        let fresh = Epoch(from: &random)
        let writer = try LogWriter(directory: directory, limits: limits, fresh: fresh, startsAnew: startsAnew)
        handle = Handle(writer, LogReader("\(directory)/\(Self.fileName)"))
    }

    /// The epoch, the numbers, and all parts; those are left out, and counted, whose octets are not what was written.
    /// Throws when the database cannot be read, or what waits cannot be written.
    public mutating func load() throws(LogStoreError) -> StoredLog {
        try load(holding: .max)
    }

    /// The same, but of parts beyond the newest so many octets only what they are.
    public mutating func load(holding octets: Int) throws(LogStoreError) -> StoredLog {
        try flush()
        return try handle.writer.load(holding: octets)
    }

    /// Those of these objects that the log does not hold, each in one part.
    public func missing(_ bodies: [[UInt8]]) throws(LogStoreError) -> [Bool] {
        guard !bodies.isEmpty else { return [] }
        let held = try handle.writer.bodies()
        return bodies.map { !held.contains(LogDatabase.checksum($0[...])) }
    }

    /// Reads on a thread of its own.
    public var reader: (any PartReader)? { handle.reader }

    /// All that does not wait for the disk.
    public var readable: UInt64 { handle.writer.queue.change { $0.firstWaiting } }

    /// Why the last attempt to write failed, or that the disk does not keep up.
    public var trouble: String? { handle.writer.queue.change { $0.trouble } }

    /// Gives out numbers that are on disk as reserved already. If there are too few it blocks until they are, at the most for
    /// one commit that is under way and one of its own, and throws when they cannot be.
    public mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        try handle.writer.reserve(count)
    }

    /// Does not wait for the disk. Throws when `SQLiteLogLimits.queueOctets` wait for it already, or the part is out of turn:
    /// it is not kept, and the log goes on without.
    public mutating func append(_ part: Part) throws(LogStoreError) {
        let wakes = try handle.writer.queue.change { (queue) throws(LogStoreError) in
            try queue.append(part, at: monotonicNow())
        }
        if wakes { handle.writer.queue.wake() }
    }

    /// Does not wait for the disk. Throws only when the store is closed.
    public mutating func trim(below sequence: UInt64) throws(LogStoreError) {
        let wakes = try handle.writer.queue.change { (queue) throws(LogStoreError) in
            try queue.trim(below: sequence, at: monotonicNow())
        }
        if wakes { handle.writer.queue.wake() }
    }

    /// Blocks until all that was appended and trimmed before is on disk. Throws when writing fails; what waits still waits
    /// then, and is tried again.
    public func flush() throws(LogStoreError) { try handle.writer.flush() }

    /// Writes what waits and gives the directory back; after it the store takes nothing more. Throws when something could
    /// not be written, which is lost.
    public func close() throws(LogStoreError) {
        handle.close()
        let lost = handle.writer.queue.change { ($0.lost, $0.lastFailure) }
        if lost.0 > 0 { throw LogStoreError("\(lost.0) parts were not kept: \(lost.1 ?? "")") }
    }

    /// What the store has done since it was opened.
    public var statistics: SQLiteLogStatistics { handle.writer.statistics }
}

/// How much a durable store holds.
public struct SQLiteLogLimits: Sendable, Equatable {
    /// Octets of the database file; beyond it, it is as if the disk were full. A log with the usual retention needs about
    /// 300 MiB.
    public var databaseOctets: Int
    /// Octets of parts that wait for the disk. Most often the log holds the same octets, so that they take no memory of
    /// their own.
    public var queueOctets: Int

    /// 1 GiB.
    public static let usualDatabaseOctets = 1 << 30
    /// 64 MiB.
    public static let usualQueueOctets = 64 << 20

    /// Limits that suit a log with the usual retention.
    public init(databaseOctets: Int = usualDatabaseOctets, queueOctets: Int = usualQueueOctets) {
        self.databaseOctets = databaseOctets
        self.queueOctets = queueOctets
    }
}

/// What a durable store has done since it was opened.
public struct SQLiteLogStatistics: Sendable, Equatable {
    /// Parts that are on disk.
    public var partsWritten: UInt64 = 0
    /// Octets of their streams.
    var octetsWritten: UInt64 = 0
    /// Commits of the thread that writes.
    public var commits: UInt64 = 0
    /// The longest of them.
    public var longestCommit = Duration.zero
    /// Times that numbers were reserved on disk.
    var reservations: UInt64 = 0
    /// Numbers that are reserved on disk and were given to nobody yet.
    public var numbersInHand: UInt64 = 0
    /// The longest that `reserve` took.
    public var longestReservation = Duration.zero
    /// Parts not taken because too much waited for the disk.
    public var partsRefused: UInt64 = 0
    /// Parts that could not be written as the store closed.
    public var partsLost: UInt64 = 0
    /// Parts left out as the log was loaded, because their octets were not what was written.
    public var partsDamaged: UInt64 = 0
    /// Commits that failed.
    public var failures: UInt64 = 0
    /// Why the latest attempt to commit failed, in words; nil when it did not.
    var lastFailure: String?
    /// Octets that wait for the disk.
    public var waitingOctets = 0
}
