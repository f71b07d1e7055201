import Foundation
import Testing

/// What a test needs that a machine may lack.
enum Machine {
    /// In CI nothing may be missing: a test then fails where it would be skipped at a desk.
    static let requiresAll = ProcessInfo.processInfo.environment["FLEXICAST_REQUIRE_ALL"] == "1"

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    static let peers = root.appending(path: "Tests/InteropTests/Peers")

    /// The Python that has aioquic.
    static let python = root.appending(path: ".build/venv/bin/python3").path
    static var hasAioquic: Bool { requiresAll || FileManager.default.isExecutableFile(atPath: python) }

    static func path(of tool: String) -> String? {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"].map { "\($0)/\(tool)" }
            .first(where: FileManager.default.isExecutableFile(atPath:))
    }

    static func has(_ tool: String) -> Bool { requiresAll || path(of: tool) != nil }
}

/// A file that is gone when the value is.
final class TemporaryDirectory {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appending(path: "flexicast-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }
}

struct Failure: Error, CustomStringConvertible {
    var description: String
}

/// Runs a program to its end.
func run(_ program: String, _ arguments: [String], input: String = "", environment: [String: String] = [:]) throws
    -> (status: Int32, output: String, errors: String)
{
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let stdin = Pipe()
    let stdout = Pipe()
    let errorFile = FileManager.default.temporaryDirectory.appending(path: "flexicast-\(UUID().uuidString).err")
    _ = FileManager.default.createFile(atPath: errorFile.path, contents: nil)
    defer { try? FileManager.default.removeItem(at: errorFile) }
    process.standardInput = stdin
    process.standardOutput = stdout
    process.standardError = try FileHandle(forWritingTo: errorFile)
    try process.run()
    try stdin.fileHandleForWriting.write(contentsOf: Data(input.utf8))
    try stdin.fileHandleForWriting.close()
    let output = try stdout.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    let errors = (try? String(contentsOf: errorFile, encoding: .utf8)) ?? ""
    return (process.terminationStatus, String(decoding: output, as: UTF8.self), errors)
}

/// A server that runs until the value is gone.
final class RunningServer {
    let port: UInt16
    private let process = Process()
    private let stdin = Pipe()

    /// Starts a program that says `ready <port>` once it listens, and ends when its standard input does.
    init(_ program: String, _ arguments: [String]) throws {
        let stdout = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardInput = stdin
        process.standardOutput = stdout
        try process.run()
        let words = String(decoding: stdout.fileHandleForReading.availableData, as: UTF8.self).split(separator: " ")
        guard words.first == "ready", words.count == 2,
            let port = UInt16(words[1].trimmingCharacters(in: .whitespacesAndNewlines))
        else { throw Failure(description: "\(program) did not start: \(words)") }
        self.port = port
    }

    deinit {
        try? stdin.fileHandleForWriting.close()
        process.waitUntilExit()
    }
}

/// The octets that both ends can make by themselves.
func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(($0 % 251 * 31 + 7) % 251) } }
