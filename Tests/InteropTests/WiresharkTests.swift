import Flexicast
import Foundation
import Logging
import QUIC
import Reactor
import TestSupport
import Testing
import Wire

@testable import Transport

/// Packaging/wireshark/flexicast.lua in tshark, with captures of ours.
@Suite("Wireshark's view", .enabled(if: Machine.has("tshark"), "tshark is missing: make test installs it"))
struct WiresharkTests {
    private static let dissector = Machine.root.appending(path: "Packaging/wireshark/flexicast.lua").path

    private static var published: FlowVectors? { FlowVectorMaker.all()["aes-128-gcm"] }

    /// UDP datagrams over IPv4, as a file that Wireshark reads (pcap, link type 101: packets begin with the IP header).
    private struct Capture {
        private(set) var octets: [UInt8] =
            [0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4] + [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
            + [0, 0, 0, 101]
        private var count = 0

        mutating func add(_ payload: [UInt8], from: ([UInt8], UInt16), to: ([UInt8], UInt16)) {
            let pair = { (value: Int) in [UInt8(value >> 8), UInt8(value & 255)] }
            let length = payload.count + 28
            count += 1
            octets += [0, 0, 0, 0] + [0, 0] + pair(count) + [0, 0] + pair(length) + [0, 0] + pair(length)
            octets += [0x45, 0] + pair(length) + [0, 0, 0, 0, 8, 17, 0, 0] + from.0 + to.0
            octets += pair(Int(from.1)) + pair(Int(to.1)) + pair(payload.count + 8) + [0, 0] + payload
        }
    }

    /// What tshark shows: of each packet the fields in one line, parted by tabs.
    private func show(
        _ capture: Capture, keys: String, in directory: TemporaryDirectory, filter: String = "", fields: [String]
    ) throws -> [[String]] {
        let file = directory.url.appending(path: "capture.pcap")
        try Data(capture.octets).write(to: file)
        let keyLog = directory.url.appending(path: "keys.txt")
        if !keys.isEmpty { try Data(keys.utf8).write(to: keyLog) }
        let result = try run(
            "/usr/bin/tshark",
            [
                "-r", file.path, "-X", "lua_script:\(Self.dissector)", "-o", "tls.keylog_file:\(keyLog.path)", "-Y",
                filter,
                "-T", "fields", "-E", "occurrence=a",
            ] + fields.flatMap { ["-e", $0] })
        guard result.status == 0, !result.errors.contains("Lua") else { throw Failure(description: result.errors) }
        return result.output.split(separator: "\n").map {
            $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        }
    }

    /// Packets of the published flow, with nothing but a line of the key log for each key: what they hold comes out to the octet.
    @Test func aFlowAlone() throws {
        let flow = try #require(Self.published)
        var capture = Capture()
        let packets = flow.steps.filter { $0.from == "flow" }
        for step in packets {
            capture.add(step.octets.octets, from: ([192, 0, 2, 1], 40_000), to: ([232, 1, 2, 3], 4434))
        }
        let keys = flow.keys.map { "FLEXICAST_FLOW_SECRET_1301 \(flow.flowID) \($0.secret)\n" }.joined()
        let lines = try show(
            capture, keys: keys, in: try TemporaryDirectory(),
            fields: [
                "flexicast.packet_number", "flexicast.key_phase", "flexicast.flow_id", "flexicast.stream_id",
                "flexicast.data", "flexicast.malformed", "flexicast.sealed", "_ws.lua.error",
            ])
        #expect(lines.count == packets.count)
        var streams: [String: String] = [:]
        for (line, step) in zip(lines, packets) {
            #expect(line[0] == "\(step.packet!.number)")
            #expect(line[1] == "\(step.packet!.generation)")
            #expect(line[2] == flow.flowID)
            #expect(Array(line[5...]) == ["", "", ""])
            for (stream, data) in zip(line[3].split(separator: ","), line[4].split(separator: ",")) {
                streams[String(stream), default: ""] += data
            }
        }
        #expect(streams == flow.streams)
    }

    /// A segmented send is one datagram in a capture at the sender, and one is that ends with a shorter packet.
    @Test func segmentsOfOneSend() throws {
        let flow = try #require(Self.published)
        var capture = Capture()
        let packets = flow.steps.filter { $0.from == "flow" }[1...4]
        capture.add(packets.flatMap(\.octets.octets), from: ([192, 0, 2, 1], 40_000), to: ([232, 1, 2, 3], 4434))
        let lines = try show(
            capture, keys: "FLEXICAST_FLOW_SECRET_1301 \(flow.flowID) \(flow.keys[0].secret)\n",
            in: try TemporaryDirectory(), fields: ["flexicast.packet_number", "flexicast.sealed"])
        #expect(lines == [["1,2,3,4", ""]])
    }

