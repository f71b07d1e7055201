import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// A whole tree fails: every member leaves the flow at once, and lacks the same.
@Suite struct SurgeTests {
    final class Receiver {
        let id: ReceiverID
        var link: StandInLink
        var frames = ReceivedFrames()
        var servedAt: Instant?

        init(id: ReceiverID, link: StandInLink) {
            self.id = id
            self.link = link
        }
    }

    /// A server with members that hear nothing.
    final class Tree {
        var now = Instant(nanoseconds: 1_000_000_000)
        var server: FlowServer
        /// By slot of the server's.
        var receivers: [Receiver] = []
        var watch: RateWatch
        var octets = 0
        /// What each receiver is to be sent before it counts as served.
        var lacked: Set<UInt64> = []
        private var buffer = [UInt8](repeating: 0, count: 65_536)

        init(unicastRate: UInt64?) {
            watch = RateWatch(bitsPerSecond: Double(unicastRate ?? 0))
            var service = FlowServerConfiguration()
            service.history = 0
            service.unicastRate = unicastRate
            server = FlowServer(
                flow: FlowSource(
                    flowID: World.flowID, parameters: World.parameters, configuration: FlowConfiguration(),
                    seed: SeededRandom(seed: 1), at: now),
                log: try! ObjectLog(MemoryStore(epoch: Epoch(high: 1, low: 1))), configuration: service,
                seed: SeededRandom(seed: 2), wallClock: WallTime(nanoseconds: 0), at: now)
        }

