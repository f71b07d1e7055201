import AMT
import Glibc
import Logging
import Operation
import Reactor
import Transport
import Wire

/// What `flexicast gateway` was asked to do.
package struct GatewayOptions: Sendable {
    /// A relay, an address to discover one at, or how to search for one.
    package var relay: RelayChoice
    /// The channels, each with the port that counts or nil for every port.
    package var channels: [(channel: Channel, port: UInt16?)]
    /// Where payloads are sent to as UDP datagrams; nil writes them to standard output, one after the other.
    package var to: SocketAddress?
    /// Name of a TUN interface to make, on which the packets arrive as multicast; needs CAP_NET_ADMIN.
    package var device: String?
    /// Name of an interface on whose link the packets are sent as multicast; needs CAP_NET_RAW.
    package var interface: String?
    /// The most hops that packets may have left on that link.
    package var timeToLive: UInt8 = 255
    /// Where `/metrics` (Prometheus) is served over HTTP; nil: nowhere.
    package var metrics: ListeningPlace?
    /// Stop with success after so many packets.
    package var count: Int?
    /// Give up after so long: exit status 2 when `count` was asked for and not reached.
    package var timeout: Duration?
    /// Events are objects, one per line.
    package var json = false
    /// Between two `interval` events.
    package var reportInterval: Duration = .seconds(1)
    /// How the reactor waits for the kernel.
    package var io: IOBackendChoice = .auto

    /// - Parameter channels: at least one; those of one IP version share a tunnel.
    package init(relay: RelayChoice, channels: [(channel: Channel, port: UInt16?)]) {
        self.relay = relay
        self.channels = channels
    }
}

/// Runs a gateway until it has what it was asked for, its time is up, or SIGTERM or SIGINT.
/// - Returns: the exit status: 0, or 2 when fewer packets came than were asked for.
/// - Throws: an error that says what could not be set up.
package func runGateway(
    _ options: GatewayOptions, reload: @escaping () -> Void = {}, log: Logger
) throws -> Int32 {
    let reactor = try Reactor(io: .init(options.io))
    log.info("\(reactor.backendDescription)")
    defer { reactor.close() }
    let run = try GatewayRun(options, reactor: reactor, log: log)
    for signal in [SIGTERM, SIGINT] { try reactor.onSignal(signal) { [unowned reactor] in reactor.stop() } }
    try reactor.onSignal(SIGHUP, reload)
    let manager = ServiceManager(on: reactor)
    manager?.ready("looking for a relay")
    reactor.run()
    manager?.stopping("")
    return run.finish()
}

/// Tunnels of a stand-alone gateway, one for each IP version, and where their payloads go.
final class GatewayRun: TunnelHandler {
    /// Channels that are accounted for one by one; an any-source group has as many as it has sources.
    private static let channelLimit = 256

    private let options: GatewayOptions
    private unowned let reactor: Reactor
    private let log: Logger
    private let output: EventOutput
    private let writer: OutputWriter
    private let start: Instant
    private(set) var tunnels: [AMTTunnel] = []
    private var sink: UDPSocket?
    private var device: TunnelDevice?
    private(set) var link: LinkOutput?
    private var identification: UInt16 = 0
    private var packets = 0
    private var heard: [Channel: Int] = [:]
    /// What came of each channel in `heard`, and of all others.
    private(set) var received: [(channel: Channel, packets: UInt64, octets: UInt64)] = []
    private(set) var receivedOfOthers: (packets: UInt64, octets: UInt64) = (0, 0)
    private var metricsServer: HTTPServer?
    /// Payloads that go to standard output when the batch is over.
    private var pending: [UInt8] = []
    private var timers: [TimerHandle] = []

