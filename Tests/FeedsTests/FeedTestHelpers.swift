import Feed
import Foundation
import Logging
import Synchronization

/// A directory that is gone when the test has ended.
final class Scratch: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "flexicast-\(UUID().uuidString)").path()
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: URL(filePath: file(name)), options: .atomic)
    }

    func read(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(filePath: file(name)))) }

    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
}

/// Keeps the log's lines as "level: text".
final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }
    /// Lines that a person sees at the usual level.
    var visible: [String] { all.filter { !$0.hasPrefix("debug") && !$0.hasPrefix("trace") } }

    var logger: Logger {
        var logger = Logger(label: "test") { _ in Handler(lines: self) }
        logger.logLevel = .trace
        return logger
    }

    private struct Handler: LogHandler {
        let lines: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.lines.withLock { $0.append("\(event.level): \(event.message)") } }
    }
}

enum Documents {
    static func feed(_ entries: [String]) -> String {
        "<feed xmlns=\"http://www.w3.org/2005/Atom\"><id>urn:f</id><title>F</title>\(entries.joined())</feed>"
    }

    static func entry(_ id: String, _ day: Int = 1, text: String = "x") -> String {
        "<entry><id>\(id)</id><title>Item \(id)</title><updated>2025-01-\(day < 10 ? "0" : "")\(day)T00:00:00Z</updated>"
            + "<content>\(text)</content></entry>"
    }

    /// A standalone entry document.
    static func item(_ id: String, _ day: Int = 1, text: String = "x") throws -> [UInt8] {
        try FeedParser.parse(Array(feed([entry(id, day, text: text)]).utf8)).items[0].document
    }
}
