import Flexicast
import Glibc
import QUIC
import Reactor
import Testing
import Wire

@testable import Endpoint
@testable import ReactorTestSupport

/// A flow that is copied to many, and a kernel that takes nothing for a while.
@Suite struct BackpressureTests {
    /// Six hundred copies of each run do not fit the queue twice: they leave, or are not made.
    @Test func noCopyIsLostWhenTheKernelIsFull() throws {
        let backend = try StandInBackend()
        backend.answer = { [unowned backend] count in backend.hasRoom ? .takes(count) : .refuses(EAGAIN) }
        backend.hasRoom = false
        let reactor = try backend.makeReactor()
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

        backend.hasRoom = true
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
