import Testing
import Wire

@testable import AMT

/// A search with name servers and relays around it that do as a test says.
struct SearchWorld {
    var search: RelaySearch
    var now = seconds(1000)
    /// What name servers know.
    var zone: [DNSQuestion: [DNSData]] = [:]
    /// Which addresses answer a Relay Discovery, with which relay, and how late.
    var relays: [SocketAddress: (relay: IPAddress, after: Duration)] = [:]
    /// Addresses of which the network says at once that nobody is there.
    var isGone: Set<SocketAddress> = []
    /// How late answers to questions come.
    var nameDelay = Duration.milliseconds(10)
    var probed: [(at: Instant, to: SocketAddress)] = []
    var asked: [(at: Instant, question: DNSQuestion)] = []
    var events: [RelaySearchEvent] = []
    private var answers: [(at: Instant, number: Int, outcome: LookupOutcome)] = []
    private var replies: [(at: Instant, bytes: [UInt8], from: SocketAddress)] = []

    init(
        source: String? = "192.0.2.5", seed: UInt64 = 1, ways: [RelayWay] = [.sourceRecords],
        _ change: (inout RelaySearchConfiguration) -> Void = { _ in }
    ) {
        var configuration = RelaySearchConfiguration()
        configuration.ways = ways
        change(&configuration)
        search = RelaySearch(
            source: source.map { ip($0) }, configuration: configuration, seed: SeededRandom(seed: seed))
    }

    mutating func publish(_ records: [AMTRelayRecord]) {
        zone[DNSQuestion(name("5.2.0.192.in-addr.arpa"), .amtRelay)] = records.map(DNSData.amtRelay)
    }

    mutating func publish(_ records: [(UInt8, String)]) {
        publish(records.map { AMTRelayRecord(precedence: $0.0, relay: .address(ip($0.1))) })
    }

    mutating func answer(_ addresses: String..., after: Duration = .milliseconds(5)) {
        for text in addresses { relays[SocketAddress(ip(text), port: 2268)] = (ip(text), after) }
    }

    mutating func start() {
        search.start(at: now)
        settle()
    }

    private mutating func settle() {
        while let (number, question) = search.nextQuestion() {
            asked.append((now, question))
            answers.append((now + nameDelay, number, .records(zone[question] ?? [])))
        }
        while let (bytes, to) = search.nextProbe() {
            probed.append((now, to))
            if isGone.contains(to) {
                search.noticeReceived(GatewayNotice(.unreachable, destination: to, quoted: bytes), at: now)
            }
            guard case .discovery(let nonce) = Message(bytes), let (relay, after) = relays[to] else { continue }
            replies.append((now + after, Message.advertisement(nonce: nonce, relay: relay).bytes, to))
        }
        while let event = search.nextEvent() { events.append(event) }
    }

    mutating func run(_ duration: Duration) {
        let end = now + duration
        settle()
        while true {
            let next = ([search.nextDeadline] + answers.map(\.at) + replies.map(\.at)).min() ?? .distantFuture
            guard next <= end else { break }
            now = max(now, next)
            let ready = answers.filter { $0.at <= now }
            answers.removeAll { $0.at <= now }
            for each in ready { search.answered(each.number, each.outcome, at: now) }
            let arrived = replies.filter { $0.at <= now }
            replies.removeAll { $0.at <= now }
            for each in arrived { search.datagramReceived(each.bytes.span, from: each.from, at: now) }
            if search.nextDeadline <= now { search.timerFired(at: now) }
            settle()
        }
        now = end
    }

    var found: [SocketAddress] { events.compactMap { if case .found(let relay) = $0 { relay } else { nil } } }
}

func relay(_ text: String) -> SocketAddress { SocketAddress(ip(text), port: 2268) }

@Suite("The search for a relay")
struct DiscoverySearchTests {
    @Test("Lower precedences are tried first, equals by lot")
    func precedence() {
        var leaders: Set<SocketAddress> = []
        for seed in 1...40 as ClosedRange<UInt64> {
            var world = SearchWorld(seed: seed)
            world.publish([(20, "198.51.100.3"), (10, "198.51.100.1"), (10, "198.51.100.2"), (30, "198.51.100.4")])
            world.start()
            world.run(.seconds(1))
            let order = world.search.order.map(\.address)
            #expect(Set(order.prefix(2)) == [relay("198.51.100.1"), relay("198.51.100.2")])
            #expect(order.suffix(2) == [relay("198.51.100.3"), relay("198.51.100.4")])
            #expect(order == world.probed.prefix(4).map(\.to))
            leaders.insert(order[0])
        }
        #expect(leaders.count == 2)
    }

