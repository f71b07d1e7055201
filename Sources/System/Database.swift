import CShims
import Glibc
import Objects

/// A SQLite database, through the door in CShims. Its errors say which file, what was wrong and what would do.
@safe struct Database: ~Copyable {
    /// Milliseconds that a statement waits where another program holds a lock on the file.
    static let patience: Int32 = 2000

    let path: String
    private let handle: OpaquePointer

    /// Opens a file, which is made when it is missing.
    init(_ path: String) throws(LogStoreError) {
        var opened: OpaquePointer?
        let code = unsafe fc_database_open(path, Self.patience, &opened)
        guard let opened = unsafe opened else { throw LogStoreError("\(path): there is no memory to open it") }
        guard code == 0 else {
            let error = unsafe Self.error(code, opened, path)
            unsafe fc_database_close(opened)
            throw error
        }
        self.path = path
        unsafe handle = unsafe opened
    }

    deinit { unsafe fc_database_close(handle) }

    /// Runs one or more statements.
    func execute(_ statements: String) throws(LogStoreError) {
        try check(unsafe fc_database_execute(handle, statements))
    }

    func prepare(_ text: String) throws(LogStoreError) -> Statement {
        var made: OpaquePointer?
        try check(unsafe fc_statement_prepare(handle, text, &made))
        guard let made = unsafe made else { throw LogStoreError("\(path): there is no memory for a statement") }
        return unsafe Statement(made)
    }

    /// Runs a statement that gives no rows. Returns how many rows it touched. `octets` are the parameter behind `integers`.
    @discardableResult
    func run(
        _ statement: borrowing Statement, _ integers: [Int64] = [], octets: [UInt8]? = nil
    ) throws(LogStoreError) -> Int {
        defer { unsafe fc_statement_reset(statement.handle) }
        try bind(statement, integers)
        guard let octets else {
            try check(unsafe fc_statement_step(statement.handle))
            return Int(unsafe fc_database_changes(handle))
        }
        // Not copied: the statement reads them where they are, and is reset before they may go.
        let code = unsafe octets.withUnsafeBufferPointer { octets in
            let bound = unsafe fc_statement_bind_octets(
                statement.handle, Int32(integers.count + 1), octets.baseAddress, octets.count)
            return bound == 0 ? unsafe fc_statement_step(statement.handle) : bound
        }
        try check(code)
        return Int(unsafe fc_database_changes(handle))
    }

    /// Runs a statement and hands over its rows, one by one. A row is of no use after `row` has returned.
    func read(
        _ statement: borrowing Statement, _ integers: [Int64] = [],
        row: (borrowing Statement) throws(LogStoreError) -> Void
    ) throws(LogStoreError) {
        defer { unsafe fc_statement_reset(statement.handle) }
        try bind(statement, integers)
        while true {
            let code = unsafe fc_statement_step(statement.handle)
            try check(code)
            guard code == Int32(FC_DATABASE_ROW) else { return }
            try row(statement)
        }
    }

    /// The first column of the first row that `text` gives; nil when it gives none.
    func integer(_ text: String) throws(LogStoreError) -> Int64? {
        let statement = try prepare(text)
        var value: Int64?
        try read(statement) { row in value = value ?? row.integer(0) }
        return value
    }

    /// Runs `body` as one transaction, which is there as a whole or not at all.
    func transaction<R>(_ body: () throws(LogStoreError) -> R) throws(LogStoreError) -> R {
        // At once for writing: one that began with reading could not go on when another program has written meanwhile.
        try execute("BEGIN IMMEDIATE")
        do throws(LogStoreError) {
            let result = try body()
            try execute("COMMIT")
            return result
        } catch {
            unsafe fc_database_roll_back(handle)
            throw error
        }
    }

    private func bind(_ statement: borrowing Statement, _ integers: [Int64]) throws(LogStoreError) {
        for (index, value) in integers.enumerated() {
            try check(unsafe fc_statement_bind_integer(statement.handle, Int32(index + 1), value))
        }
    }

    private func check(_ code: Int32) throws(LogStoreError) {
        switch code {
        case 0, Int32(FC_DATABASE_ROW), Int32(FC_DATABASE_DONE): return
        default: throw unsafe Self.error(code, handle, path)
        }
    }

    @unsafe private static func error(_ code: Int32, _ handle: OpaquePointer, _ path: String) -> LogStoreError {
        let text = unsafe String(cString: fc_database_error(handle))
        var system = unsafe fc_database_system_error(handle)
        // SQLite then tries to read at least, and there is no file: not the reason why none could be made.
        if code & 0xff == 14, system == ENOENT { system = 0 }
        // The lowest octet of an extended code is the code itself (https://www.sqlite.org/rescode.html).
        return LogStoreError(describe(code & 0xff, text, system: system == 0 ? nil : systemText(system), path))
    }

    private static func describe(_ code: Int32, _ text: String, system: String?, _ path: String) -> String {
        let reason = system.map { "\(text): \($0)" } ?? text
        return switch code {
        case 5, 6: "\(path) is locked by another program (\(reason)); end that program, or let it give the lock up"
        case 8: "\(path) may not be written (\(reason)); give this user the right to write to it and to its directory"
        case 10: "\(path) cannot be read or written (\(reason)); see to the disk"
        case 11:
            "\(path) is damaged (\(reason)); move it away with its -wal file, and the source begins a new epoch"
        case 13: "there is no room for \(path) (\(reason)); free some of the disk, or raise the limit of its size"
        case 14: "\(path) cannot be opened (\(reason)); give this user the right to write to it and to its directory"
        case 26: "\(path) is no database (\(reason)); move it away, or name another directory"
        default: "\(path): \(reason)"
        }
    }

    /// The system's text for an error number.
}

/// A statement of a database, and the row that it stands at.
@safe struct Statement: ~Copyable {
    @unsafe fileprivate let handle: OpaquePointer

    @unsafe fileprivate init(_ handle: OpaquePointer) { unsafe self.handle = unsafe handle }

    deinit { unsafe fc_statement_finalize(handle) }

    /// A column's number, counted from 0.
    func integer(_ column: Int32) -> Int64 { unsafe fc_statement_integer(handle, column) }

    /// A column's octets; nil when there are more than `limit`, which are not copied then.
    func octets(_ column: Int32, limit: Int) -> [UInt8]? {
        var count = 0
        let start = unsafe fc_statement_octets(handle, column, &count)
        guard count <= limit else { return nil }
        return unsafe [UInt8](UnsafeBufferPointer(start: start, count: start == nil ? 0 : count))
    }
}
