import QUIC
import Testing

@testable import Cryptography

/// Runs of packets against the same packets one by one.
@Suite struct RunTests {
    static let size = 100

    /// `count` packets with four-octet numbers from `first` on, the last with `last` octets.
    static func run(_ count: Int, last: Int = size, first: Int = 5000) -> (bytes: [UInt8], plan: RunPlan) {
        var bytes: [UInt8] = []
        for index in 0..<count {
            let length = index + 1 < count ? size : last
            let number = UInt32(first + index)
            bytes += [0x43] + (0..<8).map { UInt8($0) }
            bytes += (0..<4).reversed().map { UInt8(truncatingIfNeeded: number >> UInt32(8 * $0)) }
            bytes += (0..<(length - 29)).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index) }
            bytes += [UInt8](repeating: 0, count: 16)
        }
        let plan = RunPlan(
            start: 0, packetSize: size, end: bytes.count, headerLength: 9, firstPacketNumber: UInt64(first),
            keyGeneration: 0)
        return (bytes, plan)
    }

    static func sealed(_ suite: CipherSuite, _ count: Int, last: Int = size) -> [UInt8] {
        var (bytes, plan) = run(count, last: last)
        var span = bytes.mutableSpan
        SealingKey(suite: suite, secret: PacketProtectionTests.secret(suite)).seal(&span, plan)
        return bytes
    }

    static func open(_ key: OpeningKey, _ bytes: inout [UInt8], _ opened: inout [OpenedPacket?]) {
        var span = bytes.mutableSpan
        key.open(&span, packetSize: size, headerLength: 9, largest: 4999, opened: &opened)
    }

    @Test(arguments: CipherSuite.allCases, [1, 2, 52, 64]) func aRunIsItsPackets(_ suite: CipherSuite, _ count: Int) {
        let (plain, plan) = Self.run(count, last: 40)
        #expect(plan.count == count)
        var single = plain
        let key = SealingKey(suite: suite, secret: PacketProtectionTests.secret(suite))
        for index in 0..<count {
            let start = index * Self.size
            var span = single.mutableSpan
            key.seal(
                &span,
                PacketPlan(
                    level: .application, start: start, packetNumberOffset: start + 9, packetNumberLength: 4,
                    end: min(plain.count, start + Self.size), packetNumber: UInt64(5000 + index)))
        }
        var whole = plain
        var span = whole.mutableSpan
        key.seal(&span, plan)
        #expect(whole == single && whole != plain)
        #expect(key.sealedCount == UInt64(2 * count))
    }

    /// More packets than one call takes, as the kernel coalesces up to 128.
    @Test(arguments: CipherSuite.allCases, [1, 64, 65, 128]) func allOfARunOpen(_ suite: CipherSuite, _ count: Int) {
        var bytes: [UInt8] = []
        for first in stride(from: 0, to: count, by: 64) {
            var (part, plan) = Self.run(min(64, count - first), first: 5000 + first)
            var span = part.mutableSpan
            SealingKey(suite: suite, secret: PacketProtectionTests.secret(suite)).seal(&span, plan)
            bytes += part
        }
        let key = OpeningKey(suite: suite, secret: PacketProtectionTests.secret(suite))
        var opened = [OpenedPacket?](repeating: nil, count: count)
        Self.open(key, &bytes, &opened)
        #expect(opened.map { $0?.packetNumber } == (0..<count).map { UInt64(5000 + $0) })
        #expect(
            opened.map { $0?.payload } == (0..<count).map { ($0 * Self.size + 13)..<($0 * Self.size + Self.size - 16) })
        #expect(key.failedCount == 0)
    }

    @Test func whatIsForgedStaysAsItWas() {
        var bytes = Self.sealed(.aes128GCM, 5)
        bytes[2 * Self.size + 50] ^= 1
        let before = bytes[(2 * Self.size)..<(3 * Self.size)]
        let key = OpeningKey(suite: .aes128GCM, secret: PacketProtectionTests.secret(.aes128GCM))
        var opened = [OpenedPacket?](repeating: nil, count: 5)
        Self.open(key, &bytes, &opened)
        #expect(opened.map { $0 != nil } == [true, true, false, true, true])
        #expect(bytes[(2 * Self.size)..<(3 * Self.size)] == before)
        // A second key is tried on that one alone.
        let clear = bytes
        bytes[2 * Self.size + 50] ^= 1
        let found = opened
        Self.open(key, &bytes, &opened)
        #expect(opened[2]?.packetNumber == 5002)
        for index in [0, 1, 3, 4] {
            let range = (index * Self.size)..<((index + 1) * Self.size)
            #expect(opened[index] == found[index] && bytes[range] == clear[range])
        }
    }

    @Test func shortRunsNeverTrap() {
        let key = OpeningKey(suite: .aes128GCM, secret: PacketProtectionTests.secret(.aes128GCM))
        for rest in 0..<40 {
            let sealed = Self.sealed(.aes128GCM, 2) + [UInt8](repeating: 0x43, count: rest)
            var bytes = sealed
            var opened = [OpenedPacket?](repeating: nil, count: rest > 0 ? 3 : 2)
            Self.open(key, &bytes, &opened)
            #expect(opened.prefix(2).allSatisfy { $0 != nil } && opened.dropFirst(2).allSatisfy { $0 == nil })
            #expect(bytes.suffix(rest) == sealed.suffix(rest))
            var tiny = [UInt8](repeating: 0x43, count: rest)
            var none: [OpenedPacket?] = [nil]
            Self.open(key, &tiny, &none)
            #expect(none == [nil])
        }
    }
}
