import Cryptography
import Flexicast
import Foundation
import Logging
import QUIC
import Reactor
import Synchronization
import TestSupport
import Testing
import Wire

@testable import Feeds
@testable import Transport

/// Strangers on the flow of a real source: whatever they say, and do not say, an honest receiver beside them gets all that is
/// published, and in time, and the source holds no more for them than it may.
@Suite(
    "Hostile receivers", .serialized,
    .enabled(if: Machine.hasAioquic, "aioquic is missing: make test installs it into .build/venv"))
struct HostileTests {
    /// What the source's thread and the test tell each other.
    private final class Board: Sendable {
        struct State {
            var mayPublish = false
            var published = 0
            /// The most of each that was seen.
            var octetsHeld = 0
            var octetsQueued: UInt64 = 0
            var connections = 0
            var refused = 0
        }
        let state = Mutex(State())
    }

    /// The source, which publishes an object each `interval` once it may.
    private final class Publisher {
        static let count = 200
        static let interval = Duration.milliseconds(20)

        private let source: SourceEndpoint
        private let reactor: Reactor
        private let board: Board
        private var ticker: TimerHandle?

        init(
            _ board: Board, group: SocketAddress, connectionsPerAddress: Int, _ reactor: Reactor, _ socket: UDPSocket,
            _ context: TLSContext
        ) throws {
            var options = FlowOptions()
            options.interface = "lo"
            options.group = group
            let (flow, sender) = try makeFlow(options, listen: socket, reactor: reactor)
            var limits = Listener<ReceivedFrames>.Limits()
            limits.accounts.connections = connectionsPerAddress
            source = SourceEndpoint(
                listen: socket, tls: context, limits: limits,
                server: FlowServer(
                    flow: flow, log: memoryLog(), configuration: FlowServerConfiguration(history: 10),
                    seed: randomSeed(),
                    wallClock: wallClock(), at: reactor.now),
                sender: sender, reactor: reactor, log: HostileTests.quiet)
            self.reactor = reactor
            self.board = board
            ticker = reactor.timer(at: reactor.now) { [unowned self] in tick() }
        }

        private func tick() {
            ticker?.schedule(at: reactor.now + Self.interval)
            let held = source.withServer { ($0.log.octetCount, $0.queuedOctets) }
            let connections = source.listener.peers.count
            let refused = source.counts.connectionsRefused
            let number: Int? = board.state.withLock { state in
                state.octetsHeld = max(state.octetsHeld, held.0)
                state.octetsQueued = max(state.octetsQueued, held.1)
                state.connections = max(state.connections, connections)
                state.refused = refused
                guard state.mayPublish, state.published < Self.count else { return nil }
                state.published += 1
                return state.published - 1
            }
            guard let number else { return }
            do {
                try source.publish(
                    [UInt8].written(capacity: 3000) { writer in
                        writer.uint64(UInt64(bitPattern: Reactor.clock().nanoseconds))
                        writer.uint64(UInt64(number))
                        writer.zeros(500 + number % 5 * 600)
                    })
            } catch { Issue.record(error) }
        }
    }

    private static var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

    /// The honest receiver, on the test's own thread.
    private final class Honest {
        let reactor: Reactor
        private(set) var latencies: [UInt64: Duration] = [:]
        private(set) var isListening = false
        private(set) var fallbacks = 0
        private(set) var closed: CloseReason?
        private let receiver: Receiver

        init(port: UInt16, certificate: URL) throws {
            reactor = try Reactor(io: .epoll)
            let tls = try TLSContext.client(trust: .file(certificate.path), alpn: [applicationProtocol])
            receiver = try Receiver(
                to: SocketAddress(.v4(0x7f00_0001), port: port), serverName: "localhost", tls: tls, usesFlow: true,
                access: FlowAccess(interface: "lo"), reactor: reactor, log: HostileTests.quiet)
            receiver.onEvent = { [unowned self] event in
                switch event {
                case .listening: isListening = true
                case .fellBack: fallbacks += 1
                case .closed(let reason): closed = reason
                case .object(let item): took(Array(item.body))
                default: break
                }
            }
            receiver.start()
        }

        private func took(_ bytes: [UInt8]) {
            var reader = ByteReader(bytes.span)
            guard let at = reader.uint64(), let number = reader.uint64() else { return }
            latencies[number] = Reactor.clock() - Instant(nanoseconds: Int64(bitPattern: at))
        }

