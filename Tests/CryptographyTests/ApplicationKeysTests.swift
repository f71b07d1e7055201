import QUIC
import Testing

@testable import Cryptography

/// Key updates between two ends that share secrets.
@Suite struct ApplicationKeysTests {
    struct Pair {
        var a: ApplicationKeys
        var b: ApplicationKeys
        var next: UInt64 = 0

        init(_ suite: CipherSuite) {
            let one = [UInt8](repeating: 1, count: suite.secretLength)
            let two = [UInt8](repeating: 2, count: suite.secretLength)
            a = ApplicationKeys(suite: suite, readSecret: one, writeSecret: two)
            b = ApplicationKeys(suite: suite, readSecret: two, writeSecret: one)
        }

        /// A packet from a to b, sealed with the key of `generation`.
        mutating func packet(_ generation: UInt64) -> [UInt8] {
            let number = next
            next += 1
            var bytes: [UInt8] = [0x43 | (generation & 1 == 1 ? 4 : 0)]
            bytes += (0..<4).reversed().map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
            bytes += [UInt8](repeating: 0xaa, count: 24 + 16)
            let plan = PacketPlan(
                level: .application, start: 0, packetNumberOffset: 1, packetNumberLength: 4, end: bytes.count,
                packetNumber: number, keyGeneration: generation)
            var span = bytes.mutableSpan
            a.seal(&span, [plan].span)
            return bytes
        }

        mutating func open(_ packet: [UInt8]) -> OpenedPacket? {
            var copy = packet
            var span = copy.mutableSpan
            return b.open(&span, start: 0, packetNumberOffset: 1, end: packet.count, largest: next)
        }
    }

    @Test(arguments: CipherSuite.allCases) func updatesRoundTrip(_ suite: CipherSuite) {
        var pair = Pair(suite)
        for generation in UInt64(0)..<5 {
            for _ in 0..<3 {
                let packet = pair.packet(generation)
                #expect(pair.open(packet)?.keyGeneration == generation)
            }
            #expect(pair.b.readGeneration == generation)
            #expect(pair.a.writeGeneration == generation)
            #expect(pair.a.sealedCount == 3)
        }
        #expect(pair.b.failedCount == 0)
    }

    @Test(arguments: CipherSuite.allCases) func reorderedAcrossAnUpdate(_ suite: CipherSuite) {
        var pair = Pair(suite)
        let early = (0..<3).map { _ in pair.packet(0) }
        let late = (0..<2).map { _ in pair.packet(1) }
        #expect(pair.open(early[0])?.keyGeneration == 0)
        #expect(pair.open(late[1])?.keyGeneration == 1)
        // Older than the update, and younger than it but not the first seen.
        #expect(pair.open(early[1])?.keyGeneration == 0)
        #expect(pair.open(late[0])?.keyGeneration == 1)
        #expect(pair.b.keepsPreviousReadKey)
        pair.b.dropPreviousReadKey()
        #expect(pair.open(early[2]) == nil)
        #expect(pair.b.failedCount == 1)
        #expect(pair.b.readGeneration == 1)
    }

    @Test func previousWriteKeyStaysForOnePlanBehind() {
        var pair = Pair(.aes128GCM)
        let first = pair.packet(1)
        let behind = pair.packet(0)
        #expect(pair.open(behind)?.keyGeneration == 0)
        #expect(pair.open(first)?.keyGeneration == 1)
        // From then on the old key must seal nothing younger, and the connection is told when it did
        // (RFC 9001 section 6.4).
        let regressed = pair.packet(0)
        #expect(pair.open(regressed)?.keyGeneration == 0)
        #expect(pair.b.readGeneration == 1)
        #expect(pair.b.failedCount == 0)
    }

    /// A peer may update twice before we send anything: then our own key makes two steps at once.
    @Test func writeKeyTakesSeveralSteps() {
        var stepwise = Pair(.aes128GCM)
        var direct = Pair(.aes128GCM)
        _ = stepwise.packet(1)
        _ = direct.packet(0)
        let expected = stepwise.packet(2)
        #expect(direct.packet(2) == expected)
        #expect(direct.a.writeGeneration == 2)
    }

    @Test func forgedPhaseBitDoesNotUpdate() {
        var pair = Pair(.aes128GCM)
        for bit in 0..<8 {
            var packet = pair.packet(0)
            packet[0] ^= 1 << UInt8(bit)
            let before = packet
            var span = packet.mutableSpan
            let opened = pair.b.open(&span, start: 0, packetNumberOffset: 1, end: span.count, largest: pair.next)
            #expect(opened == nil)
            #expect(packet == before)
        }
        #expect(pair.b.readGeneration == 0)
        #expect(pair.b.failedCount == 8)
    }

    @Test func failuresAreCountedAcrossKeys() {
        var pair = Pair(.aes128GCM)
        for generation in UInt64(0)..<4 {
            var forged = pair.packet(generation)
            forged[forged.count - 1] ^= 1
            #expect(pair.open(forged) == nil)
            let good = pair.packet(generation)
            #expect(pair.open(good) != nil)
        }
        #expect(pair.b.failedCount == 4)
    }
}
