import Testing
import Wire

@testable import QUIC

@Suite struct CryptoStreamTests {
    private func packet(_ stream: inout CryptoStream, _ capacity: Int) -> TestPacket {
        var bytes = [UInt8](repeating: 0, count: capacity)
        var frames: [SentFrame] = []
        var used = 0
        do {
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            stream.writeFrames(into: &writer, sent: &frames)
            used = writer.offset
        }
        bytes.removeLast(capacity - used)
        return TestPacket(bytes: bytes, frames: frames)
    }

    private func deliver(_ packet: TestPacket, to stream: inout CryptoStream) throws {
        var reader = ByteReader(packet.bytes.span)
        while let type = reader.varint() {
            #expect(type == 6)
            let offset = reader.varint()!
            let bytes = reader.array(Int(reader.varint()!))!
            try stream.received(bytes, at: offset)
        }
    }

    @Test(arguments: 0..<30) func arrivesWholeThroughALossyChannel(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        var sender = CryptoStream()
        var receiver = CryptoStream()
        let message = random.octets(5000)
        var given = 0
        var output: [UInt8] = []
        var flying: [TestPacket] = []
        while output.count < message.count || !sender.isAllAcknowledged {
            if given < message.count, Int.random(in: 0..<5, using: &random) == 0 {
                let next = min(message.count, given + Int.random(in: 1..<1500, using: &random))
                sender.append([UInt8](message[given..<next]))
                given = next
            }
            if sender.hasPending { flying.append(packet(&sender, Int.random(in: 60..<400, using: &random))) }
            if Int.random(in: 0..<50, using: &random) == 0 { sender.retransmitAll() }
            guard !flying.isEmpty else { continue }
            let index = Int.random(in: 0..<flying.count, using: &random)
            let one = flying.remove(at: index)
            if Int.random(in: 0..<4, using: &random) == 0 {
                for frame in one.frames { sender.frameLost(frame) }
            } else {
                try deliver(one, to: &receiver)
                for frame in one.frames { sender.frameAcknowledged(frame) }
            }
            output += receiver.read() ?? []
        }
        #expect(output == message)
        #expect(!receiver.hasGap)
        sender.retransmitAll()
        #expect(!sender.hasPending)
    }

    @Test func theBufferIsBounded() throws {
        var stream = CryptoStream()
        let limit = UInt64(StreamBounds.cryptoBuffer)
        try stream.received([1], at: limit - 1)
        #expect(errorCode { try stream.received([1], at: limit) } == .cryptoBufferExceeded)
        try stream.received([1, 2], at: 0)
        #expect(stream.read() == [1, 2])
        #expect(stream.hasGap)
        try stream.received([1], at: limit)
        #expect(errorCode { try stream.received([1], at: Varint.max) } == .frameEncodingError)
        #expect(errorCode { try stream.received([1], at: Varint.max - 1) } == .cryptoBufferExceeded)
    }

    @Test func holesAreBounded() throws {
        var stream = CryptoStream()
        for index in 0..<UInt64(StreamBounds.segmentsPerStream) { try stream.received([1], at: 2 * index + 1) }
        let next = 2 * UInt64(StreamBounds.segmentsPerStream) + 1
        #expect(errorCode { try stream.received([1], at: next) } == .cryptoBufferExceeded)
    }

    @Test func writesNothingWithoutRoom() {
        var stream = CryptoStream()
        stream.append([UInt8](repeating: 3, count: 100))
        #expect(packet(&stream, 3).frames.isEmpty)
        #expect(packet(&stream, 20).frames.isEmpty, "too small a fragment")
        #expect(packet(&stream, 70).frames == [.crypto(offset: 0, length: 66)])
        #expect(packet(&stream, 70).frames == [.crypto(offset: 66, length: 34)])
        #expect(!stream.hasPending)
    }
}
