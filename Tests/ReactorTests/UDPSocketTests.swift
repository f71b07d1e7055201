import Glibc
import Reactor
import Testing
import Wire

/// Datagrams on the loopback, checked against the C library's own calls.
@Suite struct UDPSocketTests {
    @Test(arguments: backends, [true, false])
    func aRawPeerSeesWhatWeSendAndWeSeeWhatItSends(io: Reactor.IO, ipv4: Bool) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let peer = try RawSocket(ipv4: ipv4)
        let socket = try reactor.udpSocket(bind: address(ipv4 ? "127.0.0.1:0" : "[::1]:0"))
        let collector = Collector()
        socket.handler = collector
        let messages = (0..<300).map { [UInt8](repeating: UInt8($0 & 255), count: $0 * 5) }
        // Fewer at a time than the raw socket's default buffer holds.
        for start in stride(from: 0, to: messages.count, by: 50) {
            for message in messages[start..<start + 50] { #expect(socket.send(message, to: peer.address)) }
            socket.flush()
            for message in messages[start..<start + 50] {
                let heard = try #require(peer.receive())
                #expect(heard.bytes == message)
                #expect(heard.source == socket.localAddress)
            }
        }
        for message in messages { peer.send(message, to: socket.localAddress) }
        #expect(reactor.turns { collector.datagrams.count >= messages.count })
        #expect(collector.datagrams.map(\.bytes) == messages)
        #expect(collector.datagrams.allSatisfy { $0.source == peer.address && $0.local == socket.localAddress })
        #expect(collector.datagrams.allSatisfy { $0.interface == 1 })
    }

