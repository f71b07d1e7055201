import Operation

/// The tables of a campaign's folder, as RFC 4180 has them.
struct CampaignTables {
    let facts: CampaignFacts
    let measurement: CampaignMeasurement
    let arrivals: [Arrival]

    /// By the names of their files.
    var files: [(name: String, text: String)] {
        [
            ("receivers.csv", receivers), ("items.csv", items), ("octets.csv", octets), ("paths.csv", paths),
            ("hosts.csv", hosts), ("unverified.csv", unverified),
        ]
    }

    private var receivers: String {
        table(
            [
                "receiver", "host", "path", "items", "missing", "duplicates", "different", "via_flow", "via_mixed",
                "via_unicast", "packets_lost", "repaired", "fallbacks", "returns", "bytes_flow", "bytes_unicast",
                "latency_items", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "latency_max_ms",
                "latency_uncertainty_ms", "failure",
            ],
            measurement.receivers.map { receiver in
                let numbers: [Int?] = [
                    receiver.items, receiver.missing, receiver.duplicates, receiver.different, receiver.viaFlow,
                    receiver.viaMixed, receiver.viaUnicast, receiver.packetsLost, receiver.repaired,
                    receiver.fallbacks, receiver.returns, receiver.flowOctets, receiver.unicastOctets,
                    receiver.latency?.count,
                ]
                let times = receiver.latency.map {
                    [$0.median, $0.percent95, $0.percent99, $0.largest, $0.uncertainty]
                }
                return [receiver.name, receiver.host, receiver.path.rawValue]
                    + numbers.map { $0.map(String.init) ?? "" }
                    + (times?.map { fixed($0, 3) } ?? Array(repeating: "", count: 5)) + [receiver.failure ?? ""]
            })
    }

    private var items: String {
        table(
            ["receiver", "seconds", "id", "via", "latency_ms", "latency_by_receiver_ms"],
            arrivals.map { arrival in
                [
                    arrival.receiver, fixed(arrival.seconds, 3), arrival.id, arrival.via,
                    arrival.latency.map { fixed($0, 3) } ?? "", arrival.ownLatency.map { fixed($0, 3) } ?? "",
                ]
            })
    }

    private var octets: String {
        table(
            ["seconds", "bytes_flow", "bytes_repair", "bytes_unicast", "bytes_control", "bytes_documents"],
            measurement.samples.map { sample in
                [fixed(sample.seconds, 3)]
                    + [
                        sample.flowOctets, sample.repairOctets, sample.unicastOctets, sample.controlOctets,
                        sample.documentOctets,
                    ].map(String.init)
            })
    }

    private var paths: String {
        table(
            ["receiver", "way", "begin_seconds", "end_seconds"],
            measurement.receivers.flatMap { receiver in
                receiver.spans.map { [receiver.name, $0.way.rawValue, fixed($0.begin, 3), fixed($0.end, 3)] }
            })
    }

    private var hosts: String {
        table(
            [
                "host", "ssh", "system", "distribution", "processor", "cores", "memory_octets", "clock_offset_ms",
                "clock_drift_ppm", "clock_uncertainty_ms", "failure",
            ],
            facts.hosts.map { host in
                [
                    host.name, host.destination ?? "", host.facts?.system ?? "", host.facts?.distribution ?? "",
                    host.facts?.processor ?? "", host.facts.map { "\($0.cores)" } ?? "",
                    host.facts.map { "\($0.memoryOctets)" } ?? "",
                    host.clock.map { fixed(Double($0.offsetNanoseconds) / 1e6, 4) } ?? "",
                    host.clock.map { fixed($0.driftNanosecondsPerSecond / 1000, 3) } ?? "",
                    host.clock.map { fixed(Double($0.uncertaintyNanoseconds) / 1e6, 4) } ?? "", host.failure ?? "",
                ]
            })
    }

    private var unverified: String {
        table(
            [
                "address", "way", "items", "packets_lost", "fallbacks", "latency_p50_ms", "latency_p95_ms",
                "clock_uncertainty_ms", "reports",
            ],
            measurement.unverified.map { other in
                [other.address, other.way, "\(other.items)", "\(other.packetsLost)", "\(other.fallbacks)"]
                    + [other.median, other.percent95, other.uncertainty].map { time in time.map { fixed($0, 3) } ?? "" }
                    + ["\(other.reports)"]
            })
    }

    private func table(_ header: [String], _ rows: [[String]]) -> String {
        ([header] + rows).map { $0.map(Self.cell).joined(separator: ",") + "\r\n" }.joined()
    }

    private static func cell(_ text: String) -> String {
        guard text.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return text }
        return "\"" + text.replacing("\"", with: "\"\"") + "\""
    }
}
