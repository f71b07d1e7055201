import Objects
import QUIC
import Testing
import Wire

@testable import Flexicast

/// Datagrams (RFC 9221) on the flow and on connections.
@Suite struct FlowDatagramTests {
    private func bench(_ change: (inout FlowServerConfiguration) -> Void = { _ in }) -> SourceBench {
        SourceBench {
            $0.sendsDatagrams = true
            change(&$0)
        }
    }

    /// A datagram without its number.
    private func content(_ datagram: [UInt8]) -> [UInt8] {
        var reader = ByteReader(datagram.span)
        _ = reader.varint()
        return Array(datagram[reader.offset...])
    }

    private func onFlow(_ bench: SourceBench) -> [[UInt8]] {
        bench.transmit().flatMap { SourceBench.datagrams(of: $0.packet) }.map(content)
    }

    private func onConnection(_ bench: SourceBench, _ receiver: SourceBench.Receiver) -> [[UInt8]] {
        bench.serve(receiver)
        return receiver.link.takeDatagrams().map(content)
    }

    @Test func eachComesByOneWay() throws {
        let bench = bench()
        let member = bench.connect()
        let other = bench.connect()
        bench.makeMember(member)
        try bench.server.sendDatagram([1], at: bench.now)
        #expect(onFlow(bench) == [[1]])
        #expect(onConnection(bench, member) == [])
        #expect(onConnection(bench, other) == [[1]])
        // Out of the flow, back on the connection; what the flow has not sent yet stays with it.
        try bench.server.sendDatagram([2], at: bench.now)
        bench.send(.leave, member)
        try bench.server.sendDatagram([3], at: bench.now)
        #expect(onConnection(bench, member) == [[3]])
        #expect(onConnection(bench, other) == [[2], [3]])
        #expect(onFlow(bench) == [])
        #expect(bench.server.flow?.statistics.datagramsDropped == 1, "nobody was left to hear it")
    }

