import AMT
import Glibc
import Logging
import Reactor
import Wire

/// What `flexicast relay` was asked to do.
public struct RelayOptions: Sendable {
    /// Where gateways reach the relay: at most one IPv4 and one IPv6 address.
    public var listen: [SocketAddress]
    /// Name of the interface that multicast comes in by; nil captures on all and lets the routing table choose for joins.
    public var upstream: String?
    /// Groups and ports that are served through ordinary sockets, without a privilege; empty captures every group.
    public var groups: [SocketAddress] = []
    /// How long tunnels are served after SIGTERM, while new Queries tell gateways to go.
    public var drain: Duration = .seconds(5)
    public var relay = RelayConfiguration()
    /// Where `/metrics` (Prometheus) and `/endpoints` (JSON) are served over HTTP; nil: nowhere.
    public var metrics: SocketAddress?
    public var json = false
    public var reportInterval: Duration = .seconds(1)
    public var io: IOBackendChoice = .auto

    public init(listen: [SocketAddress]) { self.listen = listen }
}

/// One thing that happened at a relay.
public enum RelayEvent: Sendable {
    case listening(addresses: [String], upstream: String, metrics: String?)
    case interval(RelayReport)
    /// New gateways are sent away from now on.
    case draining
    case summary(RelayReport)
}

/// What a relay has done since it started.
public struct RelayReport: Sendable {
    public var endpoints = 0
    public var channels = 0
    public var packetsIn = 0
    public var packetsOut = 0
    /// Octets of UDP payload sent into tunnels.
    public var bytesOut = 0
    public var unwanted = 0
    public var tooLarge = 0
    /// Messages that told a sender what size fits.
    public var tooLargeTold = 0
    /// Packets that had no hop left.
    public var expired = 0
    /// Copies that were more than their tunnel's rate.
    public var overRate = 0
    /// Packets that were more than their channel's rate.
    public var overChannelRate = 0
    /// Refused joins by reason.
    public var refusals: [(reason: String, count: Int)] = []
    /// Tunnels so far: opened, ended for silence, ended by their gateway, ended because their gateway is unreachable.
    public var opened = 0
    public var silent = 0
    public var tornDown = 0
    public var unreachable = 0
    /// Control messages of gateways.
    public var requests = 0
    public var updates = 0
    /// Captured packets that the kernel dropped, and copies that found the send queue full.
    public var drops = 0
    public var rateLimited = 0
    public var invalidMAC = 0
    public var refused = 0

    public init() {}
}

extension RelayEvent: EventLine {
    public var json: String {
        switch self {
        case .listening(let addresses, let upstream, let metrics):
            jsonObject(
                [
                    ("event", .string("listening")), ("address", .string(addresses.joined(separator: " "))),
                    ("upstream", .string(upstream)),
                ] + (metrics.map { [("metrics", .string($0))] } ?? []))
        case .interval(let report): report.json(event: "interval")
        case .draining: jsonObject([("event", .string("draining"))])
        case .summary(let report): report.json(event: "summary")
        }
    }

    public var text: String? {
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
    fileprivate func json(event: String) -> String {
        jsonObject(
            [
                ("event", .string(event)), ("endpoints", .integer(endpoints)), ("channels", .integer(channels)),
                ("packets_in", .integer(packetsIn)), ("packets_out", .integer(packetsOut)),
                ("bytes_out", .integer(bytesOut)), ("unwanted", .integer(unwanted)), ("too_large", .integer(tooLarge)),
                ("drops", .integer(drops)), ("rate_limited", .integer(rateLimited)),
                ("invalid_mac", .integer(invalidMAC)), ("refused", .integer(refused)),
                ("too_large_told", .integer(tooLargeTold)), ("expired", .integer(expired)),
                ("over_rate", .integer(overRate)), ("over_channel_rate", .integer(overChannelRate)),
                ("opened", .integer(opened)), ("silent", .integer(silent)),
                ("torn_down", .integer(tornDown)), ("unreachable", .integer(unreachable)),
                ("requests", .integer(requests)), ("updates", .integer(updates)),
            ] + refusals.map { ("refused_\($0.reason)", .integer($0.count)) })
    }
}

extension RelayServer {
    var report: RelayReport {
        capture?.updateDrops()
        var report = RelayReport()
        report.endpoints = relay.endpointCount
        report.channels = relay.upstreamCount
        report.packetsIn = Int(relay.forwarding.packetsIn)
        report.packetsOut = Int(relay.forwarding.packetsOut)
        report.bytesOut = Int(relay.forwarding.octetsOut)
        report.unwanted = Int(relay.forwarding.unwanted)
        report.tooLarge = Int(relay.forwarding.tooLarge)
        report.drops = Int(relay.forwarding.queueFull + (capture?.kernelDrops ?? 0) + controlDrops)
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

/// Runs a relay until SIGINT, or SIGTERM and the time to drain.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
public func runRelay(_ options: RelayOptions, log: Logger) throws -> Int32 {
    // A group of many sources takes a socket for each.
    Meters.raiseFileLimit()
    let reactor = try Reactor(io: .init(options.io))
    log.info("\(reactor.backendDescription)")
    defer { reactor.close() }
    let output = EventOutput(style: options.json ? .json : .text)
    let server = try RelayServer(options, reactor: reactor, log: log)
    let metrics = try options.metrics.map { try MetricsServer($0, reactor: reactor, page: server.page) }
    defer { metrics?.close() }
    output.report(
        RelayEvent.listening(
            addresses: server.sockets.map { "\($0.localAddress)" }, upstream: options.upstream ?? "",
            metrics: metrics?.localAddress.map { "\($0)" }))

    let interval = options.reportInterval
    var next = reactor.now + interval
    var ticker: TimerHandle?
    ticker = reactor.timer(at: next) {
        output.report(RelayEvent.interval(server.report))
        next = max(next + interval, reactor.now)
        ticker?.schedule(at: next)
    }
    var end: TimerHandle?
    try reactor.onSignal(SIGINT) { [unowned reactor] in reactor.stop() }
    try reactor.onSignal(SIGTERM) { [unowned reactor] in
        // A second one does not wait.
        guard end == nil else { return reactor.stop() }
        server.drain()
        output.report(RelayEvent.draining)
        end = reactor.timer(at: reactor.now + options.drain) { [unowned reactor] in reactor.stop() }
    }
    reactor.run()
    ticker = nil
    end = nil
    output.report(RelayEvent.summary(server.report))
    output.flush()
    server.close()
    return 0
}
