import Glibc
import TestShims
import Testing
import Wire

@testable import Reactor

/// io_uring fails while it sends without a copy: nothing is lost, nothing the kernel may still read is written.
@Suite("sending without a copy, when that fails", .enabled(if: backends.contains(.ioUring)))
struct ZeroCopyFailureTests {
    private static let size = 1200
    private static let run = 52

    /// Which datagrams came, and how many of them did not hold their number in all places. What is sent again the ordinary
    /// way may come twice.
    private final class Checker: DatagramHandler {
        var came: Set<UInt8> = []
        var wrong = 0

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count {
                let datagram = batch[index]
                let octets = [UInt8](datagram.span)
                if octets.count != size || Set(octets).count != 1 { wrong += 1 }
                came.insert(octets[0])
            }
        }
    }

    /// A socket that sends without a copy, one that receives, and who checks what comes.
    private static func pair(
        on reactor: Reactor, arena: Int? = nil
    ) throws -> (sender: UDPSocket, receiver: UDPSocket, checker: Checker) {
        let checker = Checker()
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        receiver.handler = checker
        var options = UDPOptions()
        options.zeroCopy = .on
        if let arena { options.sendArena = arena }
        return (try reactor.udpSocket(bind: address("127.0.0.1:0"), options: options), receiver, checker)
    }

    /// Sends a run whose octets are all `number`: the place it was written to.
    private static func send(_ number: UInt8, by socket: UDPSocket, to: SocketAddress) -> UInt? {
        let place = socket.withSendBuffer(run * size) { buffer in
            for index in buffer.indices { buffer[index] = number }
            return unsafe buffer.withUnsafeMutableBufferPointer { UInt(bitPattern: $0.baseAddress) }
        }
        socket.enqueue(run * size, segment: size, to: to)
        return place
    }

    @Test(arguments: [(ts_ring_takes_nothing, 0), (ts_ring_takes_and_fails, 1)])
    func aRingThatFailsIsUsedNoMore(fault: ts_ring_fault, held: Int) throws {
        let reactor = try Reactor(io: .ioUring)
        defer { reactor.close() }
        let (sender, receiver, checker) = try Self.pair(on: reactor, arena: 3 * SendQueue.chunkSize)
        ts_ring_silence(true)
        defer { ts_ring_silence(false) }
        ts_ring_fail(fault, -EIO)
        let lost = try #require(Self.send(0, by: sender, to: receiver.localAddress))
        sender.flush()
        #expect(sender.zeroCopyDescription == "off: io_uring_enter: Input/output error")
        #expect(sender.zeroCopyUsage.held == held)
        // The others are written anew again and again, this one only if the kernel never had it.
        var places: Set<UInt> = []
        for number in UInt8(1)...20 {
            places.insert(try #require(Self.send(number, by: sender, to: receiver.localAddress)))
            #expect(reactor.turns { checker.came.contains(number) })
        }
        #expect(places.contains(lost) == (held == 0))
        #expect(checker.came.count == 21)
        #expect(checker.wrong == 0)
        #expect(sender.zeroCopyUsage.done == 0)
        #expect(reactor.counters.sendErrors.total == 0)
    }

    @Test(arguments: [-ENOBUFS, -ENOMEM])
    func whatItHasNoMemoryForIsCopied(code: Int32) throws {
        let reactor = try Reactor(io: .ioUring)
        defer { reactor.close() }
        let (sender, receiver, checker) = try Self.pair(on: reactor)
        for number in UInt8(0)..<10 {
            if number == 5 { ts_ring_fail(ts_ring_answers, code) }
            _ = Self.send(number, by: sender, to: receiver.localAddress)
            #expect(reactor.turns { checker.came.contains(number) })
        }
        #expect(sender.zeroCopyDescription == "off: \(ReactorError("send_zc", "", code: code))")
        // What came before went without a copy, nothing since.
        #expect(sender.zeroCopyUsage.done + UInt64(sender.zeroCopyUsage.held) <= 6)
        #expect(checker.wrong == 0)
        #expect(reactor.counters.sendErrors.total == 0)
        #expect(reactor.counters.segmentationFallbacks == 0)
    }

    /// The chunk of a send that nobody waited for any more is free when the kernel says so, and not before.
    @Test func whatARingTookComesBackWhenItAnswers() throws {
        let (from, to) = (try RawSocket(ipv4: true), try RawSocket(ipv4: true))
        var queue = SendQueue(arena: 2 * SendQueue.chunkSize, scope: 0, segmenting: true)
        let room = unsafe queue.room
        let sender = unsafe try ZeroCopySender(
            .on, arena: room.start, octets: room.octets, descriptor: from.descriptor, family: 4)
        defer { sender.close() }
        ts_ring_silence(true)
        defer { ts_ring_silence(false) }
        func write() -> Bool {
            guard unsafe queue.reserve(SendQueue.chunkSize, pastBatch: true) != nil else { return false }
            _ = queue.enqueue(Self.run * Self.size, segment: Self.size, to: to.address, from: nil, ecn: .notECT)
            return true
        }
        var calls: UInt64 = 0
        ts_ring_fail(ts_ring_takes_and_fails, -EIO)
        #expect(write())
        #expect(sender.send(&queue, count: 1, calls: &calls) == -EIO)
        _ = queue.advance()
        // One chunk is left.
        #expect(write())
        #expect(!write())
        sender.takeBack(&queue, look: true, calls: &calls)
        #expect(sender.held == 1)
        #expect(!write())
        ts_ring_silence(false)
        sender.takeBack(&queue, look: true, calls: &calls)
        #expect(sender.held == 0)
        #expect(write())
        #expect(!write())
        #expect(sender.send(&queue, count: 1, calls: &calls) == -EIO)
    }
}
