import QUIC
import Testing
import Wire

@Suite("RFC 9000 Appendix A.2 and A.3: packet numbers")
struct PacketNumberTests {
    @Test func lengthsOfTheAppendix() {
        #expect(PacketNumber.length(0xac5c02, largestAcked: 0xabe8b3) == 2)
        #expect(PacketNumber.length(0xace8fe, largestAcked: 0xabe8b3) == 3)
    }

    @Test func decodingOfTheAppendix() {
        #expect(PacketNumber.decode(truncated: 0x9b32, length: 2, largest: 0xa82f_30ea) == 0xa82f_9b32)
    }

    @Test("half a window away either way: the later number")
    func theMiddleOfTheWindow() {
        #expect(PacketNumber.decode(truncated: 0x00, length: 1, largest: 0x17f) == 0x200)
        #expect(PacketNumber.decode(truncated: 0x01, length: 1, largest: 0x17f) == 0x101)
    }

    @Test("a peer may name 2^62-1 as the number before this one: nothing comes after it")
    func theLargestNumberOfAll() {
        for length in 1...4 {
            #expect(PacketNumber.decode(truncated: 0, length: length, largest: Varint.max) <= Varint.max)
            #expect(PacketNumber.decode(truncated: 0xffff_ffff, length: length, largest: Varint.max) == Varint.max)
        }
    }

    @Test func firstPackets() {
        #expect(PacketNumber.length(0, largestAcked: nil) == 1)
        #expect(PacketNumber.length(200, largestAcked: nil) == 2)
        #expect(PacketNumber.decode(truncated: 0, length: 1, largest: nil) == 0)
        #expect(PacketNumber.decode(truncated: 200, length: 2, largest: nil) == 200)
    }

    @Test func theFieldSpansMoreThanTwiceTheDistance() {
        for length in 1...3 {
            let edge: UInt64 = 1 << UInt64(8 * length - 1)
            #expect(PacketNumber.length(1000 + edge - 1, largestAcked: 1000) == length)
            #expect(PacketNumber.length(1000 + edge, largestAcked: 1000) == length + 1)
        }
    }

    @Test("what is written can be read by whoever has received anything from the acknowledged number on")
    func roundTrip() {
        var random = SeededRandom(seed: 1)
        for _ in 0..<20_000 {
            let acked = UInt64.random(in: 0..<1 << UInt64.random(in: 1...61, using: &random), using: &random)
            let distance = UInt64.random(in: 1..<1 << UInt64.random(in: 1...30, using: &random), using: &random)
            let full = min(acked + distance, Varint.max)
            guard full > acked else { continue }
            let length = PacketNumber.length(full, largestAcked: acked)
            let truncated = full & (UInt64.max >> UInt64(64 - 8 * length))
            // The receiver may be anywhere between what it acknowledged and the packet before this one.
            let largest = UInt64.random(in: acked...(full - 1), using: &random)
            #expect(PacketNumber.decode(truncated: truncated, length: length, largest: largest) == full)
        }
    }

    @Test("hostile fields stay within 62 bits and do not trap", arguments: 1...4)
    func ends(length: Int) {
        for largest in [nil, 0, Varint.max - 1, Varint.max] as [UInt64?] {
            for truncated in [0, 1, 0x7f, 0x80, 0xff, 0xffff_ffff] as [UInt64] {
                #expect(
                    PacketNumber.decode(truncated: truncated, length: length, largest: largest) <= Varint.max + 1 << 32)
            }
        }
    }
}