    @Test("Candidates are tried a moment apart, and the first that answers wins")
    func happyEyeballs() {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2"), (3, "198.51.100.3"), (4, "198.51.100.4")])
        world.answer("198.51.100.3", "198.51.100.4")
        world.start()
        world.run(.seconds(20))
        #expect(world.found == [relay("198.51.100.3")])
        let times = world.probed.map { ($0.at - world.probed[0].at) }
        #expect(world.probed.map(\.to) == [relay("198.51.100.1"), relay("198.51.100.2"), relay("198.51.100.3")])
        #expect(times == [.zero, .milliseconds(250), .milliseconds(500)])
    }

    @Test("A preferred relay that answers late still wins over nobody, and an early one is enough")
    func preferredAnswers() {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2")])
        world.answer("198.51.100.1", after: .milliseconds(240))
        world.answer("198.51.100.2")
        world.start()
        world.run(.seconds(5))
        #expect(world.found == [relay("198.51.100.1")])
        #expect(world.probed.count == 1)
    }

    @Test("The ways are taken in the order of RFC 8777: the network's own, anycast, the source's")
    func ways() {
        var world = SearchWorld(ways: RelayWay.standardOrder) { $0.domains = [name("example.net")] }
        world.publish([(0, "198.51.100.1")])
        world.zone[DNSQuestion(name("_amt._udp.example.net"), .ptr)] = [.pointer(name("lab._amt._udp.example.net"))]
        world.zone[DNSQuestion(name("lab._amt._udp.example.net"), .srv)] = [
            .service(ServiceRecord(priority: 0, weight: 0, port: 2269, target: name("amt.example.net")))
        ]
        world.zone[DNSQuestion(name("amt.example.net"), .a)] = [.address(ip("10.1.1.1"))]
        world.zone[DNSQuestion(name("amt.example.net"), .aaaa)] = [.address(ip("2001:db8::2268"))]
        world.start()
        world.run(.seconds(2))
        let order = world.search.order.map(\.address)
        #expect(Set(order[0..<2]) == [address("10.1.1.1:2269"), address("[2001:db8::2268]:2269")])
        #expect(Set(order[2..<4]) == [relay("192.52.193.1"), relay("2001:3::1")])
        #expect(order[4...] == [relay("198.51.100.1")])
    }

    @Test("A relay's name is looked up for both IP versions")
    func namedRelay() {
        var world = SearchWorld()
        world.publish([AMTRelayRecord(precedence: 7, relay: .name(name("relay.example")))])
        world.zone[DNSQuestion(name("relay.example"), .a)] = [.address(ip("198.51.100.1"))]
        world.zone[DNSQuestion(name("relay.example"), .aaaa)] = [.address(ip("2001:db8::1"))]
        world.answer("2001:db8::1")
        world.start()
        world.run(.seconds(5))
        #expect(world.found == [relay("2001:db8::1")])
    }

    @Test("Nobody is tried while better names may come, but not forever")
    func patience() throws {
        var world = SearchWorld(ways: [.sourceRecords, .anycast])
        world.publish([(0, "198.51.100.1")])
        world.nameDelay = .milliseconds(100)
        world.start()
        world.run(.seconds(1))
        #expect(world.probed.first?.to == relay("198.51.100.1"))

        world = SearchWorld(ways: [.sourceRecords, .anycast])
        world.nameDelay = .seconds(30)
        world.start()
        world.run(.seconds(1))
        let first = try #require(world.probed.first)
        #expect(first.at - seconds(1000) == .milliseconds(500))
        #expect(RelayWay.anycastAddresses.contains(first.to.address))
    }

    @Test("A relay whose record allows it is used without discovery when it does not answer one")
    func discoveryOptional() {
        var world = SearchWorld()
        world.publish([
            AMTRelayRecord(precedence: 1, isDiscoveryOptional: true, relay: .address(ip("198.51.100.1")))
        ])
        world.start()
        world.run(.milliseconds(900))
        #expect(world.found.isEmpty)
        world.run(.milliseconds(200))
        #expect(world.found == [relay("198.51.100.1")])
    }

