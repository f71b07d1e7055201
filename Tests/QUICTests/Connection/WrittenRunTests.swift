import QUIC
import Testing
import Wire

/// Runs of datagrams against the same connection that writes them one by one.
@Suite("Datagrams that are written together")
struct WrittenRunTests {
    /// What a connection sends when it is asked for `most` datagrams at a time.
    private struct Transfer: ~Copyable {
        var pair: ClearPair
        var wire: [UInt8] = []
        var plans: [PacketPlan] = []
        /// The most datagrams that came as one run.
        var longest = 0
        /// Of a datagram each.
        var sizes: [Int] = []

        init(seed: UInt64, streams: Int, octets: Int) throws {
            var client = ConnectionConfiguration()
            client.parameters.initialMaxData = 200_000
            client.parameters.initialMaxStreamDataUni = 90_000
            pair = ClearPair(seed: seed, client: client)
            pair.delay = .milliseconds(2)
            pair.handshake()
            var random = SeededRandom(seed: seed)
            for _ in 0..<streams {
                let id = try pair.server.openStream(bidirectional: false)
                try pair.server.write(id, random.octets(octets), fin: true)
            }
        }

        mutating func round(most: Int, drop: Int) {
            var datagrams: [(bytes: [UInt8], plans: [PacketPlan])] = []
            var isDone = false
            while !isDone {
                var bytes = [UInt8](repeating: 0, count: 64_000)
                var plans: [PacketPlan] = []
                var out: [OutgoingDatagram] = []
                do {
                    var span = bytes.mutableSpan
                    var writer = ByteWriter(&span)
                    isDone = pair.server.transmit(
                        into: &writer, most: most, plans: &plans, datagrams: &out, at: pair.now)
                }
                var begin = 0
                for run in out {
                    longest = max(longest, (run.count + run.segment - 1) / run.segment)
                    let end = begin + run.count
                    while begin < end {
                        let size = min(run.segment, end - begin)
                        let moved = plans.filter { (begin..<(begin + size)).contains($0.start) }.map {
                            var plan = $0
                            plan.start -= begin
                            plan.packetNumberOffset -= begin
                            plan.end -= begin
                            return plan
                        }
                        datagrams.append((Array(bytes[begin..<(begin + size)]), moved))
                        begin += size
                    }
                }
            }
            for (index, datagram) in datagrams.enumerated() {
                wire += datagram.bytes
                plans += datagram.plans
                sizes.append(datagram.bytes.count)
                if drop > 0, (sizes.count - datagrams.count + index) % drop == 7 { continue }
                ClearPair.deliver(
                    datagram.bytes, datagram.plans, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
            }
            while let event = pair.client.nextEvent() {
                if case .streamReadable(let id) = event { while pair.client.read(id) != nil {} }
            }
            while pair.server.nextEvent() != nil {}
            pair.now += .milliseconds(2)
            while let (bytes, plans) = ClearPair.transmit(&pair.client, at: pair.now) {
                ClearPair.deliver(bytes, plans, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
            }
            pair.now += .milliseconds(1)
            if pair.server.nextDeadline <= pair.now { pair.server.timerFired(at: pair.now) }
            if pair.client.nextDeadline <= pair.now { pair.client.timerFired(at: pair.now) }
        }
    }

    @Test("octet for octet what is written one by one", arguments: 1..<5 as Range<UInt64>, [0, 53])
    func equal(seed: UInt64, drop: Int) throws {
        var together = try Transfer(seed: seed, streams: 3, octets: 120_000)
        var single = try Transfer(seed: seed, streams: 3, octets: 120_000)
        for _ in 0..<300 where together.pair.server.sendingStreamCount > 0 {
            together.round(most: 44, drop: drop)
            single.round(most: 1, drop: drop)
            guard together.sizes == single.sizes, together.wire == single.wire, together.plans == single.plans else {
                Issue.record("they differ after \(together.sizes.count) and \(single.sizes.count) datagrams")
                return
            }
        }
        #expect(together.longest > 8 && single.longest == 1)
        let (a, b) = (together.pair.server.statistics, single.pair.server.statistics)
        #expect(a == b && a.octetsSent > 360_000)
        #expect(together.pair.server.sendingStreamCount == 0, "everything was acknowledged")
    }
}
