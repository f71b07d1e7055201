import Flexicast
import Foundation
import QUIC
import Simulation
import Testing
import Wire

/// What the pace of a flow does to its members where connections and queues are real: whoever can take the flow has its rate,
/// and everything comes to everybody once, also to those that left. Ten members; `FLEXICAST_PACE=100` for a hundred.
@Suite struct PaceDeliveryTests {
    static let members = ProcessInfo.processInfo.environment["FLEXICAST_PACE"].flatMap { Int($0) } ?? 10
    static let ceiling: UInt64 = 20_000_000
    static let itemOctets = 12_500

    /// A source and members of which the first are behind lines of their own, or one line for all of them.
    private struct Case {
        let simulation: Simulation
        var published = 0

        init(slow: Int, bitsPerSecond: UInt64, shared: Bool = false) {
            var configuration = FlowConfiguration()
            configuration.rateCeiling = PaceDeliveryTests.ceiling
            simulation = Simulation(seed: 7, configuration: configuration)
            let line = Line(bitsPerSecond: bitsPerSecond)
            for index in 0..<PaceDeliveryTests.members {
                // Packets keep their order: those that overtake each other count as lost, here as with every QUIC.
                let link = Link(jitter: .zero)
                var links = ReceiverLinks(toSource: link, fromSource: link, flow: link)
                if index < slow {
                    let own = shared ? line : Line(bitsPerSecond: bitsPerSecond)
                    links.fromSource.line = own
                    links.flow.line = own
                }
                simulation.addReceiver(links: links)
            }
            // A hundred handshakes take a while on one slow line.
            let simulation = simulation
            #expect(
                simulation.run(limit: .seconds(20)) {
                    simulation.source.flow.memberCount == PaceDeliveryTests.members
                })
        }

        /// Publishes for so long at that rate; at how many bits a second the flow took it on.
        mutating func publish(_ bitsPerSecond: Int, for duration: Duration) -> Double {
            let before = simulation.source.flow.statistics.newOctets
            let step = Duration.nanoseconds(Int64(PaceDeliveryTests.itemOctets * 8_000_000_000 / bitsPerSecond))
            for _ in 0..<Int(duration.nanoseconds / step.nanoseconds) {
                simulation.publish(DeliveryTests.item(published, PaceDeliveryTests.itemOctets))
                published += 1
                simulation.run(for: step)
            }
            let octets = simulation.source.flow.statistics.newOctets - before
            return Double(octets) * 8e9 / Double(duration.nanoseconds)
        }

        var onFlow: Int { simulation.source.flow.memberCount }

        /// Everything everywhere, once.
        func judge() {
            let begin = simulation.now
            let isComplete = simulation.run(limit: .seconds(600)) { DeliveryTests.isComplete(simulation) }
            let seconds = Double((simulation.now - begin).nanoseconds) / 1e9
            print("    pace: \(published) items, everywhere after \(seconds) s more: \(isComplete)")
            for receiver in simulation.receivers { #expect(simulation.faults(of: receiver) == []) }
        }
    }

    @Test func whoCannotTakeTheFlowLeavesItAndLacksNothing() {
        let slow = Self.members / 10
        var pace = Case(slow: slow, bitsPerSecond: 1_000_000)
        _ = pace.publish(20_000_000, for: .seconds(1))
        let rate = pace.publish(20_000_000, for: .seconds(1))
        print(
            "    pace: \(slow) of \(Self.members) can take 1 Mbit/s: \(rate / 1e6) Mbit/s, \(pace.onFlow) on the flow")
        #expect(rate >= 18_000_000)
        pace.judge()
        let receivers = pace.simulation.receivers
        #expect(receivers[..<slow].allSatisfy { !$0.fallBacks.isEmpty })
        #expect(receivers[slow...].allSatisfy { $0.fallBacks.isEmpty && $0.octetsFromUnicast == 0 })
    }

    @Test(arguments: [false, true]) func mostSlowTheFlowDownAndLackNothing(shared: Bool) {
        let slow = shared ? Self.members : Self.members * 6 / 10
        var pace = Case(slow: slow, bitsPerSecond: 5_000_000, shared: shared)
        _ = pace.publish(8_000_000, for: .seconds(10))
        let rate = pace.publish(8_000_000, for: .seconds(3))
        print(
            "    pace: \(slow) of \(Self.members) can take 5 Mbit/s: \(rate / 1e6) Mbit/s, \(pace.onFlow) on the flow")
        #expect((4_000_000...5_000_000).contains(rate))
        // Of few a quarter is more than a tenth of the slow ones: it may be left behind.
        #expect(pace.onFlow >= Self.members - (Self.members < 100 ? Self.members / 4 : slow / 10))
        pace.judge()
    }
}
