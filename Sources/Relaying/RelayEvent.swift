import AMT
import Operation

/// One thing that happened at a relay.
package enum RelayEvent: Sendable {
    /// Gateways are served at these addresses.
    case listening(addresses: [String], upstream: String, metrics: String?)
    /// Totals since the start, from time to time.
    case interval(RelayReport)
    /// New gateways are sent away from now on.
    case draining
    /// Totals at the end.
    case summary(RelayReport)
}

/// What a relay has done since it started.
package struct RelayReport: Sendable {
    /// Tunnels that are open.
    package var endpoints = 0
    /// Channels that are joined.
    package var channels = 0
    /// Multicast packets that came.
    package var packetsIn = 0
    /// Copies sent into tunnels.
    package var packetsOut = 0
    /// Octets of UDP payload sent into tunnels.
    package var bytesOut = 0
    /// Packets that no gateway asked for.
    package var unwanted = 0
    /// Packets that fit no tunnel and must not be fragmented (RFC 7450 section 5.3.3.6.2).
    package var tooLarge = 0
    /// Messages that told a sender what size fits.
    package var tooLargeTold = 0
    /// Packets that had no hop left.
    package var expired = 0
    /// Copies that were more than their tunnel's rate.
    package var overRate = 0
    /// Packets that were more than their channel's rate.
    package var overChannelRate = 0
    /// Refused joins by reason.
    package var refusals: [(reason: String, count: Int)] = []
    /// Tunnels opened so far.
    package var opened = 0
    /// Tunnels ended because no Update came in time.
    package var silent = 0
    /// Tunnels ended by a Teardown.
    package var tornDown = 0
    /// Tunnels ended because the network says that the gateway is not there.
    package var unreachable = 0
    /// Requests of gateways.
    package var requests = 0
    /// Membership Updates.
    package var updates = 0
    /// Captured packets that the kernel dropped, and copies that found the send queue full.
    package var drops = 0
    /// Discoveries and Requests not answered because of their rate.
    package var rateLimited = 0
    /// Updates and Teardowns whose MAC is not ours.
    package var invalidMAC = 0
    /// Tunnels and joins that were refused.
    package var refused = 0

    /// All zero.
    package init() {}
}

extension RelayEvent: EventLine {
    package var json: String {
        switch self {
        case .listening(let addresses, let upstream, let metrics):
            event(
                "listening",
                ["address": addresses.joined(separator: " "), "upstream": upstream, "metrics": metrics])
        case .interval(let report): event("interval", report.json, and: report.refusalsJSON)
        case .draining: event("draining")
        case .summary(let report): event("summary", report.json, and: report.refusalsJSON)
        }
    }

    /// A line for people; nil: nothing to say.
    package var text: String? {
        switch self {
        case .listening(let addresses, let upstream, _):
            "relaying to \(addresses.joined(separator: " and "))"
                + (upstream.isEmpty ? "" : " what comes in by \(upstream)")
        case .interval: nil
        case .draining: "no new gateways; open tunnels end soon"
        case .summary(let report):
            """
            \(report.packetsIn) packets in, \(report.packetsOut) copies (\(report.bytesOut) B) out, \
            \(report.drops) dropped, \(report.tooLarge) too large
            """
        }
    }
}

extension RelayReport {
    fileprivate var json: KeyValuePairs<String, any JSONValue> {
        [
            "endpoints": endpoints, "channels": channels, "packets_in": packetsIn, "packets_out": packetsOut,
            "bytes_out": bytesOut, "unwanted": unwanted, "too_large": tooLarge, "drops": drops,
            "rate_limited": rateLimited, "invalid_mac": invalidMAC, "refused": refused,
            "too_large_told": tooLargeTold, "expired": expired, "over_rate": overRate,
            "over_channel_rate": overChannelRate, "opened": opened, "silent": silent, "torn_down": tornDown,
            "unreachable": unreachable, "requests": requests, "updates": updates,
        ]
    }

    fileprivate var refusalsJSON: [(String, any JSONValue)] { refusals.map { ("refused_\($0.reason)", $0.count) } }
}

extension RelayServer {
    package var report: RelayReport {
        var report = RelayReport()
        report.endpoints = relay.endpointCount
        report.channels = relay.upstreamCount
        report.packetsIn = Int(relay.forwarding.packetsIn)
        report.packetsOut = Int(relay.forwarding.packetsOut)
        report.bytesOut = Int(relay.forwarding.octetsOut)
        report.unwanted = Int(relay.forwarding.unwanted)
        report.tooLarge = Int(relay.forwarding.tooLarge)
        report.drops = Int(relay.forwarding.queueFull + captureDrops + controlDrops)
        report.rateLimited = Int(relay.counters.rateLimited)
        report.invalidMAC = Int(relay.counters.invalidMAC)
        report.refused = Int(relay.counters.refusedEndpoints + relay.counters.refusedJoins)
        report.tooLargeTold = Int(relay.forwarding.tooLargeTold)
        report.expired = Int(relay.forwarding.expired)
        report.overRate = Int(relay.forwarding.overRate)
        report.overChannelRate = Int(relay.forwarding.overChannelRate)
        report.refusals = RefusalReason.allCases.map { ($0.label, Int(relay.refusals($0))) }
        report.opened = Int(relay.counters.endpointsOpened)
        report.silent = Int(relay.counters.endpointsExpired)
        report.tornDown = Int(relay.counters.endpointsTornDown)
        report.unreachable = Int(relay.counters.endpointsUnreachable)
        report.requests = Int(relay.counters.requests)
        report.updates = Int(relay.counters.updates)
        return report
    }
}
