import Testing
import Wire

@testable import AMT

/// What one gateway, one address and all together may ask for, and that room which came back is used.
@Suite struct RelayLimitTests {
    let start = seconds(10)
    let attacker = address("192.0.2.1:1001")
    let source = ip("10.0.0.1")

    func relayBox(_ change: (inout RelayConfiguration) -> Void = { _ in }) -> RelayBox {
        var configuration = RelayConfiguration()
        change(&configuration)
        return RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: start))
    }

    func group(_ number: UInt32) -> IPAddress { .v4(0xe801_0000 + number) }
    func gateway(_ number: UInt32) -> SocketAddress { SocketAddress(.v4(0xc612_0000 + number), port: 5) }

    func want(_ relay: RelayBox, _ gateway: SocketAddress, _ number: UInt32, at now: Instant) {
        relay.join(gateway, [GroupRecord(.isInclude, group(number), [source])], at: now)
    }

    /// The whole of what one UDP port can ask for: 64 groups of 64 sources.
    func exhaust(_ relay: RelayBox, from gateway: SocketAddress, _ offset: UInt32 = 0) {
        for number: UInt32 in 0..<64 {
            let sources = (1...64).map { IPAddress.v4(0x0a01_0000 + offset + 100 * number + $0) }
            relay.join(
                gateway, [GroupRecord(.isInclude, group(number), sources)], at: start + .milliseconds(Int(number) * 100)
            )
        }
    }

    @Test func oneTunnelDoesNotTakeEverything() {
        let relay = relayBox()
        exhaust(relay, from: attacker)
        #expect(relay.upstreamCount == 256 && relay.relay.refusals(.channelsOfTunnel) > 0)
        want(relay, gateway(1), 5000, at: start + .seconds(10))
        #expect(relay.destinations("10.0.0.1", "\(group(5000))") == [gateway(1)])
    }

    @Test func oneAddressDoesNotTakeEverything() {
        let relay = relayBox { $0.requestBurst = 100_000 }
        for port: UInt16 in 1...16 {
            exhaust(relay, from: SocketAddress(attacker.address, port: port), 10_000 * UInt32(port))
        }
        #expect(relay.upstreamCount == 1024 && relay.relay.refusals(.channelsOfAddress) > 0)
        // Others' channels are not counted for it: it may have what they have.
        want(relay, gateway(1), 5000, at: start + .seconds(10))
        let other = SocketAddress(attacker.address, port: 99)
        want(relay, other, 5000, at: start + .seconds(10))
        #expect(relay.destinations("10.0.0.1", "\(group(5000))") == [gateway(1), other].sorted { "\($0)" < "\($1)" })
    }

    /// Many addresses fill what may be filled; who has little still gets it.
    @Test func aShareIsKeptForThoseWithLittle() {
        let relay = relayBox { $0.upstreamLimit = 400 }
        for number: UInt32 in 1...3 { exhaust(relay, from: gateway(number), 10_000 * number) }
        #expect(relay.upstreamCount < 400 && relay.upstreamCount >= 300)
        #expect(relay.relay.refusals(.channels) > 0)
        for number: UInt32 in 0..<15 {
            want(relay, gateway(100), 6000 + number, at: start + .seconds(20 + Int(number)))
            #expect(relay.destinations("10.0.0.1", "\(group(6000 + number))") == [gateway(100)])
        }
    }

    /// Newcomers are told when channels run out, and so is a tunnel that was refused one; those that have theirs are not.
    @Test func gatewaysAreToldThatChannelsRunOut() throws {
        let relay = relayBox { $0.upstreamLimit = 10 }
        for number: UInt32 in 1...8 { want(relay, gateway(number), number, at: start) }
        #expect(relay.query(from: attacker, at: start)?.isLimited == false)
        for number: UInt32 in 9...11 { want(relay, gateway(number), number, at: start) }
        #expect(relay.query(from: attacker, at: start)?.isLimited == true)
        #expect(relay.query(from: gateway(1), at: start)?.isLimited == false)
        #expect(relay.query(from: gateway(11), at: start)?.isLimited == true)
    }

    /// What was refused for lack of room comes with the next report after there is some, of whatever kind the join is.
    @Test(arguments: [GroupRecord.Kind.isInclude, .allow, .toInclude, .isExclude, .toExclude])
    func refusedJoinsComeWithTheNextReport(kind: GroupRecord.Kind) {
        let relay = relayBox { $0.upstreamLimit = 2 }
        let any = ip("239.1.1.1")
        let isAny = kind == .isExclude || kind == .toExclude
        let late = gateway(9)
        let record = GroupRecord(kind, any, isAny ? [] : [source])
        for number: UInt32 in 1...2 { want(relay, gateway(number), number, at: start) }
        want(relay, late, 1, at: start)
        relay.join(late, [record], at: start)
        #expect(relay.relay.refusals(.channels) == 1 && relay.destinations("10.0.0.1", "239.1.1.1").isEmpty)
        relay.join(gateway(2), [GroupRecord(.toInclude, group(2))], at: start + .seconds(1))
        #expect(relay.upstreamCount == 1)
        relay.join(late, [record], at: start + .seconds(2))
        #expect(relay.destinations("10.0.0.1", "239.1.1.1") == [late] && relay.upstreamCount == 2)
        #expect(relay.query(from: late, at: start + .seconds(2))?.isLimited == false)
    }

    /// A channel is counted for an address that has it, whoever comes and goes, and for none when it is left.
    @Test(arguments: 1...4) func channelsAreCountedForWhoHasThem(seed: UInt64) {
        let relay = relayBox {
            $0.requestBurst = 1_000_000
            $0.strangerBurst = 1_000_000
            $0.upstreamLimit = 12
            $0.channelsPerAddressLimit = 5
            $0.channelsPerEndpointLimit = 4
        }
        var random = SeededRandom(seed: seed)
        var now = start
        for _ in 0..<3000 {
            now += .milliseconds(Int(random.next() % 2000))
            relay.timerFired(at: now)
            let gateway = SocketAddress(
                .v4(0xc612_0000 + UInt32(random.next() % 4)), port: UInt16(1 + random.next() % 3))
            let kind = GroupRecord.Kind.allCases[Int(random.next() % 6)]
            let sources = (0..<4).filter { _ in random.next() % 2 == 0 }.map { IPAddress.v4(0x0a00_0001 + $0) }
            relay.join(gateway, [GroupRecord(kind, .v4(0xef01_0101 + UInt32(random.next() % 4)), sources)], at: now)
            let counts = relay.channelsOfAddress
            #expect(counts.values.reduce(0, +) == relay.upstreamCount && counts.values.allSatisfy { $0 > 0 })
            for endpoint in relay.endpoints {
                let channels = endpoint.groups.reduce(0) { $0 + ($1.state.isExclude ? 1 : $1.state.requested.count) }
                #expect(channels == endpoint.channels && channels <= 4)
            }
            #expect(relay.upstreamCount <= 12)
        }
        now += .seconds(10_000)
        relay.timerFired(at: now)
        #expect(relay.channelsOfAddress.isEmpty && relay.upstreamCount == 0)
    }
}
