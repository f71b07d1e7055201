import FoundationEssentials
import Glibc
import Reactor
import System

/// A process and what it says, on a reactor.
final class AgentProcess {
    enum Event {
        /// A line of its standard output.
        case line(String)
        /// A line of its standard error.
        case log(String)
        /// It has ended, and nothing will follow.
        case ended(status: Int32)
    }

    private let process: ChildProcess
    private let handler: (Event) -> Void
    private var openStreams = 2
    private var status: Int32?
    private var isCollected = false

    /// Starts `command`, whose first word is a path.
    /// - Parameter input: where its orders come from.
    init(
        _ command: [String], input: ChildProcess.Stream = .null, on reactor: Reactor, longestLine: Int = 1 << 20,
        handler: @escaping (Event) -> Void
    ) throws {
        self.handler = handler
        let (output, errors) = (try OpenFile.pipe(), try OpenFile.pipe())
        process = try ChildProcess(command, input: input, output: .open(output.writing), errors: .open(errors.writing))
        output.writing.close()
        errors.writing.close()
        try follow(output.reading, on: reactor, longestLine: longestLine) { .line($0) }
        try follow(errors.reading, on: reactor, longestLine: longestLine) { .log($0) }
        try reactor.watchProcess(process.identifier) { [weak self] exit in
            guard let self else { return }
            isCollected = true
            switch exit {
            case .code(let code): status = code
            case .signal(let number): status = -number
            case .unknown: status = -SIGKILL
            }
            finish()
        }
    }

    private func follow(
        _ file: OpenFile, on reactor: Reactor, longestLine: Int, _ event: @escaping (String) -> Event
    ) throws {
        var splitter = LineSplitter(longest: longestLine)
        try reactor.watch(file.descriptor) { [weak self] watch in
            var bytes: [UInt8] = []
            guard let outcome = try? watch.read(appendingTo: &bytes), outcome != .end else {
                // What is left without an end of line is a line as well.
                for line in splitter.lines(adding: [UInt8(ascii: "\n")]) where !line.isEmpty {
                    self?.handler(event(line))
                }
                watch.cancel()
                file.close()
                self?.openStreams -= 1
                self?.finish()
                return
            }
            for line in splitter.lines(adding: bytes) { self?.handler(event(line)) }
        }
    }

    /// The last lines come before the end.
    private func finish() {
        guard openStreams == 0, let status else { return }
        self.status = nil
        handler(.ended(status: status))
    }

    /// Sends it a signal, unless it has ended.
    func send(_ signal: Int32) { if !isCollected { process.send(signal) } }

    /// Processor time since its start, in milliseconds, and the most memory that it had, in octets.
    func usage() -> (milliseconds: Int, octets: Int)? {
        guard !isCollected,
            let stat = try? String(contentsOfFile: "/proc/\(process.identifier)/stat", encoding: .utf8),
            let status = try? String(contentsOfFile: "/proc/\(process.identifier)/status", encoding: .utf8)
        else { return nil }
        // proc(5): the name, in brackets, may have spaces; fields 14 and 15 are times in hundredths of a second.
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else { return nil }
        let peak = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        let kibibytes = peak?.split { " \t".contains($0) }.dropFirst().first.flatMap { Int($0) } ?? 0
        return ((user + system) * 10, kibibytes * 1024)
    }
}

/// A process that is given its orders once and keeps what it did until its input ends.
final class ChildFilter {
    private let process: AgentProcess
    private let input: OpenFile

    /// - Parameter complaint: told each line that it says, which is what it could not do.
    init(_ command: [String], input text: String, on reactor: Reactor, complaint: @escaping (String) -> Void) throws {
        let pipe = try OpenFile.pipe()
        process = try AgentProcess(command, input: .open(pipe.reading), on: reactor) { event in
            switch event {
            case .line(let text), .log(let text): if text.contains("rror") { complaint(text) }
            case .ended: break
            }
        }
        pipe.reading.close()
        input = pipe.writing
        // A few lines: they fit into the pipe.
        try input.write(Array(text.utf8))
    }

    func end() { input.close() }
}
