import Foundation
import TestSupport
import Testing

/// ^C loses no result.
@Suite struct InterruptionTests {
    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "flexicast")

    /// Starts the program, and interrupts it once it has printed what is waited for.
    /// - Returns: all it printed, and its exit status.
    private static func interrupt(_ arguments: [String], once isDue: (String) -> Bool) throws -> (String, Int32) {
        let process = Process()
        process.executableURL = program
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        var text = ""
        var isInterrupted = false
        while case let piece = output.fileHandleForReading.availableData, !piece.isEmpty {
            text += String(decoding: piece, as: UTF8.self)
            guard !isInterrupted, isDue(text) else { continue }
            isInterrupted = true
            process.interrupt()
        }
        process.waitUntilExit()
        return (text, process.terminationStatus)
    }

    @Test(arguments: [
        ["send", "127.0.0.1:9", "--rate", "1M"], ["flow", "--interface", "lo", "--rate", "1M"],
        ["serve", "--listen", "127.0.0.1:0"],
    ])
    func aMeasurementEndsWithItsSummary(_ arguments: [String]) throws {
        let isServer = arguments[0] == "serve"
        let (text, status) = try Self.interrupt(
            ["perf"] + arguments + ["--json", "--duration", "600s", "--interval", "200ms"]
        ) { $0.contains(isServer ? "\n" : #""event":"interval""#) }
        #expect(status == 0, "\(text)")
        #expect(text.contains(#""event":"summary""#), "\(text)")
    }

    @Test func aDemoShowsWhatCame() throws {
        let directory = try TemporaryDirectory()
        let report = directory.url.appending(path: "report.json")
        var page = ""
        let (text, status) = try Self.interrupt(
            [
                "demo", "--network", "loopback", "--items", "1000", "--interval", "50ms", "--receivers", "1",
                "--unicast", "1", "--report", report.path,
            ]
        ) {
            guard $0.contains("item 100 of") else { return false }
            // The source's page is where the user is.
            let address = $0.split(whereSeparator: \.isWhitespace).first { $0.hasPrefix("http://") } ?? ""
            let script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
            page = (try? run(Machine.path(of: "python3") ?? "", ["-c", script, String(address)]).output) ?? ""
            return true
        }
        #expect(page.contains("<!doctype html>") || page.contains("<!DOCTYPE html>"), "\(page.prefix(200))")
        #expect(status == 130, "\(text)")
        #expect(text.contains("interrupted after"), "\(text)")
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: report)) as? [String: Any]
        #expect(object?["interrupted"] as? Bool == true)
        #expect(object?["items"] as? Int ?? 0 > 0)
        let receivers = object?["receivers"] as? [[String: Any]] ?? []
        #expect(receivers.count == 2 && receivers.allSatisfy { $0["missing"] as? Int == 0 })
    }
}
