import Testing
import Wire

@testable import QUIC

@Suite("Frames as a log shows them")
struct LoggedFrameTests {
    @Test(
        arguments: [
            ([0x01], "ping"), ([0x00, 0x00, 0x00], "padding"), ([0x02, 5, 0, 1, 1, 0, 0], "ack"),
            ([0x3f, 1, 5, 0, 0, 0, 1, 2, 3], "path_ack"), ([0x0f, 3, 0, 2, 9, 9], "stream"),
            ([0x06, 0, 2, 1, 1], "crypto"),
            ([0x04, 3, 1, 2], "reset_stream"), ([0x1c, 7, 0, 2, 0x6f, 0x6b], "connection_close"),
            ([0x1e], "handshake_done"),
            ([0x31, 2, 1, 1], "datagram"), ([0x12, 5], "max_streams"), ([0x21], "unknown"), ([0x02, 5], "unknown"),
        ] as [([UInt8], String)])
    func names(_ payload: [UInt8], _ name: String) {
        let frames = LoggedFrame.frames(in: payload.span)
        #expect(frames.map(\.type) == [name])
    }

    @Test func rangesAreAscending() {
        // Largest 10, first range 10...9, gap to 7...6.
        let payload: [UInt8] = [0x02, 10, 0, 1, 1, 0, 1]
        let ack = LoggedFrame.frames(in: payload.span)[0]
        #expect(ack.fields.first { $0.name == "acked_ranges" }?.value == .ranges([9...10, 6...7]))
    }

    /// 1000 in the frame is 8 ms with the exponent 3, and 1 ms with the exponent 0 (RFC 9000 section 19.3).
    @Test func acknowledgementDelayIsATime() {
        let payload: [UInt8] = [0x02, 10, 0x43, 0xe8, 0, 0]
        for (exponent, time) in [(3, 8000), (0, 1000), (20, 1000 << 20)] as [(UInt8, UInt64)] {
            let ack = LoggedFrame.frames(in: payload.span, ackDelayExponent: exponent)[0]
            #expect(ack.fields.first { $0.name == "ack_delay" }?.value == .microseconds(time))
        }
    }

    /// An extension's frame ends where its reader says, and what follows is seen too.
    @Test func extensionFramesDoNotSwallowOthers() {
        enum Reading: LoggedExtension {
            static func read(_ type: UInt64, _ body: Span<UInt8>) -> (frame: LoggedFrame, length: Int)? {
                type == 0x2a && body.count >= 2 ? (LoggedFrame("twice", ("first", UInt64(body[0]))), 2) : nil
            }
        }
        let payload: [UInt8] = [0x01, 0x2a, 7, 8, 0x1e, 0x2b, 1]
        let frames = LoggedFrame.frames(in: payload.span, extension: Reading.self)
        #expect(frames.map(\.type) == ["ping", "twice", "handshake_done", "unknown"])
        #expect(frames[1].fields.first?.value == .number(7))
        #expect(
            frames[1].fields.last
                == LoggedFrame.Field(
                    name: "raw", value: .object([LoggedFrame.Field(name: "length", value: .number(3))])))
    }

    /// A log must not be a way to stop a connection.
    @Test func noPayloadTraps() {
        var random = SeededRandom(seed: 4)
        for _ in 0..<20_000 {
            let payload = random.octets(Int(random.next() % 40))
            _ = LoggedFrame.frames(in: payload.span)
        }
    }
}
