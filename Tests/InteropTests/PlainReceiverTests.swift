import Cryptography
import Flexicast
import Foundation
import Logging
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
    }

    private static let items = (1...3).map { pattern($0 * 5000) }

    private func receive(_ arguments: [String]) throws -> Report {
        let server = try ServerThread(alpn: [applicationProtocol]) { reactor, socket, context in
            var options = FlowOptions()
            options.interface = "lo"
            options.group = SocketAddress("239.77.9.9:4479")!
            let (flow, sender) = try makeFlow(options, listen: socket, reactor: reactor)
            let source = Source(
                listen: socket, tls: context,
                server: FlowServer(
                    flow: flow, log: memoryLog(), configuration: FlowServerConfiguration(history: 10),
                    seed: randomSeed(), wallClock: wallClock(),
                    at: reactor.now),
                sender: sender, reactor: reactor,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            for item in Self.items { source.publish(item) }
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

    /// With both the announcement comes, which shows that its absence above means something.
    @Test func isToldOfTheFlowWhenItAsksForIt() throws {
        let report = try receive(["--offer", "3e01048000edf3020101"])
        #expect(report.error == 0x07)
        #expect(report.frame == 0xf2)
    }
}
