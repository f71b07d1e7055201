import Glibc
import Testing
import Wire

@testable import Reactor

/// What happens when the kernel says no.
@Suite struct KernelRefusalTests {
    @Test(arguments: backends)
    func bindErrorsNameTheAddressAndWhatWouldDo(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let taken = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        func complaint(_ text: SocketAddress, _ options: UDPOptions = UDPOptions()) throws -> String {
            try #require(throws: ReactorError.self) { try reactor.udpSocket(bind: text, options: options) }.description
        }
        #expect(
            try complaint(taken.localAddress)
                == "bind \(taken.localAddress): Address already in use; "
                + "another socket has it: choose another port, 0 for any free one")
        #expect(
            try complaint(address("198.51.100.77:0"))
                == "bind 198.51.100.77:0: Cannot assign requested address; "
                + "no interface of this machine has that address: use 0.0.0.0 or [::] for all")
        var options = UDPOptions()
        options.multicastInterface = "nosuch0"
        #expect(try complaint(address("127.0.0.1:0"), options).hasPrefix("interface nosuch0: no such interface"))
        // Shared ports are fine when both sides say so.
        options = UDPOptions()
        options.reusePort = true
        let first = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: options)
        let second = try reactor.udpSocket(bind: first.localAddress, options: options)
        #expect(first.localAddress == second.localAddress)
    }

    @Test func autoFallsBackToEpollAndSaysWhy() throws {
        let backend = try Reactor.makeBackend(.auto) { _ throws(ReactorError) in
            throw ReactorError("io_uring_setup", "", code: -EPERM, advice: "forbidden here")
        }
        #expect(backend.description == "epoll (io_uring_setup: Operation not permitted; forbidden here)")
        backend.close()
        let reactor = try Reactor()
        #expect(reactor.backendDescription.hasPrefix(backends.contains(.ioUring) ? "io_uring (" : "epoll ("))
        reactor.close()
        let asked = try Reactor(io: .epoll)
        #expect(asked.backendDescription == "epoll (as asked)")
        asked.close()
    }

    /// Without checksums the kernel refuses to segment: the run goes out datagram by datagram, and so do later ones.
    @Test(arguments: backends)
    func segmentationIsGivenUpWhereItIsRefused(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let collector = Collector()
        receiver.handler = collector
        var on: Int32 = 1
        unsafe setsockopt(sender.descriptor, SOL_SOCKET, SO_NO_CHECK, &on, 4)
        var sent: [[UInt8]] = []
        for round in 1...3 {
            for number in 0..<60 {
                sent.append([UInt8](repeating: UInt8(number + round), count: number == 59 ? 10 : 900))
                #expect(sender.send(sent[sent.count - 1], to: receiver.localAddress))
            }
            #expect(reactor.turns { collector.datagrams.count >= sent.count })
        }
        #expect(collector.datagrams.map(\.bytes) == sent)
        // One run each: the first is refused, the others are not tried.
        #expect(reactor.counters.segmentationFallbacks == 1)
        #expect(reactor.counters.messagesOut == 180 && reactor.counters.datagramsOut == 180)
        #expect(reactor.counters.sendErrors.total == 0)
    }

    @Test func segmentationMemoryIsBoundedAndForgets() {
        var memory = SegmentationMemory()
        let now = Instant(nanoseconds: 0)
        for host in 0..<1000 { memory.remember(.v4(UInt32(host)), segment: host == 999 ? 1400 : 0, now: now) }
        let known = (0..<1000).count { memory.refuses(.v4(UInt32($0)), segment: 1500, now: now) }
        #expect(known == SegmentationMemory.limit)
        let smaller = memory.refuses(.v4(999), segment: 1399, now: now)
        let equal = memory.refuses(.v4(999), segment: 1400, now: now)
        let later = memory.refuses(.v4(999), segment: 1400, now: now + SegmentationMemory.lifetime)
        #expect(!smaller && equal && !later)
        // The smallest counts, until it is forgotten.
        memory.remember(.v4(7), segment: 900, now: now)
        memory.remember(.v4(7), segment: 1400, now: now + .seconds(1))
        let kept = memory.refuses(.v4(7), segment: 900, now: now + .seconds(2))
        memory.remember(.v4(7), segment: 1400, now: now + SegmentationMemory.lifetime)
        let forgotten = memory.refuses(.v4(7), segment: 1399, now: now + SegmentationMemory.lifetime)
        #expect(kept && !forgotten)
    }

    /// It is not fragmented: DF is set, and IPv6 gets no fragment header.
    @Test(
        .enabled(if: mayMakeNamespaces, "needs root"), arguments: backends, [("127.0.0.1:0", 1372), ("[::1]:0", 1352)])
    func aDatagramTooLargeForThePathIsLostAndNothingElse(io: Reactor.IO, path: (address: String, most: Int)) throws {
        let outcome = try #require(
            onThread(unsharing: .network) { () -> ([Int], ReactorCounters)? in
                shell("ip link set lo up mtu 1400")
                guard let reactor = try? Reactor(io: io),
                    let sender = try? reactor.udpSocket(bind: address(path.address)),
                    let receiver = try? reactor.udpSocket(bind: address(path.address))
                else { return nil }
                defer { reactor.close() }
                let collector = Collector()
                receiver.handler = collector
                // With its headers the third is one octet more than fits; two of them are even a run.
                for size in [path.most, path.most, path.most + 1, path.most + 1, path.most + 1, 100] {
                    sender.send([UInt8](repeating: 1, count: size), to: receiver.localAddress)
                }
                _ = reactor.turns { collector.datagrams.last?.bytes.count == 100 }
                return (collector.datagrams.map(\.bytes.count), reactor.counters)
            } ?? nil)
        #expect(outcome.0 == [path.most, path.most, 100])
        #expect(outcome.1.sendErrors.tooLarge == 3 && outcome.1.sendErrors.total == 3)
        #expect(outcome.1.segmentationFallbacks == 1)
    }

    @Test(.enabled(if: mayMakeNamespaces, "needs root"), arguments: backends)
    func withoutARouteDatagramsAreCounted(io: Reactor.IO) throws {
        let counters = try #require(
            onThread(unsharing: .network) { () -> ReactorCounters? in
                guard let reactor = try? Reactor(io: io),
                    let socket = try? reactor.udpSocket(bind: address("0.0.0.0:0"))
                else { return nil }
                defer { reactor.close() }
                for _ in 0..<5 { socket.send([1], to: address("198.51.100.1:9")) }
                reactor.turn(timeout: .zero)
                return reactor.counters
            } ?? nil)
        #expect(counters.sendErrors.unreachable == 5 && counters.datagramsOut == 0)
    }

    /// A slow cable and a small send buffer: the socket blocks, the arena fills, and nothing of it is lost.
    @Test(.enabled(if: mayMakeNamespaces, "needs root"), arguments: backends)
    func aBlockedSocketKeepsItsQueueAndSaysWhenItGoesOn(io: Reactor.IO) throws {
        struct Outcome {
            var counters: ReactorCounters
            var inOrder: Bool
            var refused: Int
            var writable: Int
            var wasBlocked: Bool
        }
        let outcome = try #require(
            onThread(unsharing: .network) { () -> Outcome? in
                shell("ip link set lo up && tc qdisc add dev lo root tbf rate 200mbit burst 70kb limit 64mb")
                var options = UDPOptions()
                options.sendBuffer = 10_000
                options.sendArena = 128 << 10
                guard let reactor = try? Reactor(io: io),
                    let sender = try? reactor.udpSocket(bind: address("127.0.0.1:0"), options: options),
                    let receiver = try? reactor.udpSocket(bind: address("127.0.0.1:0"))
                else { return nil }
                defer { reactor.close() }
                let collector = Collector()
                receiver.handler = collector
                let producer = Collector()
                sender.handler = producer
                var next = 0
                var refused = 0
                var wasBlocked = false
                let total = 2000
                func produce() {
                    while next < total {
                        let bytes =
                            [UInt8(next & 255), UInt8(next >> 8)]
                            + [UInt8](repeating: 0, count: next % 5 == 0 ? 700 : 1200)
                        guard sender.send(bytes, to: receiver.localAddress) else {
                            refused += 1
                            wasBlocked = wasBlocked || !sender.isWritable
                            return
                        }
                        next += 1
                    }
                }
                producer.onWritable = { _ in produce() }
                produce()
                _ = reactor.turns { collector.datagrams.count >= total }
                let numbers = collector.datagrams.map { Int($0.bytes[0]) | Int($0.bytes[1]) << 8 }
                return Outcome(
                    counters: reactor.counters, inOrder: numbers == Array(0..<total), refused: refused,
                    writable: producer.writable, wasBlocked: wasBlocked)
            } ?? nil)
        #expect(outcome.inOrder)
        #expect(outcome.refused > 0 && outcome.wasBlocked && outcome.writable >= outcome.refused)
        #expect(outcome.counters.sendQueueFull == UInt64(outcome.refused))
        #expect(outcome.counters.sendBlocked > 0)
        #expect(outcome.counters.datagramsOut == 2000 && outcome.counters.sendErrors.total == 0)
    }
}
