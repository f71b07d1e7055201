import Cryptography
import Logging
import Reactor
import Testing
import Wire

@testable import Endpoint

/// A source and its receivers in one process, on one reactor, without a flow.
@Suite struct SourceReceiverTests {
    private func quiet() -> Logger {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        return logger
    }

    /// A receiver that has gone is forgotten only after its draining period, within a call of its own timer.
    @Test(arguments: [Reactor.IO.epoll, .ioUring])
    func receiversComeAndGo(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let loopback = SocketAddress(.v4(0x7f00_0001), port: 0)
        let listen = try reactor.udpSocket(bind: loopback)
        let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
        let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        let source = Source(listen: listen, tls: server, sender: nil, history: 10, reactor: reactor, log: quiet())
        source.publish(Array("an item".utf8))
        for _ in 0..<3 {
            let receiver = try Receiver(
                to: listen.localAddress, serverName: "127.0.0.1", tls: client, usesFlow: false, access: FlowAccess(),
                reactor: reactor, log: quiet())
            var items: [[UInt8]] = []
            receiver.onEvent = { event in
                if case .item(let item) = event { items.append(item.bytes) }
            }
            receiver.start()
            #expect(turn(reactor) { !items.isEmpty })
            #expect(items == [Array("an item".utf8)])
            receiver.onEvent = { _ in }
            receiver.close()
            #expect(turn(reactor) { source.listener.peers.isEmpty }, "the connection is forgotten")
            receiver.release()
        }
        source.close()
    }

    /// Lets the reactor work until `condition` holds, ten seconds at the most.
    private func turn(_ reactor: Reactor, until condition: () -> Bool) -> Bool {
        let end = reactor.now + .seconds(10)
        while !condition(), reactor.now < end { reactor.turn(timeout: .milliseconds(10)) }
        return condition()
    }
}
