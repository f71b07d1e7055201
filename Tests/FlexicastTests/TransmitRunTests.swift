import QUIC
import Testing
import Wire

@testable import Flexicast

/// What `transmitRun` writes, read back with nothing but RFC 9000's words: headers of section 17.3.1, STREAM frames of 19.8.
@Suite("runs of packets")
struct TransmitRunTests {
    private static let packetSize = 1200

    /// Fills runs of `count` packets until there is no more to send: the packets, without their tags.
    private static func packets(of flow: FlowSource, count: Int, at now: Instant) -> [[UInt8]] {
        var flow = flow
        var buffer = [UInt8](repeating: 0xee, count: count * packetSize)
        var packets: [[UInt8]] = []
        var end: Int
        repeat {
            var runs: [RunPlan] = []
            do {
                var span = buffer.mutableSpan
                var writer = ByteWriter(&span)
                flow.transmitRun(of: count, into: &writer, runs: &runs, at: now)
                end = writer.offset
            }
            for start in stride(from: 0, to: end, by: packetSize) {
                packets.append(Array(buffer[start..<(min(end, start + packetSize) - CipherSuite.tagLength)]))
            }
        } while end > 0
        return packets
    }

    /// Puts a stream together from packets; each octet may come once only.
    private static func stream(_ packets: [[UInt8]], idLength: Int) -> (bytes: [Int: UInt8], isWhole: Bool) {
        var bytes: [Int: UInt8] = [:]
        var isWhole = false
        for (index, packet) in packets.enumerated() {
            var reader = ByteReader(packet.span)
            let header = (0...idLength).map { _ in reader.uint8() ?? 0 }
            #expect(header == [0x43] + [UInt8](repeating: 0x5a, count: idLength))
            let number = reader.uint32()
            #expect(number == UInt32(index))
            while let type = reader.varint(), type != 0 {
                guard (0x08...0x0f).contains(type) else {
                    Issue.record("frame type \(type)")
                    break
                }
                let stream = reader.varint()
                #expect(stream == 3)
                let offset = type & 4 == 0 ? 0 : Int(reader.varint() ?? 0)
                let length = type & 2 == 0 ? packet.count - reader.offset : Int(reader.varint() ?? 0)
                for place in offset..<(offset + length) {
                    let isNew = bytes.updateValue(reader.uint8() ?? 0, forKey: place) == nil
                    #expect(isNew)
                }
                if type & 1 == 1 { isWhole = true }
            }
        }
        return (bytes, isWhole)
    }

    /// 80 000 octets pass the offset from which on a varint takes four octets, and end in the middle of a packet.
    @Test(arguments: [1, 8, 20])
    func aRunCarriesAStreamAsSinglePacketsDo(idLength: Int) throws {
        let now = Instant(nanoseconds: 1_000_000_000)
        var configuration = FlowConfiguration()
        configuration.initialRate = .max
        configuration.rateCeiling = .max
        configuration.skipInterval = 1 << 40
        let id = try #require(FlowID([UInt8](repeating: 0x5a, count: idLength)))
        var flow = FlowSource(
            flowID: id, parameters: World.parameters, configuration: configuration, seed: SeededRandom(seed: 9), at: now
        )
        flow.attach(at: now)
        let member = flow.add(streamWindow: 1 << 30, octets: .max, streams: .max, at: now)
        #expect(member != nil)
        let item = (0..<80_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
        let publication = flow.publish(StreamOctets(item))
        #expect(publication.onFlow)

        let single = Self.packets(of: flow, count: 1, at: now)
        for count in [2, 7, 52] {
            #expect(Self.packets(of: flow, count: count, at: now) == single, "runs of \(count)")
        }
        let (bytes, isWhole) = Self.stream(Self.packets(of: flow, count: 52, at: now), idLength: idLength)
        #expect(isWhole)
        #expect(bytes.count == item.count)
        #expect(item.indices.allSatisfy { bytes[$0] == item[$0] })
    }
}
