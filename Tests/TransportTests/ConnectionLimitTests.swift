import Cryptography
import Flexicast
import Logging
import QUIC
import Reactor
import Testing
import Wire

@testable import Transport

/// What one address may have of a source's connections, with real receivers.
@Suite struct ConnectionLimitTests {
    private final class Outcome {
        var isConnected = false
        var closed: CloseReason?
    }

    private final class Place {
        let reactor: Reactor
        let source: SourceEndpoint
        let listen: UDPSocket
        let client: TLSContext
        private(set) var receivers: [Receiver] = []

        init(_ change: (inout Listener<ReceivedFrames>.Limits) -> Void) throws {
            reactor = try Reactor(io: .epoll)
            var options = UDPOptions()
            options.onlyIPv6 = false
            listen = try reactor.udpSocket(bind: SocketAddress(.v6(0), port: 0), options: options)
            let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
            client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
            var limits = Listener<ReceivedFrames>.Limits()
            change(&limits)
            source = SourceEndpoint(
                listen: listen, tls: server, limits: limits,
                server: FlowServer(
                    flow: nil, log: memoryLog(), seed: randomSeed(), wallClock: wallClock(), at: reactor.now),
                sender: nil, reactor: reactor, log: Self.quiet)
        }

        private static var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

        /// A receiver that connects from its own loopback address.
        func connect(_ address: String = "127.0.0.1") throws -> (Receiver, Outcome) {
            let receiver = try Receiver(
                to: SocketAddress(IPAddress(address)!, port: listen.localAddress.port), serverName: "127.0.0.1",
                tls: client, usesFlow: false, access: FlowAccess(), reactor: reactor, log: Self.quiet)
            let outcome = Outcome()
            receiver.onEvent = { event in
                switch event {
                case .connected: outcome.isConnected = true
                case .closed(let reason): outcome.closed = reason
                default: break
                }
            }
            receivers.append(receiver)
            receiver.start()
            return (receiver, outcome)
        }

        func turn(until condition: () -> Bool) -> Bool {
            let end = reactor.now + .seconds(10)
            while !condition(), reactor.now < end { reactor.turn(timeout: .milliseconds(10)) }
            return condition()
        }

        func refused(_ refusal: ConnectionRefusal) -> UInt64 { source.listener.counters.refused[refusal.rawValue] }

        func close() {
            for receiver in receivers {
                receiver.onEvent = { _ in }
                receiver.close()
            }
            source.close()
            reactor.close()
        }
    }

