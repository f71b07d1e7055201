import AMT
import Operation
import Wire

// What operators see of a relay: `GET /metrics` for Prometheus, `GET /endpoints` for a look at tunnels. Channels have
// labels of their own up to a number; tunnels have none, since there may be a hundred thousand.

extension RelayServer {
    /// Tunnels in one answer at `/endpoints`.
    static let listingLimit = 1000

    func page(_ request: HTTPServer.Request) -> HTTPServer.Page? {
        switch request.path {
        case "/metrics": .metrics(metrics, request)
        case "/endpoints": endpointListing(request)
        default: nil
        }
    }

    var metrics: MetricsText {
        let counters = relay.counters
        var text = MetricsText()
        text.add("flexicast_relay_tunnels", .gauge, "Tunnels that are open.", relay.endpointCount)
        text.add("flexicast_relay_channels", .gauge, "Channels that are joined.", relay.upstreamCount)
        text.add(
            "flexicast_relay_draining", .gauge, "1 while gateways are told to go elsewhere.", relay.isDraining ? 1 : 0)
        text.add(
            "flexicast_relay_upstream", .gauge, "1 while the interface that multicast comes in by can be listened to.",
            hasUpstream ? 1 : 0)
        text.add(
            "flexicast_relay_received_packets_total", .counter, "Multicast packets captured.",
            relay.forwarding.packetsIn)
        text.add(
            "flexicast_relay_sent_packets_total", .counter, "Copies sent into tunnels.", relay.forwarding.packetsOut)
        text.add(
            "flexicast_relay_sent_bytes_total", .counter, "Octets of UDP payload sent into tunnels.",
            relay.forwarding.octetsOut)
        text.add(
            "flexicast_relay_dropped_packets_total", "Packets and copies not forwarded.", by: "reason",
            [
                ("unwanted", relay.forwarding.unwanted), ("too_large", relay.forwarding.tooLarge),
                ("hops", relay.forwarding.expired),
                ("tunnel_rate", relay.forwarding.overRate), ("channel_rate", relay.forwarding.overChannelRate),
                ("queue_full", relay.forwarding.queueFull), ("damaged", relay.forwarding.damaged),
                ("capture", captureDrops), ("control", controlDrops),
            ])
        text.add(
            "flexicast_relay_messages_total", "Messages of gateways.", by: "type",
            [
                ("discovery", counters.discoveries), ("request", counters.requests), ("update", counters.updates),
                ("teardown", counters.teardowns), ("unexpected", counters.unexpected),
            ])
        text.add(
            "flexicast_relay_refused_messages_total", "Messages of gateways that came to nothing.", by: "reason",
            [
                ("rate", counters.rateLimited), ("mac", counters.invalidMAC), ("report", counters.invalidReports),
            ])
        text.add(
            "flexicast_relay_refused_joins_total", "Joins that were refused.", by: "reason",
            RefusalReason.allCases.map { ($0.label, relay.refusals($0)) })
        text.add(
            "flexicast_relay_failed_joins_total", .counter,
            "Joins towards the network that the kernel refused at first.",
            joins.failures)
        text.add("flexicast_relay_opened_tunnels_total", .counter, "Tunnels opened.", counters.endpointsOpened)
        text.add(
            "flexicast_relay_ended_tunnels_total", "Tunnels ended, but for those that were left.", by: "reason",
            [
                ("silent", counters.endpointsExpired), ("torn_down", counters.endpointsTornDown),
                ("unreachable", counters.endpointsUnreachable),
            ])
        text.add("flexicast_relay_icmp_received_total", .counter, "ICMP errors about tunnels.", counters.notices)
        text.add(
            "flexicast_relay_icmp_sent_total", .counter, "Senders told of the size that fits.",
            relay.forwarding.tooLargeTold)
        addChannels(to: &text)
        return text
    }

    private func addChannels(to text: inout MetricsText) {
        let named = relay.namedChannels
        func samples(_ value: (ChannelCounters) -> UInt64) -> [(labels: [(name: String, value: String)], value: UInt64)]
        {
            named.map { (Self.labels($0.channel), value($0.counters)) }
                + [([("source", "other"), ("group", "other")], value(relay.otherChannels))]
        }
        text.add(
            "flexicast_relay_channel_tunnels", .gauge, "Tunnels that have a channel.",
            named.map { (Self.labels($0.channel), $0.tunnels) })
        text.add(
            "flexicast_relay_channel_packets_total", .counter, "Packets that came for a channel.", samples(\.packets))
        text.add(
            "flexicast_relay_channel_bytes_total", .counter, "Octets of IP packets that came for a channel.",
            samples(\.octets))
        text.add(
            "flexicast_relay_channel_copies_total", .counter,
            "Packets of a channel times tunnels that were to have them.",
            samples(\.copies))
        text.add(
            "flexicast_relay_channel_dropped_packets_total", .counter,
            "Packets of a channel dropped because it had had its rate.", samples(\.overRate))
        text.add(
            "flexicast_relay_channel_joins_total", .counter, "Tunnels that joined a channel.", samples(\.joins))
    }

    private static func labels(_ channel: Channel) -> [(name: String, value: String)] {
        [("source", channel.source.map { "\($0)" } ?? "*"), ("group", "\(channel.group)")]
    }

    private func endpointListing(_ request: HTTPServer.Request) -> HTTPServer.Page {
        let now = time
        return .listing("endpoints", ["tunnels": relay.endpointCount], request) { start in
            relay.endpointAccounts(from: start, limit: Self.listingLimit)
        } line: { account in
            jsonObject([
                "gateway": "\(account.gateway)", "local": "\(account.local)", "packets": account.packets,
                "bytes": account.octets, "joins": account.joins, "groups": account.groups,
                "heard_ms_ago": now - account.heardAt,
            ])
        }
    }
}
