import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// Each part comes to a receiver one way, whatever order the events have that move it between the flow and its cursor.
@Suite struct SwitchTests {
    /// A member that leaves because too much waits for it gets all parts of the object that was the last straw.
    @Test func whoeverLeavesAmidAnObjectGetsTheRestOfIt() {
        let bench = SourceBench()
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        bench.makeMember(receiver)
        receiver.link.roomOctets = 0
        // Every other part is too long for the flow, and three of four of the others are lost.
        while bench.seat(receiver).cursor.uncharged.count < DeliveryCursor.mostRanges {
            for _ in 0..<4 {
                bench.publish(SourceBench.longOctets)
                bench.publish(1000)
            }
            let last = bench.transmit().last!.number
            bench.acknowledge([last...last], receiver)
        }
        let first = bench.server.log.next
        bench.publish(3 * ObjectLimits.partOctets)
        let isMember = bench.server.isMember(receiver.id)
        #expect(!isMember)
        for part in first..<bench.server.log.next {
            #expect(bench.seat(receiver).cursor.contains(part), "part \(part - first) of the object")
        }
        #expect(bench.server.checkInvariants() == nil)
    }

    /// Parts that are on their way on the flow are not told as gone because others are.
    @Test func whatTheFlowBringsIsNotToldAsGone() throws {
        let bench = SourceBench(retention: Retention(objects: 2))
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        bench.makeMember(receiver)
        receiver.link.roomOctets = 0
        bench.publish(SourceBench.longOctets)
        for _ in 0..<4 { bench.publish(10) }
        receiver.link.roomOctets = 1 << 30
        bench.serve(receiver)
        bench.serve(receiver)
        var decoder = ControlDecoder(from: .source)
        let octets = receiver.link.told
        var reader = ByteReader(octets.span)
        var told: [UInt64] = []
        while let message = try decoder.next(from: &reader) {
            if case .gap(let gap) = message { told += Array(gap.range) }
        }
        #expect(told == [0])
    }

    /// POSITION was late: the receiver joined, listened and left before it came. What it had by the flow does not come again.
    @Test(arguments: [true, false])
    func aLatePositionBearsOnWhatWasBeforeTheFlow(isStated: Bool) {
        let bench = SourceBench()
        let receiver = bench.connect()
        bench.publish(10)
        bench.makeMember(receiver)
        bench.publish(10)
        for packet in bench.transmit() { bench.acknowledge([packet.number...packet.number], receiver) }
        bench.send(.leave, receiver)
        bench.publish(10)
        if isStated {
            bench.state(PositionMessage(epoch: nil, cursor: Cursor()), receiver)
        } else {
            bench.now += .seconds(2)
            bench.server.timerFired(at: bench.now)
        }
        bench.serve(receiver)
        #expect(bench.takeWhole(receiver).sorted() == [0, 2])
    }

    /// What a receiver was given whole because it would hear pieces of it is not sent once more for its POSITION.
    @Test func aLatePositionDoesNotBringAgainWhatWasGiven() {
        let bench = SourceBench()
        let other = bench.connect()
        bench.stateNewest(other)
        bench.makeMember(other)
        bench.publish(10)
        let receiver = bench.connect()
        bench.send(.join, receiver)
        #expect(bench.takeWhole(receiver) == [0])
        bench.state(PositionMessage(epoch: nil, cursor: Cursor()), receiver)
        bench.serve(receiver)
        #expect(bench.takeWhole(receiver) == [])
    }

    /// A receiver that joins before it has stated its position hears pieces of parts that it may not be sent: it is given
    /// them, once.
    @Test func whatWasPublishedBeforePositionIsGivenToWhoJoins() {
        let bench = SourceBench()
        let other = bench.connect()
        bench.stateNewest(other)
        bench.makeMember(other)
        let receiver = bench.connect()
        bench.publish(10)
        bench.send(.join, receiver)
        bench.stateNewest(receiver)
        bench.serve(receiver)
        #expect(bench.takeWhole(receiver) == [0])
    }

    /// A slot that is used again while it is in the list of those touched is there once.
    @Test func aSlotUsedAgainIsTouchedOnce() {
        let bench = SourceBench()
        let first = bench.connect()
        bench.server.forget(first.id, at: bench.now)
        let second = bench.connect()
        #expect(second.id.slot == first.id.slot)
        #expect(bench.server.checkInvariants() == nil)
        #expect(bench.server.nextTouched() == second.id)
        #expect(bench.server.nextTouched() == nil)
    }

    /// A connection that ends before its handshake has is over.
    @Test func aConnectionThatEndsInItsHandshakeStaysClosed() {
        let bench = SourceBench()
        let receiver = bench.accept()
        bench.handle(.closed(.idleTimeout), receiver)
        bench.handle(.connected, receiver)
        #expect(bench.server.receiverCount == 0)
    }

    /// Receivers of a flow that was withdrawn may go.
    @Test func receiversGoAfterTheFlowHasEnded() {
        let bench = SourceBench()
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        bench.makeMember(receiver)
        bench.server.withFlow { $0.withdraw(at: bench.now) }
        bench.server.settle(at: bench.now)
        bench.handle(.closed(.idleTimeout), receiver)
        #expect(bench.server.checkInvariants() == nil)
    }
}
