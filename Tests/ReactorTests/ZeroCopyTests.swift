import Testing
import Wire

@testable import Reactor

@Suite("which way of sending is chosen")
struct ZeroCopyChoiceTests {
    private static let start = Instant(nanoseconds: 1_000_000_000)

    /// Goes through one trial with these costs per send, and back comes what was chosen.
    private static func trial(
        _ choice: inout ZeroCopyChoice, copy: Int64, zeroCopy: Int64, copied: Int = 0, at now: Instant
    ) -> ZeroCopyChoice.Way {
        var tries = (copy: 0, zeroCopy: 0)
        while true {
            let (way, isMeasured) = choice.next(octets: 60_000, at: now)
            guard isMeasured else { break }
            if way == .copy { tries.copy += 1 } else { tries.zeroCopy += 1 }
            // One in a while is disturbed.
            let disturbance: Int64 = tries.copy % 5 == 4 ? 1_000_000 : 0
            choice.measured(
                way, nanoseconds: (way == .copy ? copy : zeroCopy) + disturbance, octets: 60_000, at: now)
            if way == .zeroCopy { choice.gaveBack(1, copied: tries.zeroCopy <= copied ? 1 : 0) }
        }
        #expect(tries == (ZeroCopyChoice.samples, ZeroCopyChoice.samples))
        return choice.way
    }

    @Test func theCheaperWayIsChosenAndMeasuredAgain() {
        var now = Self.start
        var choice = ZeroCopyChoice(.auto)
        #expect(Self.trial(&choice, copy: 4000, zeroCopy: 2000, at: now) == .zeroCopy)
        #expect(choice.reason == "on: 40 ns per 1200 octets without a copy, 80 with")
        now += ZeroCopyChoice.interval - .nanoseconds(1)
        let inUse = choice.next(octets: 60_000, at: now)
        #expect(inUse.way == .zeroCopy && !inUse.isMeasured)
        // The route has changed.
        now += .nanoseconds(1)
        #expect(Self.trial(&choice, copy: 4000, zeroCopy: 5000, at: now) == .copy)
        #expect(choice.reason == "off: 100 ns per 1200 octets without a copy, 80 with")
    }

    @Test func aSavingOfNothingIsNotWorthIt() {
        var choice = ZeroCopyChoice(.auto)
        #expect(Self.trial(&choice, copy: 4000, zeroCopy: 3900, at: Self.start) == .copy)
    }

    @Test func aWayOnWhichTheKernelCopiesIsNotTaken() {
        var choice = ZeroCopyChoice(.auto)
        #expect(Self.trial(&choice, copy: 4000, zeroCopy: 2000, copied: 12, at: Self.start) == .copy)
        #expect(choice.reason.hasSuffix("the kernel copies all the same on this way"))
    }

    @Test func smallSendsAreNotMeasured() {
        var choice = ZeroCopyChoice(.auto)
        let next = choice.next(octets: 1200, at: Self.start)
        #expect(next.way == .copy && !next.isMeasured)
    }

    @Test(arguments: [ZeroCopyMode.auto, .on])
    func aFailureEndsItForAWhile(mode: ZeroCopyMode) {
        var choice = ZeroCopyChoice(mode)
        choice.failed("send_zc: no memory", at: Self.start)
        #expect(choice.reason == "off: send_zc: no memory")
        #expect(choice.next(octets: 60_000, at: Self.start + .seconds(9)).way == .copy)
        let later = choice.next(octets: 60_000, at: Self.start + ZeroCopyChoice.interval)
        #expect(mode == .on ? later.way == .zeroCopy : later.isMeasured)
    }

    @Test func whatIsAskedForIsDone() {
        var on = ZeroCopyChoice(.on)
        let next = on.next(octets: 60_000, at: Self.start)
        #expect(next.way == .zeroCopy && !next.isMeasured)
        var off = ZeroCopyChoice(.off)
        #expect(off.next(octets: 60_000, at: Self.start + .seconds(100)).way == .copy)
    }
}

@Suite("sending without a copy")
struct ZeroCopyTests {
    private static let size = 1200
    private static let run = 52

    private static func options(_ mode: ZeroCopyMode, chunks: Int) -> UDPOptions {
        var options = UDPOptions()
        options.zeroCopy = mode
        options.sendArena = chunks * SendQueue.chunkSize
        return options
    }

