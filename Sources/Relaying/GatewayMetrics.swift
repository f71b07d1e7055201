import AMT
import Operation

extension GatewayRun {
    /// What operators see of a gateway.
    var metrics: MetricsText {
        let counters = tunnels.map(\.gateway.counters)
        func sum(_ value: (GatewayCounters) -> UInt64) -> UInt64 { counters.reduce(0) { $0 + value($1) } }
        var text = MetricsText()
        text.add("flexicast_gateway_tunnels", .gauge, "Tunnels, up or not.", tunnels.count)
        text.add(
            "flexicast_gateway_joined_tunnels", .gauge, "Tunnels whose relay was told what is wanted.",
            tunnels.count { $0.gateway.isJoined })
        text.add(
            "flexicast_gateway_received_packets_total", .counter, "Multicast packets out of tunnels.",
            sum(\.packetsDelivered))
        text.add(
            "flexicast_gateway_received_bytes_total", .counter, "Octets of their UDP payloads.", sum(\.octetsDelivered))
        text.add(
            "flexicast_gateway_dropped_packets_total", "What came and was not delivered.", by: "reason",
            [
                ("damaged", sum(\.damaged)), ("unexpected", sum(\.unexpected)),
                ("not_subscribed", sum(\.notSubscribed)), ("reassembly", sum(\.reassemblyFailures)),
            ])
        if let link {
            text.add("flexicast_gateway_emitted_packets_total", .counter, "Packets put on the link.", link.sent)
            text.add(
                "flexicast_gateway_withheld_packets_total", "Packets not put on the link.", by: "reason",
                [
                    ("hops", link.counters.expired), ("too_large", link.counters.tooLarge),
                    ("native", link.counters.native), ("loop", link.counters.looped), ("refused", link.refused),
                ])
        }
        text.add("flexicast_gateway_fragments_total", .counter, "Fragments received.", sum(\.fragments))
        text.add(
            "flexicast_gateway_messages_total", "Control messages.", by: "type",
            [
                ("discovery", sum(\.discoveriesSent)), ("request", sum(\.requestsSent)),
                ("query", sum(\.queriesReceived)), ("update", sum(\.updatesSent)),
                ("teardown", sum(\.teardownsSent)),
            ])
        text.add(
            "flexicast_gateway_icmp_errors_total", "ICMP errors about messages to relays.", by: "kind",
            [
                ("unreachable", sum(\.notices) - sum(\.tooLarge)), ("too_large", sum(\.tooLarge)),
                ("ignored", sum(\.noticesIgnored)),
            ])
        text.add(
            "flexicast_gateway_lost_relays_total", .counter, "Relays given up because the network says they are gone.",
            sum(\.unreachable))
        let others = [([(name: "source", value: "other"), (name: "group", value: "other")], receivedOfOthers)]
        let channels =
            received.map { each in
                (
                    [
                        (name: "source", value: each.channel.source.map { "\($0)" } ?? "*"),
                        (name: "group", value: "\(each.channel.group)"),
                    ], (each.packets, each.octets)
                )
            } + others
        text.add(
            "flexicast_gateway_channel_packets_total", .counter, "Packets of a channel.",
            channels.map { (labels: $0.0, value: $0.1.0) })
        text.add(
            "flexicast_gateway_channel_bytes_total", .counter, "Octets of UDP payload of a channel.",
            channels.map { (labels: $0.0, value: $0.1.1) })
        return text
    }
}