    @Test func whatIsTooLongIsRefused() throws {
        let bench = bench()
        let member = bench.connect()
        let other = bench.connect()
        bench.makeMember(member)
        let most = bench.server.largestDatagram
        #expect(throws: DatagramError.tooLong(octets: most + 1, most: most)) {
            try bench.server.sendDatagram([UInt8](repeating: 1, count: most + 1), at: bench.now)
        }
        // The longest fits a packet and a connection, whatever its number.
        bench.server.datagrams = IndexedRing(filler: [], startingAt: Varint.max)
        for slot in bench.server.seats.indices { bench.server.seats[slot].nextDatagram = Varint.max }
        try bench.server.sendDatagram([UInt8](repeating: 1, count: most), at: bench.now)
        #expect(onFlow(bench).map(\.count) == [most])
        #expect(onConnection(bench, other).map(\.count) == [most])
        #expect(most + 8 <= Connection.largestDatagram)
        let without = SourceBench()
        #expect(throws: DatagramError.notOffered) { try without.server.sendDatagram([1], at: without.now) }
        // A small packet has room for less.
        var configuration = FlowConfiguration()
        configuration.packetSize = 256
        let small = FlowSource(
            flowID: World.flowID, parameters: World.parameters, configuration: configuration,
            seed: SeededRandom(seed: 1),
            at: bench.now)
        #expect(small.largestDatagram == 256 - 16 - (1 + World.flowID.count + 4) - 3)
    }

    /// RFC 9221 section 3: nobody is sent DATAGRAM frames that it has not announced to take. On a flow it would be, so it is not
    /// told of it.
    @Test func whoTakesNoneIsServedOnItsConnection() throws {
        let bench = bench()
        let member = bench.connect()
        bench.makeMember(member)
        let least = UInt64(bench.server.largestDatagram + 8 + 3)
        let small = bench.connect(StandInLink(datagramFrames: least - 1))
        let none = bench.connect(StandInLink(datagramFrames: 0))
        let enough = bench.connect(StandInLink(datagramFrames: least))
        for receiver in [small, none, enough] { bench.serve(receiver) }
        #expect(!enough.link.takeFrames().isEmpty)
        for receiver in [small, none] { #expect(receiver.link.takeFrames().isEmpty, "told of the flow") }
        var refusals = 0
        while let notice = bench.server.nextNotice() { if case .notAdmitted = notice { refusals += 1 } }
        #expect(refusals == 2)
        try bench.server.sendDatagram([1, 2], at: bench.now)
        #expect(onConnection(bench, small) == [[1, 2]] && onConnection(bench, none) == [])
        #expect(bench.server.datagramsRefused == 1)
        // A source that sends no datagrams has everybody on its flow.
        let without = SourceBench()
        let plain = without.connect(StandInLink(datagramFrames: 0))
        without.serve(plain)
        #expect(!plain.link.takeFrames().isEmpty)
    }

    @Test func whoIsNotServedLosesTheOldest() throws {
        let bench = bench()
        let member = bench.connect()
        let other = bench.connect()
        bench.makeMember(member)
        let most = FlowServer.mostDatagrams
        for number in 0..<(most + 44) {
            try bench.server.sendDatagram([UInt8(truncatingIfNeeded: number), UInt8(number >> 8)], at: bench.now)
        }
        let expected = (44..<(most + 44)).map { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
        #expect(onConnection(bench, other) == expected)
        #expect(bench.server.datagramsDropped == 44)
        #expect(onFlow(bench) == expected)
        #expect(bench.server.flow?.statistics.datagramsDropped == 44)
    }

    /// They go at the flow's pace, and a packet that brought nothing else is not repaired (RFC 9221 sections 5.2 and 5.4).
    @Test func theyArePacedAndNotRepaired() {
        let bench = Bench {
            $0.rateCeiling = 1_000_000
            $0.burstPackets = 4
        }
        let member = bench.addMembers(1)[0]
        let begin = bench.now
        for _ in 0..<100 { bench.flow.sendDatagram([UInt8](repeating: 5, count: 1000)) }
        bench.transmit()
        var sent = bench.flow.statistics.datagramsSent
        #expect((1...5).contains(sent), "\(sent) at once")
        while bench.flow.statistics.datagramsSent < 100, bench.now < begin + .seconds(5) {
            bench.advance(.milliseconds(1))
            bench.acknowledgeAll(member)
        }
        sent = bench.flow.statistics.datagramsSent
        // 100 packets of about 1030 octets at 1 Mbit/s.
        let took = bench.now - begin
        #expect(sent == 100 && (.milliseconds(740)...(.milliseconds(900))).contains(took), "\(took)")
        // Of those that are lost one had a stream as well.
        let first = bench.flow.log.next
        bench.flow.sendDatagram([1])
        bench.advance(.milliseconds(2))
        bench.flow.sendDatagram([2])
        let mixed = bench.sendPacket()
        for number in 3..<8 as Range<UInt8> {
            bench.flow.sendDatagram([number])
            bench.advance(.milliseconds(2))
        }
        let last = bench.flow.log.next - 1
        #expect(mixed == first + 1 && last == mixed + 5)
        #expect(bench.takeRepairs().isEmpty)
        bench.acknowledge(member, [last...last])
        #expect(bench.takeRepairs().count == 1, "the stream's")
        bench.acknowledgeAll(member)
        bench.advance(.seconds(1))
        #expect(bench.flow.statistics.datagramsSent == sent + 7)
    }

    /// What nobody settles is remembered as a packet, and that is bounded.
    @Test func theyDoNotOutgrowTheMemoryOfPackets() {
        let bench = Bench {
            $0.maximumUnsettledOctets = 100_000
            $0.memberTimeout = .seconds(1000)
        }
        _ = bench.addMembers(1)
        for _ in 0..<2000 {
            bench.flow.sendDatagram([UInt8](repeating: 5, count: 1000))
            bench.now += .microseconds(100)
            bench.transmit()
            #expect(bench.flow.unsettledOctets <= 102_000)
        }
        #expect(bench.flow.statistics.datagramsDropped > 1500)
    }

    /// The window against a set of all numbers.
    @Test func nothingIsGivenOutTwice() {
        var random = SeededRandom(seed: 12)
        var window = DatagramWindow()
        var given = Set<UInt64>()
        var end: UInt64 = 0
        for _ in 0..<20_000 {
            var number: UInt64
            switch Int.random(in: 0..<40, using: &random) {
            case 0: number = end + UInt64.random(in: 0...3000, using: &random)
            case 1: number = end - min(end, UInt64.random(in: 1000...1100, using: &random))
            case 2..<20: number = end + UInt64.random(in: 0...2, using: &random)
            default: number = end - min(end, UInt64.random(in: 0...1000, using: &random))
            }
            let isNew = window.take(number)
            #expect(isNew == (number + DatagramWindow.width >= end && !given.contains(number)))
            if isNew { given.insert(number) }
            end = max(end, number + 1)
        }
        // A source may jump as it likes.
        for number in [Varint.max - 1, Varint.max] { #expect(take(number)) }
        for number in [Varint.max, Varint.max - 1, 5] { #expect(!take(number)) }
        func take(_ number: UInt64) -> Bool { window.take(number) }
    }

    /// By the flow and on the connection, in any order; without a number it is nothing.
    @Test func aReceiverGivesEachOutOnce() {
        var client = FlowClient(seed: SeededRandom(seed: 1))
        var link = StandInClientLink()
        var got: [(octets: [UInt8], StreamOrigin)] = []
        func come(_ octets: [UInt8], _ origin: StreamOrigin) {
            client.handle(.datagram(octets, origin), on: &link, at: Instant(nanoseconds: 1))
            while let action = client.nextAction() {
                if case .datagram(let octets, let origin) = action { got.append((Array(octets), origin)) }
            }
        }
        come([7, 1, 2], .unicast)
        come([7, 1, 2], .flow)
        come([9], .flow)
        come([8, 3], .flow)
        come([9], .unicast)
        come([], .flow)
        come([0x40], .flow)
        #expect(got.map(\.octets) == [[1, 2], [], [3]] && client.datagramsIgnored == 4)
        #expect(got.map { $0.1 == .flow } == [false, true, true])
        #expect(link.closedWith == nil)
    }
}
