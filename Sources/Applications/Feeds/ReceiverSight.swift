import Operation
import Transport
import Wire

/// What operators see of a receiver: how items come now, what came of late, and metrics for Prometheus.
struct ReceiverSight {
    private(set) var way = ReceiverWay.none
    /// By which way the flow comes when it comes.
    private var flowWay: ReceiverWay
    private var connects: UInt64 = 0
    private var fallbacks: [FallbackReason: UInt64] = [:]
    private var items: [Via: UInt64] = [:]
    private var latencies = Histogram()
    private var gaps: UInt64 = 0
    /// At the end of the last interval.
    private var before = (time: Instant(nanoseconds: 0), summary: ReceiverSummary(), latencies: Histogram())

    /// - Parameter path: how the flow is looked for. Where that is by a tunnel from the start, no event tells.
    init(_ path: PathChoice) { flowWay = path == .amt ? .amt : .flow }

    mutating func started(at now: Instant) { before.time = now }

    mutating func handle(_ event: Subscriber.Event) {
        switch event {
        case .connected:
            connects += 1
            way = .unicast
        case .disconnected: way = .none
        case .listening, .returned: way = flowWay
        case .way(.multicast):
            flowWay = .flow
            if way == .amt { way = .flow }
        case .way(.amt):
            flowWay = .amt
            if way == .flow { way = .amt }
        case .fellBack(let reason):
            fallbacks[reason, default: 0] += 1
            if way != .none { way = .unicast }
        // What never was, or was not wanted, is not missing.
        case .gap(let gap) where gap.reason != .void && gap.reason != .unwanted: gaps += 1
        case .gap, .log, .object, .opened, .data, .finished, .reset, .datagram: break
        }
    }

    /// An item was taken. `latency` is nil as long as the source's clock is not known.
    mutating func took(_ via: Via, _ latency: Duration?) {
        items[via, default: 0] += 1
        if let latency { latencies.add(latency) }
    }

    /// What came since the last call.
    mutating func interval(_ now: ReceiverSummary, at time: Instant) -> ReceiverInterval {
        defer { before = (time, now, latencies) }
        let octets = now.bytesFlow + now.bytesUnicast - before.summary.bytesFlow - before.summary.bytesUnicast
        let seconds = max(1e-9, (time - before.time) / .seconds(1))
        let fresh = latencies.since(before.latencies)
        return ReceiverInterval(
            way: way, items: now.items - before.summary.items,
            bitsPerSecond: UInt64(Double(max(0, octets)) * 8 / seconds),
            packetsLost: max(0, now.packetsLost - before.summary.packetsLost),
            missing: now.missing - before.summary.missing,
            median: fresh.percentile(50).map { .seconds($0) }, high: fresh.percentile(99).map { .seconds($0) })
    }

    /// - Parameters:
    ///   - failures: items that could not be stored.
    ///   - uncertainty: how far the estimate of the source's clock may be off; nil without one.
    func metrics(_ now: ReceiverSummary, failures: Int, uncertainty: Duration?) -> MetricsText {
        var text = MetricsText()
        text.add(
            "flexicast_receiver_way", .gauge, "1 for the way by which items come now, else 0.",
            ReceiverWay.allCases.map { ([("way", $0.rawValue)], $0 == way ? 1 : 0) })
        text.add(
            "flexicast_receiver_connections_total", .counter, "Connections to the source that came about.", connects)
        text.add(
            "flexicast_receiver_items_total", "Items received, by the way of their octets.", by: "via",
            Via.allCases.map { ($0.rawValue, items[$0] ?? 0) })
        text.add(
            "flexicast_receiver_received_bytes_total", "Octets of UDP payload received.", by: "way",
            [
                ("flow", UInt64(max(0, now.bytesFlow - now.bytesTunnel))), ("amt", UInt64(max(0, now.bytesTunnel))),
                ("unicast", UInt64(max(0, now.bytesUnicast))),
            ])
        text.add(
            "flexicast_receiver_flow_lost_packets_total", .counter,
            "Packets of the flow that never came while it was listened to.", now.packetsLost)
        text.add(
            "flexicast_receiver_repaired_items_total", .counter,
            "Items of which some was lost on the flow and came again.",
            now.repaired)
        text.add(
            "flexicast_receiver_rejected_packets_total", .counter,
            "Packets that were forged, damaged, of nobody's, or against a rule.", now.packetsRejected)
        text.add(
            "flexicast_receiver_fallbacks_total", "Times that everything came on the connection again.", by: "reason",
            FallbackReason.allCases.map { ($0.rawValue, fallbacks[$0] ?? 0) })
        text.add(
            "flexicast_receiver_returns_total", .counter, "Times that the flow was heard again after that.", now.returns
        )
        text.add("flexicast_receiver_gaps_total", .counter, "Gaps that the source has told.", gaps)
        text.add(
            "flexicast_receiver_missing_parts_total", .counter,
            "Parts of items that are missing for good, and items that will not be whole.", now.missing)
        text.add("flexicast_receiver_failed_stores_total", .counter, "Items that could not be stored.", failures)
        text.add(
            "flexicast_receiver_item_latency_seconds",
            "From an item's publication to its last octet, by the source's clock as it is estimated here.", latencies)
        if let uncertainty {
            text.add(
                "flexicast_receiver_clock_uncertainty_seconds", .gauge,
                "How far the estimate of the source's clock may be off.", uncertainty / .seconds(1))
        }
        return text
    }
}
