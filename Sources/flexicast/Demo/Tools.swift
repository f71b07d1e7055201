import FoundationEssentials
import System

/// Why the demo cannot go on. The text says what to do about it where something can be done.
struct DemoProblem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// The demo was asked to stop.
struct DemoInterrupted: Error, CustomStringConvertible {
    let description = "interrupted"
}

/// Something did not happen in time.
struct DemoTimeout: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Programs of the system the demo needs for its networks.
enum Tool: String, CaseIterable {
    case ip, nft, nsenter, unshare, setpriv

    var package: String {
        switch self {
        case .ip: "iproute2"
        case .nft: "nftables"
        case .nsenter, .unshare, .setpriv: "util-linux"
        }
    }

    /// Where it is. The directories of administrators are looked at too: they are not on everyone's PATH.
    var path: String? {
        let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
        return (directories + ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]).lazy.map { "\($0)/\(self.rawValue)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }
}

/// Where each tool is.
struct Toolbox {
    private var paths: [Tool: String] = [:]

    /// Throws a problem that names every missing tool and its Debian package.
    init() throws {
        for tool in Tool.allCases { paths[tool] = tool.path }
        let missing = Tool.allCases.filter { paths[$0] == nil }
        guard missing.isEmpty else {
            let packages = Set(missing.map(\.package)).sorted().joined(separator: " ")
            throw DemoProblem(
                """
                missing: \(missing.map(\.rawValue).joined(separator: ", ")); install with: apt-get install \(packages) \
                (or run with --network loopback, which needs neither, and neither loses nor cuts anything)
                """)
        }
    }

    subscript(tool: Tool) -> String { paths[tool] ?? tool.rawValue }
}

/// Runs `command` to its end with `input` on its standard input and returns what it printed.
/// - Throws: A problem with the command's own complaint when it does not exit with 0.
@discardableResult
func run(_ command: [String], input: String = "") throws -> String {
    let (stdin, stdout) = (try OpenFile.pipe(), try OpenFile.pipe())
    let process = try ChildProcess(
        command, input: .open(stdin.reading), output: .open(stdout.writing), errors: .open(stdout.writing))
    stdin.reading.close()
    stdout.writing.close()
    // Everything written here fits into a pipe: a few dozen lines at the most.
    try? stdin.writing.write(Array(input.utf8))
    stdin.writing.close()
    let text = String(decoding: stdout.reading.readToEnd(), as: UTF8.self)
    guard process.wait() == 0 else {
        throw DemoProblem("\(command.joined(separator: " ")): \(text.trimmed)")
    }
    return text
}
