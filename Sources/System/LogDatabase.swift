import CShims
import Objects

/// The database of one log: what is in the file, and the transactions on it. One thread at a time uses it.
///
/// Every commit is on disk before it returns (`synchronous=FULL`): in the write-ahead log first, a file beside the
/// database, from which SQLite brings it over by itself.
struct LogDatabase: ~Copyable {
    /// "FCLG", by which our databases are known (https://www.sqlite.org/fileformat.html, section 1.3.10).
    static let applicationID: Int64 = 0x4643_4c47
    /// The version of the tables below; a database of a newer one is refused.
    static let schema: Int64 = 1
    /// Parts deleted in one transaction.
    static let partsPerDeletion = 256
    /// Octets that the write-ahead log keeps on disk when all in it was brought over.
    static let writeAheadOctets = 16 << 20

    private let database: Database
    private let insertion: Statement
    private let reservation: Statement
    private let trimming: Statement
    private let deletion: Statement

    let epoch: Epoch
    /// The lowest number that was never reserved.
    private(set) var next: UInt64
    /// All below it was trimmed.
    private(set) var oldest: UInt64
    /// The number after the highest of all parts.
    let end: UInt64
    /// Parts below `oldest` are left.
    let hasTrimmedParts: Bool

    /// Opens a database, or makes one with the epoch `fresh`.
    ///
    /// - Parameters:
    ///   - octetLimit: octets that the file may have, at least what it has.
    ///   - startsAnew: an existing log gets the epoch `fresh` as well.
    init(_ path: String, octetLimit: Int, fresh: Epoch, startsAnew: Bool) throws(LogStoreError) {
        let database = try Database(path)
        let isNew = try Self.isNew(database)
        try Self.configure(database, octetLimit: octetLimit)
        if isNew { try Self.create(in: database, epoch: fresh) }
        if !isNew, startsAnew { try Self.replaceEpoch(in: database, with: fresh) }

        var row: (epoch: Epoch, next: Int64, oldest: Int64)?
        try database.read(try database.prepare("SELECT epoch_high, epoch_low, next, oldest FROM log")) { found in
            let epoch = Epoch(
                high: UInt64(bitPattern: found.integer(0)), low: UInt64(bitPattern: found.integer(1)))
            row = (epoch, found.integer(2), found.integer(3))
        }
        let end = (try database.integer("SELECT max(sequence) FROM part") ?? 0) + 1
        let first = try database.integer("SELECT min(sequence) FROM part") ?? 0
        let hasParts = try database.integer("SELECT EXISTS (SELECT 1 FROM part)") == 1
        guard let row, row.oldest >= 0, row.oldest <= row.next, row.next <= Int64(ObjectLimits.sequences),
            !hasParts || (first >= 0 && end <= row.next)
        else {
            // Numbers given before could be given again: no guess is made at which.
            throw LogStoreError(
                "\(path) is damaged (its parts and the numbers it reserved do not fit); "
                    + "move it away with its -wal file, and the source begins a new epoch")
        }
        let insertion = try database.prepare("INSERT INTO part (sequence, checksum, stream) VALUES (?, ?, ?)")
        let reservation = try database.prepare("UPDATE log SET next = ?1 WHERE next = ?2")
        let trimming = try database.prepare("UPDATE log SET oldest = ?1")
        let deletion = try database.prepare(
            """
            DELETE FROM part WHERE sequence IN
            (SELECT sequence FROM part WHERE sequence < ?1 ORDER BY sequence LIMIT \(Self.partsPerDeletion))
            """)
        epoch = row.epoch
        next = UInt64(row.next)
        oldest = UInt64(row.oldest)
        self.end = hasParts ? UInt64(end) : 0
        hasTrimmedParts = hasParts && first < row.oldest
        self.database = database
        self.insertion = insertion
        self.reservation = reservation
        self.trimming = trimming
        self.deletion = deletion
    }

    // MARK: opening

    /// Whether nothing is in the file yet. Throws when something else is than what we can read.
    private static func isNew(_ database: borrowing Database) throws(LogStoreError) -> Bool {
        let application = try database.integer("PRAGMA application_id")
        let version = try database.integer("PRAGMA user_version") ?? 0
        let tables = try database.integer("SELECT count(*) FROM sqlite_schema")
        // Making it is one transaction, so that there is all of it or nothing.
        if application == 0, version == 0, tables == 0 { return true }
        guard application == applicationID else {
            throw LogStoreError(
                "\(database.path) is a database of another program; move it away, or name another directory")
        }
        guard version <= schema else {
            throw LogStoreError(
                "\(database.path) has version \(version) of the log's tables, and this program knows up to \(schema); "
                    + "use the newer program that wrote it, or name another directory")
        }
        return false
    }

