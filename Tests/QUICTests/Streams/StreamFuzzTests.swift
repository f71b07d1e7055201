import Testing
import Wire

@testable import QUIC

/// Whatever a peer sends, in whatever order, ends in an error or in a state that keeps its bounds. Nothing traps.
@Suite struct StreamFuzzTests {
    @Test(arguments: 0..<150) func anythingGoes(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let limits = StreamLimits.small(data: 3000, stream: 1500, streams: 5)
        let isShared = seed % 3 == 0
        let role: Role = seed % 2 == 0 ? .client : .server
        var table = StreamTable(role: role, local: limits)
        if seed % 5 != 1 { table.peerParameters(limits) }
        table.sharedStreamSpace = isShared
        var flying: [TestPacket] = []
        var errors = 0

        func number() -> UInt64 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0: Varint.max
            case 1: Varint.max - UInt64.random(in: 0..<2000, using: &random)
            case 2: UInt64.random(in: 0...Varint.max, using: &random)
            case 3...6: UInt64.random(in: 0..<8, using: &random)
            default: UInt64.random(in: 0..<2000, using: &random)
            }
        }
        func id() -> StreamID {
            StreamID(Int.random(in: 0..<10, using: &random) == 0 ? number() : UInt64.random(in: 0..<24, using: &random))
        }
        for _ in 0..<600 {
            do {
                let origin: StreamOrigin = isShared && Bool.random(using: &random) ? .flow : .unicast
                switch Int.random(in: 0..<21, using: &random) {
                case 0...5:
                    let bytes = random.octets(Int.random(in: 0..<200, using: &random))
                    try table.receive(id(), number(), bytes, fin: Int.random(in: 0..<8, using: &random) == 0, origin)
                case 6: try table.resetReceived(id(), code: number(), finalSize: number(), origin: origin)
                case 7: try table.stopSendingReceived(id(), code: number())
                case 8: table.maxDataReceived(number())
                case 9: try table.maxStreamDataReceived(id(), number())
                case 10: try table.maxStreamsReceived(bidirectional: Bool.random(using: &random), number())
                case 11: try table.streamDataBlockedReceived(id(), number())
                case 12: _ = Bool.random(using: &random) ? table.read(id()).map { .whole($0) } : table.gather(id())
                case 13: table.stopSending(id(), code: 1)
                case 14: table.reset(id(), code: 1)
                case 15: _ = try? table.open(bidirectional: Bool.random(using: &random))
                case 16:
                    let bytes = random.octets(Int.random(in: 0..<600, using: &random))
                    try? table.write(id(), bytes, fin: Bool.random(using: &random))
                case 17:
                    let stream = id()
                    let low = UInt64.random(in: 0...500, using: &random)
                    table.sendRange(
                        stream, bytes: content(of: stream, 0..<500), range: low..<(low + number() % 600),
                        fin: Bool.random(using: &random), counted: Bool.random(using: &random))
                case 18: if let packet = table.packet(Int.random(in: 1...300, using: &random)) { flying.append(packet) }
                case 19:
                    guard let packet = flying.popLast() else { break }
                    if Bool.random(using: &random) { table.lose(packet) }
                    if Bool.random(using: &random) { table.acknowledge(packet) }
                default: _ = table.nextEvent()
                }
            } catch is TransportError {
                errors += 1
            }
            #expect(table.segments == table.receiving.streams.reduce(0) { $0 + $1.buffer.segmentCount })
            #expect(table.receiving.streams.filter { $0.id.initiator != role }.count <= 20)
            #expect(table.bufferedOctets <= 6000)
            #expect(table.dataConsumed <= table.dataReceived)
            #expect(table.heldOctets == table.sending.streams.reduce(0) { $0 + $1.content.held })
        }
        #expect(errors > 0, "the fuzz reaches the checks")
        // What it says it wants to send, it sends.
        var packets = 0
        while table.wantsToSend {
            guard let packet = table.packet(1200) else {
                // What was queued has become needless: that is seen only here, and once.
                #expect(!table.wantsToSend)
                break
            }
            packets += 1
            try #require(packets < 100)
            table.acknowledge(packet)
        }
    }
}
