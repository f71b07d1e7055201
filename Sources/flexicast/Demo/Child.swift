import Foundation

/// A process of the demo: its lines and its end arrive in a `DemoEventQueue`, its log goes to a file.
final class Child {
    let name: String
    let log: URL
    private let process = Process()
    private(set) var isRunning = true

    /// Starts `command`, whose first word is a path. Must be called on the main thread, see `DemoEventQueue`.
    init(name: String, index: Int, command: [String], log: URL, events: DemoEventQueue) throws {
        self.name = name
        self.log = log
        guard FileManager.default.createFile(atPath: log.path, contents: nil),
            let logHandle = FileHandle(forWritingAtPath: log.path)
        else { throw DemoProblem("cannot write \(log.path)") }
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = logHandle
        process.terminationHandler = { process in
            let status = process.terminationStatus
            events.push(.exited(index, status: process.terminationReason == .exit ? status : -status))
        }
        try process.run()
        // A thread that waits in `read`: dispatch sources on Linux may crash when their file is closed under them.
        Thread.detachNewThread {
            var splitter = LineSplitter()
            while case let bytes = output.fileHandleForReading.availableData, !bytes.isEmpty {
                for line in splitter.lines(adding: bytes) { events.push(.line(index, line)) }
            }
            events.push(.closed(index))
        }
    }

    func ended() { isRunning = false }

    /// Asks the process to finish.
    func terminate() { if isRunning { process.terminate() } }

    /// Ends the process at once.
    func kill() { if isRunning { _ = Glibc.kill(process.processIdentifier, SIGKILL) } }

    /// The last lines of its log, to say why it failed.
    func logTail(lines count: Int = 5) -> String {
        let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").suffix(count).map { "    \($0)" }.joined(separator: "\n")
    }
}
