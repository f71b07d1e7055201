import Cryptography
import FoundationEssentials
import QUIC
import System
import Wire

/// The log of one connection, or of a source's flow, in qlog's streaming format, JSON text sequences
/// (draft-ietf-quic-qlog-main-schema-13 section 5, with the events of draft-ietf-quic-qlog-quic-events-13 and the frames of
/// docs/qlog-flexicast.cddl). For debugging: it is written at once and a file stops growing at `maxOctets`.
package final class Qlog {
    private let path: String
    private let directory: String
    /// Nil until it is kept.
    private var file: OpenFile?
    private let begin: Instant
    private var buffer: [UInt8] = []
    private var octets = 0
    private var lastMetrics: (window: Int, inFlight: Int, rtt: Duration?)?
    private let frameExtension: any LoggedExtension.Type

    package static let maxOctets = 256 << 20
    /// What docs/qlog-flexicast.cddl defines: a private schema is no URN of the IETF's (main schema section 8.1), and nothing is at this
    /// address.
    package static let extensionSchema = "https://flexicast.invalid/122026/quic#flexicast"
    private static let bufferOctets = 64 << 10

    /// Begins `directory`/`name`.sqlog, as soon as `keep` is called: until then what is logged is held, as far as there is room.
    /// - Parameter frames: reads the frames that QUIC does not know.
    package init(
        directory: String, name: String, role: Role, groupID: ConnectionID, frames: any LoggedExtension.Type,
        at now: Instant
    ) {
        frameExtension = frames
        path = "\(directory)/\(name).sqlog"
        self.directory = directory
        begin = now
        let wall = Date().formatted(.iso8601)
        record(
            """
            {"file_schema":"urn:ietf:params:qlog:file:sequential","serialization_format":"application/qlog+json-seq",\
            "title":"flexicast","trace":{"event_schemas":["urn:ietf:params:qlog:events:quic-13","\(Self.extensionSchema)"],\
            "vantage_point":{"type":"\(role == .client ? "client" : "server")"},"common_fields":{"group_id":"\(groupID)",\
            "time_format":"relative_to_epoch","reference_time":{"clock_type":"monotonic","epoch":"unknown",\
            "wall_clock_time":"\(wall)"}}}}
            """)
    }

    deinit { flush() }

    /// Its file is made.
    package var isKept: Bool { file != nil }

    /// Makes the file. Ignored where it is made.
    /// - Throws: an error that names it.
    package func keep() throws {
        guard file == nil else { return }
        do throws(SystemError) {
            try makeDirectories(directory)
            file = try OpenFile(creating: path)
        } catch { throw EndpointError("cannot write \(path): \(error.reason)") }
    }

    /// Logs `connection` from now on.
    package func attach(to connection: SecureConnection) {
        connection.onPacket = { [unowned self, unowned connection] trace, payload in
            let exponent =
                trace.isSent
                ? connection.machine.localParameters.ackDelayExponent
                : connection.machine.peerParameters?.ackDelayExponent
            packet(trace, payload, ackDelayExponent: exponent ?? 3)
            metrics(connection.machine, at: trace.at)
        }
    }

    /// Packets of a multicast flow were opened, or are about to be sealed. `pathID`: at a receiver, what it acknowledges them for.
    package func flowPackets(
        _ run: RunPlan, of id: ConnectionID, pathID: UInt64? = nil, isSent: Bool, in octets: Span<UInt8>,
        at now: Instant
    ) {
        for index in 0..<run.count {
            let payload = run.payload(index)
            let packet = run.packets(index..<(index + 1))
            let header = jsonObject([
                "packet_type": "1RTT", "packet_number": packet.firstPacketNumber, "key_phase": run.keyGeneration,
                "packet_number_length": 4, "dcid": "\(id)", "path_id": pathID,
            ])
            record(
                isSent: isSent, header: header, length: packet.end - packet.start,
                frames: frames(octets.extracting(payload), ackDelayExponent: 3), at: now)
        }
    }

    package func closed(_ reason: CloseReason, at now: Instant) {
        event(
            "quic:connection_closed", at: now,
            jsonObject([
                "initiator": Self.initiator(reason), "reason": "\(reason)", "trigger": Self.trigger(reason),
            ]))
        flush()
    }

    private static func initiator(_ reason: CloseReason) -> String {
        switch reason {
        case .peer, .peerApplication, .statelessReset: "remote"
        default: "local"
        }
    }

    private static func trigger(_ reason: CloseReason) -> String? {
        switch reason {
        case .local(let error), .peer(let error): error.code == .noError ? nil : "error"
        case .localApplication, .peerApplication: "application"
        case .idleTimeout: "idle_timeout"
        case .statelessReset: "stateless_reset"
        case .versionNegotiation: "version_mismatch"
        }
    }

    private func packet(_ trace: PacketTrace, _ payload: Span<UInt8>, ackDelayExponent: UInt8) {
        let type =
            switch trace.level {
            case .initial: "initial"
            case .handshake: "handshake"
            case .application: "1RTT"
            }
        // Before there are transport parameters, we write microseconds.
        let exponent = trace.isSent && trace.level != .application ? 0 : ackDelayExponent
        record(
            isSent: trace.isSent, header: jsonObject(["packet_type": type, "packet_number": trace.packetNumber]),
            length: trace.size, frames: frames(payload, ackDelayExponent: exponent), at: trace.at)
    }

    private func record(isSent: Bool, header: String, length: Int, frames: String, at now: Instant) {
        event(
            isSent ? "quic:packet_sent" : "quic:packet_received", at: now,
            "{\"header\":\(header),\"raw\":{\"length\":\(length)},\"frames\":[\(frames)]}")
    }

    private func metrics(_ machine: borrowing Connection, at now: Instant) {
        let current = (window: machine.congestionWindow, inFlight: machine.bytesInFlight, rtt: machine.smoothedRTT)
        if let lastMetrics, lastMetrics == current { return }
        lastMetrics = current
        event(
            "quic:recovery_metrics_updated", at: now,
            jsonObject([
                "congestion_window": current.window, "bytes_in_flight": current.inFlight, "smoothed_rtt": current.rtt,
            ]))
    }

    private func frames(_ payload: Span<UInt8>, ackDelayExponent: UInt8) -> String {
        LoggedFrame.frames(in: payload, ackDelayExponent: ackDelayExponent, extension: frameExtension).map { frame in
            jsonObject(["frame_type": frame.type], and: frame.fields.map { ($0.name, JSONText(Self.json($0.value))) })
        }.joined(separator: ",")
    }

    private static func json(_ value: LoggedFrame.Value) -> String {
        switch value {
        case .number(let number): String(number)
        case .microseconds(let time): Duration.microseconds(Int64(time)).json ?? ""
        case .flag(let flag): flag ? "true" : "false"
        case .ranges(let ranges):
            "[" + ranges.map { "[\($0.lowerBound),\($0.upperBound)]" }.joined(separator: ",") + "]"
        case .text(let string): string.json ?? ""
        case .object(let fields): jsonObject(and: fields.map { ($0.name, JSONText(json($0.value))) })
        }
    }

    private func event(_ name: String, at now: Instant, _ data: String) {
        let microseconds = (now - begin).nanoseconds / 1000
        let fraction = String(microseconds % 1000)
        let time = "\(microseconds / 1000).\(String(repeating: "0", count: 3 - fraction.count))\(fraction)"
        record("{\"time\":\(time),\"name\":\"\(name)\",\"data\":\(data)}")
    }

    private func record(_ json: String) {
        guard octets < Self.maxOctets, file != nil || buffer.count < Self.bufferOctets else { return }
        buffer.append(0x1e)
        buffer += json.utf8
        buffer.append(0x0a)
        if buffer.count >= Self.bufferOctets { flush() }
    }

    private func flush() {
        guard let file else { return }
        octets += buffer.count
        // A log that cannot be written must not stop what it is about.
        try? file.write(buffer)
        buffer.removeAll(keepingCapacity: true)
    }
}
