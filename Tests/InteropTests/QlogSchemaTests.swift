import Flexicast
import Foundation
import Logging
import Operation
import QUIC
import Reactor
import TestSupport
import Testing
import Wire

@testable import Transport

extension Machine {
    fileprivate static var hasCDDL: Bool {
        requiresAll
            || FileManager.default.isExecutableFile(atPath: root.appending(path: ".build/venv/bin/cddl-verify").path)
    }
}

/// A validator of CDDL that others wrote reads our files.
@Suite(
    "qlog files keep to their schema",
    .enabled(if: Machine.hasCDDL, "cddl-verifier is missing: make test installs it into .build/venv"))
struct QlogSchemaTests {
    private static let check = Machine.peers.appending(path: "qlog_check.py").path

    /// How often each event and each frame type occurs in the directory's files whose names end so.
    private func counts(in directory: URL, _ suffix: String) throws -> [String: Int] {
        let files = try FileManager.default.contentsOfDirectory(atPath: directory.path).filter { $0.hasSuffix(suffix) }
        guard !files.isEmpty else { throw Failure(description: "there is no file *\(suffix)") }
        let result = try run(Machine.python, [Self.check] + files.map { directory.appending(path: $0).path })
        guard result.status == 0 else { throw Failure(description: result.errors) }
        return try JSONDecoder().decode([String: Int].self, from: Data(result.output.utf8))
    }

    private func write(_ payload: [UInt8], to directory: URL) throws {
        let now = Instant(nanoseconds: 5_000_000_000)
        let id = FlowID([1, 2, 3, 4])!
        let qlog = Qlog(
            directory: directory.path, name: "a", role: .client, groupID: id, frames: LoggedFlexicastFrames.self,
            at: now)
        try qlog.keep()
        // A header of nine octets, and the room for a tag.
        let packet = [UInt8](repeating: 0, count: 9) + payload + [UInt8](repeating: 0, count: 16)
        let run = RunPlan(
            start: 0, packetSize: packet.count, end: packet.count, headerLength: 5, firstPacketNumber: 7,
            keyGeneration: 1)
        qlog.flowPackets(run, of: id, pathID: 1, isSent: false, in: packet.span, at: now + .microseconds(1500))
        qlog.closed(.peerApplication(code: 1, reason: "a \"quoted\" word\n\u{1}"), at: now + .seconds(1))
    }

