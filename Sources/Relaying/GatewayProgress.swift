import Operation
import Wire

/// One thing that happened at a gateway.
package enum GatewayProgress: Sendable {
    /// Metrics are served there.
    case metrics(address: String)
    /// The relay at `relay` was told what is wanted.
    case joined(relay: String)
    /// No relay answers, for the n-th time.
    case noAnswer(attempt: Int)
    /// The network says that nobody is at `relay`.
    case unreachable(relay: String)
    /// The relay takes no new gateways.
    case limited
    /// Nothing has come for a while; the relay is asked again.
    case silent
    /// The first packet came, so long after the start.
    case firstPacket(channel: String, after: Duration)
    /// Totals since the start, from time to time.
    case interval(GatewayReport)
    /// Totals at the end.
    case summary(GatewayReport)
}

/// What a gateway has taken out of its tunnel.
package struct GatewayReport: Sendable {
    /// UDP packets that came out of the tunnels.
    package var packets = 0
    /// Octets of UDP payload.
    package var bytes = 0
    /// Packets that were damaged, of others than the relay, or not asked for.
    package var refused = 0
    /// Packets put on the link of `--interface`.
    package var emitted = 0
    /// Packets that were not put on the link.
    package var withheld = 0

    /// All zero.
    package init() {}
}

extension GatewayProgress: EventLine {
    package var json: String {
        switch self {
        case .metrics(let address): event("metrics", ["address": address])
        case .joined(let relay): event("joined", ["relay": relay])
        case .noAnswer(let attempt):
            event("no_answer", ["attempt": attempt])
        case .unreachable(let relay): event("unreachable", ["relay": relay])
        case .limited: event("limited")
        case .silent: event("silent")
        case .firstPacket(let channel, let after):
            event("first_packet", ["channel": channel, "after_ms": after])
        case .interval(let report): event("interval", report.json)
        case .summary(let report): event("summary", report.json)
        }
    }

    /// A line for people; nil: nothing to say.
    package var text: String? {
        switch self {
        case .metrics(let address): "metrics at http://\(address)/metrics"
        case .joined(let relay): "joined at relay \(relay)"
        case .noAnswer(let attempt): "no relay answers (\(attempt))"
        case .unreachable(let relay): "no relay at \(relay)"
        case .limited: "the relay takes no new gateways"
        case .silent: nil
        case .firstPacket(let channel, let after):
            "first packet of \(channel) after \(after.nanoseconds / 1_000_000) ms"
        case .interval: nil
        case .summary(let report): "\(report.packets) packets, \(report.bytes) B, \(report.refused) refused"
        }
    }
}

extension GatewayReport {
    fileprivate var json: KeyValuePairs<String, any JSONValue> {
        ["packets": packets, "bytes": bytes, "refused": refused, "emitted": emitted, "withheld": withheld]
    }
}
