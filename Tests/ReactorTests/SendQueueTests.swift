import Glibc
import Testing
import Wire

@testable import Reactor
@testable import ReactorTestSupport

/// The send queue against a kernel that takes what it likes.
@Suite struct SendQueueTests {
    /// Takes only some of what it is given, blocks, and refuses to segment, by the dice.
    private func makeMoody(seed: UInt64) throws -> Reactor {
        let backend = try StandInBackend()
        var random = SeededRandom(seed: seed)
        backend.answer = { count in
            switch random.next() % 8 {
            case 0...2: .refuses(EAGAIN)
            case 3 where seed % 2 == 0: .refuses(EINVAL)
            case 4...5: .takes(UInt32(random.next() % UInt64(count)) + 1)
            default: .takes(count)
            }
        }
        return try backend.makeReactor()
    }

    /// Whatever the kernel does, each destination gets its datagrams whole and in order, less those that were counted
    /// as refused; and when all is over nothing is queued.
    @Test(arguments: 0..<12 as Range<UInt64>)
    func nothingIsLostDoubledOrReordered(seed: UInt64) throws {
        let reactor = try makeMoody(seed: seed)
        defer { reactor.close() }
        var random = SeededRandom(seed: seed + 1000)
        var options = UDPOptions()
        options.sendArena = Int(seed % 4 + 2) * SendQueue.chunkSize
        options.segment = seed % 3 != 0
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: options)
        let receivers = try (0..<3).map { _ in try reactor.udpSocket(bind: address("127.0.0.1:0")) }
        let collectors = receivers.map { _ in Collector() }
        for index in receivers.indices { receivers[index].handler = collectors[index] }
        var sent: [[[UInt8]]] = [[], [], []]
        var full = 0

