import Flexicast
import Foundation
import QUIC
import Testing
import Wire

@testable import Operation

@Suite("qlog files")
struct QlogTests {
    /// Every record is one JSON object behind a record separator, whatever a peer's words hold (RFC 7464).
    @Test func areJSONTextSequences() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "qlog-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: directory) }
        let now = Instant(nanoseconds: 5_000_000_000)
        do {
            let qlog = Qlog(
                directory: directory.path, name: "a", role: .client, groupID: ConnectionID([1, 2])!,
                frames: LoggedFlexicastFrames.self, at: now)
            try qlog.keep()
            // A header of nine octets, a STREAM frame with FIN, and the room for a tag.
            let packet = [UInt8](repeating: 0, count: 9) + [0x0f, 3, 0, 2, 9, 9] + [UInt8](repeating: 0, count: 16)
            let run = RunPlan(
                start: 0, packetSize: packet.count, end: packet.count, headerLength: 5, firstPacketNumber: 7,
                keyGeneration: 0)
            qlog.flowPackets(
                run, of: ConnectionID([1, 2, 3, 4])!, pathID: 1, isSent: false, in: packet.span,
                at: now + .microseconds(1500))
            qlog.closed(.peerApplication(code: 1, reason: "a \"quoted\" word\n\u{1}"), at: now + .seconds(1))
        }
        let data = try Data(contentsOf: directory.appending(path: "a.sqlog"))
        let records = data.split(separator: 0x1e)
        #expect(records.count == 3)
        let objects = try records.map { try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any] }
        #expect(objects[0]?["serialization_format"] as? String == "application/qlog+json-seq")
        #expect(objects[1]?["time"] as? Double == 1.5)
        let received = objects[1]?["data"] as? [String: Any]
        #expect((received?["raw"] as? [String: Any])?["length"] as? Int == 31)
        let header = received?["header"] as? [String: Any]
        #expect(header?["packet_number"] as? Int == 7)
        #expect(header?["dcid"] as? String == "01020304")
        #expect(header?["path_id"] as? Int == 1)
        let frames = received?["frames"] as? [[String: Any]]
        #expect(frames?.first?["fin"] as? Bool == true)
        let closed = objects[2]?["data"] as? [String: Any]
        #expect((closed?["reason"] as? String)?.contains("\"quoted\"") == true)
    }

    @Test func aDirectoryThatCannotBeWrittenIsNamed() {
        let error = #expect(throws: EndpointError.self) {
            try Qlog(
                directory: "/proc/nowhere", name: "a", role: .client, groupID: .empty,
                frames: LoggedFlexicastFrames.self, at: Instant(nanoseconds: 0)
            ).keep()
        }
        #expect(error?.description.contains("/proc/nowhere") == true)
    }
}