    @Test(arguments: backends, ["127.0.0.1:0", "[::1]:0"])
    func manyDatagramsGoInFewSystemCalls(io: Reactor.IO, bind: String) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address(bind))
        let receiver = try reactor.udpSocket(bind: address(bind))
        let collector = Collector()
        receiver.handler = collector
        let size = 1252
        var sent: [[UInt8]] = []
        var random = SeededRandom(seed: 1)
        for _ in 0..<520 {
            sent.append(random.octets(size))
            #expect(sender.send(sent[sent.count - 1], to: receiver.localAddress, ecn: .ect0))
        }
        #expect(reactor.turns { collector.datagrams.count >= sent.count })
        #expect(collector.datagrams.map(\.bytes) == sent)
        #expect(collector.datagrams.allSatisfy { $0.ecn == .ect0 && $0.source == sender.localAddress })
        let counters = reactor.counters
        #expect(counters.datagramsOut == 520 && counters.datagramsIn == 520)
        #expect(counters.octetsOut == UInt64(520 * size) && counters.octetsIn == UInt64(520 * size))
        // Runs of 52 datagrams, and what is left at the end of a chunk; the loopback hands them over whole.
        #expect(counters.messagesOut <= 12 && counters.messagesIn == counters.messagesOut)
        #expect(counters.longestSendBatch >= 4)
        #expect(counters.longestReceiveBatch >= 52)
        #expect(counters.segmentationFallbacks == 0 && counters.sendErrors.total == 0 && counters.truncated == 0)
        #expect(counters.systemCalls < 52)
    }

    @Test(arguments: backends)
    func oneRoomMayHoldManyDatagrams(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let collector = Collector()
        receiver.handler = collector
        var random = SeededRandom(seed: 2)
        let bytes = random.octets(65_000)
        #expect(sender.send(bytes, segment: 300, to: receiver.localAddress))
        // 300 + 1: grows the run it follows, then ends it.
        #expect(reactor.turns { collector.datagrams.count >= 217 })
        #expect(collector.datagrams.map(\.bytes.count) == [Int](repeating: 300, count: 216) + [200])
        #expect(collector.datagrams.flatMap(\.bytes) == bytes)
        #expect(reactor.counters.messagesOut == 4)
    }

    @Test(arguments: backends)
    func unequalSizesAndEmptyDatagramsKeepTheirBordersAndTheirOrder(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receivers = try (0..<3).map { _ in try reactor.udpSocket(bind: address("127.0.0.1:0")) }
        let collectors = receivers.map { _ in Collector() }
        for index in receivers.indices { receivers[index].handler = collectors[index] }
        var random = SeededRandom(seed: 3)
        var sent: [[Collector.Datagram]] = [[], [], []]
        for _ in 0..<400 {
            let target = Int(random.next() % 3)
            let sizes = [0, 1, 99, 1200, 1200, 1200, 1200, 1452, 9000, UDPSocket.datagramLimit]
            let size = sizes[Int(random.next() % UInt64(sizes.count))]
            let ecn = ECN(rawValue: UInt8(random.next() % 4 / 2 * 2)) ?? .notECT
            // Runs of like datagrams are what joins.
            for _ in 0..<(size > 9000 ? 1 : random.next() % 6 + 1) {
                let bytes = random.octets(size)
                #expect(sender.send(bytes, to: receivers[target].localAddress, ecn: ecn))
                sent[target].append(
                    Collector.Datagram(
                        bytes: bytes, source: sender.localAddress, local: receivers[target].localAddress, ecn: ecn,
                        interface: 1))
            }
            if random.next() % 8 == 0 { reactor.turn(timeout: .zero) }
        }
        let total = sent.reduce(0) { $0 + $1.count }
        #expect(reactor.turns { collectors.reduce(0) { $0 + $1.datagrams.count } >= total })
        for index in receivers.indices { #expect(collectors[index].datagrams == sent[index]) }
        #expect(reactor.counters.datagramsOut == UInt64(total))
        #expect(reactor.counters.kernelDrops == 0)
    }

    /// So many sockets, each with `each` datagrams that wait for it.
    private static func collectors(_ count: Int, on reactor: Reactor, whichAreSent each: Int) throws -> [Collector] {
        let outside = try Reactor(io: .epoll)
        defer { outside.close() }
        let sender = try outside.udpSocket(bind: address("127.0.0.1:0"))
        let receivers = try (0..<count).map { _ in try reactor.udpSocket(bind: address("127.0.0.1:0")) }
        let collectors = receivers.map { _ in Collector() }
        for index in receivers.indices { receivers[index].handler = collectors[index] }
        // The requests to receive are made.
        reactor.turn(timeout: .zero)
        // Sizes that grow keep datagrams apart.
        for size in 1...each {
            for receiver in receivers {
                #expect(sender.send([UInt8](repeating: 1, count: size), to: receiver.localAddress))
            }
            outside.turn(timeout: .zero)
        }
        return collectors
    }

    /// More is waiting at many sockets than one batch takes: no socket waits for the busy ones before it.
    @Test(arguments: backends)
    func everyBusySocketHasItsTurn(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let collectors = try Self.collectors(40, on: reactor, whichAreSent: 60)
        // The kernel runs so many requests at a time.
        for _ in 0..<3 { reactor.turn(timeout: .zero) }
        #expect(collectors.allSatisfy { !$0.datagrams.isEmpty }, "\(collectors.map(\.datagrams.count))")
        #expect(reactor.turns { collectors.reduce(0) { $0 + $1.datagrams.count } >= 40 * 60 })
    }

    /// What is there when a turn begins is taken in it, at one busy socket and at more sockets than one look of the kernel
    /// serves: what is left would wait behind all that the turn gives rise to.
    @Test(arguments: backends, [(sockets: 1, each: 100), (sockets: 60, each: 1), (sockets: 25, each: 8)])
    func aTurnTakesWhatIsThere(io: Reactor.IO, load: (sockets: Int, each: Int)) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let collectors = try Self.collectors(load.sockets, on: reactor, whichAreSent: load.each)
        reactor.turn(timeout: .zero)
        #expect(collectors.map(\.datagrams.count) == collectors.map { _ in load.each })
        #expect(reactor.counters.messagesIn == UInt64(load.sockets * load.each))
    }

    /// And yet it ends, though each datagram brings another: the loop has more to do.
    @Test(arguments: backends)
    func aTurnEndsWhileMoreArrives(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let socket = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let echo = Echo()
        socket.handler = echo
        socket.send([1], to: socket.localAddress)
        reactor.turn(timeout: .seconds(1))
        let first = echo.batches
        #expect(first > 0)
        reactor.turn(timeout: .seconds(1))
        #expect(echo.batches > first && echo.batches <= first + 4)
    }

    @Test(arguments: backends, ["127.0.0.1:0", "[::1]:0"])
    func ecnMarksArrive(io: Reactor.IO, bind: String) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address(bind))
        let receiver = try reactor.udpSocket(bind: address(bind))
        let collector = Collector()
        receiver.handler = collector
        let marks: [ECN] = [.notECT, .ect1, .ect0, .ce, .notECT]
        for mark in marks { sender.send([1, 2, 3], to: receiver.localAddress, ecn: mark) }
        #expect(reactor.turns { collector.datagrams.count >= marks.count })
        #expect(collector.datagrams.map(\.ecn) == marks)
    }

    @Test(arguments: backends)
    func theOriginCanBeChosenPerDatagram(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let server = try reactor.udpSocket(bind: address("0.0.0.0:0"))
        let client = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let atServer = Collector()
        let atClient = Collector()
        server.handler = atServer
        client.handler = atClient
        let targets = ["127.0.0.1", "127.0.0.9", "127.5.4.3"].map {
            SocketAddress(ip($0), port: server.localAddress.port)
        }
        for target in targets { client.send([7], to: target) }
        #expect(reactor.turns { atServer.datagrams.count >= targets.count })
        #expect(atServer.datagrams.map(\.local) == targets)
        for datagram in atServer.datagrams { server.send([8], to: datagram.source, from: datagram.local.address) }
        // A group is not an address to send from: left to the kernel.
        server.send([9], to: client.localAddress, from: ip("239.1.2.3"))
        #expect(reactor.turns { atClient.datagrams.count >= targets.count + 1 })
        #expect(atClient.datagrams.prefix(3).map(\.source) == targets)
        #expect(atClient.datagrams[3].source.address == ip("127.0.0.1"))
    }

    @Test(arguments: backends)
    func anIPv6SocketServesBothWhenAsked(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var options = UDPOptions()
        options.onlyIPv6 = false
        let server = try reactor.udpSocket(bind: address("[::]:0"), options: options)
        let atServer = Collector()
        server.handler = atServer
        for host in ["127.0.0.3", "::1"] {
            atServer.datagrams = []
            let client = try reactor.udpSocket(bind: SocketAddress(ip(host), port: 0))
            let atClient = Collector()
            client.handler = atClient
            let target = SocketAddress(ip(host), port: server.localAddress.port)
            client.send([1], to: target, ecn: .ce)
            #expect(reactor.turns { !atServer.datagrams.isEmpty })
            let heard = try #require(atServer.datagrams.first)
            #expect(heard.source == client.localAddress && heard.local == target && heard.ecn == .ce)
            for _ in 0..<3 { server.send([2, 2], to: heard.source, from: heard.local.address, ecn: .ect1) }
            #expect(reactor.turns { atClient.datagrams.count >= 3 })
            #expect(atClient.datagrams.allSatisfy { $0.source == target && $0.ecn == .ect1 })
        }
    }

    @Test(arguments: backends)
    func datagramsMayBeChangedInPlace(io: Reactor.IO) throws {
        final class Changer: DatagramHandler {
            var sums: [Int] = []

            func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
                for index in 0..<batch.count {
                    batch.withBytes(index) { bytes in
                        for at in bytes.indices { bytes[at] ^= 0xff }
                    }
                }
                for index in 0..<batch.count {
                    let bytes = batch[index]
                    var sum = 0
                    for at in bytes.indices { sum += Int(bytes[at]) }
                    sums.append(sum)
                }
            }
        }
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let changer = Changer()
        receiver.handler = changer
        for value in 0..<10 {
            sender.send([UInt8](repeating: 0xff ^ UInt8(value), count: 100), to: receiver.localAddress)
        }
        #expect(reactor.turns { changer.sums.count >= 10 })
        #expect(changer.sums == (0..<10).map { $0 * 100 })
    }

    @Test(arguments: backends)
    func handlersMayCloseSocketsAndTheReactor(io: Reactor.IO) throws {
        final class Closer: DatagramHandler {
            var heard = 0
            var act: (UDPSocket) -> Void = { _ in }

            func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
                heard += 1
                act(socket)
                // The batch outlives what it came in by.
                #expect(batch[0].count == 3)
            }
        }
        let reactor = try Reactor(io: io)
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let first = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let second = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let closer = Closer()
        first.handler = closer
        second.handler = closer
        // Whichever is heard first closes both.
        closer.act = { _ in
            first.close()
            second.close()
        }
        for socket in [first, second] { sender.send([1, 2, 3], to: socket.localAddress) }
        #expect(reactor.turns { closer.heard > 0 })
        #expect(!first.isOpen && !second.isOpen)
        #expect(!first.send([1], to: sender.localAddress))
        // The port is free at once, and the slot's next tenant does not inherit events.
        let third = try reactor.udpSocket(bind: first.localAddress)
        third.handler = closer
        closer.act = { _ in reactor.close() }
        sender.send([1, 2, 3], to: third.localAddress)
        #expect(reactor.turns { closer.heard == 2 })
        #expect(!third.isOpen && !sender.isOpen)
        reactor.turn()
        #expect(throws: ReactorError.self) { try reactor.udpSocket(bind: address("127.0.0.1:0")) }
    }

    @Test(arguments: backends)
    func aFullReceiveBufferIsCounted(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        var options = UDPOptions()
        options.receiveBuffer = 20_000
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: options)
        let collector = Collector()
        receiver.handler = collector
        let peer = try RawSocket(ipv4: true)
        for number in 0..<200 { peer.send([UInt8](repeating: UInt8(number), count: 1000), to: receiver.localAddress) }
        #expect(reactor.turns { !collector.datagrams.isEmpty })
        reactor.turn(timeout: .zero)
        // The kernel tells of drops with the next datagram it takes.
        peer.send([0xee], to: receiver.localAddress)
        #expect(reactor.turns { collector.datagrams.last?.bytes == [0xee] })
        #expect(reactor.counters.kernelDrops + UInt64(collector.datagrams.count) == 201)
        #expect(reactor.counters.kernelDrops > 0)
    }
}

/// Sends itself a datagram for each batch, at once.
private final class Echo: DatagramHandler {
    var batches = 0

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        batches += 1
        socket.send([1], to: socket.localAddress)
        socket.flush()
    }
}
