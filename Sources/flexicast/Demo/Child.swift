import FoundationEssentials
import Glibc
import System

/// A process of the demo: its lines and its end arrive in a `DemoEventQueue`, its log goes to a file.
final class Child {
    let name: String
    let log: URL
    private let process: ChildProcess
    private(set) var isRunning = true

    /// Starts `command`, whose first word is a path. Must be called on the main thread, see `DemoEventQueue`.
    /// - Parameter input: its standard input; nil for none.
    init(
        name: String, index: Int, command: [String], input: OpenFile? = nil, log: URL, events: DemoEventQueue
    ) throws {
        self.name = name
        self.log = log
        let (output, end) = try OpenFile.pipe()
        process = try ChildProcess(
            command, input: input.map { .open($0) } ?? .null, output: .open(end),
            errors: .open(OpenFile(creating: log.path)))
        end.close()
        startThread(name) { [process] in events.push(.exited(index, status: process.wait())) }
        startThread(name) {
            var splitter = LineSplitter()
            while case let bytes = output.read(), !bytes.isEmpty {
                for line in splitter.lines(adding: bytes) { events.push(.line(index, line)) }
            }
            events.push(.closed(index))
        }
    }

    func ended() { isRunning = false }

    /// Asks the process to finish.
    func terminate() { if isRunning { process.send(SIGTERM) } }

    /// Ends the process at once.
    func kill() { if isRunning { process.send(SIGKILL) } }

    /// The last lines of its log, to say why it failed.
    func logTail(lines count: Int = 5) -> String {
        let text = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").suffix(count).map { "    \($0)" }.joined(separator: "\n")
    }
}
