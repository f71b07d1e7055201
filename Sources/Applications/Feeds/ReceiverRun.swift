import Cryptography
import Feed
import Glibc
import Logging
import Objects
import Operation
import QUIC
import Reactor
import Transport
import Wire

/// Runs a receiver until it has what it was asked for, its time is up, or SIGTERM or SIGINT.
/// - Returns: the exit status: 0; 2 when fewer items came than were asked for; 1 when no connection came about in the time
///   given, or items could not be stored.
/// - Throws: an error that says what could not be set up.
package func runReceiver(
    _ options: ReceiverOptions, reload: @escaping () -> Void = {}, log: Logger
) throws -> Int32 {
    let reactor = try Reactor(io: .init(options.io))
    log.info("\(reactor.backendDescription); \(cryptographyLibrary)")
    defer { reactor.close() }
    // The next item takes about as much as the one before.
    Meters.keepHeap(Receiver.largeItemOctets)
    let run = try ReceiverRun(options, reactor: reactor, log: log)
    for signal in [SIGTERM, SIGINT] { try reactor.onSignal(signal) { [unowned reactor] in reactor.stop() } }
    try reactor.onSignal(SIGHUP, reload)
    try run.start()
    reactor.run()
    return run.finish()
}

/// A receiver's life: one connection after the other, and what they brought.
final class ReceiverRun {
    private let options: ReceiverOptions
    private let reactor: Reactor
    private let log: Logger
    private let output: EventOutput
    private let writer: OutputWriter
    private let subscriber: Subscriber
    private let store: ItemStore?
    private var isTimeUp = false
    /// Counts epochs of the source's log: within one, later items have higher numbers.
    private var epoch: UInt64 = 0
    private var positionTimer: TimerHandle?
    private var hasListened = false
    /// Since it heard the flow last, on this connection or on an earlier one.
    private var hasFallenBack = false
    private var summary = ReceiverSummary()
    /// Items that could not be stored.
    private var failures = 0
    private var known = RecentDigests()
    private var timers: [TimerHandle] = []
    private let manager: ServiceManager?
    private var sight: ReceiverSight
    private var server: HTTPServer?
    private var intervalTimer: TimerHandle?
    private var reception = ReceptionReport()
    private var reportTimer: TimerHandle?

    init(_ options: ReceiverOptions, reactor: Reactor, log: Logger) throws {
        self.options = options
        self.reactor = reactor
        self.log = log
        sight = ReceiverSight(options.path)
        manager = ServiceManager(on: reactor)
        // It may come later, as that of a tunnel does.
        if let name = options.interface {
            do { _ = try NetworkInterface.index(of: name) } catch {
                log.warning("the flow cannot be joined yet", metadata: ["reason": "\(error)"])
            }
        }
        if case .standardOutput = options.output {
            // Nobody is left to receive for.
            writer = OutputWriter(onGone: { [wakeup = reactor.wakeup] in wakeup.post { $0.stop() } })
            output = EventOutput(style: .silent, writer: writer)
        } else {
            writer = OutputWriter()
            output = EventOutput(style: options.json ? .json : .text, writer: writer)
        }
        store =
            if case .directory(let path) = options.output { try ItemStore(directory: path, logger: log) } else { nil }
        var subscription = options.subscription
        subscription.accessToken = try options.tokenFile.map { try AccessToken(file: $0) }
        subscriber = try Subscriber(
            subscription, resuming: store.flatMap { Self.position(from: $0.position) }, on: reactor, log: log)
        subscriber.onEvent = { [unowned self] event in handle(event) }
    }

    func start() throws {
        reactor.onTurnEnd { [unowned self] in
            if hasNewItems { notePosition() }
            hasNewItems = false
        }
        if store != nil {
            positionTimer = reactor.timer(at: reactor.now + Self.positionPause) { [unowned self] in
                notePosition()
                positionTimer?.schedule(at: reactor.now + Self.positionPause)
            }
        }
        if let timeout = options.timeout {
            timers.append(
                reactor.timer(at: reactor.now + timeout) { [unowned self] in
                    isTimeUp = true
                    reactor.stop()
                })
        }
        if let address = options.metrics {
            let server = try HTTPServer(address, reactor: reactor) { [unowned self] in page($0) }
            self.server = server
            output.report(ReceiverEvent.metrics(address: "\(server.localAddress)"))
        }
        if let interval = options.interval {
            var next = reactor.now + interval
            intervalTimer = reactor.timer(at: next) { [unowned self] in
                output.report(ReceiverEvent.interval(sight.interval(counted, at: reactor.now)))
                next = max(next + interval, reactor.now)
                intervalTimer?.schedule(at: next)
            }
        }
        sight.started(at: reactor.now)
        if options.reports {
            log.notice(
                "every 10 s the source is told by which path items come, how many packets were lost, and how long items took (--report)"
            )
            reportTimer = reactor.timer { [unowned self] in
                let uncertainty = subscriber.assembler.clock.uncertainty(at: reactor.now)
                subscriber.report(
                    reception.take(
                        way: sight.way, items: summary.items, lost: subscriber.counts.lost,
                        fallbacks: summary.fallbacks,
                        uncertainty: uncertainty))
                reportTimer?.schedule(at: reactor.now + ReceptionReport.interval)
            }
            reportTimer?.schedule(at: reactor.now + ReceptionReport.interval)
        }
        subscriber.start()
        manager?.ready("not connected yet")
    }

