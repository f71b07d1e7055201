import Foundation
import Testing

@testable import Operation

@Suite struct OutputWriterTests {
    /// More than a pipe holds, and nobody reads yet.
    @Test func aSlowReaderHoldsNobodyUp() throws {
        let pipe = Pipe()
        let writer = OutputWriter(pipe.fileHandleForWriting)
        let line = [UInt8](repeating: 0x61, count: 1000) + [10]
        for _ in 0..<1000 { writer.write(line) }
        var read = 0
        // What is there, and no waiting for a full buffer: the writer keeps its end open.
        while read < 1000 * line.count, case let piece = pipe.fileHandleForReading.availableData, !piece.isEmpty {
            read += piece.count
        }
        writer.flush()
        #expect(read == 1000 * line.count)
        #expect(writer.hasReader)
    }

    @Test func aReaderThatHasGoneIsNoFailure() throws {
        let pipe = Pipe()
        let gone = DispatchSemaphore(value: 0)
        let writer = OutputWriter(pipe.fileHandleForWriting, onGone: { gone.signal() })
        try pipe.fileHandleForReading.close()
        writer.write([10])
        gone.wait()
        #expect(!writer.hasReader)
        writer.write([10])
        writer.flush()
    }
}
