import Flexicast
import Operation
import System
import Transport
import Wire

/// What operators see of a source: a live page at `/`, which polls `/summary`; `/metrics` for Prometheus, `/receivers` for a look at
/// single ones, `/health` for whoever restarts what has stopped. Receivers have no labels, since there may be twenty thousand.
struct SourceMetrics {
    let broadcaster: Broadcaster
    let audience: Audience
    /// Where items are kept; nil without a directory for them.
    let store: SQLiteLogStore?
    /// Where a distributed log is followed.
    let head: LogHead?
    let feed: () -> FeedCounters

    /// Receivers in one answer at `/receivers`.
    static let listingLimit = 250

    func page(_ request: HTTPServer.Request) -> HTTPServer.Page? {
        switch request.path {
        case "/": .livePage
        case "/summary": .json(audience.summary(from: request.from.flatMap { Int($0) } ?? 0))
        case "/metrics": .metrics(metrics, request)
        case "/receivers": receivers(request)
        case "/health": .json(health)
        default: nil
        }
    }

    private var health: String {
        let counts = broadcaster.counts
        let feed = feed()
        return jsonObject([
            "status": "up",
            "log": head.map { $0.counters.problem ?? "following" }
                ?? (store.map { $0.trouble == nil ? "disk" : "memory" } ?? "memory"),
            "receivers": counts.receivers, "members": counts.members, "items": counts.items,
            "polls": feed.polls, "failed_polls": feed.failures.values.reduce(0, +),
        ])
    }

    private var metrics: MetricsText {
        let counts = broadcaster.counts
        let endpoint = broadcaster.endpoint
        var text = MetricsText()
        text.add(
            "flexicast_source_receivers", .gauge, "Receivers that are connected, by how they are served.",
            [
                ([("way", "flow")], counts.members - counts.replicated), ([("way", "copies")], counts.replicated),
                ([("way", "unicast")], counts.receivers - counts.members),
            ])
        text.add(
            "flexicast_source_receivers_waiting", .gauge,
            "Receivers that wait for their turn because of --unicast-rate.", counts.receiversWaiting)
        text.add(
            "flexicast_source_sent_bytes_total", "Octets of UDP payload sent.", by: "kind",
            [
                ("flow", UInt64(counts.bytesFlow)), ("copies", UInt64(counts.bytesReplicated)),
                ("repair", UInt64(counts.bytesRepair)), ("unicast", UInt64(counts.bytesUnicast)),
                ("control", UInt64(counts.bytesControl)),
            ])
        text.add("flexicast_source_items_total", .counter, "Items published.", counts.items)
        text.add(
            "flexicast_source_refused_connections_total", "Clients that got no connection.", by: "reason",
            ConnectionRefusal.allCases.map { ("\($0)", endpoint.listener.counters.refused[$0.rawValue]) })
        text.add(
            "flexicast_source_rejected_packets_total", .counter,
            "Packets that were forged, damaged, of no connection, or against a rule.", counts.packetsRejected)
        text.add(
            "flexicast_source_left_flow_total", "Receivers that went from the flow back to their connection.",
            by: "reason",
            LeaveReason.allCases.map { ("\($0)", endpoint.departures[$0] ?? 0) })
        text.add("flexicast_source_gone_parts_total", .counter, "Parts told as gaps.", counts.partsGone)
        text.add(
            "flexicast_source_resent_parts_total", .counter, "Parts sent to receivers that had them.",
            counts.partsSentAgain)
        text.add(
            "flexicast_source_control_errors_total", .counter, "Control streams that broke a rule.",
            counts.controlErrors)
        text.add(
            "flexicast_source_denied_receivers_total", .counter,
            "Receivers refused for want of a token, or of one that is known.", endpoint.deniedAccess)
        text.add(
            "flexicast_source_ignored_reports_total", .counter, "Reports of receivers beyond what is taken.",
            endpoint.server.reportsIgnored)
        text.add(
            "flexicast_source_round_trip_seconds",
            "Smoothed round-trip times of receivers' connections, up to \(Audience.looksPerSecond) looked at each second, in turn.",
            audience.roundTrips)
        text.add(
            "flexicast_source_left_receivers_total", .counter, "Connections that have ended.",
            endpoint.listener.counters.closed)
        if let store { add(store, to: &text) }
        if let flow = endpoint.server.flow { add(flow, to: &text) }
        add(feed(), to: &text)
        text.add(
            "flexicast_source_certificate_expiry_timestamp_seconds", .gauge, "When the certificate ends, in Unix time.",
            broadcaster.certificate.validUntil)
        head?.add(to: &text)
        return text
    }

