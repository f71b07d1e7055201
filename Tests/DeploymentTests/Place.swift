import Foundation
import TestSupport

/// What the tests here need: to be root, and the tools that make namespaces.
enum Ground {
    private static let tools = ["ip", "nft", "nsenter", "unshare", "setpriv"]

    /// Why they cannot run on this machine; nil when they can, or must.
    static let obstacle: String? = obstacle()

    /// - Parameter more: Tools that some tests need besides.
    static func obstacle(needing more: [String] = []) -> String? {
        guard !Machine.requiresAll else { return nil }
        let missing = (tools + more).filter { Machine.path(of: $0) == nil }
        guard missing.isEmpty else { return "missing: \(missing.joined(separator: ", "))" }
        guard (try? shell(["unshare", "-n", "true"])) != nil else { return "network namespaces need root" }
        return FileManager.default.isExecutableFile(atPath: program) ? nil : "\(program) is not built"
    }

    static var isSolid: Bool { obstacle == nil }
    static var reason: String { obstacle ?? "" }

    /// The program under test: the one built with these tests, or the one that `FLEXICAST_BINARY` names.
    static let program: String =
        ProcessInfo.processInfo.environment["FLEXICAST_BINARY"]
        ?? URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "flexicast").path
}

/// Runs a tool to its end and returns what it printed.
@discardableResult
func shell(_ command: [String], input: String = "") throws -> String {
    let result = try run(Machine.path(of: command[0]) ?? command[0], Array(command.dropFirst()), input: input)
    guard result.status == 0 else {
        throw Failure(description: "\(command.joined(separator: " ")): \(result.output)\(result.errors)")
    }
    return result.output
}

/// A network namespace. It lives as long as its holder, a `cat` that reads from a pipe of this process: whatever happens
/// here, the kernel tidies up.
final class Place {
    private let process = Process()
    private let stdin = Pipe()

    init() throws {
        let stdout = Pipe()
        process.executableURL = URL(fileURLWithPath: Machine.path(of: "unshare") ?? "unshare")
        process.arguments = ["-n", "/bin/sh", "-c", "echo ready; exec cat"]
        process.standardInput = stdin
        process.standardOutput = stdout
        try process.run()
        guard !stdout.fileHandleForReading.availableData.isEmpty else {
            throw Failure(description: "no network namespace could be made")
        }
        try shell(["ip", "link", "set", "lo", "up"])
    }

    deinit {
        try? stdin.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// The process whose namespace this is.
    var identifier: Int32 { process.processIdentifier }

    private var enter: [String] { ["nsenter", "-t", "\(identifier)", "-n", "--"] }

    /// Runs a tool here.
    @discardableResult
    func shell(_ command: [String], input: String = "") throws -> String {
        try DeploymentTests.shell(enter + command, input: input)
    }

    /// Runs a line of shell here.
    @discardableResult
    func shell(_ line: String) throws -> String { try shell(["/bin/sh", "-c", line]) }

    /// `command` so that it runs here and dies with the thread that starts it.
    /// - Parameter isPrivileged: Whether it keeps its capabilities: without them root is nobody special.
    func command(_ command: [String], isPrivileged: Bool = true) -> [String] {
        enter + ["setpriv", "--pdeathsig", "KILL"] + (isPrivileged ? [] : ["--bounding-set=-all", "--inh-caps=-all"])
            + ["--"] + command
    }

    /// How many packets the counter of a table of nftables has counted.
    func counted(_ counter: String, in table: String) throws -> Int {
        let words = try shell(["nft", "list", "counter", "inet", table, counter]).split(whereSeparator: \.isWhitespace)
        return words.firstIndex(of: "packets").flatMap { Int(words[$0 + 1]) } ?? 0
    }
}
