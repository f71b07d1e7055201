import Foundation
import TestSupport
import Testing

/// What `flexicast --version` says, beside what others say of the same things.
@Suite("flexicast --version") struct VersionTests {
    private let lines: [String]

    init() throws {
        let (status, output, errors) = try run(Self.program, ["--version"])
        #expect(status == 0 && errors.isEmpty, "\(errors)")
        lines = output.split(separator: "\n").map(String.init)
    }

    /// The one that is built with the tests.
    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "flexicast").path

    private func value(_ name: String) throws -> Substring {
        let line = try #require(lines.first { $0.hasPrefix(name + " ") }, "no \(name) in \(lines)")
        return line.dropFirst(name.count).drop { $0 == " " }
    }

    @Test func beginsWithTheProgramsVersion() throws {
        #expect(lines.count == 6)
        #expect(try value("flexicast").wholeMatch(of: /[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?/) != nil)
        #expect(try value("Swift").wholeMatch(of: /[0-9]+\.[0-9]+/) != nil)
    }

    /// `make` tells the build and the tests the same name; a build that was told none knows none.
    @Test func namesTheCommitThatTheBuildWasTold() throws {
        let commit = try value("commit")
        if let told = ProcessInfo.processInfo.environment["FLEXICAST_COMMIT"], !told.isEmpty {
            #expect(commit == told)
        } else {
            #expect(commit.wholeMatch(of: /unknown|[0-9a-f]{7,40}(\+changes)?/) != nil)
        }
    }

    @Test(.enabled(if: Machine.has("openssl"), "openssl is not installed"))
    func namesOpenSSLAsItDoesItself() throws {
        let tool = try run(Machine.path(of: "openssl") ?? "openssl", ["version"]).output
        #expect(tool.contains("(Library: \(try value("TLS")))"), "\(tool)")
    }

    @Test(.enabled(if: Machine.has("ldconfig"), "there is no ldconfig"))
    func namesTheLibraryForPacketsOrWhyThereIsNone() throws {
        let libraries = try run(Machine.path(of: "ldconfig") ?? "ldconfig", ["-p"]).output
        let text = try value("AES-GCM")
        #expect(text.contains(/IPSec-MB [0-9]/) || text.contains("no IPSec-MB: "), "\(text)")
        if !libraries.contains("libIPSec_MB.so") { #expect(text.contains("no IPSec-MB: "), "\(text)") }
    }

    /// The backend is the one that a command takes by itself, as its log says.
    @Test func namesTheBackendThatACommandTakes() throws {
        let log = try run(Self.program, ["receive", "127.0.0.1:9", "--insecure", "--timeout", "50ms"]).errors
        let backend = try value("I/O")
        #expect(backend.hasPrefix("io_uring (") || backend.hasPrefix("epoll ("))
        #expect(log.contains("receive: \(backend)"), "\(log)")
    }

    /// Whatever follows is not begun.
    @Test func goesBeforeACommand() throws {
        let (status, output, _) = try run(
            Self.program, ["--version", "receive", "127.0.0.1:9", "--insecure", "--timeout", "50ms"])
        #expect(status == 0)
        #expect(output.split(separator: "\n").map(String.init) == lines)
    }
}
