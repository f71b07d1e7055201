import Dispatch
import System
import Testing

@testable import Operation

@Suite struct OutputWriterTests {
    /// More than a pipe holds, and nobody reads yet.
    @Test func aSlowReaderHoldsNobodyUp() throws {
        let pipe = try OpenFile.pipe()
        let writer = OutputWriter(pipe.writing)
        let line = [UInt8](repeating: 0x61, count: 1000) + [10]
        for _ in 0..<1000 { writer.write(line) }
        var read = 0
        // What is there, and no waiting for a full buffer: the writer keeps its end open.
        while read < 1000 * line.count, case let piece = pipe.reading.read(), !piece.isEmpty { read += piece.count }
        writer.flush()
        #expect(read == 1000 * line.count)
        #expect(writer.hasReader)
    }

    @Test func aReaderThatHasGoneIsNoFailure() throws {
        let pipe = try OpenFile.pipe()
        let gone = DispatchSemaphore(value: 0)
        let writer = OutputWriter(pipe.writing, onGone: { gone.signal() })
        pipe.reading.close()
        writer.write([10])
        gone.wait()
        #expect(!writer.hasReader)
        writer.write([10])
        writer.flush()
    }
}
