import Foundation
import TestSupport
import Testing

extension Machine {
    static let peers = root.appending(path: "Tests/InteropTests/Peers")

    /// The Python that has aioquic.
    static let python = root.appending(path: ".build/venv/bin/python3").path
    static var hasAioquic: Bool { requiresAll || FileManager.default.isExecutableFile(atPath: python) }
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
