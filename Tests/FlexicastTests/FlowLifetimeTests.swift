import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// What the end of an object's lifetime does on the flow and on connections.
@Suite struct FlowLifetimeTests {
    private func gaps(_ receiver: SourceBench.Receiver) -> [Gap] {
        var decoder = ControlDecoder(from: .source)
        let told = receiver.link.told
        var reader = ByteReader(told.span)
        var out: [Gap] = []
        while let message = try! decoder.next(from: &reader) { if case .gap(let gap) = message { out.append(gap) } }
        return out
    }

    private func expired(_ bench: Bench) -> [(member: MemberID, stream: UInt64)] {
        bench.drain()
        return bench.actions.compactMap {
            if case .streamExpired(let member, let stream, _) = $0 { (member, stream.index) } else { nil }
        }
    }

    /// What has not begun on the flow never does, and is charged to nobody: neither to who was there, nor to who came while it waited.
    @Test func whatHasNotBegunIsNotSentAndNotCharged() {
        let bench = Bench()
        let early = bench.addMembers(1, octets: 10_000, streams: 10)[0]
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 700)))
        let late = bench.addMembers(1, octets: 10_000, streams: 10)[0]
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 2, count: 200)))
        #expect(bench.flow.expire(0..<1) == [0] && bench.flow.expire(0..<1) == [])
        #expect(bench.flow.queuedOctets == 200)
        bench.now += .milliseconds(1)
        bench.transmit()
        #expect(bench.flow.statistics.newOctets == 200)
        #expect(bench.flow.takeCharge(early) == FlowCharge(octets: 200, streams: 1))
        #expect(bench.flow.takeCharge(late) == FlowCharge(octets: 200, streams: 1))
        for member in [early, late] { #expect(bench.flow.members[member.slot].octetsEnd == 10_000) }
        for member in [early, late] { bench.acknowledgeAll(member) }
        #expect(bench.flow.isSettled && bench.takeRepairs().isEmpty)
    }

    /// What is lost after the end is not repaired: whoever reports it, or leaves before it is settled, is told once.
    @Test func whatIsLostAfterTheEndIsNotRepaired() {
        let bench = Bench()
        let members = bench.addMembers(3)
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 3000)))
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 2, count: 300)))
        bench.now += .milliseconds(1)
        let numbers = bench.transmit()
        #expect(numbers.count == 3 && bench.flow.expire(0..<1) == [])
        for _ in 0..<4 { bench.sendPacket() }
        let last = bench.flow.log.next - 1
        bench.acknowledge(members[0], [numbers[2]...last])
        #expect(expired(bench).map(\.stream) == [0] && expired(bench)[0].member == members[0])
        #expect(bench.takeRepairs().isEmpty)
        // The third packet has the end of the one and all of the other, which is repaired: for the second who asks on the flow.
        bench.acknowledge(members[1], [numbers[0]...numbers[1], (numbers[2] + 1)...last].reversed())
        bench.acknowledge(members[2], [numbers[0]...numbers[1], (numbers[2] + 1)...last].reversed())
        #expect(expired(bench).map(\.member) == [members[1], members[2]])
        #expect(bench.takeRepairs().map(\.stream) == [1] && bench.flow.repairs.count == 1)
        bench.now += .milliseconds(1)
        bench.transmit()
        for member in members { bench.acknowledgeAll(member) }
        #expect(bench.flow.isSettled && bench.flow.octetsHeld == 0)
    }

    @Test func whoLeavesIsToldOfWhatItHasNotSettled() {
        let bench = Bench()
        let members = bench.addMembers(2)
        bench.sendPacket(500)
        bench.sendPacket(500)
        _ = bench.flow.expire(1..<2)
        bench.flow.leave(members[0], reason: .left, at: bench.now)
        #expect(expired(bench).map(\.stream) == [1])
        #expect(bench.takeRepairs().map(\.stream) == [0])
        // Who joins is not given it, to go with pieces that do not come any more.
        #expect(bench.flow.unfinishedStreams(before: bench.flow.nextStream).map(\.stream.index) == [0])
    }

    /// The part whose packets are leaving is brought to its end, and repaired as if nothing were.
    @Test func whatHasBegunIsBroughtToItsEnd() {
        let bench = Bench { $0.rateCeiling = 1_000_000 }
        let member = bench.addMembers(1)[0]
        _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 1 << 18)))
        bench.now += .milliseconds(1)
        bench.transmit()
        #expect(bench.flow.streams.sent > 0 && bench.flow.expire(0..<1) == [])
        while !bench.flow.isSettled, bench.now < Instant(nanoseconds: 60_000_000_000) {
            bench.advance(.milliseconds(20))
            bench.acknowledgeAll(member)
        }
        #expect(bench.flow.isSettled && bench.flow.statistics.newOctets == 1 << 18)
        #expect(expired(bench).isEmpty)
    }

    /// Streams that are on their way on a connection are reset, whatever numbers they have; what waits is a gap.
    @Test(arguments: [true, false])
    func connectionsResetWhatTheyAreSending(sharesStreams: Bool) {
        let bench = SourceBench()
        var link = StandInLink()
        link.isExtensionNegotiated = sharesStreams
        let receiver = bench.connect(link)
        bench.stateNewest(receiver)
        bench.serve(receiver)
        let end = bench.now + .milliseconds(50)
        bench.publish(10)
        for _ in 0..<3 { bench.publish(10, until: end) }
        bench.serve(receiver)
        // Two have not arrived, of which one is worth something still; the last but one has.
        func stream(_ index: UInt64) -> StreamID { StreamID(initiator: .server, bidirectional: false, index: index) }
        receiver.link.unacknowledged = [stream(0), stream(1), stream(3)]
        if !sharesStreams { bench.handle(.streamSent(stream(2)), receiver) }
        receiver.link.roomOctets = 0
        bench.publish(10, until: end)
        bench.serve(receiver)
        #expect(receiver.link.resets.isEmpty && bench.server.nextDeadline <= end)
        bench.now = end
        bench.server.timerFired(at: bench.now)
        receiver.link.roomOctets = 1 << 30
        bench.serve(receiver)
        #expect(Set(receiver.link.resets) == [stream(1), stream(3)])
        bench.serve(receiver)
        #expect(Set(gaps(receiver).flatMap(\.range)) == [1, 3, 4])
        #expect(gaps(receiver).allSatisfy { $0.reason == .lifetime })
        #expect(bench.server.objectsExpired == 4 && bench.server.partsExpired == 3)
        #expect(bench.server.checkInvariants() == nil && bench.seat(receiver).streams.count <= 1)
    }
}
