import Testing
import Wire

@testable import QUIC

@Suite("Stream octets in acknowledged packets")
struct JoinedFramesTests {
    private func acknowledged(_ frames: [SentFrame]) throws -> [SentFrame] {
        var recovery = Sender().recovery
        for frame in frames {
            let number = recovery.takePacketNumber(.application)
            recovery.packetSent(
                .application, packetNumber: number, size: 1200, ackEliciting: true, inFlight: true, frames: [frame],
                ecn: .notECT, isPathProbe: false, at: at(0))
        }
        var acked: [SentFrame] = []
        var lost: [SentFrame] = []
        try recovery.acknowledged(
            .application, ranges: [0...UInt64(frames.count - 1)], ackDelay: .zero, ecnCounts: nil, at: at(10),
            ackedFrames: &acked, lostFrames: &lost)
        return acked
    }

    @Test func whatFollowsIsOneFrame() throws {
        let (a, b) = (StreamID(0), StreamID(4))
        #expect(
            try acknowledged([
                .stream(id: a, offset: 10, length: 5, fin: false), .stream(id: a, offset: 15, length: 7, fin: false),
                .stream(id: a, offset: 22, length: 3, fin: true),
            ]) == [.stream(id: a, offset: 10, length: 15, fin: true)])
        // A hole, another stream, another frame between, and what follows an end.
        let apart: [SentFrame] = [
            .stream(id: a, offset: 0, length: 5, fin: false), .stream(id: a, offset: 6, length: 5, fin: false),
            .stream(id: b, offset: 11, length: 5, fin: false), .ping, .stream(id: b, offset: 16, length: 5, fin: true),
            .stream(id: b, offset: 21, length: 0, fin: true),
        ]
        #expect(try acknowledged(apart) == apart)
    }
}