    init(_ options: GatewayOptions, reactor: Reactor, log: Logger) throws {
        self.options = options
        self.reactor = reactor
        self.log = log
        start = reactor.now
        // Standard output carries the payloads when nothing else does.
        if options.json || options.to != nil || options.device != nil || options.interface != nil {
            writer = OutputWriter()
            output = EventOutput(style: options.json ? .json : .text, writer: writer)
        } else {
            // Nobody is left to carry them for.
            writer = OutputWriter(onGone: { [wakeup = reactor.wakeup] in wakeup.post { $0.stop() } })
            output = EventOutput(style: .silent, writer: writer)
        }
        if let to = options.to {
            sink = try reactor.udpSocket(bind: SocketAddress(to.address.isIPv4 ? .v4(0) : .v6(0), port: 0))
        }
        if let name = options.device { device = try TunnelDevice(name: name) }
        if let name = options.interface {
            let link = try LinkOutput(
                interface: name, hopLimit: options.timeToLive, wanted: Set(options.channels.map(\.channel)),
                reactor: reactor)
            if case .at(let relay) = options.relay, link.isHeard(by: relay.address) {
                throw EndpointError(
                    "the relay \(relay.address) is on the link of \(name): it would hear what is sent there, and send it "
                        + "again; take an interface that leads elsewhere")
            }
            self.link = link
        }
        for (family, source, channels) in Self.grouped(options) {
            let tunnel = try AMTTunnel(
                relay: options.relay, source: source, family: family, reactor: reactor, log: log)
            tunnels.append(tunnel)
            tunnel.onEvent = { [unowned self] event in
                switch event {
                case .joined(let relay):
                    output.report(GatewayProgress.joined(relay: "\(relay)"))
                    if let link, !link.relayChanged(to: relay.address) {
                        log.error("the relay is on the link: nothing is sent there", metadata: ["relay": "\(relay)"])
                    }
                case .noAnswer(let attempt): output.report(GatewayProgress.noAnswer(attempt: attempt))
                case .unreachable(let relay): output.report(GatewayProgress.unreachable(relay: "\(relay)"))
                case .limited: output.report(GatewayProgress.limited)
                case .silent: output.report(GatewayProgress.silent)
                case .relayFound: break
                }
            }
            for (channel, port) in channels {
                guard tunnel.subscribe(channel, port: port, handler: self) else {
                    throw EndpointError("\(channel) cannot be asked for: groups of a link are not carried by relays")
                }
            }
        }
        if let timeout = options.timeout {
            timers.append(reactor.timer(at: reactor.now + timeout) { [unowned reactor] in reactor.stop() })
        }
        var next = reactor.now + options.reportInterval
        let ticker = reactor.timer { [unowned self] in
            output.report(GatewayProgress.interval(report))
            next = max(next + options.reportInterval, self.reactor.now)
            timers.last?.schedule(at: next)
        }
        timers.append(ticker)
        ticker.schedule(at: next)
        if let address = options.metrics {
            let server = try HTTPServer(address, reactor: reactor) { [unowned self] in
                $0.path == "/metrics" ? .metrics(metrics, $0) : nil
            }
            metricsServer = server
            output.report(GatewayProgress.metrics(address: "\(server.localAddress)"))
        }
    }

    /// One tunnel for each IP version. When relays are searched for, one for each source: each has its own relays
    /// (RFC 8777 section 3.3.7).
    private static func grouped(
        _ options: GatewayOptions
    ) -> [(family: DataFamily, source: IPAddress?, channels: [(channel: Channel, port: UInt16?)])] {
        var groups: [(family: DataFamily, source: IPAddress?, channels: [(channel: Channel, port: UInt16?)])] = []
        for each in options.channels {
            let family: DataFamily = each.channel.group.isIPv4 ? .ipv4 : .ipv6
            let source: IPAddress? = if case .search = options.relay { each.channel.source } else { nil }
            if let index = groups.firstIndex(where: { $0.family == family && $0.source == source }) {
                groups[index].channels.append(each)
            } else {
                groups.append((family, source, [each]))
            }
        }
        return groups
    }

    func tunnelPacketReceived(
        _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN,
        hopLimit: UInt8
    ) {
        if let count = options.count, packets >= count { return }
        packets += 1
        count(payload.count, of: Channel(source: source.address, group: group.address))
        if let sink, let to = options.to {
            _ = sink.send(copyOf: payload.span, to: to, ecn: ecn)
        } else if let link {
            link.send(payload.span, from: source, to: group, hopLimit: hopLimit, ecn: ecn)
        } else if let device {
            identification &+= 1
            // Whoever listens on this host is the end of the way.
            let packet = udpPacket(
                payload.span, from: source, to: group, hopLimit: 1, ecn: ecn, identification: identification)
            device.write(packet.span)
        } else if !options.json {
            pending.append(payload.span)
        }
        if packets == options.count { reactor.stop() }
    }

    private func count(_ octets: Int, of channel: Channel) {
        if let index = heard[channel] {
            received[index].packets += 1
            received[index].octets += UInt64(octets)
        } else if received.count < Self.channelLimit {
            heard[channel] = received.count
            received.append((channel, 1, UInt64(octets)))
            output.report(GatewayProgress.firstPacket(channel: "\(channel)", after: reactor.now - start))
        } else {
            receivedOfOthers.packets += 1
            receivedOfOthers.octets += UInt64(octets)
        }
    }

    func tunnelBatchEnded() {
        guard !pending.isEmpty else { return }
        writer.write(pending)
        pending.removeAll(keepingCapacity: true)
    }

    private var report: GatewayReport {
        var report = GatewayReport()
        for counters in tunnels.map(\.gateway.counters) {
            report.packets += Int(counters.packetsDelivered)
            report.bytes += Int(counters.octetsDelivered)
            report.refused += Int(counters.damaged + counters.unexpected + counters.notSubscribed)
        }
        if let link {
            report.emitted = Int(link.sent)
            let withheld = link.counters
            report.withheld = Int(
                withheld.expired + withheld.tooLarge + withheld.native + withheld.looped + link.refused)
        }
        return report
    }

    func finish() -> Int32 {
        tunnelBatchEnded()
        metricsServer?.close()
        for tunnel in tunnels { tunnel.close() }
        sink?.flush()
        output.report(GatewayProgress.summary(report))
        output.flush()
        if let count = options.count, packets < count {
            log.error("\(packets) of \(count) packets came in time")
            return 2
        }
        return 0
    }
}