    private func add(_ flow: FlowSource, to text: inout MetricsText) {
        let statistics = flow.statistics
        text.add(
            "flexicast_source_flow_rate_bytes_per_second", .gauge, "Octets per second that the flow may send now.",
            flow.rate / 8)
        text.add("flexicast_source_flow_packets_total", .counter, "Packets of the flow.", statistics.packetsSent)
        text.add(
            "flexicast_source_flow_lost_packets_total", .counter, "Packets that a member has lost, for each member.",
            statistics.lossReports)
        text.add(
            "flexicast_source_flow_repaired_packets_total", .counter, "Packets repaired on the flow.",
            statistics.flowRepairs)
        text.add(
            "flexicast_source_flow_acknowledgements_total", .counter, "PATH_ACK frames taken in.",
            statistics.acknowledgements)
        text.add(
            "flexicast_source_flow_queued_bytes", .gauge, "Octets that wait to be sent on the flow.",
            flow.queuedOctets)
        text.add(
            "flexicast_source_flow_held_bytes", .gauge, "Octets kept for repair until all members have them.",
            flow.octetsHeld)
    }

    private func add(_ store: SQLiteLogStore, to text: inout MetricsText) {
        let counts = store.statistics
        let server = broadcaster.endpoint.server
        text.add(
            "flexicast_source_log_durable", .gauge, "1 when what is published comes to the disk, 0 when it cannot.",
            store.trouble == nil ? 1 : 0)
        text.add(
            "flexicast_source_log_bytes", .gauge, "Octets of parts that are kept.",
            [
                ([("place", "memory")], server.log.heldOctets),
                ([("place", "disk_only")], server.log.octetCount - server.log.heldOctets),
                ([("place", "waiting")], counts.waitingOctets),
            ])
        text.add("flexicast_source_log_failed_commits_total", .counter, "Commits that failed.", counts.failures)
        text.add(
            "flexicast_source_log_lost_objects_total", .counter,
            "Items that neither memory nor the disk had room for, or whose octets on disk are damaged.",
            server.log.statistics.objectsLost)
        text.add(
            "flexicast_source_log_read_parts_total", .counter, "Parts read from the disk for receivers.",
            server.storedPartsRead)
        text.add(
            "flexicast_source_log_failed_reads_total", .counter,
            "Reads for receivers that failed, and are tried again.",
            server.readFailures)
    }

    private func add(_ feed: FeedCounters, to text: inout MetricsText) {
        text.add("flexicast_source_polls_total", .counter, "Times that the feed was asked for.", feed.polls)
        text.add(
            "flexicast_source_failed_polls_total", "Polls that failed.", by: "reason",
            FeedFailure.Kind.allCases.map { ($0.rawValue, UInt64(feed.failures[$0] ?? 0)) })
        text.add(
            "flexicast_source_feed_read_timestamp_seconds", .gauge,
            "When the feed was last asked for and read, in Unix time; 0 before.",
            (feed.lastSuccess ?? 0) / 1_000_000_000)
        text.add(
            "flexicast_source_unusable_items_total", .counter, "Items that could not be used, at each document.",
            feed.unusableItems)
        text.add(
            "flexicast_source_failed_saves_total", .counter, "Polls whose result could not be saved.",
            feed.saveFailures)
    }

    private func receivers(_ request: HTTPServer.Request) -> HTTPServer.Page {
        .listing("listing", ["receivers": broadcaster.counts.receivers], request) { start in
            broadcaster.endpoint.accounts(from: start, limit: Self.listingLimit)
        } line: { account in
            jsonObject([
                "address": "\(account.address)", "way": account.standing.way.rawValue, "since_ms": account.since,
                "reason": account.reason, "parts_behind": account.standing.partsBehind,
                "takes_bits": account.standing.takes, "rtt_ms": account.roundTrip, "bytes": account.octetsSent,
                "packets_lost": account.packetsLost, "datagrams": account.datagramsSent,
            ])
        }
    }
}

extension HTTPServer.Page {
    /// One file that needs no other.
    fileprivate static let livePage = Self(
        type: "text/html; charset=utf-8", String(decoding: PackageResources.LivePage_html, as: UTF8.self))
}
