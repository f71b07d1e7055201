import Testing
import Wire

@testable import AMT

/// What a relay keeps account of, and what it refuses.
@Suite struct RelayAccountTests {
    private let source = ip("10.2.2.1")
    private let gateway = address("192.0.2.1:1001")

    private func relay(_ change: (inout RelayConfiguration) -> Void = { _ in }) -> RelayBox {
        var configuration = RelayConfiguration()
        change(&configuration)
        return RelayBox(Relay(configuration: configuration, seed: SeededRandom(seed: 4), at: seconds(10)))
    }

    private func group(_ number: Int) -> IPAddress { ip("232.1.1.\(number)") }

    /// Packets of 100 octets, forwarded to whoever wants them.
    @discardableResult
    private func forward(_ box: RelayBox, _ packets: Int, to group: IPAddress, at time: Double = 20) -> Bool {
        var list: [Int] = []
        let match = box.relay.collectDestinations(source: source, group: group, into: &list)
        guard box.relay.admit(packets, packets * 100, of: match, at: seconds(time)) else { return false }
        for slot in list { _ = box.relay.spend(packets * 102, packets: packets, on: slot, at: seconds(time)) }
        return true
    }

    @Test func channelsAndTunnelsHaveTotals() throws {
        let box = relay()
        box.join(gateway, [GroupRecord(.isInclude, group(1), [source])])
        box.join(address("192.0.2.2:1002"), [GroupRecord(.isInclude, group(1), [source])])
        forward(box, 3, to: group(1))
        forward(box, 2, to: group(1))
        forward(box, 50, to: group(9))
        let account = try #require(box.relay.namedChannels.first)
        #expect(box.relay.namedChannels.count == 1)
        #expect(account.channel == Channel(source: source, group: group(1)) && account.tunnels == 2)
        var expected = ChannelCounters()
        (expected.packets, expected.octets, expected.copies, expected.joins) = (5, 500, 10, 2)
        #expect(account.counters == expected)
        let (accounts, next) = box.relay.endpointAccounts(from: 0, limit: 10)
        #expect(accounts.map(\.gateway) == [gateway, address("192.0.2.2:1002")] && next == nil)
        #expect(accounts.allSatisfy { $0.packets == 5 && $0.octets == 510 && $0.joins == 1 && $0.groups == 1 })
    }

    @Test func listingsGoOnWhereTheyEnded() {
        let box = relay()
        for number in 1...25 {
            box.join(address("192.0.2.\(number):1000"), [GroupRecord(.isInclude, group(1), [source])])
        }
        var all: [SocketAddress] = []
        var from: Int? = 0
        while let first = from {
            let (accounts, next) = box.relay.endpointAccounts(from: first, limit: 10)
            #expect(accounts.count <= 10)
            all += accounts.map(\.gateway)
            from = next
        }
        #expect(all == (1...25).map { address("192.0.2.\($0):1000") })
        #expect(box.relay.endpointAccounts(from: .max, limit: 10).accounts.isEmpty)
        #expect(box.relay.endpointAccounts(from: -5, limit: 10).accounts.count == 10)
    }

    /// Labels are bounded, and the totals of named and other channels together never go down.
    @Test func onlySomeChannelsHaveNames() {
        let box = relay { $0.namedChannelLimit = 3 }
        var total: UInt64 = 0
        var before: UInt64 = 0
        func sum() -> UInt64 {
            box.relay.namedChannels.reduce(box.relay.otherChannels.packets) { $0 + $1.counters.packets }
        }
        for number in 1...6 {
            box.join(gateway, [GroupRecord(.isInclude, group(number), [source])])
            forward(box, number, to: group(number))
            total += UInt64(number)
        }
        #expect(box.relay.namedChannels.map(\.channel.group) == [group(1), group(2), group(3)])
        #expect(box.relay.otherChannels.packets == 15 && sum() == total)
        // One with a name goes, and what comes next has it; one that had none gets none.
        before = box.relay.otherChannels.packets
        box.join(gateway, [GroupRecord(.toInclude, group(2), [])])
        #expect(box.relay.otherChannels.packets == before + 2 && sum() == total)
        box.join(gateway, [GroupRecord(.isInclude, group(7), [source])])
        forward(box, 7, to: group(7))
        forward(box, 1, to: group(5))
        #expect(Set(box.relay.namedChannels.map(\.channel.group)) == [group(1), group(3), group(7)])
        #expect(sum() == total + 8)
        // Back in another place: it is there once.
        for number in [1, 3] { box.join(gateway, [GroupRecord(.toInclude, group(number), [])]) }
        box.join(gateway, [GroupRecord(.isInclude, group(1), [source])])
        #expect(box.relay.namedChannels.count == 2 && sum() == total + 8)
    }

