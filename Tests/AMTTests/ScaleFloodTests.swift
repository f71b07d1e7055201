import Testing
import Wire

@testable import AMT

/// Requests from everywhere: what strangers get together is bounded, and a gateway that has a tunnel does not notice.
@Suite struct ScaleFloodTests {
    @Test func strangersShareABucketThatGatewaysWithATunnelDoNotNeed() {
        let relay = RelayBox(Relay(seed: SeededRandom(seed: 6), at: seconds(10)))
        let gateway = address("198.51.100.9:4000")
        relay.join(gateway, [GroupRecord(.isInclude, ip("232.1.1.1"), [ip("192.0.2.1")])])
        let before = residentOctets()
        let request = hex("0300000000000009")
        var answers = 0
        // A second at 100 000 a second.
        for number: UInt32 in 0..<100_000 {
            let now = seconds(10 + Double(number) / 100_000)
            let stranger = SocketAddress(.v4(0x0b00_0000 + number &* 7919 % 0xff_ffff), port: 7)
            if relay.receive(request, from: stranger, at: now) != nil { answers += 1 }
            if number % 10_000 == 0 { #expect(relay.query(from: gateway, at: now) != nil) }
        }
        let configuration = RelayConfiguration()
        #expect(answers <= configuration.strangerRate + configuration.strangerBurst)
        #expect(answers >= configuration.strangerRate)
        #expect(relay.counters.rateLimited == UInt64(100_000 - answers))
        #expect(relay.endpointCount == 1)
        #expect(relay.destinations("192.0.2.1", "232.1.1.1") == [gateway])
        #expect(residentOctets() - before < 4 << 20)
    }
}