        func addMember(_ address: IPAddress) throws {
            var link = StandInLink()
            link.remoteAddress = SocketAddress(address, port: 4000)
            let receiver = Receiver(id: server.accept(at: now), link: link)
            server.handle(.connected, of: receiver.id, on: &receiver.link, at: now)
            receiver.link.said = try ControlMessage.position(
                PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest))
            ).encoded()
            server.handle(.streamReadable(.control), of: receiver.id, on: &receiver.link, at: now)
            for (sequence, action) in [(0, StateFrame.Action.join), (1, .ready)] {
                let frame = StateFrame(flowID: World.flowID, sequence: UInt64(sequence), action: action)
                _ = try World.deliver(frame.encoded, to: &receiver.frames, at: now)
                server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
            }
            _ = receiver.link.takeFrames()
            precondition(receiver.id.slot == receivers.count)
            receivers.append(receiver)
        }

        /// Packets of the flow go nowhere.
        func pump() {
            repeat {
                server.flowWasPumped()
                server.settle(at: now)
                while server.nextKeyChange() != nil {}
                var plans: [PacketPlan] = []
                while transmit(&plans) {}
                server.settle(at: now)
                while let id = server.nextTouched() { serve(id.slot) }
                while server.nextNotice() != nil {}
            } while server.isFlowTouched
        }

        private func transmit(_ plans: inout [PacketPlan]) -> Bool {
            var span = buffer.mutableSpan
            var writer = ByteWriter(&span)
            return server.withFlow { $0.transmit(into: &writer, plans: &plans, at: now) } == true
        }

        private func serve(_ slot: Int) {
            let receiver = receivers[slot]
            server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
            _ = receiver.link.takeFrames()
            for part in receiver.link.takeParts() {
                octets += part.range.count
                watch.left(part.range.count, at: now)
                if part.fin, lacked.contains(part.stream.index) { receiver.servedAt = now }
            }
        }

        /// Until `isDone`, or for `limit`; whether it is.
        func run(limit: Duration, until isDone: () -> Bool) -> Bool {
            let end = now + limit
            while !isDone() {
                let next = max(server.nextDeadline, now + .microseconds(100))
                guard next <= end else { return false }
                now = next
                server.timerFired(at: now)
                pump()
            }
            return true
        }
    }

    private func seconds(_ duration: Duration) -> Double { Double(duration.nanoseconds) / 1e9 }

    @Test func tenThousandThatLoseTheFlowAtOnceAreServedWithinTheRate() throws {
        let count = 10_000
        let rate: UInt64 = 200_000_000
        let tree = Tree(unicastRate: rate)
        for number in 0..<count { try tree.addMember(.v4(0x0a00_0000 + UInt32(number))) }
        #expect(tree.server.flow?.memberCount == count)
        tree.lacked = [tree.server.log.next]
        try tree.server.publish(body: [UInt8](repeating: 7, count: 100_000), at: tree.now)
        tree.pump()
        #expect(tree.octets == 0)
        // Nobody acknowledges anything.
        #expect(tree.run(limit: .seconds(10)) { tree.server.flow?.memberCount == 0 })
        let fell = tree.now
        #expect(tree.server.waitingReceivers > count * 9 / 10)
        var served = 0
        #expect(
            tree.run(limit: .seconds(60)) {
                while served < count, tree.receivers[served].servedAt != nil { served += 1 }
                return served == count
            }, "all are served within a minute")
        #expect(tree.server.waitingReceivers == 0)
        #expect(tree.watch.most <= Double(rate) / 8 / 10 + 1, "a burst beyond the rate at the most")
        #expect(tree.octets >= count * 100_000 && tree.octets < count * 101_000, "each is sent it once")
        let times = tree.receivers.compactMap { $0.servedAt.map { seconds($0 - fell) } }.sorted()
        try #require(times.count == count)
        print(
            """
            surge: \(count) members, \(tree.octets) octets at \(rate) bit/s: \
            p50 \(times[count / 2]) s, p99 \(times[count * 99 / 100]) s, last \(times[count - 1]) s; \
            \(Int(tree.watch.most)) octets beyond the rate at most
            """)
    }

    /// Behind one address there may be an office or somebody who opens a thousand connections.
    @Test func oneAddressOfManyDoesNotHoldTheOthersUp() throws {
        let tree = Tree(unicastRate: 20_000_000)
        for _ in 0..<900 { try tree.addMember(IPAddress("192.0.2.200")!) }
        for number in 0..<100 { try tree.addMember(.v4(0x0a00_0000 + UInt32(number))) }
        tree.lacked = [tree.server.log.next]
        try tree.server.publish(body: [UInt8](repeating: 7, count: 50_000), at: tree.now)
        tree.pump()
        #expect(tree.run(limit: .seconds(10)) { tree.server.flow?.memberCount == 0 })
        let fell = tree.now
        #expect(tree.run(limit: .seconds(60)) { tree.receivers.allSatisfy { $0.servedAt != nil } })
        let alone = tree.receivers[900...].compactMap { $0.servedAt }.max()!
        let last = tree.receivers[..<900].compactMap { $0.servedAt }.max()!
        // A hundred times 50 kB, and a turn of the address of many.
        #expect(seconds(alone - fell) < 3, "\(seconds(alone - fell))")
        #expect(seconds(last - fell) > 19 && seconds(last - fell) < 25, "\(seconds(last - fell))")
    }

    @Test func whoIsGoneDoesNotHoldTheOthersUp() throws {
        let tree = Tree(unicastRate: 20_000_000)
        for number in 0..<100 { try tree.addMember(.v4(0x0a00_0000 + UInt32(number / 2))) }
        tree.lacked = [tree.server.log.next]
        try tree.server.publish(body: [UInt8](repeating: 7, count: 100_000), at: tree.now)
        tree.pump()
        #expect(tree.run(limit: .seconds(10)) { tree.server.flow?.memberCount == 0 })
        for slot in 0..<100 where slot % 3 == 0 && tree.receivers[slot].servedAt == nil {
            tree.server.handle(
                .closed(.idleTimeout), of: tree.receivers[slot].id, on: &tree.receivers[slot].link, at: tree.now)
            tree.server.forget(tree.receivers[slot].id, at: tree.now)
            tree.receivers[slot].servedAt = tree.now
        }
        tree.pump()
        #expect(tree.run(limit: .seconds(10)) { tree.receivers.allSatisfy { $0.servedAt != nil } })
        #expect(tree.server.waitingReceivers == 0)
    }

    @Test func withoutALimitNobodyWaits() throws {
        let tree = Tree(unicastRate: nil)
        for number in 0..<100 { try tree.addMember(.v4(0x0a00_0000 + UInt32(number))) }
        tree.lacked = [tree.server.log.next]
        try tree.server.publish(body: [UInt8](repeating: 7, count: 100_000), at: tree.now)
        tree.pump()
        #expect(tree.run(limit: .seconds(10)) { tree.server.flow?.memberCount == 0 })
        #expect(tree.receivers.allSatisfy { $0.servedAt != nil })
        #expect(tree.server.waitingReceivers == 0)
    }
}
