import Cryptography
import Flexicast
import Logging
import QUIC
import Reactor
import Testing
import Wire

@testable import Transport

/// A flow without a group: every receiver is sent copies (FLEXICAST trap 11).
@Suite struct ReplicationTests {
    private static let flowID = FlowID([9, 8, 7, 6, 5, 4, 3, 2])!
    private static let loopback = IPAddress.v4(0x7f00_0001)

    /// A NAT between a receiver and the source that can give the receiver another port, and be deaf to answers there.
    private final class Translator: DatagramHandler {
        private let reactor: Reactor
        private let inside: UDPSocket
        private var outside: UDPSocket
        private var previous: UDPSocket?
        private let source: SocketAddress
        private var client: SocketAddress?
        var isDeaf = false
        /// Datagrams of the flow and others that came from the source to the port in use.
        private(set) var copies = 0
        private(set) var others = 0

        var address: SocketAddress { inside.localAddress }

        init(to source: SocketAddress, reactor: Reactor) throws {
            self.reactor = reactor
            self.source = source
            inside = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0))
            outside = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0))
            inside.handler = self
            outside.handler = self
        }

        func changePort() throws {
            // What is on its way to the old port still arrives, and is acknowledged from the new one.
            previous = outside
            outside = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0))
            outside.handler = self
            (copies, others) = (0, 0)
        }

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count {
                let from = batch.source(index)
                let bytes = batch[index]
                if socket === inside {
                    client = from
                    _ = outside.send(copyOf: bytes.span, to: source)
                    continue
                }
                guard socket === outside else {
                    if let client { _ = inside.send(copyOf: bytes.span, to: client) }
                    continue
                }
                let header = PacketHeader.parse(bytes.span, at: 0, shortIDLength: 8)
                if header?.kind == .oneRTT, header?.destination == flowID { copies += 1 } else { others += 1 }
                if !isDeaf, let client { _ = inside.send(copyOf: bytes.span, to: client) }
            }
        }
    }

    private static func quiet() -> Logger {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        return logger
    }

    /// Each of several receivers has everything from the copies; one whose port changes is sent none until it has answered
    /// from there, and then again.
    @Test(arguments: [Reactor.IO.epoll, .ioUring])
    func copiesFollowAReceiverThatHasAnswered(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let listen = try reactor.udpSocket(bind: SocketAddress(Self.loopback, port: 0))
        let flow = FlowSource(
            flowID: Self.flowID,
            parameters: FlowParameters(
                source: Self.loopback, group: Self.loopback, port: 0, ackDelay: .milliseconds(5)),
            seed: randomSeed(), at: reactor.now)
        let sender = FlowSender(packetSize: 1200, copySocket: listen, reactor: reactor)
        let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
        let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        var configuration = FlowServerConfiguration(history: 0)
        configuration.replicates = true
        configuration.hasGroup = false
        let source = SourceEndpoint(
            listen: listen, tls: server,
            server: FlowServer(
                flow: flow, log: memoryLog(), configuration: configuration, seed: randomSeed(), wallClock: wallClock(),
                at: reactor.now),
            sender: sender, reactor: reactor, log: Self.quiet())
        let translator = try Translator(to: listen.localAddress, reactor: reactor)

        final class Taken { var vias: [Via] = [] }
        var receivers: [(Receiver, Taken)] = []
        for address in [translator.address, listen.localAddress, listen.localAddress] {
            let receiver = try Receiver(
                to: address, serverName: "127.0.0.1", tls: client, usesFlow: true, access: FlowAccess(native: false),
                reactor: reactor, log: Self.quiet())
            let taken = Taken()
            receiver.onEvent = { if case .object(let item) = $0 { taken.vias.append(item.via) } }
            receiver.start()
            receivers.append((receiver, taken))
        }
        defer {
            for (receiver, _) in receivers { receiver.onEvent = { _ in } }
            source.close()
        }
        let item = [UInt8](repeating: 7, count: 5000)
        #expect(turn(reactor) { source.counts.members == 3 })
        for _ in 0..<20 { try source.publish(item) }
        #expect(turn(reactor) { receivers.allSatisfy { $0.1.vias.count == 20 } })
        #expect(receivers.allSatisfy { $0.1.vias.allSatisfy { $0 == .flow } })
        #expect(source.counts.bytesFlow == 0 && source.counts.bytesReplicated >= 3 * 20 * 5000)

        // The receiver speaks from a port that hears no answer: whoever lives there is not to be sent a flow.
        translator.isDeaf = true
        try translator.changePort()
        #expect(turn(reactor) { translator.others > 0 })
        try source.publish(item)
        #expect(turn(reactor) { receivers[1].1.vias.count == 21 && receivers[2].1.vias.count == 21 })
        #expect(translator.copies == 0)

        translator.isDeaf = false
        #expect(turn(reactor) { receivers[0].1.vias.count == 21 && translator.copies > 0 })
    }

    private func turn(_ reactor: Reactor, until condition: () -> Bool) -> Bool {
        let end = reactor.now + .seconds(10)
        while !condition(), reactor.now < end { reactor.turn(timeout: .milliseconds(10)) }
        return condition()
    }
}

/// When receivers that are sent copies are tried on the group again.
struct GroupTrialTests {
    private let start = Instant(nanoseconds: 5_000_000_000)

    @Test func inVainItIsTriedLessAndLessOften() {
        var now = start
        var trial = GroupTrial(first: .seconds(600), at: now, spread: 0)
        var pauses: [Duration] = []
        for _ in 0..<7 {
            pauses.append(trial.next - now)
            // The receiver gives up after a few seconds.
            now = trial.next + .seconds(3)
            trial.failed(at: now, spread: 0)
        }
        #expect(pauses.map { Int($0 / .seconds(600)) } == [1, 2, 4, 8, 16, 16, 16])
    }

    @Test func whoHeardTheGroupForAWhileBeginsAnew() {
        var trial = GroupTrial(first: .seconds(600), at: start, spread: 0)
        trial.failed(at: trial.next + .seconds(3), spread: 0)
        let now = trial.next + .seconds(3000)
        trial.failed(at: now, spread: 0)
        #expect(trial.next - now == .seconds(600))
    }

    @Test func aQuarterIsLeftToChance() {
        #expect(GroupTrial(first: .seconds(600), at: start, spread: 1).next - start == .seconds(450))
    }
}
