import Testing
import Wire

@testable import QUIC

/// Path MTU discovery where it is used: a server with much to send, on paths that silently drop what is too large.
@Suite("Datagram sizes of a connection (RFC 8899)")
struct DatagramSizeTests {
    /// Sends `octets` on a stream of the server's and runs until all have arrived.
    private func transfer(_ octets: Int, over pair: inout ClearPair) throws {
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [UInt8](repeating: 7, count: octets), fin: true)
        pair.run(until: { $0.server.sendingStreamCount == 0 })
        #expect(pair.server.sendingStreamCount == 0, "all arrived")
    }

    @Test(
        "finds what the path carries, and takes no lost probe for congestion",
        arguments: [
            (1200, 1200...1200), (1400, 1384...1400), (1452, 1452...1452), (1500, 1472...1472), (8951, 1472...1472),
            (8960, 8952...8952), (65507, 8972...8972),
        ])
    func finds(limit: Int, found: ClosedRange<Int>) throws {
        var pair = ClearPair()
        pair.limit = limit
        pair.handshake()
        try transfer(3_000_000, over: &pair)
        #expect(found.contains(pair.server.datagramSize), "\(pair.server.datagramSize)")
        #expect(pair.server.recovery.congestion.congestionEvents == 0)
    }

    @Test("keeps to the configured size and to the peer's", arguments: [(1200, 65527), (1452, 65527), (8972, 2000)])
    func keepsToLimits(ours: Int, theirs: UInt64) throws {
        var server = ConnectionConfiguration()
        server.maxDatagramSize = ours
        var client = ConnectionConfiguration()
        client.parameters.maxUDPPayloadSize = theirs
        var pair = ClearPair(client: client, server: server)
        pair.handshake()
        try transfer(3_000_000, over: &pair)
        #expect(pair.largest == min(ours, Int(theirs)))
        #expect(pair.server.datagramSize == pair.largest)
    }

    @Test("who has little to send tries no more than 1452 octets") func littleToSend() throws {
        var pair = ClearPair()
        pair.handshake()
        for _ in 0..<50 {
            try transfer(2000, over: &pair)
            pair.now += .milliseconds(200)
        }
        #expect(pair.largest == 1452)
        #expect(pair.server.datagramSize == 1452)
    }

    /// Section 4.3: the path grows smaller under way, and says nothing.
    @Test("a path that shrinks is noticed", arguments: [1200, 1400, 1500]) func blackHole(limit: Int) throws {
        var pair = ClearPair()
        pair.handshake()
        try transfer(3_000_000, over: &pair)
        #expect(pair.server.datagramSize == 8972)
        pair.limit = limit
        try transfer(200_000, over: &pair)
        #expect(pair.server.datagramSize == 1200)
        // A minute later it is tried again.
        pair.limit = 9000
        for _ in 0..<3 {
            pair.now += .seconds(25)
            try transfer(1_000_000, over: &pair)
        }
        #expect(pair.server.datagramSize > 1200)
    }
}
