import Flexicast
import Glibc
import QUIC
import Reactor
import Testing
import Wire

@testable import Measurement
@testable import ReactorTestSupport
@testable import Transport

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
        let flow = FlowSource(
            flowID: id,
            parameters: FlowParameters(
                source: sink.localAddress.address, group: sink.localAddress.address, port: 0,
                ackDelay: .milliseconds(25)),
            configuration: configuration, seed: SeededRandom(seed: 1), at: reactor.now)
        var service = FlowServerConfiguration(history: 0)
        service.replicates = true
        service.hasGroup = false
        var server = FlowServer(
            flow: flow, log: memoryLog(), configuration: service, seed: SeededRandom(seed: 2), wallClock: wallClock(),
            at: reactor.now)
        let copies = 600
        for _ in 0..<copies { _ = try TrialMember(&server, to: sink.localAddress, at: reactor.now) }
        for _ in 0..<4 { try server.publish(body: [UInt8](repeating: 7, count: 200_000), at: reactor.now) }

        let sender = FlowSender(packetSize: configuration.packetSize, copySocket: socket, reactor: reactor)
        for _ in 0..<5 {
            sender.pump(&server)
            reactor.turn(timeout: .zero)
        }
        let held = server.queuedOctets
        #expect(held > 0)
        #expect(reactor.counters.datagramsOut == 0)
        #expect(!socket.hasRoom(forRuns: 1))

        backend.hasRoom = true
        let end = Reactor.clock() + .seconds(30)
        while server.queuedOctets > 0 || socket.queuedOctets > 0, Reactor.clock() < end {
            sender.pump(&server)
            reactor.turn(timeout: .milliseconds(1))
        }
        #expect(server.queuedOctets == 0)
        #expect(reactor.counters.sendQueueFull == 0)
        #expect(reactor.counters.datagramsOut == (server.flow?.statistics.packetsSent ?? 0) * UInt64(copies))
    }
}