    private func page(_ request: HTTPServer.Request) -> HTTPServer.Page? {
        switch request.path {
        case "/metrics": .metrics(metrics, request)
        case "/health": .json(jsonObject(["status": "up", "way": sight.way.rawValue, "items": summary.items]))
        default: nil
        }
    }

    private var metrics: MetricsText {
        sight.metrics(
            counted, failures: failures, uncertainty: subscriber.assembler.clock.uncertainty(at: reactor.now))
    }

    private func handle(_ event: Subscriber.Event) {
        sight.handle(event)
        switch event {
        case .connected(let address):
            output.report(ReceiverEvent.connected(address: "\(address)"))
            manager?.status("connected to \(address)")
        case .listening(let group):
            hasListened = true
            // Also when it fell back on an earlier connection: that of a source that was started anew.
            if hasFallenBack {
                hasFallenBack = false
                summary.returns += 1
                output.report(ReceiverEvent.returned)
            } else {
                output.report(ReceiverEvent.listening(group: "\(group)"))
            }
        case .way(let way):
            summary.steps += 1
            output.report(ReceiverEvent.path(way.rawValue))
        case .fellBack(let reason):
            summary.fallbacks += 1
            hasFallenBack = true
            output.report(ReceiverEvent.fallback(reason))
        // Told with `.listening`, which comes first.
        case .returned: break
        case .log(let message): logReceived(message)
        case .object(let object): take(object)
        // Items are asked for whole.
        case .opened, .data, .finished, .datagram: break
        case .reset: summary.missing += 1
        case .gap(let gap):
            // What never was, or was not wanted, is not missing.
            guard gap.reason != .void, gap.reason != .unwanted else { return }
            summary.missing += Int(clamping: gap.count)
            output.report(ReceiverEvent.gap(first: gap.first, count: gap.count, reason: "\(gap.reason)"))
        case .disconnected(let reason):
            notePosition()
            manager?.status("not connected: \(reason)")
            tellOfRefusal()
            // It would be told the same again.
            if subscriber.accessRefusal != nil { reactor.stop() }
        }
    }

    /// Whoever started the receiver has to be told once what it takes, as long as the reason stays the same.
    private func tellOfRefusal() {
        defer { toldRefusal = subscriber.lastRefusal }
        guard let refusal = subscriber.lastRefusal, refusal != toldRefusal else { return }
        log.error(
            "the source's certificate is not trusted; if it is the right one, give --trust its file or its fingerprint",
            metadata: ["reason": "\(refusal)"])
    }

    private var toldRefusal: String?

    private func logReceived(_ message: LogMessage) {
        if message.answer != .taken { epoch += 1 }
        let uncertainty = subscriber.assembler.clock.uncertainty(at: reactor.now) ?? .zero
        output.report(
            ReceiverEvent.position(
                answer: "\(message.answer)", first: message.first, next: message.next, uncertainty: uncertainty))
    }

    // MARK: The position

    private static var positionPause: Duration { .seconds(1) }

    private static func position(from stored: [UInt8]?) -> PositionMessage? {
        guard let stored else { return nil }
        var decoder = ControlDecoder(from: .client)
        var reader = ByteReader(stored.span)
        // Whatever else is there: the receiver begins anew, and what it has already is known by its digest.
        guard case .position(let position) = try? decoder.next(from: &reader) else { return nil }
        return position
    }

    /// What is settled now goes to the disk behind the items that settled it.
    private func notePosition() {
        let assembler = subscriber.assembler
        guard let store, let epoch = assembler.epoch, assembler.resume != notedPosition,
            let bytes = try? ControlMessage.position(PositionMessage(epoch: epoch, cursor: assembler.resume)).encoded()
        else { return }
        notedPosition = assembler.resume
        store.note(position: bytes)
    }

    private var notedPosition: Cursor?
    /// Items were given to the store in this turn.
    private var hasNewItems = false

    // MARK: Items

    private lazy var wants = Wants(prefixes: options.prefixes)