    /// One of each frame, behind one another: none swallows what follows it.
    @Test func everyFrame() throws {
        let token: [UInt8] = [0x07, 2, 8, 9]
        let newID: [UInt8] = [4, 0, 4, 1, 2, 3, 4] + [UInt8](repeating: 6, count: 16)
        let frames: [(String, [UInt8])] = [
            ("padding", [0, 0]), ("ping", [1]), ("ack", [2, 5, 1, 1, 1, 0, 0]), ("ack", [3, 5, 0, 0, 1, 1, 2, 3]),
            ("reset_stream", [4, 3, 1, 9]), ("stop_sending", [5, 3, 1]), ("crypto", [6, 0, 2, 1, 1]),
            ("new_token", token), ("stream", [0x0e, 3, 2, 2, 9, 9]), ("stream", [0x0b, 7, 2, 9, 9]),
            ("max_data", [0x10, 9]), ("max_stream_data", [0x11, 3, 9]), ("max_streams", [0x12, 9]),
            ("max_streams", [0x13, 9]), ("data_blocked", [0x14, 9]), ("stream_data_blocked", [0x15, 3, 9]),
            ("streams_blocked", [0x16, 9]), ("streams_blocked", [0x17, 9]), ("new_connection_id", [0x18] + newID),
            ("retire_connection_id", [0x19, 2]), ("path_challenge", [0x1a, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("path_response", [0x1b, 0, 0, 0, 0, 0, 0, 0, 1]), ("connection_close", [0x1c, 7, 0, 2, 0x6f, 0x6b]),
            ("connection_close", [0x1c, 0x41, 0x28, 6, 1, 0x6b]), ("connection_close", [0x1c, 0x7f, 0xff, 0, 0]),
            ("connection_close", [0x1d, 7, 1, 0x6f]), ("handshake_done", [0x1e]), ("datagram", [0x31, 2, 1, 1]),
            ("path_ack", [0x3e, 1, 5, 1, 1, 1, 0, 0]), ("path_ack", [0x3f, 1, 5, 0, 0, 1, 1, 2, 3]),
            ("path_abandon", [0x7e, 0x75, 1, 0x3e]), ("path_status_backup", [0x7e, 0x76, 1, 2]),
            ("path_status_available", [0x7e, 0x77, 1, 2]), ("path_new_connection_id", [0x7e, 0x78, 1] + newID),
            ("path_retire_connection_id", [0x7e, 0x79, 1, 2]), ("max_path_id", [0x7e, 0x7a, 9]),
            ("paths_blocked", [0x7e, 0x7b, 9]), ("path_cids_blocked", [0x7e, 0x7c, 1, 2]),
            ("fc_announce", WireVectors.announce[0].octets.octets),
            ("fc_announce", WireVectors.announce[1].octets.octets),
            ("fc_state", WireVectors.state[0].octets.octets), ("fc_state", WireVectors.state[2].octets.octets),
            ("fc_key", WireVectors.key[0].octets.octets), ("unknown", [0x21, 1, 2, 3]),
        ]
        let directory = try TemporaryDirectory()
        try write(frames.flatMap(\.1), to: directory.url)
        var found = try counts(in: directory.url, ".sqlog")
        for (name, _) in frames { found[name, default: 0] -= 1 }
        #expect(found.filter { $0.value != 0 } == ["quic:packet_received": 1, "quic:connection_closed": 1])
    }

    /// The validator complains of what earlier files had: `crypto` without `raw`, and the like.
    @Test(arguments: [
        (",\"raw\":{\"length\":5,\"payload_length\":2}", ""), ("\"ack_delay\":0.008", "\"ack_delay\":1"),
        (":{\"type\":\"resumption\",\"raw\":{\"length\":2}}", ":2"),
        ("\"time\":1.500", "\"time\":\"1.500\""), ("\u{1e}", ""), ("\"type\":\"client\"", "\"type\":\"receiver\""),
    ])
    func theValidatorSees(_ there: String, _ wrong: String) throws {
        let directory = try TemporaryDirectory()
        try write([6, 0, 2, 1, 1, 2, 5, 1, 0, 0, 7, 2, 8, 9], to: directory.url)
        let file = directory.url.appending(path: "a.sqlog")
        let text = try String(contentsOf: file, encoding: .utf8)
        #expect(text.contains(there), "\(text)")
        #expect(throws: Never.self) { try counts(in: directory.url, ".sqlog") }
        try Data(text.replacingOccurrences(of: there, with: wrong).utf8).write(to: file)
        #expect(throws: Failure.self) { try counts(in: directory.url, ".sqlog") }
    }

    /// What qvis's loader asks of a file, by its source: the header's names, and categories that it knows.
    @Test func aFileForQvis() throws {
        let directory = try TemporaryDirectory()
        try write([0x0e, 3, 2, 2, 9, 9, 0, 0], to: directory.url)
        let script = Machine.root.appending(path: "Packaging/qlog-for-qvis").path
        let result = try run(Machine.python, [script, directory.url.appending(path: "a.sqlog").path])
        #expect(result.status == 0, "\(result.errors)")
        let data = try Data(contentsOf: directory.url.appending(path: "a.qvis.sqlog"))
        let records = try data.split(separator: 0x1e).map {
            try #require(try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any])
        }
        #expect(records[0]["qlog_version"] as? String == "0.3")
        #expect(records[0]["qlog_format"] as? String == "JSON-SEQ")
        let trace = try #require(records[0]["trace"] as? [String: Any])
        #expect((trace["vantage_point"] as? [String: String])?["type"] == "client")
        #expect((trace["common_fields"] as? [String: Any])?["time_format"] as? String == "relative")
        #expect(
            records.dropFirst().map { $0["name"] as? String } == [
                "transport:packet_received", "connectivity:connection_closed",
            ])
        let frames = (records[1]["data"] as? [String: Any])?["frames"] as? [[String: Any]]
        #expect(frames?.first?["length"] as? Int == 2)
        #expect(frames?.last?["payload_length"] as? Int == 2)
    }

    /// A source, its flow and a receiver: three files, in which nothing is unknown, and the flow's has what left on it.
    @Test func aWholeRun() throws {
        let directory = try TemporaryDirectory()
        let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }
        do {
            let reactor = try Reactor(io: .epoll)
            defer { reactor.close() }
            var options = Broadcaster.Options(listen: SocketAddress(.v4(0x7f00_0001), port: 0))
            options.flow.group = SocketAddress(.v4(0xef4d_65f0), port: 4790)
            options.flow.interface = "lo"
            options.qlogDirectory = directory.url.path
            let broadcaster = try Broadcaster(options, on: reactor, log: quiet)
            let certificate = directory.url.appending(path: "certificate.pem")
            try Data(broadcaster.certificatePEM.utf8).write(to: certificate)
            var subscription = Subscriber.Options(host: "127.0.0.1", port: broadcaster.address.port)
            subscription.trust = .file(certificate.path)
            subscription.interface = "lo"
            subscription.qlogDirectory = directory.url.path
            try wholeRun(broadcaster, try Subscriber(subscription, on: reactor, log: quiet), on: reactor)
        }
        let client = try counts(in: directory.url, "_client.sqlog")
        let server = try counts(in: directory.url, "_server.sqlog")
        let flow = try counts(in: directory.url, "_flow.sqlog")
        for (name, file) in [("client", client), ("server", server)] {
            for frame in ["fc_announce", "fc_state", "fc_key", "path_ack", "crypto"] {
                #expect(file[frame, default: 0] > 0, "\(frame) at the \(name)")
            }
            #expect(file["unknown"] == nil, "at the \(name)")
        }
        #expect(flow["quic:packet_sent", default: 0] > 12)
        #expect(flow["stream", default: 0] > 12)
        #expect(flow["unknown"] == nil)
    }
}
