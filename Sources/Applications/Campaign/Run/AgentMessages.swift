// What a campaign and its agents say to each other, one JSON object a line: orders on an agent's standard input, reports on its
// standard output.
import FoundationEssentials

/// What an agent is to do.
package enum AgentOrder: Codable, Equatable, Sendable {
    /// Say what time it is.
    case clock(number: Int)
    /// Start this very program with these arguments. `{directory}` in them is the agent's own.
    case start(role: String, arguments: [String])
    /// Send a role's process a signal.
    case signal(role: String, number: Int32)
    /// Write a file into the agent's directory.
    case put(file: String, text: String)
    /// Let the sample feed in a file of the agent's directory grow by one item after the other.
    case grow(file: String, items: Int, intervalMilliseconds: Double, size: Int?)
    /// Stop packets that match these conditions of nftables from coming in.
    case cut(matches: [String])
    /// Let them pass again.
    case heal
    /// End every process, tidy up, and end.
    case quit
}

/// What an agent tells.
package enum AgentReport: Codable, Equatable, Sendable {
    /// The first thing: it is there.
    case hello(HostFacts)
    /// The time of day there, in nanoseconds since 1970.
    case clock(number: Int, nanoseconds: Int64)
    /// A line of a role's standard output, and when it was read.
    case line(role: String, nanoseconds: Int64, text: String)
    /// A line of its log.
    case log(role: String, text: String)
    /// It has ended: its exit status, or less than 0 the signal that ended it.
    case ended(role: String, nanoseconds: Int64, status: Int32)
    /// What a role's process has used so far.
    case usage(role: String, processorMilliseconds: Int, memoryOctets: Int)
    /// An order could not be obeyed.
    case failed(what: String, reason: String)
}

/// What a machine is.
package struct HostFacts: Codable, Equatable, Sendable {
    /// Of the program there.
    package var version: String
    /// As `uname` has it: system, release, version, machine.
    package var system: String
    /// As the system calls itself.
    package var distribution: String
    package var processor: String
    package var cores: Int
    package var memoryOctets: Int
}

extension HostFacts {
    /// What this machine is.
    package init(version: String) {
        let read = { (path: String) in
            (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        }
        let field = { (text: String, name: String) -> String? in
            let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
            return line?.dropFirst(name.count).drop { " \t:=\"".contains($0) }.prefix { $0 != "\"" }.description
        }
        let kernel = ["ostype", "osrelease", "version"].map { name in
            read("/proc/sys/kernel/\(name)").prefix { $0 != "\n" }.description
        }
        #if arch(x86_64)
            let machine = "x86_64"
        #elseif arch(arm64)
            let machine = "aarch64"
        #else
            let machine = ""
        #endif
        let memory = field(read("/proc/meminfo"), "MemTotal")?.split(separator: " ").first.flatMap { Int($0) } ?? 0
        self.init(
            version: version, system: (kernel + [machine]).joined(separator: " "),
            distribution: field(read("/etc/os-release"), "PRETTY_NAME") ?? "",
            processor: field(read("/proc/cpuinfo"), "model name") ?? "",
            cores: ProcessInfo.processInfo.activeProcessorCount, memoryOctets: memory * 1024)
    }
}

/// One message as a line.
func messageLine(_ message: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    // Numbers and texts alone: nothing that has no JSON.
    return Array((try? encoder.encode(message)) ?? Data()) + [UInt8(ascii: "\n")]
}

/// The message of a line; nil when it is none.
func message<T: Decodable>(_ type: T.Type, of line: String) -> T? {
    guard line.utf8.first == UInt8(ascii: "{") else { return nil }
    return try? JSONDecoder().decode(type, from: Data(line.utf8))
}
