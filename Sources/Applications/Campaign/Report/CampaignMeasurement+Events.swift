import FoundationEssentials

/// A version of an item: what was edited is sent again under the same id.
private struct Version: Hashable {
    var id: String
    var sha256: String
}

/// An item that reached a receiver.
struct Arrival: Equatable {
    var receiver: String
    var id: String
    var via: String
    /// Since the sending began, by our clock, in seconds.
    var seconds: Double
    /// From the source, with the clocks' offsets taken off, in milliseconds; nil when it was published before the receiver was there.
    var latency: Double?
    /// The same as the receiver estimates it.
    var ownLatency: Double?
}

extension CampaignMeasurement {
    /// Computes everything.
    /// - Parameter events: of each role, by its name.
    init(_ facts: CampaignFacts, events: [String: [CampaignEvent]]) {
        var arrivals: [Arrival] = []
        self.init(facts, events: events, arrivals: &arrivals)
    }

    /// - Parameter arrivals: each item at each receiver is added to it.
    init(_ facts: CampaignFacts, events: [String: [CampaignEvent]], arrivals: inout [Arrival]) {
        let sourceRole = facts.roles.first { $0.kind == .source }
        let clocks = Dictionary(facts.hosts.map { ($0.name, $0.clock) }) { first, _ in first }
        let ours = { (host: String?, time: Int64) -> Int64 in
            host.flatMap { clocks[$0] ?? nil }?.ours(time) ?? time
        }

        unverified = Self.unverified(events[sourceRole?.name ?? ""] ?? [])
        var sent: [Version: Int64] = [:]
        for event in events[sourceRole?.name ?? ""] ?? [] {
            let time = ours(sourceRole?.host, event.readNs)
            switch event.event {
            case "item":
                let version = Version(id: event.id ?? "", sha256: event.sha256 ?? "")
                if sent.updateValue(time, forKey: version) == nil { source.items += 1 }
                source.documentOctets += event.bytes ?? 0
            case "interval", "summary":
                source.flowOctets = event.bytesFlow ?? source.flowOctets
                source.repairOctets = event.bytesRepair ?? source.repairOctets
                source.unicastOctets = event.bytesUnicast ?? source.unicastOctets
                source.controlOctets = event.bytesControl ?? source.controlOctets
                samples.append(
                    Sample(
                        seconds: facts.seconds(time), flowOctets: source.flowOctets, repairOctets: source.repairOctets,
                        unicastOctets: source.unicastOctets, controlOctets: source.controlOctets,
                        documentOctets: source.documentOctets))
            default: break
            }
        }

        let end = facts.seconds(facts.sendingEnded ?? facts.ended)
        for role in facts.roles where role.kind == .receiver {
            let isNear = role.host == sourceRole?.host
            let uncertainty =
                isNear
                ? 0
                : [role.host, sourceRole?.host ?? ""].reduce(0.0) { sum, host in
                    sum + Double((clocks[host] ?? nil)?.uncertaintyNanoseconds ?? 0) / 1e6
                }
            var reading = Reading(role, end: end, uncertainty: uncertainty, sent: sent, seconds: facts.seconds)
            for event in events[role.name] ?? [] {
                // What we have marked ourselves is by our clock.
                let isMark = ["campaign-started", "campaign-lost"].contains(event.event)
                reading.take(event, at: isMark ? event.readNs : ours(role.host, event.readNs))
            }
            receivers.append(reading.finished())
            arrivals += reading.arrivals
        }
        let listening = receivers.filter { $0.path != .unicast && $0.viaFlow > 0 && $0.missing == 0 }
        listeners = listening.count
        listenersUnicastOctets = listening.reduce(0) { $0 + ($1.unicastOctets ?? 0) }
        let alone = receivers.filter { $0.path == .unicast && $0.isComplete }.compactMap(\.unicastOctets)
        if !alone.isEmpty, source.documentOctets > 0 {
            unicastFactor = Double(alone.reduce(0, +)) / Double(alone.count) / Double(source.documentOctets)
            isFactorMeasured = true
        }
    }

    /// What others say they had: the last report of each address.
    private static func unverified(_ events: [CampaignEvent]) -> [Unverified] {
        var places: [String: Int] = [:]
        var all: [Unverified] = []
        for event in events where event.event == "report" {
            let address = event.address ?? ""
            guard places[address] != nil || all.count < mostUnverified else { continue }
            let place = places[address] ?? all.count
            let known = places[address] == nil ? nil : all[place]
            let hasItems = (event.latencyItems ?? 0) > 0
            let told = Unverified(
                address: address, reports: (known?.reports ?? 0) + 1, way: event.way ?? "", items: event.items ?? 0,
                packetsLost: event.packetsLost ?? 0, fallbacks: event.fallbacks ?? 0,
                median: hasItems ? event.latencyP50Ms : known?.median,
                percent95: hasItems ? event.latencyP95Ms : known?.percent95,
                uncertainty: hasItems ? event.clockUncertaintyMs : known?.uncertainty)
            if known == nil { all.append(told) } else { all[place] = told }
            places[address] = place
        }
        return all
    }