        /// Lets the receiver work until `condition` holds, at the most for `limit`.
        func turn(for limit: Duration, until condition: () -> Bool) -> Bool {
            let end = reactor.now + limit
            while !condition(), closed == nil, reactor.now < end { reactor.turn(timeout: .milliseconds(5)) }
            return condition()
        }

        func close() {
            receiver.onEvent = { _ in }
            receiver.close()
            reactor.close()
        }
    }

    /// The hostile program, started by another thread: `result` is there once `isDone`.
    private final class Start: @unchecked Sendable {
        let isDone = Atomic(false)
        var result: Result<RunningServer, any Error>?
    }

    /// Each kind has a group of its own, so that no test hears another's packets.
    private func run(_ kind: String, count: Int, group: UInt8, connectionsPerAddress: Int = 256) throws -> Board.State {
        let board = Board()
        let group = SocketAddress(.v4(0xef4d_6300 | UInt32(group)), port: 4480 + UInt16(group))
        let server = try ServerThread(alpn: [applicationProtocol]) { reactor, socket, context in
            try Publisher(
                board, group: group, connectionsPerAddress: connectionsPerAddress, reactor, socket, context)
        }
        let honest = try Honest(port: server.port, certificate: server.certificate)
        defer { honest.close() }
        try #require(honest.turn(for: .seconds(20)) { honest.isListening }, "\(String(describing: honest.closed))")

        // They are started by another thread: the honest receiver must not fall silent meanwhile.
        let start = Start()
        let port = server.port
        Thread.detachNewThread {
            start.result = Result {
                try RunningServer(
                    Machine.python,
                    [
                        Machine.peers.appending(path: "hostile.py").path, kind, "--port", "\(port)", "--count",
                        "\(count)",
                    ])
            }
            start.isDone.store(true, ordering: .releasing)
        }
        try #require(honest.turn(for: .seconds(60)) { start.isDone.load(ordering: .acquiring) }, "they did not start")
        let hostile = try start.result?.get()

        board.state.withLock { $0.mayPublish = true }
        let all = honest.turn(for: .seconds(40)) { honest.latencies.count == Publisher.count }
        let worst = honest.latencies.values.max() ?? .zero
        #expect(
            all, "\(honest.latencies.count) of \(Publisher.count) objects came, \(String(describing: honest.closed))")
        #expect(worst <= .seconds(1), "the latest came after \(worst); \(honest.fallbacks) fallbacks")
        let state = board.state.withLock { $0 }
        // The history and what is under way of 200 objects of at most 3 KB.
        #expect(state.octetsHeld <= 1 << 20)
        #expect(state.octetsQueued <= 1 << 20)
        withExtendedLifetime(hostile) {}
        return state
    }

    /// A member without credit that acknowledges one old packet again and again.
    @Test func aMemberWithoutCredit() throws { _ = try run("stuck", count: 1, group: 1) }

    /// One such new member every 0.7 s, each with an address of its own.
    @Test func newcomersWithoutCredit() throws { _ = try run("newcomers", count: 12, group: 2) }

    /// 25 at once, whose credit ends one after the other.
    @Test func creditThatEndsOneAfterTheOther() throws { _ = try run("staggered", count: 25, group: 3) }

    @Test func aMemberThatReportsEverySixthPacketLost() throws { _ = try run("lossy", count: 1, group: 4) }

    @Test func aMemberThatAcknowledgesLate() throws { _ = try run("late", count: 1, group: 5) }

    /// RFC 9000 section 13.1: an acknowledgement of a packet that was not sent.
    @Test func aMemberThatAcknowledgesWhatWasNeverSent() throws { _ = try run("inventive", count: 1, group: 6) }

    /// A receiver on unicast that may say what it likes, and grants the control stream no room for an answer.
    @Test func aReceiverThatTakesNoAnswer() throws {
        let state = try run("mute", count: 4, group: 8)
        #expect(state.connections == 4 + 1, "nothing that they did was an error")
    }

    /// Many connections from one address that only send PING: so many are taken, the rest is refused.
    @Test func manyConnectionsFromOneAddress() throws {
        let state = try run("idle", count: 40, group: 7, connectionsPerAddress: 16)
        #expect(state.refused == 40 - 16)
        #expect(state.connections <= 40 + 1)
    }
}
