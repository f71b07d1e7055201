import Cryptography
import QUIC
import Testing
import Wire

/// A server's flight that is longer than three times the client's first datagram (RFC 9000 section 8.1): it goes on when the
/// client acknowledges what has come of it, by Handshake packets (RFC 9002 section 6.2.2.1).
@Suite struct LongChainTests {
    /// A client, and a server whose certificate has about so many octets.
    private static func contexts(octets: Int) throws -> (TLSContext, TLSContext) {
        let names =
            ["source.test"]
            + (0..<(octets / 60)).map { index in
                let text = "\(index)"
                return String(repeating: "n", count: 50 - text.count) + text + ".test"
            }
        let server = try TLSContext.server(selfSignedFor: names, alpn: ["test"])
        return (try TLSSessionTests.client(of: server, alpn: ["test"]), server)
    }

    /// The time from the client's first datagram until it was connected.
    private static func handshake(
        _ contexts: (TLSContext, TLSContext), seed: UInt64, loss: Double
    ) throws -> Duration {
        let world = try SecureWorld(seed: seed, client: contexts.0, server: contexts.1)
        world.network.delay = .milliseconds(25)
        world.network.loss = loss
        #expect(world.run { $0.client.isConnected })
        return .nanoseconds(world.now.nanoseconds - SecureWorld.start.nanoseconds)
    }

    @Test(arguments: [(1000, 1), (4400, 2), (11_700, 2), (24_000, 3)])
    func withoutLossARoundTripBuysTheRest(octets: Int, roundTrips: Int) throws {
        let time = try Self.handshake(Self.contexts(octets: octets), seed: 1, loss: 0)
        #expect(time >= .milliseconds(50 * roundTrips) && time < .milliseconds(50 * roundTrips + 10))
    }

    /// One handshake in ten loses its first datagram, which costs the client a probe timeout of a second. Whoever could not
    /// acknowledge Handshake packets would be at the handshake's timeout of ten seconds by then.
    @Test(arguments: [4400, 11_700]) func lossCostsAProbeAndNoMore(octets: Int) throws {
        let contexts = try Self.contexts(octets: octets)
        var times: [Duration] = []
        for seed in UInt64(1)...100 { times.append(try Self.handshake(contexts, seed: seed, loss: 0.1)) }
        times.sort()
        #expect(times[50] < .milliseconds(500) && times[90] < .seconds(2) && times[99] < .seconds(9))
    }
}
