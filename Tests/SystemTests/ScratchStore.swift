import Foundation
import Objects
import Wire

@testable import System

/// Seeds that every run walks with, and two that no run did before: a test prints the seed it fails with.
let seeds: [UInt64] = [1, 2, 3, 4] + [UInt64.random(in: .min ... .max), UInt64.random(in: .min ... .max)]

extension SeededRandom {
    /// A number below `bound`.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

/// A directory that goes with the test.
final class ScratchStore: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "/flexicast-store-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Where the log's directory is.
    var log: String { path + "/log" }
    /// The log's database.
    var database: String { log + "/" + SQLiteLogStore.fileName }

    func open(_ limits: SQLiteLogLimits = SQLiteLogLimits(), startsAnew: Bool = false) throws -> SQLiteLogStore {
        var random = SystemRandomNumberGenerator()
        return try SQLiteLogStore(directory: log, limits: limits, startsAnew: startsAnew, random: &random)
    }

    /// Why the log is not opened.
    func refusal() -> String {
        do {
            _ = try open()
            return "it was opened"
        } catch {
            return (error as? LogStoreError)?.reason ?? "\(error)"
        }
    }

    /// Runs statements on the database, as somebody with SQLite's own program would.
    func sqlite(_ statements: String) throws { try Database(database).execute(statements) }
}

/// Runs a command to its end; whether it went well.
@discardableResult
func run(_ words: String...) throws -> Bool {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = words
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus == 0
}
