import Testing
import Wire

@testable import QUIC

/// Packets of a flow that came together.
@Suite struct FlowRunTests {
    static let packetSize = 200

    /// A client that listens to a flow on path 1; with `isTight` its limits leave no room for much of what comes.
    static func listener(seed: UInt64, isTight: Bool) -> Connection {
        var configuration = ConnectionConfiguration()
        configuration.parameters.initialMaxPathID = 4
        configuration.parameters.others[0xedf3] = [1, 1]
        configuration.extensionParameter = 0xedf3
        if isTight {
            configuration.parameters.initialMaxData = 2000
            configuration.parameters.initialMaxStreamDataUni = 1500
            configuration.parameters.initialMaxStreamsUni = 4
        }
        var pair = ClearPair(seed: seed, client: configuration, server: configuration)
        pair.handshake()
        pair.client.openReceivePath(1, ackDelay: .milliseconds(1), phase: .zero)
        return pair.client
    }

    /// What the source sends, in order.
    struct Sender {
        var stream: UInt64 = 0
        var offset = 0

        /// The frames of one packet.
        mutating func packet(_ random: inout SeededRandom) -> [UInt8] {
            var payload: [UInt8] = []
            let room = FlowRunTests.packetSize - 13 - 16
            switch random.next() % 12 {
            case 0: payload = [0x01]
            case 1: break
            case 2:
                payload = [0x04] + Self.varint(shared(stream).rawValue) + [7] + Self.varint(UInt64(offset + 10))
                stream += 1
                offset = 0
            case 3...7 where offset > 0:
                payload = [0x0c] + Self.varint(shared(stream).rawValue) + Self.varint(UInt64(offset))
                let count = room - payload.count
                payload += content(of: shared(stream), offset..<(offset + count))
                offset += count
            default:
                while room - payload.count > 20 {
                    let isLast = random.next() % 6 == 0
                    let count = isLast ? Int(random.next() % 40) : room - payload.count - 8
                    guard payload.count + count + 8 <= room else { break }
                    payload += [isLast ? 0x0f : 0x0e] + Self.varint(shared(stream).rawValue)
                    payload += Self.varint(UInt64(offset)) + Self.varint(UInt64(count))
                    payload += content(of: shared(stream), offset..<(offset + count))
                    offset += count
                    if isLast {
                        stream += 1
                        offset = 0
                    }
                }
            }
            return payload
        }

        /// The same frames, but one that goes on to the end of its packet says how long it is.
        static func withLength(_ frames: [UInt8]) -> [UInt8] {
            guard frames.first == 0x0c else { return frames }
            var reader = ByteReader(frames.span)
            for _ in 0..<3 { _ = reader.varint() }
            return [0x0e] + frames[1..<reader.offset] + varint(UInt64(reader.remaining)) + frames[reader.offset...]
        }

        private static func varint(_ value: UInt64) -> [UInt8] {
            value < 64 ? [UInt8(value)] : [0x40 | UInt8(value >> 8), UInt8(value & 0xff)]
        }
    }

    static func take(
        _ run: RunPlan, _ datagrams: [UInt8], at now: Instant, into connection: inout Connection
    ) -> Int {
        var none = NoExtension()
        return connection.flowPacketsReceived(
            pathID: 1, run, in: datagrams.span, ecn: .ect0, at: now, extension: &none)
    }

    /// What came on a path that closes is acknowledged once more, and then nothing of it is known: not what came, not that
    /// anything did.
    @Test func aClosedPathIsAcknowledgedAndForgotten() {
        var connection = Self.listener(seed: 1, isTight: false)
        var now = Instant(nanoseconds: 2_000_000_000)
        while ClearPair.transmit(&connection, at: now) != nil {}
        let datagram = [UInt8](repeating: 0, count: 13) + [0x01] + [UInt8](repeating: 0, count: 16)
        let run = RunPlan(
            start: 0, packetSize: datagram.count, end: datagram.count, headerLength: 9, firstPacketNumber: 7,
            keyGeneration: 0)
        #expect(Self.take(run, datagram, at: now, into: &connection) == 1)
        #expect(Self.take(run, datagram, at: now, into: &connection) == 0)
        connection.closeReceivePath(1, at: now)
        let last = ClearPair.transmit(&connection, at: now)
        let payload = last.map { Array($0.0[$0.1[0].payloadOffset...]) } ?? []
        #expect(payload.starts(with: [0x3f, 1, 7]), "a PATH_ACK with ECN counts of path 1, from packet 7")
        now += .seconds(1)
        #expect(ClearPair.transmit(&connection, at: now) == nil)
        #expect(connection.largestReceived(onPath: 1) == nil)
        connection.openReceivePath(1, ackDelay: .milliseconds(1), phase: .zero)
        #expect(Self.take(run, datagram, at: now, into: &connection) == 1)
    }