    /// RFC 9000 section 11: what cannot be opened is answered with a stateless reset where there is no connection, and only there.
    @Test func onlyWhatIsForgottenIsReset() throws {
        let place = try Place { _ in }
        defer { place.close() }
        _ = try place.connect()
        #expect(place.turn { place.source.counts.receivers == 1 })
        let peer = try #require(place.source.listener.peers.values.first)
        let known = try #require(peer.connection.machine.localConnectionIDs.first).octets
        let socket = try place.reactor.udpSocket(bind: SocketAddress(IPAddress("127.0.0.1")!, port: 0))
        let source = SocketAddress(IPAddress("127.0.0.1")!, port: place.listen.localAddress.port)
        let rejected = peer.connection.packetsRejected
        for id in [known, known.map { ~$0 }] {
            let datagram: [UInt8] = [0x41] + id + [UInt8](repeating: 7, count: 80)
            _ = socket.send(copyOf: datagram.span, to: source)
        }
        #expect(
            place.turn {
                peer.connection.packetsRejected == rejected + 1 && place.source.listener.admission.counters.resets > 0
            })
        #expect(place.source.listener.admission.counters.resets == 1)
    }

    private func expectRefused(_ outcome: Outcome, _ refusal: ConnectionRefusal) {
        guard case .peer(let error) = outcome.closed else {
            Issue.record("\(String(describing: outcome.closed))")
            return
        }
        // RFC 9000 sections 5.2.2 and 20.1.
        #expect(error.code == .connectionRefused)
        #expect(error.reason == refusal.text)
    }

    /// With and without a Retry: the second refusal comes before anything was spent on a handshake.
    @Test(arguments: [false, true]) func anAddressHasSoManyConnections(retries: Bool) throws {
        let place = try Place {
            $0.accounts.connections = 2
            $0.accounts.beginningsPerSecond = 1000
            $0.alwaysRetry = retries
        }
        defer { place.close() }
        let first = try place.connect()
        let second = try place.connect()
        #expect(place.turn { place.source.counts.receivers == 2 })
        #expect(place.source.listener.accounts.openConnections(of: .v4(0x7f00_0001)) == 2)
        let accepted = place.source.listener.counters.accepted
        let third = try place.connect()
        #expect(place.turn { third.1.closed != nil })
        expectRefused(third.1, .connectionsOfAddress)
        #expect(place.refused(.connectionsOfAddress) == 1)
        #expect(place.source.counts.connectionsRefused == 1)
        #expect(place.source.listener.counters.accepted == accepted, "it was refused before it had a connection")
        #expect(first.1.closed == nil && second.1.closed == nil)

        let other = try place.connect("::1")
        #expect(place.turn { other.1.isConnected }, "another address is another account")

        first.0.close()
        #expect(place.turn { place.source.listener.accounts.openConnections(of: .v4(0x7f00_0001)) == 1 })
        let next = try place.connect()
        #expect(place.turn { next.1.isConnected && place.source.counts.receivers == 3 })
    }

    /// Handshakes that run at once are charged when each has proved its address: the last ones are closed then.
    @Test func handshakesAtOnceDoNotPassTheLimit() throws {
        let place = try Place {
            $0.accounts.connections = 2
            $0.accounts.beginningsPerSecond = 1000
        }
        defer { place.close() }
        let outcomes = try (0..<6).map { _ in try place.connect().1 }
        #expect(place.turn { outcomes.count { $0.closed != nil } == 4 })
        #expect(place.source.counts.receivers == 2)
        for outcome in outcomes where outcome.closed != nil { expectRefused(outcome, .connectionsOfAddress) }
        #expect(place.turn { place.source.listener.peers.count == 2 }, "the others are forgotten")
    }

    @Test func comingAndGoingIsLimited() throws {
        let place = try Place {
            $0.accounts.connections = 3
            $0.accounts.beginningsPerSecond = 1
        }
        defer { place.close() }
        var outcome = Outcome()
        for _ in 0..<5 where outcome.closed == nil {
            let (receiver, latest) = try place.connect()
            outcome = latest
            #expect(place.turn { latest.isConnected || latest.closed != nil })
            if latest.closed == nil {
                #expect(place.turn { place.source.counts.receivers == 1 })
                receiver.onEvent = { _ in }
                receiver.close()
                #expect(place.turn { place.source.listener.peers.isEmpty })
            }
        }
        expectRefused(outcome, .beginningsOfAddress)
    }

    /// Limits that are changed hold for whoever comes then; who is there stays.
    @Test func limitsChangeWhileItServes() throws {
        let place = try Place { _ in }
        defer { place.close() }
        let outcomes = try (0..<2).map { _ in try place.connect().1 }
        #expect(place.turn { place.source.counts.receivers == 2 })
        place.source.listener.limits.accounts.connections = 1
        let refused = try place.connect().1
        #expect(place.turn { refused.closed != nil })
        expectRefused(refused, .connectionsOfAddress)
        place.source.listener.limits.accounts.connections = 3
        place.source.listener.limits.connections = 2
        let full = try place.connect().1
        #expect(place.turn { full.closed != nil })
        expectRefused(full, .connections)
        place.source.listener.limits.connections = 3
        let third = try place.connect().1
        #expect(place.turn { third.isConnected && place.source.counts.receivers == 3 })
        #expect(outcomes.allSatisfy { $0.closed == nil })
    }

    @Test func theServerHasSoManyConnections() throws {
        let place = try Place { $0.connections = 1 }
        defer { place.close() }
        let first = try place.connect()
        #expect(place.turn { first.1.isConnected })
        let second = try place.connect()
        #expect(place.turn { second.1.closed != nil })
        expectRefused(second.1, .connections)
        #expect(place.refused(.connections) == 1)
    }
}
