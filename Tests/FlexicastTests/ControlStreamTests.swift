import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// What a receiver is told on its control stream, and what that costs where it takes nothing.
@Suite struct ControlStreamTests {
    private static func messages(_ receiver: SourceBench.Receiver) throws -> [ControlMessage] {
        var decoder = ControlDecoder(from: .source)
        let told = receiver.link.told
        var reader = ByteReader(told.span)
        var out: [ControlMessage] = []
        while let message = try decoder.next(from: &reader) { out.append(message) }
        return out
    }

    /// Who states no position in time is told nothing, for numbers mean nothing without their epoch. When it does so after
    /// all, LOG comes first, and then what it was not sent.
    @Test(arguments: [true, false])
    func gapsAreToldOnceThePositionIsStated(begins: Bool) throws {
        let bench = SourceBench(retention: Retention(objects: 2))
        let receiver = bench.connect()
        if begins { bench.say([0], receiver) }
        bench.now += .milliseconds(1100)
        bench.server.timerFired(at: bench.now)
        receiver.link.roomOctets = 0
        for _ in 0..<5 { bench.publish(10) }
        bench.serve(receiver)
        receiver.link.roomOctets = 1 << 20
        bench.serve(receiver)
        #expect(bench.takeWhole(receiver) == [3, 4])
        #expect(receiver.link.told.isEmpty && bench.server.partsGone == 0)
        let newest = PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest))
        let octets = try ControlMessage.position(newest).encoded()
        bench.say(begins ? Array(octets.dropFirst()) : octets, receiver)
        bench.serve(receiver)
        let messages = try Self.messages(receiver)
        try #require(messages.count == 2)
        guard case .log = messages[0] else { return #expect(Bool(false), "LOG is first") }
        #expect(messages[1] == .gap(Gap(first: 0, count: 3, reason: .retention)))
        #expect(bench.server.partsGone == 3)
        #expect(bench.takeWhole(receiver).isEmpty)
    }

    /// However its parts come and go, what such a receiver is to be told takes no more than so many ranges.
    @Test func whatIsUntoldIsBounded() throws {
        let bench = SourceBench(retention: Retention(objects: 1))
        let receiver = bench.connect()
        bench.now += .milliseconds(1100)
        bench.server.timerFired(at: bench.now)
        for _ in 0..<300 {
            receiver.link.roomOctets = 0
            for _ in 0..<2 { bench.publish(10) }
            receiver.link.roomOctets = 1 << 20
            bench.serve(receiver)
        }
        let untold = bench.seat(receiver).cursor.untold
        #expect(untold.count == DeliveryCursor.mostRanges)
        #expect(bench.server.partsSentAgain == UInt64(300 - DeliveryCursor.mostRanges))
        bench.stateNewest(receiver)
        bench.serve(receiver)
        #expect(try Self.messages(receiver).count > DeliveryCursor.mostRanges)
        #expect(bench.seat(receiver).cursor.untold.isEmpty)
    }

    /// A receiver that takes none of what it is told has one message of the clock waiting, not one for each minute.
    @Test func oneClockMessageWaits() throws {
        let bench = SourceBench()
        let receiver = bench.connect()
        bench.stateNewest(receiver)
        bench.serve(receiver)
        for takes in [false, true, false] {
            receiver.link.takesMessages = takes
            let before = try Self.messages(receiver).count
            for _ in 0..<10 {
                bench.now += .seconds(61)
                bench.serve(receiver)
            }
            #expect(try Self.messages(receiver).count == before + (takes ? 10 : 1))
        }
    }

    /// What the connection has no room for waits until the receiver takes something: the source does not try again and again.
    @Test func whatCannotBeWrittenWaits() throws {
        let bench = SourceBench(retention: Retention(objects: 1))
        let receiver = bench.connect()
        receiver.link.isFull = true
        bench.state(PositionMessage(epoch: nil, cursor: Cursor(position: 0)), receiver)
        for _ in 0..<3 { bench.publish(10) }
        receiver.link.roomOctets = 0
        var turns = 0
        while turns < 100, let id = bench.server.nextTouched() {
            #expect(id == receiver.id)
            bench.serve(receiver)
            turns += 1
        }
        #expect(turns < 100)
        receiver.link.isFull = false
        receiver.link.roomOctets = 1 << 20
        bench.serve(receiver)
        #expect(try Self.messages(receiver).last == .gap(Gap(first: 0, count: 2, reason: .retention)))
    }

    /// Nor do gaps pile up: it is handed no part until it takes them, and then it is told of all.
    @Test func gapsThatAreNotTakenHoldPartsBack() throws {
        let bench = SourceBench()
        let receiver = bench.connect()
        let other = bench.connect()
        bench.stateNewest(other)
        receiver.link.takesMessages = false
        bench.state(
            PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest), wants: .named(["wanted"])),
            receiver)
        let count = 6000
        for _ in 0..<count { try bench.server.publish(name: "else", body: [], at: bench.now) }
        try bench.server.publish(name: "wanted", body: [], at: bench.now)
        for _ in 0..<10 { bench.serve(receiver) }
        #expect(receiver.link.told.count >= FlowServer.controlOctets)
        #expect(receiver.link.told.count < FlowServer.controlOctets + 20)
        #expect(bench.seat(receiver).messages.isEmpty && bench.takeWhole(receiver).isEmpty)
        #expect(bench.server.controlWaits == 1)
        bench.serve(other)
        #expect(bench.takeWhole(other).count == count + 1)
        for _ in 0..<count where bench.seat(receiver).cursor.contains(UInt64(count)) {
            receiver.link.takesMessages = true
            receiver.link.takesMessages = false
            bench.serve(receiver)
        }
        #expect(bench.takeWhole(receiver) == [UInt64(count)])
        var gaps: UInt64 = 0
        for case .gap(let gap) in try Self.messages(receiver) { gaps += gap.count }
        #expect(gaps == UInt64(count))
    }
}
