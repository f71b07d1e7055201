import Foundation
import Testing

/// Input that nobody should send: no trap, no answer to what is not asked rightly, nothing that grows.
///
/// `FLEXICAST_FUZZ_CASES=1000000` for the whole of it (or `FLEXICAST_REQUIRE_ALL=1`); the default is what an unoptimized
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
}
