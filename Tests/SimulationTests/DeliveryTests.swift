import Flexicast
import QUIC
import Simulation
import Testing
import Wire

/// Real connections, a real flow, a simulated network: every item reaches every receiver once and whole.
@Suite struct DeliveryTests {
    static func item(_ number: Int, _ size: Int) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ number &* 7) }
    }

    /// Every receiver has every item.
    static func isComplete(_ simulation: Simulation, from first: StreamID = StreamID(0)) -> Bool {
        let count = simulation.published.count { $0.stream >= first }
        return simulation.receivers.allSatisfy { $0.items.count >= count || $0.closed != nil }
    }

    @Test func aQuietNetworkCarriesEverythingOnTheFlow() {
        let simulation = Simulation(seed: 1)
        for _ in 0..<4 { simulation.addReceiver() }
        simulation.run(for: .seconds(1))
        #expect(simulation.source.flow.memberCount == 4)
        for number in 0..<100 {
            simulation.publish(Self.item(number, number * 40))
            simulation.run(for: .milliseconds(10))
        }
        #expect(simulation.run { Self.isComplete(simulation) })
        for receiver in simulation.receivers {
            #expect(simulation.faults(of: receiver) == [])
            #expect(receiver.octetsFromUnicast == 0)
            #expect(receiver.fallBacks.isEmpty)
        }
        #expect(simulation.run(limit: .seconds(5)) { simulation.source.flow.octetsHeld == 0 })
    }

    @Test func theSameSeedIsTheSameRun() {
        func run() -> FlowStatistics {
            let simulation = Simulation(seed: 42)
            for _ in 0..<3 {
                simulation.addReceiver(
                    links: ReceiverLinks(flow: Link(jitter: .milliseconds(3), loss: 0.1)))
            }
            simulation.run(for: .seconds(1))
            for number in 0..<30 {
                simulation.publish(Self.item(number, 3000))
                simulation.run(for: .milliseconds(15))
            }
            simulation.run(for: .seconds(2))
            return simulation.source.flow.statistics
        }
        let first = run()
        #expect(first.lossReports > 0)
        #expect(run() == first)
    }

    @Test func lossReorderingAndDuplicationOnEveryLinkHurtNobody() {
        let simulation = Simulation(seed: 3)
        let bad = Link(delay: .milliseconds(15), jitter: .milliseconds(4), loss: 0.03, duplication: 0.02)
        for _ in 0..<4 { simulation.addReceiver(links: ReceiverLinks(toSource: bad, fromSource: bad, flow: bad)) }
        simulation.addReceiver(links: ReceiverLinks(toSource: bad, fromSource: bad), usesFlow: false)
        #expect(
            simulation.run(limit: .seconds(10)) {
                simulation.receivers.allSatisfy { $0.connection.isHandshakeConfirmed }
            })
        simulation.run(for: .seconds(1))
        for number in 0..<150 {
            simulation.publish(Self.item(number, 200 + number * 37))
            simulation.run(for: .milliseconds(20))
        }
        #expect(simulation.run { Self.isComplete(simulation) })
        for receiver in simulation.receivers.dropLast() { #expect(simulation.faults(of: receiver) == []) }
        // The plain client has its own stream numbers, and every item in order of publication.
        let plain = simulation.receivers.last!
        #expect(plain.items.map(\.bytes.count).sorted() == simulation.published.map(\.bytes.count).sorted())
        let statistics = simulation.source.flow.statistics
        #expect(statistics.lossReports > 0)
        #expect(statistics.octetsRepairedOnFlow + statistics.octetsRepairedOnUnicast < statistics.newOctets * 35 / 100)
    }

    @Test func aCutBranchFallsBackAndReturns() {
        let simulation = Simulation(seed: 4)
        for _ in 0..<3 { simulation.addReceiver(links: ReceiverLinks(flow: Link(loss: 0.02))) }
        simulation.run(for: .seconds(1))
        let victim = simulation.receivers[0]
        for number in 0..<400 {
            if number == 80 { victim.links.flow.isCut = true }
            if number == 180 { victim.links.flow.isCut = false }
            simulation.publish(Self.item(number, 2500))
            simulation.run(for: .milliseconds(30))
        }
        #expect(simulation.run { Self.isComplete(simulation) })
        for receiver in simulation.receivers { #expect(simulation.faults(of: receiver) == []) }
        #expect(victim.fallBacks == [.silence])
        #expect(victim.returns == 1)
        #expect(victim.octetsFromUnicast > 0)
        #expect(victim.octetsFromFlow > victim.octetsFromUnicast)
        for receiver in simulation.receivers.dropFirst() { #expect(receiver.fallBacks.isEmpty) }
        #expect(simulation.source.flow.memberCount == 3)
    }

    @Test func aReceiverThatJoinsAfter100000StreamsIsServedLikeTheOthers() {
        let simulation = Simulation(seed: 5, history: 10)
        for number in 0..<100_000 { simulation.publish([UInt8(truncatingIfNeeded: number)]) }
        let first = simulation.published[100_000 - 10].stream
        #expect(first.index == 99_990)
        // Windows far below what 100 000 streams would have used.
        let late = simulation.addReceiver { $0.parameters.initialMaxStreamsUni = 20 }
        simulation.run(for: .seconds(1))
        #expect(late.items.count == 10)
        #expect(simulation.source.flow.memberCount == 1)
        for number in 0..<300 {
            simulation.publish(Self.item(number, 700))
            simulation.run(for: .milliseconds(5))
        }
        #expect(simulation.run { late.items.count >= 310 })
        #expect(simulation.faults(of: late, from: first) == [])
        #expect(late.fallBacks.isEmpty)
        #expect(late.octetsFromFlow == 300 * 700)
    }

    /// Parts of items that began before a receiver came must not leave it waiting for the rest.
    @Test func aReceiverThatJoinsInTheMiddleOfAnItemGetsAllOfIt() {
        var configuration = FlowConfiguration()
        configuration.rateCeiling = 4_000_000
        let simulation = Simulation(seed: 12, configuration: configuration)
        simulation.addReceiver()
        simulation.run(for: .seconds(1))
        // Two seconds' worth, sent while the second receiver connects and joins.
        for number in 0..<4 { simulation.publish(Self.item(number, 250_000)) }
        simulation.run(for: .milliseconds(150))
        let late = simulation.addReceiver(links: ReceiverLinks(flow: Link(loss: 0.02)))
        simulation.run(for: .seconds(1))
        for number in 4..<40 {
            simulation.publish(Self.item(number, 3000))
            simulation.run(for: .milliseconds(20))
        }
        simulation.run(for: .seconds(5))
        #expect(late.unfinishedStreams == 0)
        // It asked for no history: of the first four it was given what it heard pieces of, and has handed out none.
        #expect(late.items.count == 36)
        #expect(simulation.faults(of: late, from: simulation.published[4].stream) == [])
        #expect(simulation.faults(of: simulation.receivers[0]) == [])
    }

    @Test func moreStreamsAndOctetsThanTheFirstWindowsAllow() {
        let simulation = Simulation(seed: 6)
        for _ in 0..<2 {
            simulation.addReceiver(links: ReceiverLinks(flow: Link(loss: 0.01))) {
                $0.parameters.initialMaxStreamsUni = 50
                $0.parameters.initialMaxData = 100_000
            }
        }
        simulation.run(for: .seconds(1))
        for number in 0..<600 {
            simulation.publish(Self.item(number, 1000))
            simulation.run(for: .milliseconds(4))
        }
        #expect(simulation.run { Self.isComplete(simulation) })
        for receiver in simulation.receivers {
            #expect(simulation.faults(of: receiver) == [])
            #expect(receiver.octetsFromFlow > receiver.octetsFromUnicast)
        }
        #expect(simulation.source.flow.statistics.evictions == 0)
    }

    @Test func aReceiverThatCannotAnswerIsEvictedAndTheOthersGoOn() {
        var configuration = FlowConfiguration()
        configuration.maximumUnsettledOctets = 1 << 20
        let simulation = Simulation(seed: 7, configuration: configuration)
        for _ in 0..<3 { simulation.addReceiver() }
        simulation.run(for: .seconds(1))
        simulation.receivers[0].links.toSource.isCut = true
        var worst: UInt64 = 0
        for number in 0..<400 {
            simulation.publish(Self.item(number, 2000))
            simulation.run(for: .milliseconds(10))
            worst = max(worst, simulation.source.flow.unsettledOctets)
        }
        #expect(worst < 1 << 20)
        #expect(simulation.source.flow.memberCount == 2)
        #expect(simulation.source.flow.statistics.evictions == 1)
        // All but what is on its way.
        #expect(simulation.receivers[1].items.count >= 398)
        simulation.receivers[0].links.toSource.isCut = false
        #expect(simulation.run { Self.isComplete(simulation) })
        for receiver in simulation.receivers { #expect(simulation.faults(of: receiver) == []) }
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func randomWalk(seed: UInt64) {
        var configuration = FlowConfiguration()
        configuration.rotatesKeyAfterLeave = true
        configuration.keyRotationInterval = .seconds(1)
        configuration.skipInterval = 40
        let simulation = Simulation(seed: seed &* 1009, configuration: configuration)
        var dice = SeededRandom(seed: seed)
        for _ in 0..<Int.random(in: 2...4, using: &dice) { simulation.addReceiver() }
        simulation.run(for: .milliseconds(Int64.random(in: 100...1500, using: &dice)))
        for number in 0..<120 {
            let receiver = simulation.receivers.randomElement(using: &dice)!
            switch Int.random(in: 0..<10, using: &dice) {
            case 0: receiver.links.flow.loss = Double.random(in: 0...0.25, using: &dice)
            case 1: receiver.links.flow.isCut.toggle()
            case 2: receiver.links.toSource.loss = Double.random(in: 0...0.1, using: &dice)
            case 3: receiver.links.fromSource.loss = Double.random(in: 0...0.1, using: &dice)
            case 4: receiver.links.flow.jitter = .milliseconds(Int64.random(in: 0...10, using: &dice))
            case 5: receiver.leaveFlow(at: simulation.now)
            case 6: receiver.joinFlow(at: simulation.now)
            default: break
            }
            simulation.publish(Self.item(number, Int.random(in: 0...9000, using: &dice)))
            simulation.run(for: .milliseconds(Int64.random(in: 0...80, using: &dice)))
        }
        #expect(simulation.run { Self.isComplete(simulation) }, "seed \(seed)")
        for receiver in simulation.receivers { #expect(simulation.faults(of: receiver) == [], "seed \(seed)") }
        #expect(simulation.run(limit: .seconds(10)) { simulation.source.flow.octetsHeld == 0 })
    }
}
