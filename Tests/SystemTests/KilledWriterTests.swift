import Foundation
import Objects
import Testing
import Wire

@testable import LogStoreWriter
@testable import System

/// A process that writes is killed again and again, at any moment.
@Suite struct KilledWriterTests {
    /// `FLEXICAST_KILLS` makes them more.
    static let kills = ProcessInfo.processInfo.environment["FLEXICAST_KILLS"].flatMap { Int($0) } ?? 50

    /// What the killed processes had been promised.
    struct Promised {
        var epoch = ""
        /// Above all numbers that were given.
        var next: UInt64 = 0
        var safe: Set<UInt64> = []
        var oldest: UInt64 = 0
        var reservations = 0
        var flushes = 0

        mutating func take(_ output: String) {
            // What follows the last end of a line was cut off by the kill.
            for line in output.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
                let words = line.split(separator: " ")
                let numbers = words.dropFirst().compactMap { UInt64($0) }
                switch words.first {
                case "opened":
                    if epoch.isEmpty { epoch = String(words[1]) }
                    #expect(words[1] == epoch)
                    #expect(numbers.last.map { $0 >= next } == true)
                case "reserved":
                    #expect(numbers[0] >= next, "number \(numbers[0]) was given twice")
                    next = numbers[0] + numbers[1]
                    reservations += 1
                case "flushed":
                    safe.formUnion(numbers)
                    flushes += 1
                case "trimming": oldest = max(oldest, numbers[0])
                default: Issue.record("the writer says: \(line)")
                }
            }
        }
    }

    @Test func whatWasPromisedIsThere() throws {
        let scratch = try ScratchStore()
        var promised = Promised()
        let seed = UInt64.random(in: .min ... .max)
        var random = SeededRandom(seed: seed)
        let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appending(path: "LogStoreWriter")
        for _ in 0..<Self.kills {
            let writer = Process()
            let output = Pipe()
            writer.executableURL = program
            writer.arguments = [scratch.log]
            writer.standardOutput = output
            try writer.run()
            // Most are at work by then, and some still open the log.
            var said = Data()
            if random.below(4) > 0 { said = output.fileHandleForReading.availableData }
            Thread.sleep(forTimeInterval: Double(random.below(120)) / 1000)
            kill(writer.processIdentifier, SIGKILL)
            said += try output.fileHandleForReading.readToEnd() ?? Data()
            writer.waitUntilExit()
            #expect(writer.terminationReason == .uncaughtSignal)
            promised.take(String(decoding: said, as: UTF8.self))
            guard FileManager.default.fileExists(atPath: scratch.database) else { continue }

            var store = try scratch.open()
            let stored = try store.load()
            if !promised.epoch.isEmpty { #expect(stored.epoch.description == promised.epoch) }
            promised.epoch = stored.epoch.description
            #expect(stored.next >= promised.next, "seed \(seed)")
            #expect(stored.oldest <= promised.oldest)
            let sequences = stored.parts.map(\.sequence)
            #expect(zip(sequences, sequences.dropFirst()).allSatisfy { $0 < $1 })
            #expect(promised.safe.filter { $0 >= stored.oldest }.isSubset(of: sequences), "seed \(seed)")
            #expect(stored.parts.allSatisfy { $0 == samplePart($0.sequence) })
            // As a source opens it: some of them are there, and of the others what they are.
            let held = try store.load(holding: random.below(200_000))
            #expect(held.older + held.parts.map { StoredPart($0) } == stored.parts.map { StoredPart($0) })
            #expect(store.statistics.partsDamaged == 0)
            promised.oldest = stored.oldest
            promised.safe = promised.safe.filter { $0 >= stored.oldest }
            // Between two lives it is given on as well.
            let first = try store.reserve(3)
            #expect(first >= promised.next)
            promised.next = first + 3
        }
        #expect(promised.reservations > Self.kills && promised.flushes > Self.kills / 2)
    }
}
