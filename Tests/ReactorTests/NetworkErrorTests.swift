import Glibc
import Testing
import Wire

@testable import Reactor

/// What ICMP says of datagrams that were sent.
@Suite struct NetworkErrorTests {
    private final class Listener: DatagramHandler {
        var errors: [NetworkError] = []
        var received: [[UInt8]] = []

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            for index in 0..<batch.count {
                let octets = batch[index]
                received.append([UInt8](octets.span))
            }
        }

        func networkErrorReceived(_ error: NetworkError, on socket: UDPSocket) { errors.append(error) }
    }

    private func ears() -> UDPOptions {
        var options = UDPOptions()
        options.receiveErrors = true
        return options
    }

    /// A port that nobody has: the kernel gave it out just now.
    private func deadPort(_ reactor: Reactor, _ host: String) throws -> SocketAddress {
        let socket = try reactor.udpSocket(bind: SocketAddress(ip(host), port: 0))
        defer { socket.close() }
        return socket.localAddress
    }

    @Test(arguments: backends, ["127.0.0.1", "::1"])
    func aDeadPortIsTold(io: Reactor.IO, host: String) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let dead = try deadPort(reactor, host)
        let listener = Listener()
        let socket = try reactor.udpSocket(bind: SocketAddress(ip(host), port: 0), options: ears())
        socket.handler = listener
        let payload = [UInt8](1...100)
        #expect(socket.send(payload, to: dead))
        #expect(reactor.turns { !listener.errors.isEmpty })
        #expect(
            listener.errors == [
                NetworkError(
                    kind: .portUnreachable, destination: dead, reporter: ip(host), quoted: [UInt8](payload[..<64]))
            ])
        #expect(reactor.counters.networkErrors == 1)
    }

    /// An error about one destination costs nothing that goes to another, and the socket neither dies nor spins.
    @Test(arguments: backends)
    func othersAreNotHarmed(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let dead = try deadPort(reactor, "127.0.0.1")
        let listener = Listener()
        let socket = try reactor.udpSocket(bind: address("127.0.0.1:0"), options: ears())
        socket.handler = listener
        let receiver = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        let collector = Collector()
        receiver.handler = collector
        var sent: [[UInt8]] = []
        for round in UInt8(0)..<20 {
            // Each to the dead port leaves an error for whatever is sent next.
            for part in UInt8(0)..<3 {
                #expect(socket.send([round, part], to: dead))
                if part > 0 { socket.flush() }
                sent.append([round, part, 1])
                #expect(socket.send(sent[sent.count - 1], to: receiver.localAddress))
                socket.flush()
            }
            #expect(reactor.turns { collector.datagrams.count == sent.count })
        }
        #expect(collector.datagrams.map(\.bytes) == sent)
        #expect(reactor.turns { reactor.counters.networkErrors >= 20 })
        #expect(!listener.errors.isEmpty && listener.errors.allSatisfy { $0.destination == dead })
        #expect(reactor.counters.sendErrors.total == 0)
        // It still receives.
        #expect(receiver.send([7], to: socket.localAddress))
        #expect(reactor.turns { listener.received == [[7]] })
        // Once all was read, nothing wakes the reactor any more.
        _ = reactor.turns { reactor.counters.networkErrors >= 60 }
        reactor.turn(timeout: .zero)
        let calls = reactor.counters.systemCalls
        reactor.turn(timeout: .milliseconds(50))
        #expect(reactor.counters.systemCalls - calls <= 2)
    }

    /// What the kernel refuses at once is told too, from a turn, with the datagram that did not leave.
    @Test(.enabled(if: mayMakeNamespaces, "needs root"), arguments: backends)
    func noRoute(io: Reactor.IO) throws {
        let far = address("198.51.100.1:2268")
        let errors = try #require(
            onThread(unsharing: .network) { () -> [[NetworkError]]? in
                var options = UDPOptions()
                options.receiveErrors = true
                guard let reactor = try? Reactor(io: io),
                    let socket = try? reactor.udpSocket(bind: address("0.0.0.0:0"), options: options)
                else { return nil }
                defer { reactor.close() }
                let listener = Listener()
                socket.handler = listener
                socket.send([1, 2, 3], to: far)
                socket.flush()
                let early = listener.errors
                reactor.turn(timeout: .seconds(10))
                return [early, listener.errors]
            } ?? nil)
        #expect(
            errors == [[], [NetworkError(kind: .networkUnreachable, destination: far, quoted: [1, 2, 3])]])
    }

    /// Sockets that did not ask hear nothing and lose nothing.
    @Test(arguments: backends)
    func othersHearNothing(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let dead = try deadPort(reactor, "127.0.0.1")
        let listener = Listener()
        let socket = try reactor.udpSocket(bind: address("127.0.0.1:0"))
        socket.handler = listener
        #expect(socket.send([1], to: dead))
        socket.flush()
        #expect(socket.send([2], to: socket.localAddress))
        #expect(reactor.turns { listener.received == [[2]] })
        #expect(listener.errors.isEmpty && reactor.counters.networkErrors == 0)
    }
}
