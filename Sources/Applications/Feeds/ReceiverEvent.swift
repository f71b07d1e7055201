import Operation
import Transport

/// One thing that happened at a receiver.
package enum ReceiverEvent: Sendable {
    /// The handshake with the source is complete.
    case connected(address: String)
    /// The first packet of the flow was opened: items come from `group` from now on.
    case listening(group: String)
    /// The flow is looked for another way: `multicast` or `amt`.
    case path(String)
    /// The source has said what it has: `answer` is `taken`, `otherEpoch` or `fresh`, `first` the sequence number it serves
    /// from, `next` the one that its next part gets; `uncertainty` is how far the estimate of its clock may be off.
    case position(answer: String, first: UInt64, next: UInt64, uncertainty: Duration)
    /// Nothing will come for `count` sequence numbers from `first` on.
    case gap(first: UInt64, count: UInt64, reason: String)
    case fallback(FallbackReason)
    /// The flow is heard again after a fallback.
    case returned
    /// An item is complete, and on disk when it goes to a directory. `sha256` is of its octets, in hexadecimal. `latency` counts from its
    /// publication, by the source's clock as it is estimated here, to its last octet. `sequence` is the number of its object in the source's
    /// log, which all sources of a distributed log have alike.
    case item(
        id: String, title: String, updated: String, bytes: Int, sha256: String, sequence: UInt64, via: Via,
        latency: Duration)
    /// What came since the last one.
    case interval(ReceiverInterval)
    /// Metrics are served there.
    case metrics(address: String)
    case summary(ReceiverSummary)
}

/// By which way items come.
package enum ReceiverWay: String, CaseIterable, Sendable {
    /// There is no connection.
    case none
    case unicast
    /// The flow, from the group or in copies.
    case flow
    /// The flow through a tunnel.
    case amt
}

/// What a receiver saw in a while.
package struct ReceiverInterval: Sendable {
    /// At its end.
    package var way: ReceiverWay
    package var items: Int
    /// Of UDP payload, by all ways.
    package var bitsPerSecond: UInt64
    /// Of the flow.
    package var packetsLost: Int
    /// Parts of items that were told as missing for good, and items that will not be whole.
    package var missing: Int
    /// Of its items; nil when there were none.
    package var median: Duration?
    package var high: Duration?
}

/// What a receiver saw in its whole life.
package struct ReceiverSummary: Sendable {
    package var items = 0
    /// UDP payload octets received on the flow, opened packets only.
    package var bytesFlow = 0
    /// Those of them that came through a relay's tunnel.
    package var bytesTunnel = 0
    /// Steps between the group itself and a tunnel.
    package var steps = 0
    /// UDP payload octets received on the unicast path.
    package var bytesUnicast = 0
    /// Packet numbers of the flow that never came while this receiver listened.
    package var packetsLost = 0
    /// Items of which a part was lost on the flow and came again.
    package var repaired = 0
    package var fallbacks = 0
    package var returns = 0
    /// Packets that came and were of no use: forged, damaged, of nobody's, or against a rule.
    package var packetsRejected = 0
    /// Parts of items that were told as missing for good, and items that will not be whole.
    package var missing = 0

    package init() {}
}

extension ReceiverEvent: EventLine {
    package var json: String {
        switch self {
        case .connected(let address):
            event("connected", ["address": address])
        case .listening(let group):
            event("listening", ["group": group])
        case .path(let path):
            event("path", ["path": path])
        case .position(let answer, let first, let next, let uncertainty):
            event(
                "position", ["answer": answer, "first": first, "next": next, "clock_uncertainty_ms": uncertainty])
        case .gap(let first, let count, let reason):
            event("gap", ["first": first, "count": count, "reason": reason])
        case .fallback(let reason):
            event("fallback", ["reason": reason.rawValue])
        case .returned:
            event("return")
        case .item(let id, let title, let updated, let bytes, let sha256, let sequence, let via, let latency):
            event(
                "item",
                [
                    "id": id, "title": title, "updated": updated, "bytes": bytes, "sha256": sha256,
                    "sequence": sequence, "via": via.rawValue, "latency_ms": latency,
                ])
        case .interval(let interval):
            event(
                "interval",
                [
                    "way": interval.way.rawValue, "items": interval.items, "bits_per_second": interval.bitsPerSecond,
                    "packets_lost": interval.packetsLost, "missing": interval.missing,
                    "latency_p50_ms": interval.median, "latency_p99_ms": interval.high,
                ])
        case .metrics(let address):
            event("metrics", ["address": address])
        case .summary(let summary):
            event(
                "summary",
                [
                    "items": summary.items, "bytes_flow": summary.bytesFlow, "bytes_unicast": summary.bytesUnicast,
                    "packets_lost": summary.packetsLost, "repaired": summary.repaired, "fallbacks": summary.fallbacks,
                    "returns": summary.returns, "bytes_amt": summary.bytesTunnel, "steps": summary.steps,
                    "packets_rejected": summary.packetsRejected, "missing": summary.missing,
                ])
        }
    }

    package var text: String? {
        switch self {
        case .connected(let address): "connected to \(address)"
        case .listening(let group): "listening to the flow on \(group)"
        case .path(let path): "looking for the flow by \(path)"
        case .position(_, _, _, _): nil
        case .gap(let first, let count, let reason):
            "missing for good: \(count) part\(count == 1 ? "" : "s") of items from number \(first) on, \(reason)"
        case .fallback(let reason): "back on unicast: \(reason.rawValue)"
        case .returned: "on the flow again"
        case .item(_, let title, let updated, let bytes, _, _, let via, _):
            "\(updated)  \(title)  (\(bytes) B, \(via.rawValue))"
        case .interval(let interval):
            "\(interval.way.rawValue): \(interval.items) items, \(interval.bitsPerSecond / 1000) kbit/s, "
                + "\(interval.packetsLost) packets lost"
                + (interval.median.map { ", latency \($0.json ?? "") ms" } ?? "")
                + (interval.high.map { ", of 99 % up to \($0.json ?? "") ms" } ?? "")
        case .metrics(let address): "metrics at http://\(address)/metrics"
        case .summary(let summary):
            """
            \(summary.items) items, \(summary.bytesFlow) B on the flow, \(summary.bytesUnicast) B on unicast, \
            \(summary.packetsLost) packets lost, \(summary.repaired) items repaired, \(summary.fallbacks) fallbacks, \
            \(summary.returns) returns\(summary.missing > 0 ? ", \(summary.missing) missing for good" : "")
            """
        }
    }
}
