import Foundation
import Synchronization
import TestSupport

/// One line that a command printed with `--json`, under the names that it prints.
// swift-format-ignore: AlwaysUseLowerCamelCase
struct EventLine: Decodable, Sendable {
    var event: String
    var id: String?
    var sha256: String?
    var via: String?
    var reason: String?
    var path: String?
    var channel: String?
    var relay: String?
    var bytes: Int?
    var items: Int?
    var bytes_flow: Int?
    var bytes_replicated: Int?
    var replicated: Int?
    var bytes_unicast: Int?
    var bytes_repair: Int?
    var bytes_control: Int?
    var bytes_amt: Int?
    var packets: Int?
    var expired: Int?
    var withheld: Int?
    var too_large_told: Int?
    var packets_lost: Int?
    var packets_rejected: Int?
    var receivers: Int?
    var connections_refused: Int?
    var members: Int?
    var endpoints: Int?
    var channels: Int?
    var fallbacks: Int?
    var returns: Int?
    var answer: String?
    var address: String?
    var certificate: String?
    var metrics: String?
    var time: String?
    var first: Int?
    var next: Int?
    var way: String?
    var latency_ms: Double?
    var state: String?
    var sequence: Int?
}

/// What a process has told so far.
struct Told: Sendable {
    /// Digest by id, the latest version.
    var items: [String: String] = [:]
    /// Number in the source's log by id, of the latest version.
    var sequences: [String: Int] = [:]
    /// Every item line, doubles included.
    var itemLines = 0
    var vias: [String: Int] = [:]
    /// Every other event but intervals and the summary.
    var events: [EventLine] = []
    var interval: EventLine?
    var intervals = 0
    /// Items of all intervals, as receivers tell them.
    var intervalItems = 0
    /// Of every item line that has one, in milliseconds.
    var latencies: [Double] = []
    var summary: EventLine?
    /// Most members at any interval.
    var mostMembers = 0
    var strange: [String] = []

    var reasons: [String] { events.compactMap(\.reason) }

    func count(_ event: String) -> Int { events.count { $0.event == event } }

    mutating func take(_ text: Substring) {
        guard let line = try? JSONDecoder().decode(EventLine.self, from: Data(text.utf8)) else {
            strange.append(String(text.prefix(200)))
            return
        }
        switch line.event {
        case "item":
            itemLines += 1
            if let id = line.id {
                items[id] = line.sha256
                sequences[id] = line.sequence
            }
            if let via = line.via { vias[via, default: 0] += 1 }
            if let latency = line.latency_ms { latencies.append(latency) }
        case "interval":
            interval = line
            intervals += 1
            intervalItems += line.way == nil ? 0 : line.items ?? 0
            mostMembers = max(mostMembers, line.members ?? 0)
        case "summary": summary = line
        default: events.append(line)
        }
    }
}

/// A process of a test's. It is gone when the value is.
final class Child {
    let name: String
    let process = Process()
    private let logFile: URL
    private let shared = Shared()

    private final class Shared: Sendable {
        let told = Mutex(Told())
        let isClosed = Atomic(false)
        let hasEnded = Atomic(false)
    }

    /// Starts a command. To be called on the thread that lives as long as the child is to live.
    init(_ name: String, _ command: [String], log: URL) throws {
        self.name = name
        logFile = log
        if !FileManager.default.fileExists(atPath: log.path) {
            _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        }
        let errors = try FileHandle(forWritingTo: log)
        try errors.seekToEnd()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: Machine.path(of: command[0]) ?? command[0])
        process.arguments = Array(command.dropFirst())
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = errors
        process.terminationHandler = { [shared] _ in shared.hasEnded.store(true, ordering: .sequentiallyConsistent) }
        try process.run()
        Thread.detachNewThread { [shared] in
            var rest = Data()
            while case let bytes = output.fileHandleForReading.availableData, !bytes.isEmpty {
                rest.append(bytes)
                while let end = rest.firstIndex(of: 10) {
                    let line = String(decoding: rest[..<end], as: UTF8.self)
                    rest = Data(rest[(end + 1)...])
                    shared.told.withLock { $0.take(line[...]) }
                }
            }
            shared.isClosed.store(true, ordering: .sequentiallyConsistent)
        }
    }

    deinit { if isRunning { _ = kill(process.processIdentifier, SIGKILL) } }

    var told: Told { shared.told.withLock { $0 } }
    /// A question that does not copy everything.
    func tell<T: Sendable>(_ question: @Sendable (borrowing Told) -> T) -> T { shared.told.withLock { question($0) } }
    var isRunning: Bool { !shared.hasEnded.load(ordering: .sequentiallyConsistent) }
    var log: String { (try? String(contentsOf: logFile, encoding: .utf8)) ?? "" }
    /// The last lines of its log, to say why something failed.
    var logTail: String { log.split(separator: "\n").suffix(12).map { "    \($0)" }.joined(separator: "\n") }

    /// Resident memory in KiB.
    var residentMemory: Int {
        let status = (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0
    }

    /// Whether it has a handler for a signal.
    func catches(_ number: Int32) -> Bool {
        let status = (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }
        let mask = line.flatMap { UInt64($0.dropFirst(7).drop(while: \.isWhitespace), radix: 16) } ?? 0
        return mask >> (number - 1) & 1 == 1
    }

    func signal(_ number: Int32) { _ = kill(process.processIdentifier, number) }

    /// Waits until it has told of something.
    func awaitEvent(_ event: String, seconds: Double = 20) throws {
        try waitUntil(seconds: seconds, "\(name): \(event)\n\(logTail)") { tell { $0.count(event) > 0 } }
    }

    /// Sends `signal` and waits for the end: the exit status, negative when a signal was the cause.
    @discardableResult
    func end(_ number: Int32 = SIGTERM) throws -> Int32 {
        signal(number)
        try waitUntil(seconds: 15, "\(name) to end") {
            !isRunning && shared.isClosed.load(ordering: .sequentiallyConsistent)
        }
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}

/// Looks until `condition` holds.
/// - Throws: a failure that names what was waited for.
func waitUntil(seconds: Double, _ what: @autoclosure () -> String, _ condition: () throws -> Bool) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        guard ContinuousClock.now < end else {
            throw Failure(description: "waited \(seconds) seconds in vain for \(what())")
        }
        Thread.sleep(forTimeInterval: 0.02)
    }
}
