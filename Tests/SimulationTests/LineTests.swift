import Flexicast
import QUIC
import Simulation
import Testing
import Wire

/// Receivers behind lines that are slower than the flow could be: everything comes to each, once.
@Suite struct LineTests {
    private func run(_ simulation: Simulation, items: Int) {
        simulation.run(for: .seconds(1))
        for number in 0..<items {
            simulation.publish(DeliveryTests.item(number, 3000))
            simulation.run(for: .milliseconds(10))
        }
        #expect(simulation.run(limit: .seconds(60)) { DeliveryTests.isComplete(simulation) })
        for receiver in simulation.receivers { #expect(simulation.faults(of: receiver) == []) }
    }

    /// One of five can take less than a third: it leaves, and the others get all from the flow.
    @Test func oneBehindASlowLineLeavesAndGetsEverything() {
        let simulation = Simulation(seed: 21)
        let line = Line(bitsPerSecond: 800_000)
        simulation.addReceiver(links: ReceiverLinks(fromSource: Link(line: line), flow: Link(line: line)))
        for _ in 0..<4 { simulation.addReceiver() }
        run(simulation, items: 200)
        #expect(simulation.receivers[0].fallBacks.contains(.sourceLeft))
        for receiver in simulation.receivers.dropFirst() {
            #expect(receiver.fallBacks.isEmpty)
            #expect(receiver.octetsFromUnicast == 0)
        }
    }

    /// All behind one line: the flow slows down for them.
    @Test func allBehindOneLineStayOnTheFlow() {
        let simulation = Simulation(seed: 22)
        let line = Line(bitsPerSecond: 1_800_000)
        for _ in 0..<5 {
            simulation.addReceiver(links: ReceiverLinks(fromSource: Link(), flow: Link(line: line)))
        }
        run(simulation, items: 200)
        #expect(simulation.receivers.count { $0.fallBacks.isEmpty } >= 4)
        let fromFlow = simulation.receivers.reduce(0) { $0 + $1.octetsFromFlow }
        let fromUnicast = simulation.receivers.reduce(0) { $0 + $1.octetsFromUnicast }
        #expect(fromFlow > fromUnicast * 2)
    }
}