        for _ in 0..<400 {
            let target = random.next() % 8 == 0 ? Int(random.next() % 3) : 0
            let segment = [1, 300, 1200, 1200, 1252, 20_000][Int(random.next() % 6)]
            let count =
                random.next() % 4 == 0 ? segment * Int(random.next() % 5) : Int(random.next() % UInt64(segment + 1))
            let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: sent[target].count), count: min(count, 65_000))
            let from: IPAddress? = random.next() % 16 == 0 ? ip("127.0.0.1") : nil
            if sender.send(bytes, segment: segment, to: receivers[target].localAddress, from: from) {
                var start = 0
                repeat {
                    sent[target].append(Array(bytes[start..<min(start + segment, bytes.count)]))
                    start += segment
                } while start < bytes.count
            } else {
                full += 1
                reactor.turn(timeout: .zero)
            }
            if random.next() % 10 == 0 { sender.flush() }
            if random.next() % 6 == 0 { reactor.turn(timeout: .zero) }
        }
        let total = sent.reduce(0) { $0 + $1.count }
        #expect(
            reactor.turns {
                collectors.reduce(0) { $0 + $1.datagrams.count } + Int(reactor.counters.sendErrors.other) >= total
            })
        #expect(sender.queuedOctets == 0)
        #expect(reactor.counters.sendQueueFull == UInt64(full))
        #expect(Int(reactor.counters.datagramsOut + reactor.counters.sendErrors.other) == total)
        #expect(seed % 2 == 0 || reactor.counters.sendErrors.total == 0)
        for index in receivers.indices {
            let heard = collectors[index].datagrams.map(\.bytes)
            #expect(reactor.counters.sendErrors.other > 0 || heard == sent[index])
            #expect(isSubsequence(heard, of: sent[index]))
        }
    }

    private func isSubsequence(_ part: [[UInt8]], of whole: [[UInt8]]) -> Bool {
        var rest = whole[...]
        for element in part {
            guard let position = rest.firstIndex(of: element) else { return false }
            rest = rest[(position + 1)...]
        }
        return true
    }

    /// A run goes to many destinations from where it lies, whatever of it the kernel has taken in between.
    @Test(arguments: 0..<6 as Range<UInt64>)
    func oneRunGoesToMany(seed: UInt64) throws {
        let reactor = try makeMoody(seed: seed)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receivers = try (0..<5).map { _ in try reactor.udpSocket(bind: address("127.0.0.1:0")) }
        let collectors = receivers.map { _ in Collector() }
        for index in receivers.indices { receivers[index].handler = collectors[index] }
        // Nothing is there to be sent again.
        sender.enqueueAgain(to: receivers[0].localAddress)
        var sent: [[UInt8]] = []
        for number in UInt8(0)..<60 {
            let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0) ^ number }
            guard sender.send(bytes, segment: 1200, to: receivers[0].localAddress) else {
                reactor.turn(timeout: .zero)
                continue
            }
            for index in 1..<5 {
                if seed % 3 == 0 { sender.flush() }
                sender.enqueueAgain(to: receivers[index].localAddress)
            }
            sent += [bytes[..<1200], bytes[1200..<2400], bytes[2400...]].map(Array.init)
            reactor.turn(timeout: .zero)
        }
        #expect(
            reactor.turns {
                collectors.reduce(0) { $0 + $1.datagrams.count } + Int(reactor.counters.sendErrors.other) >= sent.count
                    * 5
            })
        #expect(sender.queuedOctets == 0)
        for collector in collectors {
            let heard = collector.datagrams.map(\.bytes)
            #expect(reactor.counters.sendErrors.other > 0 || heard == sent)
            #expect(isSubsequence(heard, of: sent))
        }
    }

    /// A probe of the path leaves together with the smaller datagram behind it. Where it is too large both go by
    /// themselves, and what comes later in runs, whichever error the kernel has for it.
    @Test(arguments: [EINVAL, EMSGSIZE])
    func aProbeThatIsTooLargeKeepsNoRunFromLeaving(code: Int32) throws {
        let backend = try StandInBackend()
        let reactor = try backend.makeReactor()
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let collector = Collector()
        receiver.handler = collector
        var sizes: [Int] = []
        func send(_ size: Int) {
            #expect(sender.send([UInt8](repeating: 7, count: size), to: receiver.localAddress))
            sizes.append(size)
        }
        var refusals = 1
        backend.answer = { count in
            refusals -= 1
            return refusals == 0 ? .refuses(code) : .takes(count)
        }
        send(8952)
        for _ in 0..<11 { send(1452) }
        sender.flush()
        // The probe, what was behind it, and the rest at once.
        #expect(reactor.counters.messagesOut == 3 && reactor.counters.segmentationFallbacks == 1)
        for _ in 0..<10 { send(1452) }
        sender.flush()
        #expect(reactor.counters.messagesOut == 4)
        // The next one goes alone at once.
        for size in [8952, 1452, 1452, 1452] { send(size) }
        #expect(reactor.turns { collector.datagrams.count == sizes.count })
        #expect(collector.datagrams.map(\.bytes.count) == sizes)
        #expect(reactor.counters.sendErrors.total == 0)
    }

    /// As many runs as there is room for, each to a destination of its own: the queue flushes by itself.
    @Test(arguments: backends)
    func manyDestinationsAreOneTurn(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receiver = try reactor.udpSocket(bind: address("0.0.0.0:0"))
        let collector = Collector()
        receiver.handler = collector
        for host in 0..<3000 {
            let to = SocketAddress(.v4(0x7f00_0001 + UInt32(host)), port: receiver.localAddress.port)
            #expect(sender.send([UInt8(host & 255)], to: to))
        }
        #expect(reactor.counters.datagramsOut == 2048)
        #expect(reactor.turns { collector.datagrams.count >= 3000 })
        #expect(collector.datagrams.map(\.local.address) == (0..<3000).map { .v4(0x7f00_0001 + UInt32($0)) })
        #expect(reactor.counters.sendBatches == 47 && reactor.counters.longestSendBatch == 64)
    }
}