    private func take(_ object: ReceivedObject) {
        // The flow brings everything.
        guard wants.include(object.name) else { return }
        guard let store else {
            takeInMemory(object)
            return
        }
        hasNewItems = true
        let mailbox = stored
        let log = log
        store.submit(Array(object.body), order: ItemOrder(session: epoch, position: object.first)) { result in
            // The item is on disk all the same.
            guard mailbox.send((result, object.first, object.via, object.latency)) else {
                log.error("a stored item was not reported: too much waits")
                return
            }
        }
    }

    private lazy var stored = reactor.mailbox(
        of: (Result<StoredItem, ItemStoreError>, UInt64, Via, Duration?).self
    ) { [unowned self] result, sequence, via, latency in
        switch result {
        case .success(let item):
            guard item.outcome == .new || item.outcome == .edited else { return }
            report(
                id: item.id, title: item.title, updated: item.updated, bytes: item.bytes, digest: item.sha256,
                sequence: sequence, via: via, latency: latency)
        case .failure(let error):
            failures += 1
            log.error("item not stored", metadata: ["reason": "\(error)"])
        }
    }

    private func takeInMemory(_ received: ReceivedObject) {
        let items: [(item: FeedItem, document: [UInt8])]
        do throws(FeedError) {
            items = try FeedParser.parseItems(Array(received.body))
        } catch {
            log.error("what came is no item", metadata: ["reason": "\(error)"])
            return
        }
        for (item, document) in items {
            let digest = SHA256Digest(of: document)
            // A new connection brings the history again, and a whole feed what the one before it had.
            guard known.note(item.id, digest) else { continue }
            if case .standardOutput = options.output { writer.write(document) }
            report(
                id: item.id, title: item.title, updated: item.updated, bytes: document.count, digest: digest,
                sequence: received.first, via: received.via, latency: received.latency)
        }
    }

    private func report(
        id: String, title: String, updated: String, bytes: Int, digest: SHA256Digest, sequence: UInt64, via: Via,
        latency: Duration?
    ) {
        summary.items += 1
        sight.took(via, latency)
        if via == .mixed { summary.repaired += 1 }
        if options.reports, let latency { reception.add(latency) }
        output.report(
            ReceiverEvent.item(
                id: id, title: title, updated: updated, bytes: bytes, sha256: "\(digest)", sequence: sequence,
                via: via, latency: latency ?? .zero))
        if let count = options.count, summary.items >= count { reactor.stop() }
    }

    func finish() -> Int32 {
        manager?.stopping("\(summary.items) items")
        subscriber.close()
        notePosition()
        store?.close()
        // What it stored last is still to be reported.
        if store != nil { reactor.turn(timeout: .zero) }
        output.report(ReceiverEvent.summary(counted))
        server?.close()
        writer.flush()
        return status
    }

    /// The summary as it would be now.
    private var counted: ReceiverSummary {
        let counts = subscriber.counts
        var summary = summary
        summary.bytesFlow = counts.flow
        summary.bytesTunnel = counts.tunnel
        summary.bytesUnicast = counts.unicast
        summary.packetsLost = counts.lost
        summary.packetsRejected = counts.rejected
        return summary
    }

    private var status: Int32 {
        if isTimeUp, !subscriber.hasConnected {
            log.error("no connection to \(options.host):\(options.port): \(subscriber.lastFailure)")
            return 1
        }
        if let refusal = subscriber.accessRefusal {
            log.error(
                "the source refuses access; give --token-file a file with a token that it knows",
                metadata: ["reason": "\(refusal)"])
            return 1
        }
        if let refusal = subscriber.lastRefusal {
            log.error("not connected at the end: \(refusal)")
            return 1
        }
        if failures > 0 {
            log.error("\(failures) items could not be stored")
            return 1
        }
        if let count = options.count, summary.items < count {
            log.error("\(summary.items) of \(count) items came in time")
            return 2
        }
        if summary.missing > 0 {
            log.error("\(summary.missing) parts of items are missing for good: the source does not keep them any more")
            return 2
        }
        if options.path == .multicast || options.path == .amt, !hasListened {
            log.error("the flow was never heard")
            return 2
        }
        return 0
    }
}

/// The versions of items that were seen last, by id: two generations of a bounded size, of which the older one is
/// forgotten when the newer one is full.
struct RecentDigests {
    static let generation = 8192
    private var newer: [String: SHA256Digest] = [:]
    private var older: [String: SHA256Digest] = [:]

    var count: Int { newer.count + older.count }

    /// False when this very version is known.
    mutating func note(_ id: String, _ digest: SHA256Digest) -> Bool {
        let isNew = (newer[id] ?? older[id]) != digest
        if newer[id] == nil, newer.count >= Self.generation {
            older = newer
            newer.removeAll(keepingCapacity: true)
        }
        newer[id] = digest
        return isNew
    }
}
