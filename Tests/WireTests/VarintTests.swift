import Testing
import Wire

@Suite("RFC 9000 Appendix A.1: variable-length integers")
struct VarintTests {
    static let vectors: [([UInt8], UInt64)] = [
        ([0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
        ([0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
        ([0x7b, 0xbd], 15_293),
        ([0x25], 37),
        ([0x40, 0x25], 37),
    ]

    @Test(arguments: vectors)
    func reads(_ octets: [UInt8], _ value: UInt64) {
        var reader = ByteReader(octets.span)
        #expect(reader.varint() == value)
        let end = reader.isAtEnd
        #expect(end)
    }

    @Test(arguments: vectors.dropLast())
    func writesShortest(_ octets: [UInt8], _ value: UInt64) {
        #expect([UInt8].written(capacity: 8) { $0.varint(value) } == octets)
    }

    @Test func truncatedLeavesTheCursor() {
        let octets: [UInt8] = [0xc2, 0x19]
        var reader = ByteReader(octets.span)
        #expect(reader.varint() == nil)
        let offset = reader.offset
        #expect(offset == 0)
    }

    @Test(arguments: [0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, Varint.max] as [UInt64])
    func boundariesSurviveARoundTrip(_ value: UInt64) {
        let octets = [UInt8].written(capacity: 8) { $0.varint(value) }
        #expect(octets.count == Varint.length(value))
        var reader = ByteReader(octets.span)
        #expect(reader.varint() == value)
    }

    /// Counted one by one.
    @Test(
        arguments: [0, 1, 62, 63, 64, 12_000, 16_383, 16_384, (1 << 30) - 5000, (1 << 30) - 1, Varint.max] as [UInt64])
    func valuesOfOneLength(first: UInt64) {
        for step in [1, 7, 1160, 20_000] as [UInt64] where (1 << (8 * Varint.length(first) - 2)) - first < 20_000 {
            var count: UInt64 = 0
            while first + count * step <= Varint.max, Varint.length(first + count * step) == Varint.length(first) {
                count += 1
            }
            #expect(Varint.alike(from: first, by: step) == count)
        }
    }
}

@Suite struct BlockTests {
    @Test func whatFollowsABlockIsWrittenOverItsRest() {
        let block = InlineArray<8, UInt8> { UInt8($0) }
        let octets = [UInt8].written(capacity: 12) { writer in
            writer.uint8(0xff)
            writer.block(block, moving: 3)
            writer.uint16(0xaabb)
            writer.advance(3)
        }
        #expect(octets == [0xff, 0, 1, 2, 0xaa, 0xbb, 5, 6, 7])
    }
}