    private static func configure(_ database: borrowing Database, octetLimit: Int) throws(LogStoreError) {
        // Debian's SQLite overwrites what is deleted unless told otherwise: many times the writing, for nothing here.
        try database.execute("PRAGMA secure_delete = OFF")
        var mode: [UInt8] = []
        try database.read(try database.prepare("PRAGMA journal_mode = WAL")) { row in
            mode = row.octets(0, limit: 16) ?? []
        }
        guard mode.elementsEqual("wal".utf8) else {
            throw LogStoreError(
                "\(database.path) cannot have a write-ahead log on this file system; name a directory on a local disk")
        }
        try database.execute("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = \(writeAheadOctets)")
        let page = try database.integer("PRAGMA page_size") ?? 4096
        try database.execute("PRAGMA max_page_count = \(max(1, Int64(octetLimit) / page))")
    }

    private static func create(in database: borrowing Database, epoch: Epoch) throws(LogStoreError) {
        try database.execute("BEGIN IMMEDIATE")
        try database.execute(
            """
            CREATE TABLE log (
                id INTEGER PRIMARY KEY CHECK (id = 1), epoch_high INTEGER NOT NULL, epoch_low INTEGER NOT NULL,
                next INTEGER NOT NULL, oldest INTEGER NOT NULL) STRICT;
            CREATE TABLE part (
                sequence INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, stream BLOB NOT NULL) STRICT;
            INSERT INTO log VALUES (1, \(Int64(bitPattern: epoch.high)), \(Int64(bitPattern: epoch.low)), 0, 0);
            PRAGMA application_id = \(applicationID);
            PRAGMA user_version = \(schema);
            COMMIT
            """)
    }

    private static func replaceEpoch(in database: borrowing Database, with epoch: Epoch) throws(LogStoreError) {
        try database.execute(
            """
            UPDATE log SET epoch_high = \(Int64(bitPattern: epoch.high)), epoch_low = \(Int64(bitPattern: epoch.low))
            """)
    }

    // MARK: the log's own

    /// Reserves `count` numbers, durably, and returns the first.
    mutating func reserve(_ count: UInt64) throws(LogStoreError) -> UInt64 {
        let first = next
        guard count <= ObjectLimits.sequences - first else {
            throw LogStoreError("all sequence numbers of this epoch are used up")
        }
        // A commit that failed may be on disk all the same, or not: none of its numbers was given out, so either will do.
        let changed = try database.run(reservation, [Int64(first + count), Int64(first)])
        guard changed == 1 else {
            throw LogStoreError(
                "\(database.path) was changed by another program as the log was open; restart the source")
        }
        next = first + count
        return first
    }

    /// Numbers from `first` on that were reserved, and given to nobody, may be reserved again.
    mutating func giveBack(from first: UInt64) throws(LogStoreError) {
        guard first < next else { return }
        if try database.run(reservation, [Int64(first), Int64(next)]) == 1 { next = first }
    }

    /// Keeps parts and forgets those below `trimmed`, durably. Returns whether trimmed parts are left, to be deleted by
    /// further calls: a reservation does not wait for all of them.
    mutating func write(_ parts: [Part], trimBelow trimmed: UInt64) throws(LogStoreError) -> Bool {
        let deleted = try database.transaction { () throws(LogStoreError) in
            // First, to make room.
            if trimmed > oldest { try database.run(trimming, [Int64(trimmed)]) }
            let deleted = try database.run(deletion, [Int64(trimmed)])
            for part in parts where part.sequence >= trimmed {
                let stream = part.stream
                try database.run(insertion, [Int64(part.sequence), Self.checksum(stream)], octets: stream)
            }
            return deleted
        }
        oldest = max(oldest, trimmed)
        return deleted == Self.partsPerDeletion
    }

    /// Brings what is in the write-ahead log into the database, so that its room is used again.
    func checkpoint() { try? database.execute("PRAGMA wal_checkpoint(RESTART)") }

    /// All parts that are kept, ascending, and how many were left out because their octets are not what was written.
    func parts() throws(LogStoreError) -> (parts: [Part], damaged: UInt64) {
        var parts: [Part] = []
        var damaged: UInt64 = 0
        let all = try database.prepare(
            "SELECT sequence, checksum, stream FROM part WHERE sequence >= ? ORDER BY sequence")
        try database.read(all, [Int64(oldest)]) { row in
            guard let stream = row.octets(2, limit: ObjectLimits.preludeOctets + ObjectLimits.partOctets),
                Self.checksum(stream) == row.integer(1), let part = try? Part(stream: stream),
                Int64(part.sequence) == row.integer(0),
                // In a damaged file even SQLite's own order may be broken.
                part.sequence >= parts.last.map({ $0.sequence + 1 }) ?? oldest, part.sequence < next
            else {
                damaged += 1
                return
            }
            parts.append(part)
        }
        return (parts, damaged)
    }

    /// The first eight octets of the SHA-256: SQLite itself does not notice a changed octet within a part.
    private static func checksum(_ octets: [UInt8]) -> Int64 {
        var digest = [UInt8](repeating: 0, count: 32)
        let result = unsafe fc_sha256(octets, octets.count, &digest)
        precondition(result == 0, "OpenSSL refused SHA-256")
        return digest[..<8].reduce(0) { $0 << 8 | Int64($1) }
    }
}
