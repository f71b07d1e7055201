import Objects
import Wire

/// Reads parts of a log's database on a thread and a connection of its own, which begin with the first read: what is
/// written meanwhile goes on.
final class LogReader: PartReader {
    private struct Request: Sendable {
        var numbers: Range<UInt64>
        var completion: @Sendable (Result<[Part], LogStoreError>) -> Void
    }

    private struct State: Sendable {
        var requests: [Request] = []
        var hasThread = false
        var isClosed = false
        var hasEnded = false
    }

    private let path: String
    private let state = Monitor(State())

    /// - Parameter path: the database's, which exists when it is read.
    init(_ path: String) { self.path = path }

    func read(
        _ numbers: Range<UInt64>, completion: @escaping @Sendable (Result<[Part], LogStoreError>) -> Void
    ) {
        let (isTaken, isFirst) = state.change { state in
            guard !state.isClosed else { return (false, false) }
            state.requests.append(Request(numbers: numbers, completion: completion))
            defer { state.hasThread = true }
            return (true, !state.hasThread)
        }
        guard isTaken else { return completion(.failure(LogStoreError("the store is closed"))) }
        if isFirst { startThread("log-reads") { [self] in run() } } else { state.wake() }
    }

    /// Waits for the read that is under way; those behind it fail.
    func close() {
        state.change { $0.isClosed = true }
        state.wake()
        state.wait { !$0.hasThread || $0.hasEnded ? .done(()) : .wait(until: nil) }
    }

    private func run() {
        // Opened anew after a failure.
        var connection: Connection?
        while let request = next() {
            do throws(LogStoreError) {
                if connection == nil { connection = try Connection(path) }
                request.completion(.success(try connection?.parts(request.numbers) ?? []))
            } catch {
                connection = nil
                request.completion(.failure(error))
            }
        }
        connection = nil
        let left = state.change { state in
            state.hasEnded = true
            defer { state.requests = [] }
            return state.requests
        }
        state.wake()
        for request in left { request.completion(.failure(LogStoreError("the store is closed"))) }
    }

    /// What to read next; nil when the reader is closed.
    private func next() -> Request? {
        state.wait { state in
            if state.isClosed { return .done(nil) }
            return state.requests.isEmpty ? .wait(until: nil) : .done(state.requests.removeFirst())
        }
    }

    private struct Connection: ~Copyable {
        private let database: Database
        private let statement: Statement

        init(_ path: String) throws(LogStoreError) {
            let opened = try Database(path)
            try opened.execute("PRAGMA query_only = ON")
            statement = try opened.prepare(
                "SELECT sequence, checksum, stream FROM part WHERE sequence >= ? AND sequence < ? ORDER BY sequence")
            database = opened
        }

        /// Those whose octets are what was written.
        func parts(_ numbers: Range<UInt64>) throws(LogStoreError) -> [Part] {
            var parts: [Part] = []
            try database.read(statement, [Int64(numbers.lowerBound), Int64(numbers.upperBound)]) { row in
                if let part = LogDatabase.part(row) { parts.append(part) }
            }
            return parts
        }
    }
}
