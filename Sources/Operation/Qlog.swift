import Cryptography
import FoundationEssentials
import QUIC
import System
import Wire

/// One connection's log in qlog's streaming format, JSON text sequences (draft-ietf-quic-qlog-main-schema section 11.2, with the events
/// of draft-ietf-quic-qlog-quic-events-13). For debugging: it is written at once and a file stops growing at `maxOctets`.
package final class Qlog {
    private let path: String
    private let directory: String
    /// Nil until it is kept.
    private var file: OpenFile?
    private let begin: Instant
    private var buffer: [UInt8] = []
    private var octets = 0
    private var lastMetrics: (window: Int, inFlight: Int, rtt: Duration?)?

    package static let maxOctets = 256 << 20
    private static let bufferOctets = 64 << 10

    /// Begins `directory`/`name`.sqlog, as soon as `keep` is called: until then what is logged is held, as far as there is room.
    package init(directory: String, name: String, role: Role, groupID: ConnectionID, at now: Instant) {
        path = "\(directory)/\(name).sqlog"
        self.directory = directory
        begin = now
        let wall = Date().formatted(.iso8601)
        record(
            """
            {"file_schema":"urn:ietf:params:qlog:file:sequential","serialization_format":"application/qlog+json-seq",\
            "title":"flexicast","trace":{"event_schemas":["urn:ietf:params:qlog:events:quic-13"],\
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
            packet(trace, payload)
            metrics(connection.machine, at: trace.at)
        }
    }

    /// A packet of a multicast flow was opened.
    package func flowPacket(pathID: UInt64, packetNumber: UInt64, size: Int, payload: Span<UInt8>, at now: Instant) {
        event(
            "quic:packet_received", at: now,
            """
            {"header":{"packet_type":"1RTT","packet_number":\(packetNumber),"path_id":\(pathID)},\
            "raw":{"length":\(size)},"frames":[\(Self.frames(payload))]}
            """)
    }

    package func closed(_ reason: CloseReason, at now: Instant) {
        event(
            "quic:connection_closed", at: now,
            jsonObject(["initiator": Self.initiator(reason), "reason": "\(reason)"]))
        flush()
    }

    private static func initiator(_ reason: CloseReason) -> String {
        switch reason {
        case .peer, .peerApplication, .statelessReset: "remote"
        default: "local"
        }
    }

    private func packet(_ trace: PacketTrace, _ payload: Span<UInt8>) {
        let type =
            switch trace.level {
            case .initial: "initial"
            case .handshake: "handshake"
            case .application: "1RTT"
            }
        event(
            trace.isSent ? "quic:packet_sent" : "quic:packet_received", at: trace.at,
            """
            {"header":{"packet_type":"\(type)","packet_number":\(trace.packetNumber)},"raw":{"length":\(trace.size)},\
            "frames":[\(Self.frames(payload))]}
            """)
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

    private static func frames(_ payload: Span<UInt8>) -> String {
        LoggedFrame.frames(in: payload).map { frame in
            var text = "{\"frame_type\":\"\(frame.type)\""
            for field in frame.fields {
                text += ",\"\(field.name)\":"
                switch field.value {
                case .number(let number): text += String(number)
                case .flag(let flag): text += flag ? "true" : "false"
                case .ranges(let ranges):
                    text += "[" + ranges.map { "[\($0.lowerBound),\($0.upperBound)]" }.joined(separator: ",") + "]"
                case .text(let string):
                    text += string.json ?? ""
                }
            }
            return text + "}"
        }.joined(separator: ",")
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