    /// They leave the connection as they do one by one: with the same items, events, credit and acknowledgements.
    @Test(arguments: 0..<40 as Range<UInt64>) func aRunIsItsPackets(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var singly = Self.listener(seed: seed, isTight: seed % 2 == 1)
        var together = Self.listener(seed: seed, isTight: seed % 2 == 1)
        var sender = Sender()
        var now = Instant(nanoseconds: 2_000_000_000)
        var next: UInt64 = 0
        var sent: [[UInt8]] = []
        var items = 0
        for _ in 0..<60 where singly.isActive {
            now += .microseconds(400)
            // Some come again, alone or with new ones; some never come.
            if random.next() % 4 == 0 { next += random.next() % 3 }
            let first = random.next() % 5 == 0 ? next - min(next, random.next() % 10) : next
            let count = Int(random.next() % 20) + 1
            var datagrams: [UInt8] = []
            for number in first..<(first + UInt64(count)) {
                while sent.count <= number { sent.append(sender.packet(&random)) }
                let frames = sent[Int(number)]
                // The last one may be shorter.
                let isShort = number + 1 == first + UInt64(count) && random.next() % 2 == 0
                let padding = isShort ? 0 : Self.packetSize - 29 - frames.count
                datagrams += random.octets(13) + frames + [UInt8](repeating: 0, count: padding) + random.octets(16)
            }
            next = max(next, first + UInt64(count))
            let run = RunPlan(
                start: 0, packetSize: Self.packetSize, end: datagrams.count, headerLength: 9, firstPacketNumber: first,
                keyGeneration: 0)
            #expect(run.count == count)

            var new = 0
            for index in 0..<count {
                let number = first + UInt64(index)
                let datagram = [UInt8](repeating: 0, count: 13) + Sender.withLength(sent[Int(number)])
                let one = RunPlan(
                    start: 0, packetSize: 300, end: datagram.count + 16, headerLength: 9, firstPacketNumber: number,
                    keyGeneration: 0)
                new += Self.take(one, datagram + random.octets(16), at: now, into: &singly)
            }
            let newOfRun = Self.take(run, datagrams, at: now, into: &together)
            #expect(newOfRun == new)
            let statistics = (singly.statistics, together.statistics)
            #expect(statistics.0 == statistics.1)
            while let event = singly.nextEvent() {
                let other = together.nextEvent()
                #expect(String(describing: other) == String(describing: Optional(event)))
                guard case .streamReadable(let id) = event else { continue }
                let gathered = singly.gather(id)
                let same = together.gather(id)
                #expect(same == gathered)
                guard case .whole(let chunk) = gathered else { continue }
                #expect(chunk.bytes == content(of: id, 0..<chunk.bytes.count))
                items += 1
            }
            let isQuiet = if case nil = together.nextEvent() { true } else { false }
            #expect(isQuiet)
            while let (bytes, _) = ClearPair.transmit(&singly, at: now) {
                let same = ClearPair.transmit(&together, at: now)?.0
                #expect(same == bytes)
            }
            let isDone = ClearPair.transmit(&together, at: now) == nil
            #expect(isDone)
            let deadlines = (singly.nextDeadline, together.nextDeadline)
            #expect(deadlines.0 == deadlines.1)
        }
        let (isActive, duplicates) = (singly.isActive, singly.statistics.flowPacketsDuplicate)
        #expect(isActive && items > 0 && duplicates > 0)
    }

