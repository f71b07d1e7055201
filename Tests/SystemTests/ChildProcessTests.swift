import Foundation
import Testing

@testable import System

@Suite struct ChildProcessTests {
    /// Runs a shell's script and returns what it printed and how it ended.
    private func shell(_ script: String, input: String? = nil) throws -> (output: String, status: Int32) {
        let (stdin, stdout) = (try OpenFile.pipe(), try OpenFile.pipe())
        let process = try ChildProcess(
            ["/bin/sh", "-c", script], input: input == nil ? .null : .open(stdin.reading), output: .open(stdout.writing)
        )
        stdin.reading.close()
        stdout.writing.close()
        try stdin.writing.write(Array((input ?? "").utf8))
        stdin.writing.close()
        let output = String(decoding: stdout.reading.readToEnd(), as: UTF8.self)
        return (output, process.wait())
    }

    @Test func itsStreamsAreOurs() throws {
        #expect(try shell("cat; exit 7", input: "a\nb\n") == ("a\nb\n", 7))
    }

    @Test func withoutInputItReadsNothing() throws {
        #expect(try shell("cat; echo end") == ("end\n", 0))
    }

    @Test func aSignalThatEndsItIsTold() throws {
        #expect(try shell("kill -TERM $$").status == -SIGTERM)
    }

    @Test func itIsEndedBySignal() throws {
        let process = try ChildProcess(["/bin/sleep", "1000"])
        process.send(SIGKILL)
        #expect(process.wait() == -SIGKILL)
        #expect(process.wait() == -SIGKILL, "as often as it is asked")
        process.send(SIGKILL)
    }

    /// Ignored signals and a signal mask would stay so in a child.
    @Test func signalsActOnItAsUsual() throws {
        let before = signal(SIGPIPE, SIG_IGN)
        defer { signal(SIGPIPE, before) }
        let status = try shell("cat /proc/self/status").output
        for name in ["SigBlk", "SigIgn"] {
            let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(name) })
            let set = try #require(line.split(whereSeparator: \.isWhitespace).last.flatMap { UInt64($0, radix: 16) })
            // 32 and 33 are the C library's own.
            #expect(set & ~0x1_8000_0000 == 0, "\(line)")
        }
    }

    @Test func noOtherFileIsOpenInIt() throws {
        let descriptor = unsafe open("/dev/null", O_RDONLY)
        defer { close(descriptor) }
        #expect(descriptor > 2)
        // The directory that is listed has one of its own.
        #expect(try shell("ls /proc/self/fd").output.split(separator: "\n").count == 4)
    }

    @Test func whatIsNotThereIsNamed() {
        let error = #expect(throws: SystemError.self) { try ChildProcess(["/nowhere/program"]) }
        #expect(error?.description == "cannot run /nowhere/program: No such file or directory")
    }
}

@Suite struct SystemErrorTests {
    @Test func aDirectoryThatCannotBeMadeIsSaidInTheSystemsWords() {
        let error = #expect(throws: SystemError.self) { try makeDirectories("/proc/nowhere/a") }
        #expect(error?.reason == "No such file or directory")
    }

    @Test func directoriesAreMadeWithThoseAbove() throws {
        let path = FileManager.default.temporaryDirectory.path + "/flexicast-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        for _ in 0..<2 { try makeDirectories(path + "/a/b") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: path + "/a") == ["b"])
        try Data().write(to: URL(fileURLWithPath: path + "/file"))
        #expect(throws: SystemError.self) { try makeDirectories(path + "/file") }
    }
}

@Suite struct ConditionTests {
    @Test func whoeverWaitsIsWoken() {
        let monitor = Monitor(0)
        startThread("test") {
            monitor.change { $0 = 7 }
            monitor.wake()
        }
        #expect(monitor.wait { $0 == 7 ? .done($0) : .wait(until: nil) } == 7)
    }

    @Test func aWaitThatNobodyEndsEndsByTime() {
        let condition = Condition()
        condition.lock()
        while condition.wait(for: .milliseconds(1)) {}
        condition.unlock()
    }
}
