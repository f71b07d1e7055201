import Testing
import Wire

@testable import Relaying

@Suite struct SequenceWatchTests {
    private func packet(_ number: Int, sender: UInt8 = 1) -> [UInt8] {
        [0x80, 33, UInt8(number >> 8 & 255), UInt8(number & 255), 0, 0, 0, 0, 0, 0, 0, sender, 9, 9]
    }

    private func watch(_ packets: [[UInt8]]) -> (lost: Int, reordered: Int)? {
        var watch = SequenceWatch()
        for packet in packets { watch.take(packet.span) }
        return watch.result
    }

    @Test func lossAndOrder() throws {
        let whole = try #require(watch((65_530..<65_560).map { packet($0) }))
        #expect(whole == (0, 0))
        let gaps = try #require(watch((1..<50).filter { $0 % 10 != 0 }.map { packet($0) }))
        #expect(gaps == (4, 0))
        let swapped = try #require(watch([1, 2, 4, 3, 5, 7, 6].map { packet($0) }))
        #expect(swapped == (0, 2))
    }

    @Test func otherPayloads() {
        #expect(watch((0..<100).map { [UInt8($0), 1, 2, 3] }) == nil)
        // Short headers of QUIC begin with bits 01, and what is random has no long-lived senders.
        var random = SeededRandom(seed: 1)
        #expect(watch((0..<200).map { _ in random.octets(40) }) == nil)
    }
}
