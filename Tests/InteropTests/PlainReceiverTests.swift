import Cryptography
import Flexicast
import Foundation
import Logging
import QUIC
import Reactor
import TestSupport
import Testing
import Wire

@testable import Feeds
@testable import Transport

/// A source with a flow serves receivers that know nothing of flows, multipath or feeds. aioquic is one: it closes with
/// FRAME_ENCODING_ERROR on the first frame that RFC 9000 does not have.
@Suite(
    "aioquic takes items from our source", .serialized,
    .enabled(if: Machine.hasAioquic, "aioquic is missing: make test installs it into .build/venv"))
struct PlainReceiverTests {
    struct Report: Decodable {
        var error: UInt64?
        var frame: UInt64?
        var streams: [String: String]
        var datagrams: [String]
    }

    private static let items = (1...3).map { pattern($0 * 5000) }

    /// Up to the largest that there may be.
    private static func datagrams(_ largest: Int) -> [[UInt8]] { [[], [7], pattern(100), pattern(largest)] }

    private func receive(_ arguments: [String], sendsDatagrams: Bool = false) throws -> Report {
        let server = try ServerThread(alpn: [applicationProtocol]) { reactor, socket, context in
            var options = FlowOptions()
            options.interface = "lo"
            options.group = SocketAddress("239.77.9.9:4479")!
            let (flow, sender) = try makeFlow(options, listen: socket, reactor: reactor)
            var configuration = FlowServerConfiguration(history: 10)
            configuration.sendsDatagrams = sendsDatagrams
            let source = SourceEndpoint(
                listen: socket, tls: context,
                server: FlowServer(
                    flow: flow, log: memoryLog(), configuration: configuration, seed: randomSeed(),
                    wallClock: wallClock(), at: reactor.now),
                sender: sender, reactor: reactor,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            for item in Self.items { try source.publish(item) }
            // They go to whoever is there, so that they are sent once somebody is.
            var greeting: TimerHandle?
            greeting = reactor.timer(at: reactor.now) {
                guard source.counts.receivers == 1 else {
                    greeting?.schedule(at: reactor.now + .milliseconds(1))
                    return
                }
                source.withServer { server in
                    for datagram in Self.datagrams(server.largestDatagram) {
                        try? server.sendDatagram(datagram, at: reactor.now)
                    }
                }
            }
            return source
        }
        let result = try run(
            Machine.python,
            [
                Machine.peers.appending(path: "aioquic_peer.py").path, "receiver", "--port", "\(server.port)", "--ca",
                server.certificate.path, "--size", "\(Self.items.count)",
            ] + arguments)
        guard result.status == 0 else { throw Failure(description: result.errors) }
        return try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    }

    /// initial_max_path_id 4 and flexicast_support, in any combination but both: nothing of either extension may come.
    @Test(arguments: ["", "3e0104", "8000edf3020101"])
    func hearsNothingOfExtensionsItDidNotAskFor(_ offer: String) throws {
        let report = try receive(["--linger", "0.2"] + (offer.isEmpty ? [] : ["--offer", offer]))
        #expect(report.error == nil, "frame \(report.frame.map { String($0, radix: 16) } ?? "none")")
        #expect(
            report.streams
                == Dictionary(
                    uniqueKeysWithValues: Self.items.enumerated().map { index, item in
                        // Server-initiated, unidirectional.
                        ("\(4 * index + 3)", "\(SHA256Digest(of: item))")
                    }))
    }

    /// RFC 9221: they come to who has announced that it takes them, of the size it takes, each with its number before it.
    @Test(arguments: [nil, 100, 65535] as [Int?])
    func takesDatagramsAsItHasAnnounced(_ limit: Int?) throws {
        let report = try receive(
            ["--linger", "0.5"] + (limit.map { ["--datagrams", "\($0)"] } ?? []), sendsDatagrams: true)
        #expect(report.error == nil && report.streams.count == Self.items.count)
        let sent = Self.datagrams(Connection.largestDatagram - 8).enumerated().map { [UInt8($0)] + $1 }
        // Type and length come on top: 104 for the third.
        let expected = sent.prefix(limit == nil ? 0 : limit == 100 ? 2 : 4)
        #expect(report.datagrams == expected.map { $0.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() })
    }

    /// With both the announcement comes, which shows that its absence above means something.
    @Test func isToldOfTheFlowWhenItAsksForIt() throws {
        let report = try receive(["--offer", "3e01048000edf3020101"])
        #expect(report.error == 0x07)
        #expect(report.frame == 0xf2)
        // Not where it would hear datagrams, which it does not take.
        let other = try receive(["--offer", "3e01048000edf3020101", "--linger", "0.2"], sendsDatagrams: true)
        #expect(other.error == nil)
    }
}
