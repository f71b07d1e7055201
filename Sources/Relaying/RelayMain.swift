import AMT
import Glibc
import Logging
import Operation
import Reactor
import Transport
import Wire

/// What `flexicast relay` was asked to do.
package struct RelayOptions: Sendable {
    /// Where gateways reach the relay: at most one IPv4 and one IPv6 address.
    package var listen: [SocketAddress]
    /// Sockets to take instead of those that are bound to an address of their kind in `listen`.
    package var inherited: [InheritedSocket] = []
    /// Name of the interface that multicast comes in by; nil captures on all and lets the routing table choose for joins.
    package var upstream: String?
    /// Groups and ports that are served through ordinary sockets, without a privilege; empty captures every group.
    package var groups: [SocketAddress] = []
    /// How long tunnels are served after SIGTERM, while new Queries tell gateways to go.
    package var drain: Duration = .seconds(5)
    /// What the relay serves, within which limits.
    package var relay = RelayConfiguration()
    /// Where `/metrics` (Prometheus) and `/endpoints` (JSON) are served over HTTP; nil: nowhere.
    package var metrics: ListeningPlace?
    /// Events are objects, one per line.
    package var json = false
    /// Between two `interval` events.
    package var reportInterval: Duration = .seconds(1)
    /// How the reactor waits for the kernel.
    package var io: IOBackendChoice = .auto

    /// - Parameter listen: at least one address; port 0 takes a free one.
    package init(listen: [SocketAddress]) { self.listen = listen }
}

/// Runs a relay until SIGINT, or SIGTERM and the time to drain.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
package func runRelay(
    _ options: RelayOptions, reload: @escaping () -> RelayOptions? = { nil }, log: Logger
) throws -> Int32 {
    // A group of many sources takes a socket for each.
    Meters.raiseFileLimit()
    let reactor = try Reactor(io: .init(options.io))
    log.info("\(reactor.backendDescription)")
    defer { reactor.close() }
    let output = EventOutput(style: options.json ? .json : .text)
    var options = options
    options.inherited = try InheritedSocket.take()
    let server = try RelayServer(options, reactor: reactor, log: log)
    let metrics = try options.metrics.map { try HTTPServer($0, reactor: reactor, page: server.page) }
    defer { metrics?.close() }
    output.report(
        RelayEvent.listening(
            addresses: server.sockets.map { "\($0.localAddress)" }, upstream: options.upstream ?? "",
            metrics: metrics.map { "\($0.localAddress)" }))

    let manager = ServiceManager(on: reactor)
    manager?.ready("\(server.report.endpoints) tunnels")
    let interval = options.reportInterval
    var next = reactor.now + interval
    var ticker: TimerHandle?
    ticker = reactor.timer(at: next) {
        output.report(RelayEvent.interval(server.report))
        manager?.status("\(server.report.endpoints) tunnels")
        next = max(next + interval, reactor.now)
        ticker?.schedule(at: next)
    }
    var end: TimerHandle?
    try reactor.onSignal(SIGHUP) {
        manager?.reloading()
        if let options = reload() { server.useLimits(of: options.relay) }
        manager?.ready("\(server.report.endpoints) tunnels")
    }
    try reactor.onSignal(SIGINT) { [unowned reactor] in reactor.stop() }
    try reactor.onSignal(SIGTERM) { [unowned reactor] in
        // A second one does not wait.
        guard end == nil else { return reactor.stop() }
        server.drain()
        output.report(RelayEvent.draining)
        manager?.stopping("open tunnels end soon")
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