    @Test("Advertisements of others, with another nonce, or unasked count for nothing")
    func forged() {
        var world = SearchWorld(ways: [.given(relay("198.51.100.1"))])
        world.search.start(at: world.now)
        let probe = world.search.nextProbe()
        guard let probe, case .discovery(let nonce) = Message(probe.bytes) else {
            Issue.record("no discovery was sent")
            return
        }
        let good = Message.advertisement(nonce: nonce, relay: ip("198.51.100.7")).bytes
        for (bytes, from) in [
            (good, relay("198.51.100.2")), (good, address("198.51.100.1:2269")),
            (Message.advertisement(nonce: nonce &+ 1, relay: ip("198.51.100.7")).bytes, relay("198.51.100.1")),
            (Message.advertisement(nonce: nonce, relay: ip("232.1.1.1")).bytes, relay("198.51.100.1")),
            (Message.advertisement(nonce: nonce, relay: ip("2001:db8::7")).bytes, relay("198.51.100.1")),
        ] {
            world.search.datagramReceived(bytes.span, from: from, at: world.now)
            let event = world.search.nextEvent()
            #expect(event == nil)
        }
        world.search.datagramReceived(good.span, from: relay("198.51.100.1"), at: world.now)
        let event = world.search.nextEvent()
        #expect(event == .found(relay("198.51.100.7")))
    }

    @Test("A relay that fails is held down: the others come first until the time is over")
    func holdDown() {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2")])
        world.answer("198.51.100.1", "198.51.100.2")
        world.start()
        world.run(.seconds(1))
        world.search.relayJoined(at: world.now)
        world.search.noAnswer(attempt: 1, at: world.now)
        world.run(.seconds(1))
        #expect(world.found == [relay("198.51.100.1")])
        world.search.noAnswer(attempt: 2, at: world.now)
        world.run(.seconds(1))
        #expect(world.found == [relay("198.51.100.1"), relay("198.51.100.2")])
        #expect(world.events.contains(.failing(relay("198.51.100.1"), .noAnswer)))

        // The other fails too: the first is better than none.
        world.relays[relay("198.51.100.2")] = nil
        world.search.relayFailed(.limited, at: world.now)
        world.run(.seconds(5))
        #expect(world.found.last == relay("198.51.100.1"))

        // Ten minutes and an hour later all is forgotten.
        world.answer("198.51.100.2")
        world.search.delivered(1, at: world.now)
        world.now = world.now + .seconds(601)
        world.search.relayFailed(.limited, at: world.now)
        world.run(.seconds(1))
        #expect(world.found.last == relay("198.51.100.2"))
    }

    @Test("Hold-downs last three to ten minutes")
    func holdDownTime() {
        for seed in 1...30 as ClosedRange<UInt64> {
            var world = SearchWorld(seed: seed)
            world.publish([(1, "198.51.100.1"), (2, "198.51.100.2")])
            world.answer("198.51.100.1", "198.51.100.2")
            world.start()
            world.run(.seconds(1))
            world.search.relayFailed(.noAnswer, at: world.now)
            world.run(.seconds(1))
            let failedAt = world.now
            world.search.delivered(0, at: failedAt + .seconds(175))
            #expect(world.search.order.first?.address == relay("198.51.100.2"))
            world.search.delivered(0, at: failedAt + .seconds(601))
            #expect(world.search.order.first?.address == relay("198.51.100.1"))
        }
    }

