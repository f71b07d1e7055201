import Operation
import Transport

/// One thing that happened at a source.
package enum SourceEvent: Sendable {
    /// Receivers can connect. `group` is empty without a flow; `certificate` is what they can pin the source by.
    case listening(address: String, group: String, certificate: String)
    /// A new or edited item goes out. `sha256` is of the octets every receiver must end up with.
    case item(id: String, title: String, updated: String, bytes: Int, sha256: String)
    /// The whole feed goes out, with the items that are told of next.
    case feed(bytes: Int, sha256: String)
    case interval(SourceCounts)
    case summary(SourceCounts)
}

extension SourceEvent: EventLine {
    package var json: String {
        switch self {
        case .listening(let address, let group, let certificate):
            jsonObject([
                ("event", .string("listening")), ("address", .string(address)), ("group", .string(group)),
                ("certificate", .string(certificate)),
            ])
        case .item(let id, let title, let updated, let bytes, let sha256):
            jsonObject([
                ("event", .string("item")), ("id", .string(id)), ("title", .string(title)),
                ("updated", .string(updated)), ("bytes", .integer(bytes)), ("sha256", .string(sha256)),
            ])
        case .feed(let bytes, let sha256):
            jsonObject([("event", .string("feed")), ("bytes", .integer(bytes)), ("sha256", .string(sha256))])
        case .interval(let counts): counts.json(event: "interval")
        case .summary(let counts): counts.json(event: "summary")
        }
    }

    package var text: String? {
        switch self {
        case .listening(let address, let group, let certificate):
            "listening on \(address), \(group.isEmpty ? "no flow" : "flow to \(group)"); receivers trust \(certificate)"
        case .item(_, let title, let updated, let bytes, _): "\(updated)  \(title)  (\(bytes) B)"
        case .feed(let bytes, _): "the whole feed  (\(bytes) B)"
        case .interval: nil
        case .summary(let counts):
            """
            \(counts.items) items, \(counts.bytesFlow) B on the flow, \(counts.bytesRepair) B in repair, \
            \(counts.bytesReplicated > 0 ? "\(counts.bytesReplicated) B in copies of the flow, " : "")\
            \(counts.bytesUnicast) B on unicast, \(counts.bytesControl) B of control
            """
        }
    }
}

extension SourceCounts {
    fileprivate func json(event: String) -> String {
        let zeroCopy: [(String, JSONValue)] = zeroCopy.map { [("zero_copy", .string($0))] } ?? []
        return jsonObject(
            [
                ("event", .string(event)), ("bytes_flow", .integer(bytesFlow)),
                ("bytes_unicast", .integer(bytesUnicast)),
                ("bytes_repair", .integer(bytesRepair)), ("bytes_control", .integer(bytesControl)),
                ("receivers", .integer(receivers)), ("members", .integer(members)), ("items", .integer(items)),
                ("packets_rejected", .integer(packetsRejected)), ("receivers_let_go", .integer(receiversLetGo)),
                ("bytes_replicated", .integer(bytesReplicated)), ("replicated", .integer(replicated)),
                ("parts_gone", .integer(partsGone)),
                ("connections_refused", .integer(connectionsRefused)),
                ("receivers_waiting", .integer(receiversWaiting)), ("parts_sent_again", .integer(partsSentAgain)),
                ("control_errors", .integer(controlErrors)), ("control_waits", .integer(controlWaits)),
            ] + zeroCopy)
    }
}
