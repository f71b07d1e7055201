import QUIC
import Testing
import Wire

@testable import Cryptography

/// Runs of packets against the same packets one by one.
@Suite struct SealedRunTests {
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

    /// The numbers of what opens of packets `first` and the 63 after it.
    static func open(
        _ key: OpeningKey, _ bytes: inout [UInt8], first: Int = 0, wanted: UInt64 = .max, largest: UInt64? = 4999
    ) -> [UInt64?] {
        var numbers = PacketNumbers(repeating: .max)
        let end = min(bytes.count, (first + 64) * size)
        var span = bytes.mutableSpan
        let opened = key.open(
            &span, from: first * size, to: end, packetSize: size, headerLength: 9, largest: largest, wanted: wanted,
            numbers: &numbers)
        return (0..<((end - first * size + size - 1) / size)).map { opened >> UInt64($0) & 1 == 1 ? numbers[$0] : nil }
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
        var plain: [UInt8] = []
        for first in stride(from: 0, to: count, by: 64) {
            var (part, plan) = Self.run(min(64, count - first), first: 5000 + first)
            plain += part
            var span = part.mutableSpan
            SealingKey(suite: suite, secret: PacketProtectionTests.secret(suite)).seal(&span, plan)
            bytes += part
        }
        let key = OpeningKey(suite: suite, secret: PacketProtectionTests.secret(suite))
        var numbers: [UInt64?] = []
        for first in stride(from: 0, to: count, by: 64) { numbers += Self.open(key, &bytes, first: first) }
        #expect(numbers == (0..<count).map { UInt64(5000 + $0) })
        for index in 0..<count {
            let text = (index * Self.size)..<((index + 1) * Self.size - 16)
            #expect(bytes[text] == plain[text])
        }
        #expect(key.failedCount == 0)
    }

    @Test func whatIsForgedStaysAsItWas() {
        var bytes = Self.sealed(.aes128GCM, 5)
        bytes[2 * Self.size + 50] ^= 1
        let before = bytes[(2 * Self.size)..<(3 * Self.size)]
        let key = OpeningKey(suite: .aes128GCM, secret: PacketProtectionTests.secret(.aes128GCM))
        let opened = Self.open(key, &bytes)
        #expect(opened == [5000, 5001, nil, 5003, 5004])
        #expect(bytes[(2 * Self.size)..<(3 * Self.size)] == before)
        #expect(key.failedCount == 1)
        // A second key is tried on that one alone.
        let clear = bytes
        bytes[2 * Self.size + 50] ^= 1
        #expect(Self.open(key, &bytes, wanted: 1 << 2) == [nil, nil, 5002, nil, nil])
        for index in [0, 1, 3, 4] {
            let range = (index * Self.size)..<((index + 1) * Self.size)
            #expect(bytes[range] == clear[range])
        }
    }

    /// A packet number of another length is left to the call for one packet.
    @Test func numbersOfARunHaveFourOctets() {
        let secret = PacketProtectionTests.secret(.aes128GCM)
        let (plain, _) = Self.run(1)
        for length in 1...4 {
            var bytes = plain
            bytes[0] = 0x40 | UInt8(length - 1)
            var span = bytes.mutableSpan
            SealingKey(suite: .aes128GCM, secret: secret).seal(
                &span,
                PacketPlan(
                    level: .application, start: 0, packetNumberOffset: 9, packetNumberLength: length, end: Self.size,
                    packetNumber: 5000))
            let sealed = bytes
            let opened = Self.open(OpeningKey(suite: .aes128GCM, secret: secret), &bytes)
            #expect(opened == [length == 4 ? 5000 : nil])
            if length < 4 { #expect(bytes == sealed) }
        }
    }

    /// The shim reckons numbers as RFC 9000 appendix A.3 does, or no nonce would be right.
    @Test func numbersAreReckonedAsForOnePacket() {
        let secret = PacketProtectionTests.secret(.aes128GCM)
        var random = SeededRandom(seed: 3)
        let half: UInt64 = 1 << 31
        let edges: [UInt64] = [0, 1, half - 1, half, half + 1, 2 * half - 1, 2 * half, 3 * half, 1 << 40, Varint.max]
        for largest in [nil] + (edges + (0..<50).map { _ in random.next() & Varint.max }).map(Optional.some) {
            let expected = largest.map { $0 + 1 } ?? 0
            for step in [0, 1, half - 1, half, half + 1, 2 * half - 1, random.next() % (2 * half)] {
                let truncated = (expected &+ step) % (2 * half)
                let number = PacketNumber.decode(truncated: truncated, length: 4, largest: largest)
                var (bytes, plan) = Self.run(1, first: Int(truncated))
                plan.firstPacketNumber = number
                var span = bytes.mutableSpan
                SealingKey(suite: .aes128GCM, secret: secret).seal(&span, plan)
                let key = OpeningKey(suite: .aes128GCM, secret: secret)
                #expect(
                    Self.open(key, &bytes, largest: largest) == [number], "\(String(describing: largest)) + \(step)")
            }
        }
    }

    @Test func shortRunsNeverTrap() {
        let key = OpeningKey(suite: .aes128GCM, secret: PacketProtectionTests.secret(.aes128GCM))
        for rest in 0..<40 {
            let sealed = Self.sealed(.aes128GCM, 2) + [UInt8](repeating: 0x43, count: rest)
            var bytes = sealed
            let opened = Self.open(key, &bytes)
            #expect(opened == [5000, 5001] + (rest > 0 ? [nil] : []))
            #expect(bytes.suffix(rest) == sealed.suffix(rest))
            var tiny = [UInt8](repeating: 0x43, count: rest)
            #expect(Self.open(key, &tiny).allSatisfy { $0 == nil })
        }
    }
}
