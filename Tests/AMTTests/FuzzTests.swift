import Foundation
import Testing
import Wire

@testable import AMT

/// Input that nobody should send: no trap, no answer to what is not asked rightly, nothing that grows.
///
/// `FLEXICAST_FUZZ_CASES=1000000` for the whole of it (or `FLEXICAST_REQUIRE_ALL=1`); by default what an unoptimized
/// build does in a few seconds.
@Suite(.serialized) struct FuzzTests {
    static let cases: Int = {
        let environment = ProcessInfo.processInfo.environment
        if let text = environment["FLEXICAST_FUZZ_CASES"], let count = Int(text) { return max(100, count) }
        return environment["FLEXICAST_REQUIRE_ALL"] == "1" ? 1_000_000 : 60_000
    }()
    /// Walks of a machine: each begins anew.
    static let walks: [UInt64] = Array(1...8)

    @Test func codecs() throws {
        let before = residentOctets()
        var fuzz = CodecFuzz(seed: 1)
        try fuzz.run(Self.cases / 2)
        #expect(residentOctets() - before < 32 << 20)
    }

    @Test(arguments: walks) func relay(seed: UInt64) throws {
        let before = residentOctets()
        var fuzz = RelayFuzz(seed: seed)
        try fuzz.run(Self.cases / 4 / Self.walks.count)
        #expect(residentOctets() - before < 32 << 20)
    }

    @Test(arguments: walks) func gateway(seed: UInt64) throws {
        let before = residentOctets()
        var fuzz = GatewayFuzz(seed: seed)
        try fuzz.run(Self.cases / 4 / Self.walks.count)
        #expect(residentOctets() - before < 32 << 20)
    }

    /// A last piece that ends before pieces which are there already: their octets add up all the same.
    @Test func reassemblyRefusesPiecesBehindTheLast() {
        var reassembly = Reassembly()
        func add(_ offset: Int, _ count: Int, hasMore: Bool) -> [UInt8]? {
            let packet = dataPacket(
                from: ip("192.0.2.1"), to: ip("232.1.1.1"), [UInt8](repeating: 7, count: count),
                fragment: (offset, hasMore), identification: 9)
            guard let header = try? IPHeader(packet.span) else { return nil }
            return reassembly.add(header, packet.span.extracting(header.payload), at: seconds(1))
        }
        #expect(add(16, 8, hasMore: true) == nil)
        #expect(add(8, 8, hasMore: false) == nil)
        #expect(reassembly.dropped == 1)
        #expect(add(0, 8, hasMore: true) == nil)
        #expect(add(8, 8, hasMore: false)?.count == 16)
    }

    /// A fragment that says it lies beyond the largest packet is not divided further.
    @Test func fragmentsBeyondTheLargestPacket() {
        let packet = dataPacket(
            from: ip("192.0.2.1"), to: ip("232.1.1.1"), [UInt8](repeating: 7, count: 400), fragment: (65_528, false))
        #expect(Int(packet[6] & 0x1f) << 8 | Int(packet[7]) == 8191)
        #expect(fragments(packet.span, limit: 100) == nil)
    }
}