    /// A packet that had no room is not acknowledged and does not count as received, however often it comes; its
    /// neighbours are and do.
    @Test func whatWasRefusedDoesNotCount() throws {
        var connection = Self.listener(seed: 1, isTight: true)
        let now = Instant(nanoseconds: 2_000_000_000)
        var datagrams: [UInt8] = []
        for number in 0..<3 {
            // The second goes beyond the limit of its stream.
            let offset = number == 1 ? 1490 : 0
            let id = shared(UInt64(number))
            var packet = [UInt8](repeating: 0, count: 13) + [0x0e, UInt8(id.rawValue)]
            packet += [0x40 | UInt8(offset >> 8), UInt8(offset & 0xff), 20] + content(of: id, offset..<(offset + 20))
            packet += [UInt8](repeating: 0, count: Self.packetSize - packet.count)
            datagrams += packet
        }
        let run = RunPlan(
            start: 0, packetSize: Self.packetSize, end: datagrams.count, headerLength: 9, firstPacketNumber: 70,
            keyGeneration: 0)
        let new = [run, run.packets(0..<1), run.packets(1..<2), run.packets(2..<3)].map {
            Self.take($0, datagrams, at: now, into: &connection)
        }
        #expect(new == [2, 0, 0, 0])
        let isActive = connection.isActive
        #expect(isActive)
        #expect(try Self.acknowledged(by: &connection, at: now + .milliseconds(2)) == [72, 1, 0, 0, 0])
    }

    /// What came on a flow is acknowledged with PATH_ACK in a 1-RTT packet of the connection's own path (draft sections 3.1
    /// and 7).
    @Test func aFlowIsAcknowledgedOnTheUnicastPath() throws {
        var connection = Self.listener(seed: 1, isTight: false)
        let now = Instant(nanoseconds: 2_000_000_000)
        let datagram = [UInt8](repeating: 0, count: 13) + [0x01] + [UInt8](repeating: 0, count: 16)
        let run = RunPlan(
            start: 0, packetSize: datagram.count, end: datagram.count, headerLength: 9, firstPacketNumber: 70,
            keyGeneration: 0)
        _ = Self.take(run, datagram, at: now, into: &connection)
        #expect(try Self.acknowledged(by: &connection, at: now + .milliseconds(2)) == [70, 0, 0])
    }

    /// The largest number, the count of further ranges and their lengths, of the PATH_ACK that `connection` sends for path 1.
    private static func acknowledged(by connection: inout Connection, at now: Instant) throws -> [UInt64] {
        let (bytes, plans) = try #require(ClearPair.transmit(&connection, at: now))
        #expect(plans.map(\.level) == [.application])
        let plan = try #require(plans.first)
        let frames = Array(bytes[plan.payloadOffset..<(plan.end - CipherSuite.tagLength)])
        // With the counts of marks.
        let start = try #require((0..<frames.count).first { frames[$0...].starts(with: [0x3f, 1]) })
        var reader = ByteReader(frames.span, at: start + 2)
        var out: [UInt64] = []
        if let largest = reader.varint(), reader.varint() != nil, let count = reader.varint() {
            out = [largest, count]
            for _ in 0...(2 * count) { if let value = reader.varint() { out.append(value) } }
        }
        return out
    }

    /// Whoever waits for whole streams need not ask for events before there is one.
    @Test func aWholeStreamIsTold() {
        var connection = Self.listener(seed: 1, isTight: false)
        while connection.nextEvent() != nil {}
        var seen: [Bool] = []
        for (number, type) in [UInt8(0x0a), 0x0f].enumerated() {
            let offset: [UInt8] = type & 4 == 0 ? [] : [1]
            let frames = [type, UInt8(shared(0).rawValue)] + offset + [1, 7]
            let datagram = [UInt8](repeating: 0, count: 13) + frames + [UInt8](repeating: 0, count: 16)
            let run = RunPlan(
                start: 0, packetSize: datagram.count, end: datagram.count, headerLength: 9,
                firstPacketNumber: UInt64(number), keyGeneration: 0)
            _ = Self.take(run, datagram, at: Instant(nanoseconds: 2_000_000_000), into: &connection)
            seen.append(connection.hasWholeStream)
        }
        while connection.nextEvent() != nil {}
        seen.append(connection.hasWholeStream)
        #expect(seen == [false, true, false])
    }

    /// One that breaks the rules closes the connection, wherever in a run it is.
    @Test(arguments: [0, 3, 6]) func aViolationWithinARun(position: Int) {
        var connection = Self.listener(seed: 1, isTight: false)
        var datagrams: [UInt8] = []
        for index in 0..<7 {
            datagrams += [UInt8](repeating: 0, count: 13) + [index == position ? 0x06 : 0x01]
            datagrams += [UInt8](repeating: 0, count: 16)
        }
        let run = RunPlan(
            start: 0, packetSize: 30, end: datagrams.count, headerLength: 9, firstPacketNumber: 0, keyGeneration: 0)
        _ = Self.take(run, datagrams, at: Instant(nanoseconds: 2_000_000_000), into: &connection)
        let isActive = connection.isActive
        #expect(!isActive)
    }
}