    /// Octet `place` of datagram `number`: no two datagrams near each other are alike in any place.
    private static func octet(_ number: Int, _ place: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: number &* 167 &+ place &* 31 &+ (number >> 8))
    }

    /// Counts whole datagrams that hold what they should, in the order in which they were sent.
    final class Checker: DatagramHandler {
        var count = 0
        var wrong = 0

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count {
                let octets = batch[index]
                let span = octets.span
                var isRight = span.count == ZeroCopyTests.size
                for place in span.indices where span[place] != ZeroCopyTests.octet(count, place) { isRight = false }
                if !isRight { wrong += 1 }
                count += 1
            }
        }
    }

    /// Queues runs until `limit` datagrams are under way, or there is no room.
    private static func fill(_ socket: UDPSocket, to: SocketAddress, sent: inout Int, limit: Int) {
        while sent < limit {
            let first = sent
            let room: Void? = socket.withSendBuffer(run * size) { buffer in
                for index in 0..<run {
                    for place in 0..<size { buffer[index * size + place] = octet(first + index, place) }
                }
            }
            guard room != nil else { return }
            socket.enqueue(run * size, segment: size, to: to)
            sent += run
        }
    }

    /// Two chunks carry seventeen thousand datagrams, so that each is written anew again and again.
    @Test(arguments: backends, [ZeroCopyMode.on, .auto])
    func everyOctetArrives(io: Reactor.IO, mode: ZeroCopyMode) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let checker = Checker()
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        receiver.handler = checker
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: Self.options(mode, chunks: 2))
        var sent = 0
        while sent < 320 * Self.run {
            Self.fill(sender, to: receiver.localAddress, sent: &sent, limit: sent + 3 * Self.run)
            let all = sent
            #expect(reactor.turns { checker.count == all })
        }
        #expect(checker.wrong == 0)
        #expect(reactor.counters.sendErrors.total == 0)
        #expect(reactor.counters.segmentationFallbacks == 0)
        switch (io, mode) {
        case (.epoll, _): #expect(sender.zeroCopyDescription == "off: it takes io_uring")
        case (_, .on):
            #expect(sender.zeroCopyUsage.done > 0)
            #expect(sender.zeroCopyDescription == "on, as asked")
        default:
            // The receiver is on this host.
            #expect(sender.zeroCopyDescription.hasSuffix("the kernel copies all the same on this way"))
        }
    }

    /// Datagrams that cannot go this way, small ones and such of another size, keep their place between those that can.
    @Test(arguments: backends)
    func theOrderIsKept(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let collector = Collector()
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        receiver.handler = collector
        let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: Self.options(.on, chunks: 16))
        var expected: [[UInt8]] = []
        func send(_ count: Int, of size: Int, ecn: ECN = .notECT) {
            let bytes = (0..<(count * size)).map { UInt8(truncatingIfNeeded: $0 / size + expected.count) }
            #expect(sender.send(bytes, segment: size, to: receiver.localAddress, ecn: ecn))
            for index in 0..<count { expected.append(Array(bytes[(index * size)..<((index + 1) * size)])) }
        }
        for _ in 0..<3 {
            send(40, of: 1200)
            send(1, of: 1400)
            send(1, of: 20)
            send(30, of: 1000)
            send(20, of: 1200, ecn: .ect0)
            send(1, of: 1300)
            send(50, of: 1200)
        }
        #expect(reactor.turns { collector.datagrams.count == expected.count })
        #expect(collector.datagrams.map(\.bytes) == expected)
    }

    /// No chunk that the kernel still reads is written, however much is asked for; once given back, it is used again.
    @Test func whatIsHeldIsNotWritten() throws {
        var queue = SendQueue(arena: 4 * SendQueue.chunkSize, scope: 0, segmenting: true)
        let to = address("192.0.2.1:9")
        let count = Self.run * Self.size
        var held: Set<Int> = []
        func write() -> Int? {
            guard unsafe queue.reserve(SendQueue.chunkSize, pastBatch: true) != nil else { return nil }
            _ = queue.enqueue(count, segment: Self.size, to: to, from: nil, ecn: .notECT)
            let chunk = unsafe Int(queue.next.pointee.chunk)
            unsafe queue.next.pointee.held = true
            queue.hold(first: 1)
            _ = queue.advance()
            return chunk
        }
        for _ in 0..<4 {
            let chunk = try #require(write())
            #expect(held.insert(chunk).inserted)
        }
        #expect(queue.isEmpty && queue.queuedOctets == 0)
        #expect(write() == nil)
        for chunk in [2, 0, 3, 1] {
            queue.giveBack(chunk)
            #expect(write() == chunk)
            #expect(write() == nil)
        }
    }

    /// The socket closes while the kernel may still read, again and again.
    @Test(arguments: backends)
    func closingUnderLoadHarmsNothing(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let checker = Checker()
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        receiver.handler = checker
        for round in 1...20 {
            let sender = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: Self.options(.on, chunks: 4))
            var sent = checker.count
            Self.fill(sender, to: receiver.localAddress, sent: &sent, limit: sent + 2 * Self.run)
            sender.flush()
            // Queued and never sent.
            Self.fill(sender, to: receiver.localAddress, sent: &sent, limit: sent + Self.run)
            sender.close()
            #expect(reactor.turns { checker.count == round * 2 * Self.run })
        }
        #expect(checker.wrong == 0)
    }

    /// The kernel registers no buffer above a gigabyte.
    @Test func whatCannotBeRegisteredIsCopied() throws {
        guard backends.contains(.ioUring) else { return }
        let reactor = try Reactor(io: .ioUring)
        defer { reactor.close() }
        let checker = Checker()
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        receiver.handler = checker
        let sender = try reactor.udpSocket(
            bind: address("127.0.0.1:0"), options: Self.options(.on, chunks: (1 << 14) + 1))
        #expect(sender.zeroCopyDescription.hasPrefix("off: registering buffers"))
        var sent = 0
        Self.fill(sender, to: receiver.localAddress, sent: &sent, limit: Self.run)
        #expect(reactor.turns { checker.count == Self.run })
        #expect(checker.wrong == 0)
    }
}
