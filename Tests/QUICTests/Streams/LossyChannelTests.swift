import Testing
import Wire

@testable import QUIC

/// Two tables and a channel that loses, repeats and reorders, from a seed: every stream arrives whole and once.
@Suite struct LossyChannelTests {
    /// One end, with what its application has yet to send and what it has got.
    struct End {
        var table: StreamTable
        var toOpen: Int
        /// Whether the application resets and stops streams now and then.
        var givesUp = false
        var toWrite: [StreamID: Int] = [:]
        var sizes: [StreamID: Int] = [:]
        var received: [StreamID: [UInt8]] = [:]
        var readable = Set<StreamID>()
        var finished: [StreamID] = []
        var completed: [StreamID] = []
        /// Sent streams that were given up by either end, and received ones that the peer reset or that we stopped.
        var abandoned = Set<StreamID>()
        var resets: [StreamID] = []
        var stopped = Set<StreamID>()
        var flying: [TestPacket] = []

        mutating func act(_ random: inout SeededRandom) throws {
            if toOpen > 0, Int.random(in: 0..<3, using: &random) == 0 {
                if let id = try? table.open(bidirectional: Bool.random(using: &random)) {
                    toOpen -= 1
                    plan(id, &random)
                }
            }
            if let id = toWrite.keys.sorted().randomElement(using: &random) {
                let rest = toWrite[id]!
                let done = sizes[id]! - rest
                let count = min(rest, Int.random(in: 0...400, using: &random))
                do {
                    try table.write(id, content(of: id, done..<(done + count)), fin: count == rest)
                    toWrite[id] = count == rest ? nil : rest - count
                } catch {
                    // The peer stopped it, and the event is still to come.
                    #expect(givesUp && error == .reset)
                    toWrite[id] = nil
                    abandoned.insert(id)
                }
            }
            if givesUp { giveUp(&random) }
            while let event = table.nextEvent() {
                switch event {
                case .opened(let id): if id.isBidirectional { plan(id, &random) }
                case .readable(let id): readable.insert(id)
                case .sendCompleted(let id): completed.append(id)
                case .reset(let id, let code):
                    #expect(givesUp && code == id.rawValue)
                    resets.append(id)
                    readable.remove(id)
                case .stopSending(let id, let code):
                    #expect(givesUp && code == id.rawValue)
                    toWrite[id] = nil
                    abandoned.insert(id)
                case .writable: break
                }
            }
            // Applications are slow now and then.
            if let id = readable.sorted().randomElement(using: &random), Bool.random(using: &random) {
                readable.remove(id)
                guard let chunk = table.read(id) else {
                    #expect(stopped.contains(id), "said to be readable")
                    return
                }
                #expect(chunk.offset == UInt64(received[id, default: []].count))
                received[id, default: []] += chunk.bytes
                if chunk.isFinished { finished.append(id) }
            }
        }

        private mutating func giveUp(_ random: inout SeededRandom) {
            if Int.random(in: 0..<40, using: &random) == 0, let id = sizes.keys.sorted().randomElement(using: &random),
                !completed.contains(id)
            {
                table.reset(id, code: id.rawValue)
                toWrite[id] = nil
                abandoned.insert(id)
            }
            if Int.random(in: 0..<40, using: &random) == 0, let id = readable.sorted().randomElement(using: &random) {
                table.stopSending(id, code: id.rawValue)
                stopped.insert(id)
            }
        }

        private mutating func plan(_ id: StreamID, _ random: inout SeededRandom) {
            let size = [0, 1, 300, 2000].randomElement(using: &random)!
            sizes[id] = size
            toWrite[id] = size
        }

        var isDone: Bool {
            toOpen == 0 && toWrite.isEmpty && !table.wantsToSend && flying.isEmpty && table.events.isEmpty
                && readable.isEmpty
        }
    }

