import Cryptography
import Feed
import Flexicast
import FoundationEssentials
import Glibc
import Logging
import Objects
import Operation
import QUIC
import Reactor
import System
import Transport
import Wire

/// Runs a source until SIGTERM or SIGINT.
/// - Parameter reload: reads the options again, for SIGHUP; it throws what is wrong with them.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
package func runSource(
    _ options: SourceOptions, reload: (() throws -> SourceReload)? = nil, log: Logger
) throws -> Int32 {
    for feed in options.feeds { _ = try FeedLocation(feed) }
    let reactor = try Reactor(io: .init(options.io))
    log.info("\(reactor.backendDescription); \(cryptographyLibrary)")
    defer { reactor.close() }
    let output = EventOutput(style: options.json ? .json : .text)
    try reactor.onSignal(SIGINT) { [unowned reactor] in reactor.stop() }

    // Nobody else uses it as long as this runs.
    let home = try options.stateDirectory.map { try openDirectory($0) }
    defer { home?.unlock() }
    let head = try options.distributedLog.map {
        try LogHead($0, options.retention, output: output, on: reactor, log: log)
    }
    defer { head?.stop() }
    if let head, !head.load() { return head.status }
    let (objects, store) = try head?.takeLog().map { ($0, nil) } ?? makeLog(options)
    var broadcast = try broadcast(options, objects, home)
    broadcast.inherited = try inheritedSocket(for: options.listen, log: log)
    let broadcaster = try Broadcaster(broadcast, on: reactor, log: log)
    broadcaster.endpoint.onReport = { output.report(SourceEvent.report(address: "\($0)", $1)) }
    head?.publish(by: broadcaster)
    let certificate = CertificateWatch(broadcaster, output: options.certificateOutput, log: log)
    try certificate.start(on: reactor)
    let manager = ServiceManager(on: reactor)
    var zeroCopy = broadcaster.counts.zeroCopy
    if let zeroCopy { log.info("flow: zero-copy \(zeroCopy)") }
    let audience = Audience(at: reactor.now) { broadcaster.endpoint.accounts(from: $0, limit: $1) }
    func send(_ document: Publication.Document) {
        guard publish(document, by: broadcaster, log: log) else { return }
        audience.published(document.bytes.count, members: broadcaster.endpoint.server.flow?.memberCount ?? 0)
    }
    let mailbox = reactor.mailbox(of: Publication.self) { publication in
        for document in publication.documents { send(document) }
        for event in publication.events { output.report(event) }
    }
    let feeds = SourceFeeds(options, log: log) { publication in mailbox.send(publication) }
    // What an earlier run recorded as sent and may not have put into the log before it ended. A whole feed is in the log
    // or follows with the next change.
    let publishMissing = { (recorded: [Publication.Document]) in
        if options.wholeFeed, broadcaster.endpoint.server.log.objectCount > 0 { return }
        for document in missing(recorded, from: store, log: log) { send(document) }
    }
    publishMissing(try feeds.add(options.feeds))

    let pages = SourceMetrics(broadcaster: broadcaster, audience: audience, store: store, head: head) { feeds.counters }
    let metrics = try options.metrics.map { try HTTPServer($0, reactor: reactor, page: pages.page) }
    defer { metrics?.close() }
    let drain = Drain(broadcaster, for: options.drain, on: reactor)
    let reloader = SourceReloader(
        broadcaster: broadcaster, certificate: certificate, feeds: feeds, read: reload, access: options.access,
        publish: publishMissing,
        log: log)
    try reactor.onSignal(SIGHUP) {
        manager?.reloading()
        if let options = reloader.reload() { drain.patience = options.drain }
        manager?.ready(status(broadcaster.counts))
    }
    try reactor.onSignal(SIGTERM) {
        if drain.begin() {
            feeds.stop()
            head?.stop()
            output.report(SourceEvent.draining)
            manager?.stopping("receivers get what was published")
        }
    }
    output.report(
        SourceEvent.listening(
            address: "\(broadcaster.address)",
            group: options.flow.group.map { "\($0)" } ?? (options.flow.replicates ? "each receiver" : ""),
            certificate: "\(broadcaster.certificate.fingerprint)",
            metrics: metrics.map { "\($0.localAddress)" }))
    feeds.start()
    manager?.ready(status(broadcaster.counts))
    func note(_ counts: SourceCounts) {
        audience.tick(
            counts, left: broadcaster.endpoint.listener.counters.closed,
            flowPackets: broadcaster.endpoint.server.flow?.statistics.packetsSent ?? 0,
            feeds: feeds.standing.map { Audience.Feed(name: $0.name, counters: $0.counters) }, at: reactor.now,
            wall: Reactor.timeOfDay())
    }
    note(broadcaster.counts)
    var durability = Durability(store)
    let interval = options.reportInterval
    var next = reactor.now + interval
    var ticker: TimerHandle?
    ticker = reactor.timer(at: next) {
        let counts = broadcaster.counts
        output.report(SourceEvent.interval(counts))
        if let event = durability.look() {
            output.report(event)
            if let reason = durability.trouble {
                log.error("items are kept in memory alone", metadata: ["reason": "\(reason)"])
            } else {
                log.notice("items are kept on disk again")
            }
        }
        manager?.status(durability.trouble.map { "items in memory alone: \($0)" } ?? status(counts))
        if metrics != nil { note(counts) }
        if zeroCopy != counts.zeroCopy {
            zeroCopy = counts.zeroCopy
            log.info("flow: zero-copy \(zeroCopy ?? "")")
        }
        next = max(next + interval, reactor.now)
        ticker?.schedule(at: next)
    }
    reactor.run()

    ticker = nil
    feeds.stop()
    broadcaster.close()
    feeds.waitUntilStopped()
    do {
        try store?.close()
    } catch { log.error("the last items are not on disk", metadata: ["reason": "\(error.reason)"]) }
    output.report(SourceEvent.summary(broadcaster.counts))
    output.flush()
    return head?.status ?? 0
}

