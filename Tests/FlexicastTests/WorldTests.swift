import QUIC
import Testing
import Wire

@testable import Flexicast

/// The machines together on the modelled network.
@Suite struct WorldTests {
    @Test func receiversJoinAndGetStreamsFromTheFlow() {
        let world = World(seed: 1)
        for _ in 0..<5 { world.addReceiver() }
        world.run(for: .seconds(1))
        #expect(world.flow.memberCount == 5)
        for size in [0, 1, 100, 1200, 5000, 100_000] { world.publish(size) }
        #expect(world.settle())
        world.check()
        #expect(world.problems == [])
        for receiver in world.receivers {
            #expect(receiver.state == .listening)
            let viaUnicast = receiver.streams.values.reduce(0) { $0 + $1.viaUnicast }
            #expect(viaUnicast == 0)
        }
        #expect(world.flow.statistics.newOctets == UInt64(world.published.reduce(0) { $0 + $1.count }))
    }

    @Test func randomLossIsRepaired() {
        let world = World(seed: 2)
        for _ in 0..<5 { world.addReceiver(loss: 0.02) }
        world.run(for: .seconds(1))
        for _ in 0..<300 {
            world.publish(3000)
            world.run(for: .milliseconds(20))
        }
        #expect(world.settle())
        world.check()
        #expect(world.problems == [])
        let statistics = world.flow.statistics
        #expect(statistics.unicastRepairs > 0)
        #expect(statistics.octetsRepairedOnUnicast + statistics.octetsRepairedOnFlow < statistics.newOctets * 3 / 10)
    }

    /// Seeded random walks over everything that can happen.
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func randomWalk(seed: UInt64) {
        var configuration = FlowConfiguration()
        configuration.rotatesKeyAfterLeave = true
        configuration.keyRotationInterval = .seconds(1)
        configuration.skipInterval = 20
        configuration.rateCeiling = 20_000_000
        let world = World(seed: seed, configuration: configuration)
        world.receiverConfiguration.firstBackOff = .milliseconds(300)
        var dice = SeededRandom(seed: seed &* 31)
        for _ in 0..<Int.random(in: 1...8, using: &dice) { world.addReceiver() }
        world.run(for: .milliseconds(Int64.random(in: 0...1000, using: &dice)))
        for _ in 0..<250 {
            let receiver = world.receivers.randomElement(using: &dice)!
            switch Int.random(in: 0..<20, using: &dice) {
            case 0..<10: world.publish(Int.random(in: 0...6000, using: &dice))
            case 10: receiver.loss = Double.random(in: 0...0.3, using: &dice)
            case 11: receiver.ackLoss = Double.random(in: 0...0.3, using: &dice)
            case 12: receiver.isCut = true
            case 13: receiver.isCut = false
            case 14 where !receiver.isGone: receiver.client.leave(World.flowID, at: world.now)
            case 15 where !receiver.isGone: receiver.client.join(World.flowID, at: world.now)
            case 16: world.server.withFlow { $0.rotateKey() }
            case 17 where world.receivers.count < 14: world.addReceiver(loss: 0.05)
            case 18 where world.receivers.count > 4: world.disconnect(receiver)
            default: world.publish(Int.random(in: 0...40_000, using: &dice))
            }
            world.pump()
            world.run(for: .milliseconds(Int64.random(in: 0...120, using: &dice)))
        }
        #expect(world.settle(limit: .seconds(60)), "seed \(seed): \(world.missing.prefix(5))")
        world.check()
        #expect(world.problems == [], "seed \(seed)")
        #expect(world.flow.octetsHeld == 0)
        for receiver in world.receivers { world.disconnect(receiver) }
        #expect(world.flow.recordsHeld == 0)
        #expect(world.flow.memberCount == 0)
    }
}