    /// Both ends after everything was sent.
    private func run(seed: Int, givesUp: Bool) throws -> [End] {
        var random = SeededRandom(seed: UInt64(seed))
        let loss = [0, 5, 20, 40].randomElement(using: &random)!
        func limits() -> StreamLimits {
            .small(
                data: UInt64.random(in: 200...5000, using: &random), stream: .random(in: 50...2500, using: &random),
                streams: .random(in: 1...6, using: &random))
        }
        let pair = makePair(client: limits(), server: limits())
        var ends = [
            End(table: pair.client, toOpen: 12, givesUp: givesUp),
            End(table: pair.server, toOpen: 12, givesUp: givesUp),
        ]
        var turns = 0
        while !(ends[0].isDone && ends[1].isDone) {
            turns += 1
            try #require(turns < 200_000, "stuck")
            let here = turns & 1
            try ends[here].act(&random)
            let capacity = Int.random(in: 60...500, using: &random)
            if Bool.random(using: &random), let packet = ends[here].table.packet(capacity) {
                ends[here].flying.append(packet)
            }
            guard !ends[here].flying.isEmpty, Bool.random(using: &random) else { continue }
            let index = Int.random(in: 0..<min(8, ends[here].flying.count), using: &random)
            let packet = ends[here].flying.remove(at: index)
            if Int.random(in: 0..<100, using: &random) < loss {
                ends[here].table.lose(packet)
                continue
            }
            try ends[1 - here].table.receive(packet.bytes)
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                // The acknowledgement is lost and the packet taken for lost.
                ends[here].table.lose(packet)
            case 1:
                // Taken for lost, then acknowledged after all.
                ends[here].table.lose(packet)
                ends[here].table.acknowledge(packet)
            case 2:
                try ends[1 - here].table.receive(packet.bytes)
                ends[here].table.acknowledge(packet)
            default:
                ends[here].table.acknowledge(packet)
            }
        }
        for here in 0..<2 {
            let (table, other) = (ends[here].table, ends[1 - here].table)
            #expect(table.openSendCount == 0 && table.openReceiveCount == 0 && table.segments == 0)
            #expect(table.heldOctets == 0 && table.bufferedOctets == 0)
            #expect(table.dataSent == other.dataReceived, "both ends count alike")
            #expect(other.dataConsumed == other.dataReceived)
        }
        return ends
    }

    @Test(arguments: 0..<60) func everyStreamArrivesOnce(seed: Int) throws {
        let ends = try run(seed: seed, givesUp: false)
        for here in 0..<2 {
            let (sender, receiver) = (ends[here], ends[1 - here])
            #expect(Set(receiver.finished) == Set(sender.sizes.keys))
            #expect(receiver.finished.count == sender.sizes.count, "each ends once")
            #expect(Set(sender.completed) == Set(sender.sizes.keys) && sender.completed.count == sender.sizes.count)
            for (id, size) in sender.sizes {
                let isSame = receiver.received[id] == content(of: id, 0..<size)
                #expect(isSame, "stream \(id.rawValue)")
            }
            #expect(sender.table.dataSent == UInt64(sender.sizes.values.reduce(0, +)), "each octet is charged once")
        }
    }

    /// The same with streams that are reset and stopped: the others are none the worse, and nothing is left behind.
    @Test(arguments: 0..<60) func streamsThatAreGivenUpEndToo(seed: Int) throws {
        let ends = try run(seed: 1000 + seed, givesUp: true)
        for here in 0..<2 {
            let (sender, receiver) = (ends[here], ends[1 - here])
            #expect(Set(receiver.resets).count == receiver.resets.count)
            #expect(Set(receiver.resets).isSubset(of: sender.abandoned))
            #expect(Set(receiver.resets).isDisjoint(with: receiver.finished))
            for (id, size) in sender.sizes where !sender.abandoned.contains(id) && !receiver.stopped.contains(id) {
                let isSame = receiver.received[id] == content(of: id, 0..<size)
                #expect(isSame && receiver.finished.filter { $0 == id }.count == 1, "stream \(id.rawValue)")
                #expect(sender.completed.filter { $0 == id }.count == 1)
            }
            for (id, bytes) in receiver.received {
                let isPrefix = bytes == content(of: id, 0..<bytes.count)
                #expect(isPrefix, "stream \(id.rawValue)")
            }
        }
    }

    /// A source whose streams go over a flow from 100 000 on, with repairs and fall backs on the connection; the receiver
    /// joins late, and the flow loses a third. Limits are those of a small receiver.
    @Test(arguments: 0..<60) func everySharedStreamArrivesOnce(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let limits = StreamLimits.small(data: 4000, stream: 2500, streams: 4)
        var (client, server) = makePair(client: limits, shared: true)
        let first: UInt64 = 100_000
        let total: UInt64 = 60
        var next = first
        var items: [StreamID: [UInt8]] = [:]
        var received: [StreamID: [UInt8]] = [:]
        var finished: [StreamID] = []
        var readable = Set<StreamID>()
        var flying: [TestPacket] = []
        var turns = 0
        while finished.count < Int(total) || server.wantsToSend || client.wantsToSend || !flying.isEmpty {
            turns += 1
            try #require(turns < 100_000, "stuck with \(finished.count) of \(total)")
            // The flow takes what fits this receiver; for the rest the stream goes by unicast.
            if next < first + total, server.streamCredit > 0, server.sendCredit >= 2000, !server.wantsToSend {
                let id = shared(next)
                next += 1
                let bytes = content(of: id, 0..<[0, 10, 700, 2000].randomElement(using: &random)!)
                items[id] = bytes
                let size = UInt64(bytes.count)
                // Up to `switchAt` over the flow, in packets of 300 octets, from there by unicast.
                let onFlow = Int.random(in: 0..<4, using: &random) > 0
                let switchAt = onFlow ? (Bool.random(using: &random) ? size : size / 2) : 0
                var offset: UInt64 = 0
                if onFlow { server.chargeExternal(octets: switchAt, streams: 1) }
                while onFlow, offset < switchAt || offset == 0 {
                    let end = min(switchAt, offset + 300)
                    let fin = end == size
                    if Int.random(in: 0..<3, using: &random) > 0 {
                        let part = [UInt8](bytes[Int(offset)..<Int(end)])
                        try client.receive(id, offset, part, fin: fin, .flow)
                    } else {
                        server.sendRange(id, bytes: bytes, range: offset..<end, fin: fin, counted: false)
                    }
                    if end == offset { break }
                    offset = end
                }
                if switchAt < size || !onFlow {
                    server.sendRange(id, bytes: bytes, range: switchAt..<size, fin: true, counted: true)
                }
            }
            while let event = client.nextEvent() { if case .readable(let id) = event { readable.insert(id) } }
            if let id = readable.sorted().randomElement(using: &random), Bool.random(using: &random) {
                readable.remove(id)
                let chunk = try unwrap(client.read(id))
                received[id, default: []] += chunk.bytes
                if chunk.isFinished {
                    finished.append(id)
                    #expect(chunk.octetsFromFlow + chunk.octetsFromUnicast == UInt64(items[id]!.count))
                }
            }
            if let packet = server.packet(Int.random(in: 60...500, using: &random)) { flying.append(packet) }
            if let packet = client.packet() {
                try server.receive(packet.bytes)
                client.acknowledge(packet)
            }
            guard !flying.isEmpty, Bool.random(using: &random) else { continue }
            let packet = flying.remove(at: Int.random(in: 0..<min(5, flying.count), using: &random))
            if Int.random(in: 0..<5, using: &random) == 0 {
                server.lose(packet)
            } else {
                try client.receive(packet.bytes)
                server.acknowledge(packet)
            }
        }
        #expect(Set(finished).count == Int(total) && finished.count == Int(total))
        for (id, bytes) in items {
            let isSame = received[id] == bytes
            #expect(isSame, "stream \(id.index)")
        }
        #expect(client.statistics.octetsRefused == 0)
        #expect(server.dataSent == client.dataReceived, "both ends count the same octets")
        #expect(server.sharedStreamsSent == client.openedByPeer.unidirectional && server.sharedStreamsSent == total)
        #expect(server.openSendCount == 0 && client.openReceiveCount == 0)
        #expect(client.finished.unidirectional.count == 1)
    }
}
