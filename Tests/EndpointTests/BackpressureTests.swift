import Flexicast
import QUIC
import Testing
import Wire

@testable import Endpoint
@testable import Reactor

/// A flow that is copied to many, and a kernel that takes nothing for a while.
@Suite struct BackpressureTests {
    /// Sends through epoll, or says that the buffer is full.
    final class Full: Backend {
        let inner: EpollBackend
        var isFull = true
        var blocked: [Token] = []

        init() throws { inner = try EpollBackend(reason: "full") }

        var description: String { inner.description }
        var hasRings: Bool { false }
        var overflow: UInt64 { 0 }
        func receive(_ token: Token, descriptor: Int32) throws(ReactorError) {
            try inner.receive(token, descriptor: descriptor)
        }
        func watch(_ token: Token, descriptor: Int32) throws(ReactorError) {
            try inner.watch(token, descriptor: descriptor)
        }
        func awaitWritable(_ token: Token, descriptor: Int32) { blocked.append(token) }
        func remove(_ token: Token, descriptor: Int32) { inner.remove(token, descriptor: descriptor) }
        func close() { inner.close() }

        func wait(nanoseconds: Int64, events: some BackendEvents) {
            inner.wait(nanoseconds: isFull ? nanoseconds : 0, events: events)
            guard !isFull else { return }
            let tokens = blocked
            blocked = []
            for token in tokens { events.writable(token) }
        }

        func send(_ outbox: OpaquePointer, count: UInt32, on descriptor: Int32) -> Int32 {
            isFull ? -11 : unsafe inner.send(outbox, count: count, on: descriptor)
        }
    }

    /// Six hundred copies of each run do not fit the queue twice: they leave, or are not made.
    @Test func noCopyIsLostWhenTheKernelIsFull() throws {
        let backend = try Full()
        let reactor = try Reactor(backend: backend)
        defer { reactor.close() }
        let sink = try reactor.udpSocket(bind: try #require(SocketAddress("127.0.0.1:0")))
        let socket = try reactor.udpSocket(bind: try #require(SocketAddress("127.0.0.1:0")))
        var configuration = FlowConfiguration()
        configuration.rateCeiling = 1_000_000_000_000
        configuration.initialRate = configuration.rateCeiling
        configuration.skipInterval = 1 << 40
        let id = try #require(FlowID([1, 2, 3, 4]))
        var flow = FlowSource(
            flowID: id,
            parameters: FlowParameters(
                source: sink.localAddress.address, group: sink.localAddress.address, port: 0,
                ackDelay: .milliseconds(25)),
            configuration: configuration, seed: SeededRandom(seed: 1), at: reactor.now)
        flow.attach(at: reactor.now)
        let member = flow.add(streamWindow: 1 << 40, octets: 1 << 40, streams: 1 << 40, at: reactor.now)
        #expect(member != nil)
        for _ in 0..<4 { _ = flow.publish(bytes: [UInt8](repeating: 7, count: 200_000)) }

        let sender = FlowSender(flow, copySocket: socket, reactor: reactor)
        let copies = 600
        sender.collectCopies = { for _ in 0..<copies { $0.append(.init(to: sink.localAddress, from: nil)) } }
        for _ in 0..<5 {
            sender.pump()
            reactor.turn(timeout: .zero)
        }
        let held = sender.flow.queuedOctets
        #expect(held > 0)
        #expect(reactor.counters.datagramsOut == 0)
        #expect(!socket.hasRoom(forRuns: 1))

        backend.isFull = false
        let end = Reactor.clock() + .seconds(30)
        while sender.flow.queuedOctets > 0 || socket.queuedOctets > 0, Reactor.clock() < end {
            sender.pump()
            reactor.turn(timeout: .milliseconds(1))
        }
        #expect(sender.flow.queuedOctets == 0)
        #expect(reactor.counters.sendQueueFull == 0)
        #expect(reactor.counters.datagramsOut == sender.flow.statistics.packetsSent * UInt64(copies))
    }
}