    /// A key that is not the packet's opens nothing, and that is said.
    @Test func aWrongKeyOpensNothing() throws {
        let flow = try #require(Self.published)
        var capture = Capture()
        capture.add(flow.steps[3].octets.octets, from: ([192, 0, 2, 1], 40_000), to: ([232, 1, 2, 3], 4434))
        let lines = try show(
            capture, keys: "FLEXICAST_FLOW_SECRET_1301 \(flow.flowID) \(flow.keys[1].secret)\n",
            in: try TemporaryDirectory(), filter: "flexicast.sealed",
            fields: ["frame.number", "flexicast.packet_number"])
        #expect(lines == [["1", ""]])
    }

    /// Between a receiver and its source: passes datagrams on, and keeps a copy.
    private final class Tap: DatagramHandler {
        private let inside: UDPSocket
        private let outside: UDPSocket
        private let source: SocketAddress
        private var receiver: SocketAddress?
        var capture = Capture()
        var address: SocketAddress { inside.localAddress }

        init(to source: SocketAddress, reactor: Reactor) throws {
            self.source = source
            inside = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
            outside = try reactor.udpSocket(bind: SocketAddress(.v4(0x7f00_0001), port: 0))
            inside.handler = self
            outside.handler = self
        }

        func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
            let ends = (
                receiver: ([198, 51, 100, 9] as [UInt8], 50_000 as UInt16),
                source: ([192, 0, 2, 1] as [UInt8], 4433 as UInt16)
            )
            for index in 0..<batch.count {
                let datagram = batch[index]
                var octets: [UInt8] = []
                for index in 0..<datagram.count { octets.append(datagram[index]) }
                if socket === inside {
                    receiver = batch.source(index)
                    capture.add(octets, from: ends.receiver, to: ends.source)
                    _ = outside.send(copyOf: octets.span, to: source)
                } else if let receiver {
                    capture.add(octets, from: ends.source, to: ends.receiver)
                    _ = inside.send(copyOf: octets.span, to: receiver)
                }
            }
        }
    }

    /// A receiver's whole connection with the copies of the flow that it is sent: every packet is opened and every frame read.
    @Test func aWholeRun() throws {
        let directory = try TemporaryDirectory()
        let keyLog = directory.url.appending(path: "keys.txt").path
        let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }
        var capture = Capture()
        let reactor = try Reactor(io: .epoll)
        do {
            defer { reactor.close() }
            var options = Broadcaster.Options(listen: SocketAddress(.v4(0x7f00_0001), port: 0))
            options.flow.replicates = true
            options.keyLog = keyLog
            let broadcaster = try Broadcaster(options, on: reactor, log: quiet)
            let tap = try Tap(to: broadcaster.address, reactor: reactor)
            let certificate = directory.url.appending(path: "certificate.pem")
            try Data(broadcaster.certificatePEM.utf8).write(to: certificate)
            var subscription = Subscriber.Options(host: "127.0.0.1", port: tap.address.port)
            subscription.trust = .file(certificate.path)
            try wholeRun(broadcaster, try Subscriber(subscription, on: reactor, log: quiet), on: reactor)
            capture = tap.capture
        }
        let look = { (filter: String, fields: [String]) in
            try show(capture, keys: "", in: directory, filter: filter, fields: fields)
        }
        for wrong in ["_ws.malformed", "flexicast.malformed", "flexicast.sealed", "_ws.lua.error"] {
            let lines = try look(wrong, ["frame.number"])
            #expect(lines == [], "\(wrong)")
        }
        #expect(try look("flexicast", ["frame.number"]).count > 20)
        let announced = try look("flexicast.frame_type == 0xf2", ["flexicast.flow_id", "flexicast.group"])
        let keys = try look(
            "flexicast.frame_type == 0xf5", ["flexicast.flow_id", "flexicast.secret", "flexicast.algorithm"])
        let states = try look("flexicast.frame_type == 0xf4", ["flexicast.action"])
        let flow = try #require(announced.first?.first)
        #expect(keys.first?[0] == flow)
        #expect(keys.first?[2] == "4865")
        let logged = try String(contentsOfFile: keyLog, encoding: .utf8)
        #expect(logged.contains("FLEXICAST_FLOW_SECRET_1301 \(flow) \(keys.first?[1] ?? "none")\n"))
        #expect(states.flatMap { $0 }.prefix(2) == ["1", "3"])
        let acknowledged = try look("flexicast.frame_type == 0x3e", ["flexicast.path_id", "flexicast.ranges"])
        #expect(!acknowledged.isEmpty && acknowledged.allSatisfy { $0[0] == "1" })
        let carried = try look("flexicast.flow_id && flexicast.stream_id && !flexicast.dcid", ["flexicast.stream_id"])
        #expect(carried.count >= 12)
    }
}
