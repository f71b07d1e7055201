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
    static let schema: Int64 = 2
    /// Parts deleted in one transaction.
    static let partsPerDeletion = 256
    /// Pages that stay free, and those given back after a commit.
    static let sparePages: Int64 = 1024
    static let pagesPerShrinking = 512
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
        try Self.configure(database, octetLimit: octetLimit, isNew: isNew)
        if isNew {
            try Self.create(in: database, epoch: fresh)
        } else if try database.integer("PRAGMA user_version") == 1 {
            try Self.bringUpToDate(database)
        }
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
        let insertion = try database.prepare(Self.insertion)
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

    private static let insertion = """
        INSERT INTO part (sequence, place, is_last, published, octets, body, checksum, stream)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """

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

    private static func configure(
        _ database: borrowing Database, octetLimit: Int, isNew: Bool
    ) throws(LogStoreError) {
        // So that room that is not needed any more can be given back, a little at a time. Later it takes VACUUM.
        if isNew { try database.execute("PRAGMA auto_vacuum = INCREMENTAL") }
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
            \(partTable)
            INSERT INTO log VALUES (1, \(Int64(bitPattern: epoch.high)), \(Int64(bitPattern: epoch.low)), 0, 0);
            PRAGMA application_id = \(applicationID);
            PRAGMA user_version = \(schema);
            COMMIT
            """)
    }

    /// `place`: which part of its object it is. `body`: by what an object is known that is all in one part. The index has what a
    /// source reads as it starts, without the streams between.
    private static let partTable = """
        CREATE TABLE part (
            sequence INTEGER PRIMARY KEY, place INTEGER NOT NULL, is_last INTEGER NOT NULL, published INTEGER NOT NULL,
            octets INTEGER NOT NULL, body INTEGER NOT NULL, checksum INTEGER NOT NULL, stream BLOB NOT NULL) STRICT;
        CREATE INDEX part_facts ON part (sequence, place, is_last, published, octets, body);
        """

    /// From version 1, whose parts had their number, checksum and stream alone.
    private static func bringUpToDate(_ database: borrowing Database) throws(LogStoreError) {
        try database.transaction { () throws(LogStoreError) in
            try database.execute("ALTER TABLE part RENAME TO part_1")
            try database.execute(partTable)
            let insertion = try database.prepare(Self.insertion)
            let all = try database.prepare("SELECT sequence, checksum, stream FROM part_1 ORDER BY sequence")
            try database.read(all) { (row) throws(LogStoreError) in
                guard let part = Self.part(row) else { return }
                try insert(part, by: insertion, into: database)
            }
            try database.execute("DROP TABLE part_1; PRAGMA user_version = \(schema)")
        }
        // What it takes no more leaves the file.
        try database.execute("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
    }

    private static func insert(
        _ part: Part, by insertion: borrowing Statement, into database: borrowing Database
    ) throws(LogStoreError) {
        let stream = part.stream
        let facts = StoredPart(part)
        let isWhole = facts.isLast && facts.index == 0
        try database.run(
            insertion,
            [
                Int64(part.sequence), Int64(facts.index), facts.isLast ? 1 : 0, facts.published.nanoseconds,
                Int64(facts.octets), isWhole ? checksum(part.body) : 0, checksum(stream[...]),
            ], octets: stream)
    }

    /// The part of a row with number, checksum and stream; nil when its octets are not what was written.
    static func part(_ row: borrowing Statement) -> Part? {
        guard let stream = row.octets(2, limit: ObjectLimits.preludeOctets + ObjectLimits.partOctets),
            checksum(stream[...]) == row.integer(1), let part = try? Part(stream: stream),
            Int64(part.sequence) == row.integer(0)
        else { return nil }
        return part
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
                try Self.insert(part, by: insertion, into: database)
            }
            return deleted
        }
        oldest = max(oldest, trimmed)
        // What is written is written, whatever comes of it.
        try? shrink()
        return deleted == Self.partsPerDeletion
    }

    /// Gives some of the room back that is not needed any more, if that is much: what a log needs again stays.
    private func shrink() throws(LogStoreError) {
        let free = try database.integer("PRAGMA freelist_count") ?? 0
        let all = try database.integer("PRAGMA page_count") ?? 0
        guard free > max(Self.sparePages, all / 4) else { return }
        try database.execute("PRAGMA incremental_vacuum(\(Self.pagesPerShrinking))")
    }

    /// Brings what is in the write-ahead log into the database, so that its room is used again.
    func checkpoint() { try? database.execute("PRAGMA wal_checkpoint(RESTART)") }

    /// What is kept, ascending, and the newest parts of at most so many octets; and how many were left out because their octets
    /// are not what was written. Of the others that is found out as they are read.
    func parts(holding octets: Int) throws(LogStoreError) -> (older: [StoredPart], parts: [Part], damaged: UInt64) {
        var facts: [StoredPart] = []
        var damaged: UInt64 = 0
        let index = try database.prepare(
            """
            SELECT sequence, place, is_last, published, octets FROM part INDEXED BY part_facts
            WHERE sequence >= ? ORDER BY sequence
            """)
        try database.read(index, [Int64(oldest)]) { row in
            let sequence = row.integer(0)
            guard let place = UInt64(exactly: row.integer(1)), let octets = UInt32(exactly: row.integer(4)),
                // In a damaged file even SQLite's own order may be broken.
                sequence >= Int64(facts.last.map { $0.sequence + 1 } ?? oldest), sequence < Int64(next),
                place <= sequence, octets <= ObjectLimits.streamOctets
            else {
                damaged += 1
                return
            }
            facts.append(
                StoredPart(
                    sequence: UInt64(sequence), index: place, published: WallTime(nanoseconds: row.integer(3)),
                    octets: octets, isLast: row.integer(2) != 0))
        }
        var sum = 0
        var first = facts.count
        while first > 0, case let more = sum + Int(facts[first - 1].octets), more <= octets {
            sum = more
            first -= 1
        }
        var parts: [Part] = []
        parts.reserveCapacity(facts.count - first)
        var place = first
        let all = try database.prepare(
            "SELECT sequence, checksum, stream FROM part WHERE sequence >= ? ORDER BY sequence")
        if first < facts.count {
            try database.read(all, [Int64(facts[first].sequence)]) { row in
                guard place < facts.count else { return }
                // The index and the table may contradict each other in a damaged file.
                guard let part = Self.part(row),
                    let found = facts[place...].first(where: { $0.sequence >= part.sequence }),
                    found == StoredPart(part)
                else {
                    damaged += 1
                    return
                }
                place = (facts[place...].firstIndex { $0.sequence == part.sequence } ?? place) + 1
                parts.append(part)
            }
        }
        return (Array(facts[..<first]), parts, damaged)
    }

    /// By what objects are known whose one part has all their octets, of those that are kept.
    func bodies() throws(LogStoreError) -> Set<Int64> {
        var found: Set<Int64> = []
        let index = try database.prepare(
            "SELECT body FROM part INDEXED BY part_facts WHERE sequence >= ? AND is_last = 1 AND place = 0")
        try database.read(index, [Int64(oldest)]) { row in found.insert(row.integer(0)) }
        return found
    }

    /// The first eight octets of the SHA-256: SQLite itself does not notice a changed octet within a part.
    static func checksum(_ octets: ArraySlice<UInt8>) -> Int64 {
        var digest = [UInt8](repeating: 0, count: 32)
        let result = unsafe octets.withUnsafeBufferPointer { octets in
            unsafe fc_sha256(octets.baseAddress, octets.count, &digest)
        }
        precondition(result == 0, "OpenSSL refused SHA-256")
        return digest[..<8].reduce(0) { $0 << 8 | Int64($1) }
    }
}
