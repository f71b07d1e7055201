import Flexicast
import Objects
import QUIC
import Testing
import Wire

@testable import Simulation

/// Objects with a lifetime, and datagrams, among receivers that lose, leave and come back.
@Suite struct ShortLivedTests {
    private static var bad: Link { Link(delay: .milliseconds(15), jitter: .milliseconds(4), loss: 0.05) }

    /// Each number is an object that came whole or a gap that was told, never both, and nothing is held for what has ended: at
    /// neither end, nor in the account of flow control.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func everythingComesOrIsToldOf(seed: UInt64) {
        var dice = SeededRandom(seed: seed &+ 100)
        var configuration = FlowConfiguration()
        // Too little for what is published: some of it ends before it has begun.
        configuration.rateCeiling = 3_000_000
        let simulation = Simulation(seed: seed, configuration: configuration)
        let window: UInt64 = 4 << 20
        for _ in 0..<4 {
            simulation.addReceiver(links: ReceiverLinks(toSource: Self.bad, fromSource: Self.bad, flow: Self.bad)) {
                $0.parameters.initialMaxData = window
                $0.parameters.initialMaxStreamsUni = 256
            }
        }
        simulation.addReceiver(links: ReceiverLinks(toSource: Self.bad, fromSource: Self.bad), usesFlow: false)
        simulation.run(for: .seconds(2))
        let first = simulation.source.flow.nextStream.index
        for number in 0..<600 {
            let size = Int.random(in: 0..<8, using: &dice) == 0 ? 60_000 : 4000
            let isMortal = number % 4 != 0
            simulation.publish(
                DeliveryTests.item(number, isMortal ? size : 500),
                lifetime: isMortal ? .milliseconds(Int64.random(in: 5...300, using: &dice)) : nil)
            simulation.run(for: .milliseconds(Int64.random(in: 1...40, using: &dice)))
            guard number % 50 == 49 else { continue }
            let receiver = simulation.receivers[Int.random(in: 0..<4, using: &dice)]
            if number % 100 == 49 {
                receiver.leaveFlow(at: simulation.now)
            } else {
                receiver.joinFlow(at: simulation.now)
            }
        }
        let all = Set(first..<simulation.source.flow.nextStream.index)
        func told(_ receiver: SimulatedReceiver) -> Set<UInt64> {
            Set(receiver.gaps.filter { $0.reason == .lifetime }.flatMap(\.range))
        }
        let isDone = simulation.run(limit: .seconds(30)) {
            simulation.receivers.allSatisfy { told($0).union($0.items.map(\.stream.index)).isSuperset(of: all) }
        }
        #expect(isDone)
        for receiver in simulation.receivers {
            let gaps = told(receiver)
            let came = receiver.items.map(\.stream.index)
            #expect(receiver.closed == nil, "\(receiver.index): \(String(describing: receiver.closed))")
            #expect(Set(came).count == came.count && gaps.isDisjoint(with: came))
            #expect(receiver.gaps.allSatisfy { $0.reason == .lifetime })
            #expect(gaps.count > 20 && came.count > 150, "\(receiver.index): \(gaps.count) gaps, \(came.count) items")
            #expect(receiver.client.assembler.statistics.expired == UInt64(gaps.count))
        }
        #expect(simulation.source.server.objectsExpired == 450 && simulation.source.server.partsExpired > 100)
        let isEmpty = simulation.run(limit: .seconds(10)) {
            simulation.source.flow.octetsHeld == 0
                && simulation.source.peers.allSatisfy { $0!.connection.sendingStreamCount <= 1 }
                && simulation.receivers.allSatisfy { $0.connection.receivingStreamCount <= 1 }
        }
        let open = simulation.receivers.map { $0.connection.receivingStreamCount }
        #expect(isEmpty, "\(open) streams are open")
        // Both ends count alike: what was given up is not missing from the window.
        for peer in simulation.source.peers.compactMap(\.self) where peer.connection.isExtensionNegotiated {
            #expect(peer.connection.sendCredit >= window / 2 - 100_000, "\(peer.connection.sendCredit)")
            #expect(peer.connection.streamCredit >= 100, "\(peer.connection.streamCredit)")
        }
    }

    @Test func datagramsComeOnceThroughEverySwitch() {
        let simulation = Simulation(seed: 9)
        let good = Link(delay: .milliseconds(15), jitter: .milliseconds(4))
        for _ in 0..<3 { simulation.addReceiver(links: ReceiverLinks(toSource: good, fromSource: good, flow: good)) }
        simulation.addReceiver(links: ReceiverLinks(toSource: good, fromSource: good), usesFlow: false)
        simulation.run(for: .seconds(2))
        var dice = SeededRandom(seed: 4)
        for number in 0..<1000 {
            simulation.sendDatagram([UInt8(truncatingIfNeeded: number), UInt8(number >> 8)])
            simulation.run(for: .milliseconds(5))
            guard number % 40 == 39 else { continue }
            let receiver = simulation.receivers[Int.random(in: 0..<3, using: &dice)]
            if number % 80 == 39 {
                receiver.leaveFlow(at: simulation.now)
            } else {
                receiver.joinFlow(at: simulation.now)
            }
        }
        simulation.run(for: .seconds(1))
        for receiver in simulation.receivers {
            #expect(Set(receiver.datagrams).count == receiver.datagrams.count, "one came twice")
            // Those on the way to who leaves the flow are lost with it.
            #expect(receiver.datagrams.count > 900, "\(receiver.index): \(receiver.datagrams.count)")
        }
        #expect(simulation.receivers[3].datagrams.count == 1000)
        #expect(simulation.receivers.contains { $0.client.datagramsIgnored > 0 }, "none had to be told apart")
    }
}
