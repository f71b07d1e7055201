import Cryptography
import Flexicast
import Foundation
import Logging
import QUIC
import Reactor
import Testing
import Wire

@testable import Transport

/// Beginnings of connections that anybody can send with another's address.
@Suite struct ForgedInitialTests {
    /// No file is made for them, and one for whoever completes the handshake.
    @Test func areNotWorthALogFile() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "forged-\(UUID())")
        defer { try? FileManager.default.removeItem(at: directory) }
        func files() -> Int { ((try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []).count }
        let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        var options = Broadcaster.Options(listen: SocketAddress(.v4(0x7f00_0001), port: 0))
        options.qlogDirectory = directory.path
        let broadcaster = try Broadcaster(options, on: reactor, log: quiet)
        let tls = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        let socket = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
        for index in 0..<20 {
            let id = try #require(ConnectionID([UInt8](repeating: UInt8(index), count: 8)))
            let connection = try SecureConnection(
                client: .receiver(usesFlow: false), tls: tls, serverName: "127.0.0.1", to: broadcaster.address,
                localID: id, token: [], resume: nil, seed: randomSeed(), at: reactor.now)
            var datagrams: [OutgoingDatagram] = []
            var first = [UInt8](repeating: 0, count: 1500)
            var span = first.mutableSpan
            _ = connection.transmit(into: &span, most: 1, datagrams: &datagrams, at: reactor.now)
            first.removeLast(1500 - (datagrams.first?.count ?? 0))
            try #require(first.count >= 1200)
            _ = socket.send(copyOf: first.span, to: broadcaster.address)
        }
        let listener = broadcaster.endpoint.listener
        let end = Reactor.clock() + .seconds(20)
        while listener.counters.accepted < 20, Reactor.clock() < end { reactor.turn(timeout: .milliseconds(10)) }
        #expect(listener.counters.accepted == 20 && listener.counters.unauthentic == 0)
        #expect(files() == 0)

        var wanted = Subscriber.Options(host: "127.0.0.1", port: broadcaster.address.port)
        wanted.trust = .anyone
        let subscriber = try Subscriber(wanted, on: reactor, log: quiet)
        subscriber.start()
        while broadcaster.counts.receivers == 0, Reactor.clock() < end { reactor.turn(timeout: .milliseconds(10)) }
        #expect(broadcaster.counts.receivers == 1 && files() == 1)
        subscriber.close()
    }
}