    /// A channel gets its rate over time, whatever comes, and others are not touched by that.
    @Test func channelsHaveARate() {
        let box = relay { $0.channelRate = 8_000_000 }
        box.join(gateway, [GroupRecord(.isInclude, group(1), [source]), GroupRecord(.isInclude, group(2), [source])])
        var admitted = 0
        for number in 0..<4000 where forward(box, 10, to: group(1), at: 20 + Double(number) / 2000) {
            admitted += 1000
        }
        // Two seconds at a million octets each, and the quarter of one that may go at once.
        #expect((2_200_000...2_260_000).contains(admitted))
        #expect(forward(box, 10, to: group(2), at: 22))
        let counters = box.relay.namedChannels.map(\.counters)
        #expect(counters[0].packets == 40_000 && counters[1].overRate == 0)
        #expect(counters[0].overRate == 40_000 - UInt64(admitted / 100) && counters[0].copies == UInt64(admitted / 100))
    }

    @Test func refusalsHaveReasons() {
        let box = relay {
            $0.endpointLimit = 3
            $0.endpointsPerAddressLimit = 2
            $0.groupsPerEndpointLimit = 2
            $0.sourcesPerGroupLimit = 2
            $0.upstreamLimit = 3
            $0.groups.denied = [AddressPrefix("232.9.0.0/16")!]
            $0.sources.denied = [AddressPrefix("10.66.0.0/16")!]
        }
        func join(_ gateway: String, _ record: GroupRecord) { box.join(address(gateway), [record]) }
        join("192.0.2.1:1", GroupRecord(.isInclude, ip("232.9.0.1"), [source]))
        join("192.0.2.1:1", GroupRecord(.isExclude, group(1)))
        join("192.0.2.1:1", GroupRecord(.isInclude, group(1), [source, ip("10.66.0.1")]))
        join("192.0.2.1:1", GroupRecord(.allow, group(1), [ip("10.2.2.2"), ip("10.2.2.3")]))
        join("192.0.2.1:1", GroupRecord(.isInclude, group(2), [source]))
        join("192.0.2.1:1", GroupRecord(.isInclude, group(3), [source]))
        join("192.0.2.1:2", GroupRecord(.isInclude, group(1), [source]))
        join("192.0.2.1:3", GroupRecord(.isInclude, group(1), [source]))
        join("192.0.2.2:1", GroupRecord(.isInclude, group(4), [source]))
        join("192.0.2.3:1", GroupRecord(.isInclude, group(1), [source]))
        let expected: [RefusalReason] = [
            .groupNotServed, .anySource, .sourceNotServed, .sourcesOfGroup, .groupsOfTunnel, .tunnelsOfAddress,
            .channels, .tunnels,
        ]
        var told: [Refusal] = []
        while let refusal = box.relay.nextRefusal() { told.append(refusal) }
        #expect(told.map(\.reason) == expected)
        for reason in expected { #expect(box.relay.refusals(reason) == 1, "\(reason)") }
        #expect(told.last == Refusal(gateway: address("192.0.2.3:1"), group: group(1), reason: .tunnels))
    }

    /// Limits that are changed hold for what comes then; tunnels that are there stay.
    @Test func limitsChangeWhileItServes() {
        let box = relay { $0.endpointsPerAddressLimit = 2 }
        func join(_ port: Int, _ to: IPAddress) {
            box.join(address("192.0.2.1:\(port)"), [GroupRecord(.isInclude, to, [source])])
        }
        for port in 1...3 { join(port, group(1)) }
        #expect(box.relay.refusals(.tunnelsOfAddress) == 1 && box.relay.endpointCount == 2)
        var other = RelayConfiguration()
        other.endpointsPerAddressLimit = 3
        other.groups.denied = [AddressPrefix("\(group(2))/32")].compactMap(\.self)
        box.relay.useLimits(of: other)
        join(3, group(1))
        join(4, group(1))
        join(1, group(2))
        #expect(box.relay.refusals(.tunnelsOfAddress) == 2 && box.relay.endpointCount == 3)
        #expect(box.relay.refusals(.groupNotServed) == 1)
        other.endpointsPerAddressLimit = 1
        box.relay.useLimits(of: other)
        #expect(box.relay.endpointCount == 3)
    }

    /// Who asks a thousand times for what is not served is counted, and takes no memory.
    @Test func refusalsAreBounded() {
        let box = relay { $0.groups.denied = [AddressPrefix("232.9.0.0/16")!] }
        let records = [GroupRecord](repeating: GroupRecord(.isInclude, ip("232.9.0.1"), [source]), count: 100)
        for _ in 0..<10 { box.join(gateway, records) }
        #expect(box.relay.refusals(.groupNotServed) == 1000)
        var told = 0
        while box.relay.nextRefusal() != nil { told += 1 }
        #expect(told == 16)
    }
}