    @Test("No traffic after a join: another relay after 4 to 120 seconds, ever later while none comes")
    func noTraffic() throws {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1"), (2, "198.51.100.2")])
        world.answer("198.51.100.1", "198.51.100.2")
        world.start()
        world.run(.seconds(1))
        world.search.relayJoined(at: world.now)
        world.run(.milliseconds(3900))
        #expect(world.found == [relay("198.51.100.1")])
        world.run(.milliseconds(4300))
        #expect(world.found == [relay("198.51.100.1"), relay("198.51.100.2")])
        #expect(world.events.contains(.failing(relay("198.51.100.1"), .noTraffic)))

        // Many in vain: they come further and further apart, but never by more than two minutes.
        var times: [Instant] = []
        for _ in 0..<12 {
            world.search.relayJoined(at: world.now)
            let before = world.events.count
            while world.events.count == before { world.run(.seconds(1)) }
            times.append(world.now)
            world.run(.seconds(1))
        }
        let gaps = zip(times.dropFirst(), times).map { $0 - $1 }
        #expect(gaps.allSatisfy { $0 >= .seconds(4) && $0 <= .seconds(123) }, "\(gaps)")
        #expect((gaps.max() ?? .zero) > .seconds(30))

        // Traffic that comes keeps the relay.
        world.search.relayJoined(at: world.now)
        world.events = []
        for packet in 1...100 as ClosedRange<UInt64> {
            world.search.delivered(packet, at: world.now)
            world.run(.seconds(3))
        }
        #expect(world.events.isEmpty)
        world.run(.seconds(10))
        #expect(world.events.contains { if case .failing(_, .noTraffic) = $0 { true } else { false } })
    }

    @Test("When nobody answers the search begins anew, ever later")
    func restart() {
        var world = SearchWorld()
        world.publish([(1, "198.51.100.1")])
        world.start()
        world.run(.seconds(600))
        let waits = world.events.compactMap { if case .nothing(let wait) = $0 { wait } else { nil } }
        #expect(waits.count > 5 && waits.allSatisfy { $0 >= .seconds(1) && $0 <= .seconds(120) })
        #expect(waits.first == .seconds(1) && (waits.max() ?? .zero) > .seconds(8))
        world.answer("198.51.100.1")
        world.run(.seconds(130))
        #expect(world.found == [relay("198.51.100.1")])
    }

    @Test("A source that wants no relay, and a channel without a source, find none")
    func nothing() {
        var world = SearchWorld()
        world.publish([
            AMTRelayRecord(precedence: 0, relay: .none),
            AMTRelayRecord(precedence: 9, relay: .address(ip("198.51.100.1"))),
        ])
        world.answer("198.51.100.1")
        world.start()
        world.run(.seconds(60))
        #expect(world.probed.isEmpty && world.found.isEmpty && !world.events.isEmpty)

        world = SearchWorld(source: nil)
        world.start()
        world.run(.seconds(60))
        #expect(world.asked.isEmpty && world.probed.isEmpty && !world.events.isEmpty)
    }

    @Test("A thousand records are neither all tried nor all asked for, and questions go out ten at a time")
    func bounds() {
        var world = SearchWorld()
        let named = (0..<500).map { AMTRelayRecord(precedence: 1, relay: .name(name("relay\($0).example"))) }
        let listed = (0..<500).map { AMTRelayRecord(precedence: 2, relay: .address(.v4(0xc633_6400 + UInt32($0)))) }
        world.publish(named + listed)
        world.start()
        world.run(.seconds(3))
        #expect(world.asked.count == RelaySearch.questionLimit)
        #expect(world.search.order.count == RelaySearch.candidateLimit)
        for (at, _) in world.asked {
            #expect(world.asked.count { $0.at >= at && $0.at - at < .milliseconds(100) } <= 10)
        }
    }
}

@Suite struct DiscoveryHoldTests {
    /// A relay that takes no new gateways stays behind the others for longer than one that failed (RFC 8777 section 3.3.5).
    @Test func fullRelaysAreHeldDownForLonger() {
        for (failure, isLast) in [(RelayFailure.noTraffic, false), (.limited, true)] {
            var world = SearchWorld(
                ways: [.given(relay("203.0.113.1")), .given(relay("203.0.113.2"))]
            ) {
                $0.holdDown = .seconds(10) ... .seconds(10)
                $0.limitedHoldDown = .seconds(100)
            }
            world.answer("203.0.113.1", "203.0.113.2")
            world.start()
            world.run(.seconds(1))
            #expect(world.found == [relay("203.0.113.1")])
            world.search.relayFailed(failure, at: world.now)
            world.run(.seconds(50))
            #expect(world.found.last == relay("203.0.113.2"))
            world.search.delivered(1, at: world.now)
            #expect(world.search.order.last?.address == relay(isLast ? "203.0.113.1" : "203.0.113.2"))
        }
    }
}