    /// Follows what one receiver said.
    private struct Reading {
        var receiver: Receiver
        var arrivals: [Arrival] = []
        private let end: Double
        private let uncertainty: Double
        private let sent: [Version: Int64]
        private let seconds: (Int64) -> Double
        private var seen: Set<Version> = []
        /// Since it was started last.
        private var seenSinceStart: Set<Version> = []
        private var connected = Int64.max
        private var latencies: [Double] = []
        private var way = Span.Way.gone
        private var wayBegan = 0.0
        private var lookedFor = Span.Way.multicast
        private var isRunning = false

        init(
            _ role: CampaignFacts.Role, end: Double, uncertainty: Double, sent: [Version: Int64],
            seconds: @escaping (Int64) -> Double
        ) {
            receiver = Receiver(name: role.name, host: role.host, path: role.path ?? .auto)
            receiver.failure = role.failure
            receiver.isEndedOnPurpose = role.isEndedOnPurpose
            if role.path == .amt { lookedFor = .amt }
            self.end = end
            self.uncertainty = uncertainty
            self.sent = sent
            self.seconds = seconds
        }

        mutating func take(_ event: CampaignEvent, at time: Int64) {
            let now = seconds(time)
            switch event.event {
            case "campaign-started":
                isRunning = true
                seenSinceStart = []
                connected = .max
                change(to: .starting, now)
            case "campaign-ended", "campaign-lost":
                isRunning = false
                change(to: .gone, now)
            case "path": lookedFor = event.path == "amt" ? .amt : .multicast
            case "connected":
                connected = min(connected, time)
                change(to: .unicast, now)
            case "listening": change(to: lookedFor, now)
            case "fallback":
                receiver.fallbacks += 1
                change(to: .fallback, now)
            case "return":
                receiver.returns += 1
                change(to: lookedFor, now)
            case "item": arrived(event, time, now)
            case "summary":
                receiver.packetsLost = (receiver.packetsLost ?? 0) + (event.packetsLost ?? 0)
                receiver.repaired = (receiver.repaired ?? 0) + (event.repaired ?? 0)
                receiver.flowOctets = (receiver.flowOctets ?? 0) + (event.bytesFlow ?? 0)
                receiver.unicastOctets = (receiver.unicastOctets ?? 0) + (event.bytesUnicast ?? 0)
            default: break
            }
        }

        private mutating func arrived(_ event: CampaignEvent, _ time: Int64, _ now: Double) {
            let version = Version(id: event.id ?? "", sha256: event.sha256 ?? "")
            guard let published = sent[version] else {
                receiver.different += 1
                return
            }
            if !seenSinceStart.insert(version).inserted { receiver.duplicates += 1 }
            guard seen.insert(version).inserted else { return }
            receiver.items += 1
            switch event.via {
            case "flow": receiver.viaFlow += 1
            case "mixed": receiver.viaMixed += 1
            default: receiver.viaUnicast += 1
            }
            // What was published before it was there took as long as it took to come.
            let latency = published >= connected ? Double(time - published) / 1e6 : nil
            if let latency { latencies.append(latency) }
            arrivals.append(
                Arrival(
                    receiver: receiver.name, id: version.id, via: event.via ?? "", seconds: now, latency: latency,
                    ownLatency: event.latencyMs))
        }

        private mutating func change(to way: Span.Way, _ now: Double) {
            if self.way != .gone || !receiver.spans.isEmpty { close(now) }
            self.way = way
            wayBegan = now
        }

        private mutating func close(_ now: Double) {
            if now > wayBegan { receiver.spans.append(Span(way: way, begin: wayBegan, end: now)) }
        }

        mutating func finished() -> Receiver {
            if !receiver.spans.isEmpty || isRunning { close(max(end, wayBegan)) }
            receiver.missing = sent.count - receiver.items
            latencies.sort()
            if !latencies.isEmpty {
                receiver.latency = Latency(
                    count: latencies.count, median: percentile(latencies, 0.5), percent95: percentile(latencies, 0.95),
                    percent99: percentile(latencies, 0.99), largest: latencies.last ?? 0, uncertainty: uncertainty)
            }
            return receiver
        }
    }
}