/// For the service manager.
private func status(_ counts: SourceCounts) -> String {
    "\(counts.receivers) receivers, \(counts.members) on the flow, \(counts.items) items"
}

/// The end of a source: nothing new is published, and who is connected gets what was.
private final class Drain {
    private let broadcaster: Broadcaster
    var patience: Duration
    private unowned let reactor: Reactor
    private var timer: TimerHandle?
    private static let interval = Duration.milliseconds(20)

    init(_ broadcaster: Broadcaster, for patience: Duration, on reactor: Reactor) {
        self.broadcaster = broadcaster
        self.patience = patience
        self.reactor = reactor
    }

    /// Stops the reactor when all is delivered, or the time is up; at once when called again. Whether it was the first call.
    func begin() -> Bool {
        guard timer == nil else {
            reactor.stop()
            return false
        }
        let end = reactor.now + patience
        timer = reactor.timer(at: reactor.now) { [unowned self] in
            if broadcaster.isDelivered || reactor.now >= end {
                reactor.stop()
            } else {
                timer?.schedule(at: reactor.now + Self.interval)
            }
        }
        return true
    }
}

/// Sends an item to every receiver. One that the log does not take is logged as an error.
/// - Returns: whether it was sent.
private func publish(_ document: Publication.Document, by broadcaster: Broadcaster, log: Logger) -> Bool {
    do {
        try broadcaster.publish(name: document.name, mediaType: document.mediaType, document.bytes)
        return true
    } catch {
        log.error("an item was not published", metadata: ["name": "\(document.name)", "reason": "\(error)"])
        return false
    }
}

/// The socket that the service manager holds for this source, if there is one.
private func inheritedSocket(for listen: SocketAddress, log: Logger) throws -> InheritedSocket? {
    let sockets = try InheritedSocket.take()
    guard let socket = sockets.first else { return nil }
    guard sockets.count == 1 else {
        throw EndpointError("a source takes one socket of the service manager's, not \(sockets.count)")
    }
    if listen.port != 0, socket.address.port != listen.port {
        log.warning(
            "receivers connect to the socket of the service manager, not where --listen says",
            metadata: ["address": "\(socket.address)", "listen": "\(listen)"])
    }
    return socket
}

private func broadcast(
    _ options: SourceOptions, _ objects: ObjectLog, _ home: DurableDirectory?
) throws -> Broadcaster.Options {
    var broadcast = Broadcaster.Options(listen: options.listen)
    broadcast.certificate = options.certificate
    broadcast.names = try namesOfThisMachine()
    if let home {
        let secret = try storedSecret(in: home)
        broadcast.resetKey = StatelessResetKey(key: secret)
        broadcast.ticketSecret = secret
        broadcast.tokenSecret = secret
        broadcast.certificate = try broadcast.certificate ?? storedCertificate(in: home, names: broadcast.names)
    }
    broadcast.access = try options.access.map { try AccessList(file: $0) }
    broadcast.flow = options.flow
    broadcast.history = options.givenHistory
    broadcast.groupRetry = options.groupRetry
    broadcast.unicastRate = options.unicastRate
    broadcast.connections = options.connections
    broadcast.connectionsPerAddress = options.connectionsPerAddress
    broadcast.objects = objects
    broadcast.datagrams = false
    broadcast.maxDatagramSize = options.maxDatagramSize
    broadcast.qlogDirectory = options.qlogDirectory
    broadcast.keyLog = options.keyLog
    return broadcast
}

/// What a self-signed certificate is for.
private func namesOfThisMachine() throws -> [String] {
    var names = ["localhost", ProcessInfo.processInfo.hostName]
    for interface in try NetworkInterface.all() { names += interface.addresses.map(\.description) }
    return names.filter { name in
        IPAddress(name) != nil
            || name.utf8.allSatisfy {
                $0 == 0x2d || $0 == 0x2e || (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20)
            }
    }
}

/// The log of a source, and where it is kept: on disk with `--state`, else nowhere.
func makeLog(_ options: SourceOptions) throws -> (log: ObjectLog, store: SQLiteLogStore?) {
    guard let directory = options.stateDirectory else { return (memoryLog(retention: options.retention), nil) }
    var random = randomSeed()
    do {
        var limits = SQLiteLogLimits(databaseOctets: .max)
        // Small items take half a page of the file more than they have octets.
        if let octets = options.retention.octets {
            limits.databaseOctets = max(SQLiteLogLimits.usualDatabaseOctets, 2 * octets)
        }
        let store = try SQLiteLogStore(directory: directory + "/log", limits: limits, random: &random)
        return (try ObjectLog(store, retention: options.retention, memory: SourceOptions.heldOctets), store)
    } catch let error as LogStoreError {
        throw EndpointError("the items of earlier runs cannot be read: \(error.reason)")
    }
}

/// Those of the documents that the log does not hold. Where that cannot be read they are sent again: receivers know them.
private func missing(
    _ documents: [Publication.Document], from store: SQLiteLogStore?, log: Logger
) -> [Publication.Document] {
    guard let store else { return documents }
    do {
        let missing = try store.missing(documents.map(\.bytes))
        return zip(documents, missing).filter(\.1).map(\.0)
    } catch {
        log.error("the log on disk cannot be read", metadata: ["reason": "\(error.reason)"])
        return documents
    }
}
