import Objects
import Operation
import Transport

/// One thing that happened at a source.
package enum SourceEvent: Sendable {
    /// No new items: the source ends when everybody has what was published, or the time for it is up.
    case draining
    /// Receivers can connect. `group` is empty without a flow; `certificate` is what they can pin the source by,
    /// `metrics` where its pages are served.
    case listening(address: String, group: String, certificate: String, metrics: String?)
    /// A new or edited item goes out. `sha256` is of the octets every receiver must end up with.
    case item(id: String, title: String, updated: String, bytes: Int, sha256: String)
    /// The whole feed goes out, with the items that are told of next.
    case feed(bytes: Int, sha256: String)
    /// How it stands with the distributed log: `following`, or what is wrong with it.
    case followed(state: String, reason: String)
    /// An object of the distributed log goes out. `sequence` is that of its first part.
    case object(sequence: UInt64, name: String, bytes: Int, parts: UInt64)
    /// What a receiver says of its reception. Nobody has verified it.
    case report(address: String, ReportMessage)
    /// What is published is in memory alone from now on, for this reason; nil: it comes to the disk again. `waiting`: octets
    /// that are written as soon as there is room. `refused`: parts that were more than may wait.
    case log(reason: String?, waiting: Int, refused: UInt64)
    case interval(SourceCounts)
    case summary(SourceCounts)
}

extension SourceEvent: EventLine {
    package var json: String {
        switch self {
        case .listening(let address, let group, let certificate, let metrics):
            event(
                "listening", ["address": address, "group": group, "certificate": certificate, "metrics": metrics])
        case .draining: event("draining", [:])
        case .item(let id, let title, let updated, let bytes, let sha256):
            event("item", ["id": id, "title": title, "updated": updated, "bytes": bytes, "sha256": sha256])
        case .feed(let bytes, let sha256):
            event("feed", ["bytes": bytes, "sha256": sha256])
        case .followed(let state, let reason): event("log", ["state": state, "reason": reason])
        case .object(let sequence, let name, let bytes, let parts):
            event("object", ["sequence": sequence, "name": name, "bytes": bytes, "parts": parts])
        case .report(let address, let report):
            event(
                "report",
                [
                    "standing": "unverified", "address": address, "way": report.way.name, "items": report.objects,
                    "packets_lost": report.packetsLost, "fallbacks": report.fallbacks, "latency_items": report.count,
                    "latency_p50_ms": report.median.microseconds, "latency_p95_ms": report.percent95.microseconds,
                    "clock_uncertainty_ms": report.uncertainty.microseconds,
                ])
        case .log(let reason, let waiting, let refused):
            event(
                "log",
                [
                    "state": reason == nil ? "disk" : "memory", "reason": reason, "waiting_bytes": waiting,
                    "refused_parts": refused,
                ])
        case .interval(let counts): event("interval", counts.json)
        case .summary(let counts): event("summary", counts.json)
        }
    }

    package var text: String? {
        switch self {
        case .draining: "no new items; the source ends when everybody has what was published"
        case .listening(let address, let group, let certificate, _):
            "listening on \(address), \(group.isEmpty ? "no flow" : "flow to \(group)"); receivers trust \(certificate)"
        case .item(_, let title, let updated, let bytes, _): "\(updated)  \(title)  (\(bytes) B)"
        case .feed(let bytes, _): "the whole feed  (\(bytes) B)"
        case .log(let reason, _, _):
            reason.map { "items are in memory alone: \($0)" } ?? "items are on disk again"
        case .followed(let state, let reason): "log: \(state)\(reason.isEmpty ? "" : ": ")\(reason)"
        case .object(let sequence, let name, let bytes, _): "\(sequence)  \(name)  (\(bytes) B)"
        case .interval, .report: nil
        case .summary(let counts):
            """
            \(counts.items) items, \(counts.bytesFlow) B on the flow, \(counts.bytesRepair) B in repair, \
            \(counts.bytesReplicated > 0 ? "\(counts.bytesReplicated) B in copies of the flow, " : "")\
            \(counts.bytesUnicast) B on unicast, \(counts.bytesControl) B of control
            """
        }
    }
}

extension ReportMessage.Way {
    fileprivate var name: String {
        switch self {
        case .connection: "unicast"
        case .group: "multicast"
        case .relay: "amt"
        }
    }
}

extension UInt64 {
    /// So many microseconds; a number that a receiver made up is not more than a day.
    fileprivate var microseconds: Duration { .microseconds(Int64(Swift.min(self, 86_400_000_000))) }
}

extension SourceCounts {
    fileprivate var json: KeyValuePairs<String, any JSONValue> {
        [
            "bytes_flow": bytesFlow, "bytes_unicast": bytesUnicast, "bytes_repair": bytesRepair,
            "bytes_control": bytesControl, "receivers": receivers, "members": members, "items": items,
            "flow_rate": flowRate, "flow_packets_lost": flowPacketsLost,
            "packets_rejected": packetsRejected, "receivers_let_go": receiversLetGo,
            "bytes_replicated": bytesReplicated, "replicated": replicated, "parts_gone": partsGone,
            "connections_refused": connectionsRefused, "receivers_waiting": receiversWaiting,
            "parts_sent_again": partsSentAgain, "control_errors": controlErrors, "control_waits": controlWaits,
            "zero_copy": zeroCopy,
        ]
    }
}
