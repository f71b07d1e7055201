import Foundation
import Testing
import Wire

@testable import AMT

/// A relay with as many gateways as one process serves, and with more than it should.
@Suite(.serialized) struct RelayScaleTests {
    /// Octets of this process in memory.
    private var residentOctets: Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
    }

    private func generousRelay() -> RelayBox {
        var configuration = RelayConfiguration()
        configuration.upstreamLimit = 20_000
        configuration.requestRate = 100_000
        configuration.requestBurst = 100_000
        return RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 5), at: seconds(0)))
    }

    /// 10 000 gateways with one group each: under 1 KiB of memory for each, refresh included.
    @Test func tenThousandGateways() {
        let count: UInt32 = 10_000
        let relay = generousRelay()
        let before = residentOctets
        for number in 0..<count {
            let gateway = SocketAddress(.v4(0x0a00_0000 + number), port: 40_000)
            relay.join(
                gateway, [GroupRecord(.isInclude, .v4(0xe802_0000 + number), [ip("192.0.2.1")])],
                at: seconds(Double(number) / 1000))
        }
        #expect(relay.endpointCount == Int(count) && relay.upstreamCount == Int(count))
        #expect(relay.changes().count == Int(count))
        let perEndpoint = (residentOctets - before) / Int(count)
        print("memory per endpoint: \(perEndpoint) octets")
        #expect(perEndpoint < 1024)
        let gateway = SocketAddress(.v4(0x0a00_0000 + 77), port: 40_000)
        #expect(relay.destinations("192.0.2.1", "\(IPAddress.v4(0xe802_0000 + 77))") == [gateway])
        relay.timerFired(at: seconds(100_000))
        #expect(relay.endpointCount == 0 && relay.upstreamCount == 0 && relay.deadlines.count == 0)
    }

    /// Half a million Requests from as many forged addresses: nothing grows, and a tunnel that is there goes on.
    @Test func floodFromForgedAddresses() {
        let relay = RelayBox(Relay(seed: SeededRandom(seed: 6), at: seconds(0)))
        let gateway = address("198.51.100.9:4000")
        relay.join(gateway, [GroupRecord(.isInclude, ip("232.1.1.1"), [ip("192.0.2.1")])], at: seconds(10))
        let request = hex("0300000000000009")
        let before = residentOctets
        var octets = 0
        for number: UInt32 in 0..<500_000 {
            let now = seconds(10 + Double(number) / 100_000)
            let answer = relay.receive(request, from: SocketAddress(.v4(0x1000_0000 &+ number &* 7919), port: 7), at: now)
            octets += answer?.count ?? 0
        }
        #expect(residentOctets - before < 4 << 20)
        #expect(relay.endpointCount == 1)
        #expect(relay.query(from: gateway, at: seconds(15)) != nil)
        #expect(relay.destinations("192.0.2.1", "232.1.1.1") == [gateway])
        // What one victim can be sent in a second: a Query for each of so many Requests.
        #expect(octets > 0)
    }
}
