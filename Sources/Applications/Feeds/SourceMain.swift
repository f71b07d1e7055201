import Cryptography
import Feed
import Flexicast
import Foundation
import Logging
import Objects
import Operation
import QUIC
import Reactor
import System
import Transport
import Wire

/// Runs a source until SIGTERM or SIGINT.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
package func runSource(_ options: SourceOptions, log: Logger) throws -> Int32 {
    let location = try FeedLocation(options.feed)
    let reactor = try Reactor(io: .init(options.io))
    log.info("\(reactor.backendDescription); \(cryptographyLibrary)")
    defer { reactor.close() }
    let output = EventOutput(style: options.json ? .json : .text)
    for signal in [SIGTERM, SIGINT] { try reactor.onSignal(signal) { [unowned reactor] in reactor.stop() } }

    var udp = UDPOptions()
    // [::] is every address of this machine, of either version.
    udp.onlyIPv6 = !options.listen.address.isUnspecified
    let listen = try reactor.udpSocket(bind: options.listen, options: udp)
    let tls = try serverContext(options)
    if let path = options.certificateOutput {
        do {
            try Data(tls.certificatePEM.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch { throw EndpointError("cannot write the certificate to \(path): \(error.localizedDescription)") }
    }
    let (objects, store) = try makeLog(options)
    let (flow, sender) = try makeFlow(options.flow, listen: listen, firstStream: objects.next, reactor: reactor)
    var zeroCopy = sender?.zeroCopyDescription
    if let zeroCopy { log.info("flow: zero-copy \(zeroCopy)") }
    let state =
        if let directory = options.stateDirectory {
            try FeedState(directory: directory, feed: options.feed, history: recordedItems, logger: log)
        } else {
            FeedState(feed: options.feed, history: 0)
        }
    var configuration = FlowServerConfiguration()
    configuration.history = options.wholeFeed ? min(1, options.history) : options.history
    configuration.replicates = options.flow.replicates
    configuration.hasGroup = options.flow.group != nil
    configuration.groupRetry = options.groupRetry
    var limits = Listener<ReceivedFrames>.Limits()
    limits.connections = options.connections
    limits.accounts.connections = options.connectionsPerAddress
    configuration.unicastRate = options.unicastRate
    let source = Source(
        listen: listen, tls: tls, limits: limits,
        server: FlowServer(
            flow: flow, log: objects, configuration: configuration, seed: randomSeed(), wallClock: wallClock(),
            at: reactor.now),
        sender: sender, maxDatagramSize: options.maxDatagramSize,
        resetKey: try options.stateDirectory.map(storedResetKey), qlogDirectory: options.qlogDirectory,
        reactor: reactor,
        log: log)
    let wholeFeed = options.wholeFeed
    let publication: @Sendable ([FeedItem], FeedDocument?) -> Publication = { changed, feed in
        Publication(changed, of: feed, at: location, asWholeFeed: wholeFeed)
    }
    // What an earlier run recorded as sent and may not have put into the log before it ended. A whole feed is in the log
    // or follows with the next change.
    let recorded = options.wholeFeed && objects.objectCount > 0 ? [] : state.history.map(\.item)
    for document in missing(recorded.isEmpty ? [] : publication(recorded, nil).documents, from: objects) {
        source.publish(name: document.name, mediaType: document.mediaType, document.bytes)
    }
    let mailbox = reactor.mailbox(of: Publication.self) { publication in
        for document in publication.documents {
            source.publish(name: document.name, mediaType: document.mediaType, document.bytes)
        }
        for event in publication.events { output.report(event) }
    }
    let poller = FeedPoller(
        FeedPoller.Configuration(location: location, interval: options.pollInterval), state: state, logger: log
    ) { items, feed in
        // The poller hands over a feed at a time: this takes a source that has not had a turn for 65 536 polls, or that stops.
        guard mailbox.send(publication(items.map(\.item), feed)) else {
            log.error("items were not sent: too much waits", metadata: ["items": "\(items.count)"])
            return
        }
    }

    output.report(
        SourceEvent.listening(
            address: "\(listen.localAddress)",
            group: options.flow.group.map { "\($0)" } ?? (options.flow.replicates ? "each receiver" : "")))
    poller.start()
    let interval = options.reportInterval
    var next = reactor.now + interval
    var ticker: TimerHandle?
    ticker = reactor.timer(at: next) {
        output.report(SourceEvent.interval(source.counts))
        if let sender, zeroCopy != sender.zeroCopyDescription {
            zeroCopy = sender.zeroCopyDescription
            log.info("flow: zero-copy \(sender.zeroCopyDescription ?? "")")
        }
        source.wallClockIs(wallClock())
        next = max(next + interval, reactor.now)
        ticker?.schedule(at: next)
    }
    reactor.run()

    ticker = nil
    poller.stop()
    source.close()
    listen.flush()
    poller.waitUntilStopped()
    do {
        try store?.close()
    } catch { log.error("the last items are not on disk", metadata: ["reason": "\(error.reason)"]) }
    output.report(SourceEvent.summary(source.counts))
    output.flush()
    return 0
}

/// The key of an earlier run, else a new one for this run and those to come. With it a receiver that still talks to the
/// run before is told at once that it is over (RFC 9000 section 10.3.2), and connects again.
func storedResetKey(in directory: String) throws -> StatelessResetKey {
    let path = directory + "/reset-key"
    if let found = try StoredFile.read(path, limit: 4096), found.count == 32 { return StatelessResetKey(key: found) }
    var random = randomSeed()
    let key = random.octets(32)
    // Who knows the key can end any connection.
    guard
        FileManager.default.createFile(atPath: path, contents: Data(key), attributes: [.posixPermissions: 0o600])
    else { throw EndpointError("cannot write \(path)") }
    return StatelessResetKey(key: key)
}

private func serverContext(_ options: SourceOptions) throws -> TLSContext {
    if let files = options.certificate {
        return try TLSContext.server(
            certificateFile: files.certificate, keyFile: files.key, alpn: [applicationProtocol], keyLog: options.keyLog)
    }
    var names = ["localhost", ProcessInfo.processInfo.hostName]
    for interface in try NetworkInterface.all() { names += interface.addresses.map(\.description) }
    let valid = names.filter { name in
        IPAddress(name) != nil
            || name.utf8.allSatisfy {
                $0 == 0x2d || $0 == 0x2e || (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20)
            }
    }
    return try TLSContext.server(selfSignedFor: valid, alpn: [applicationProtocol], keyLog: options.keyLog)
}

/// Items that are recorded as sent beside the log, which may lag behind when the process is killed.
private let recordedItems = 100

/// The log of a source, and where it is kept: on disk with `--state`, else nowhere.
func makeLog(_ options: SourceOptions) throws -> (log: ObjectLog, store: SQLiteLogStore?) {
    guard let directory = options.stateDirectory else { return (memoryLog(retention: options.retention), nil) }
    var random = randomSeed()
    do {
        let store = try SQLiteLogStore(directory: directory + "/log", random: &random)
        return (try ObjectLog(store, retention: options.retention), store)
    } catch let error as LogStoreError {
        throw EndpointError("the items of earlier runs cannot be read: \(error.reason)")
    }
}

/// Those of the documents that the log does not hold.
private func missing(
    _ documents: [Publication.Document], from log: ObjectLog
) -> [Publication.Document] {
    guard !documents.isEmpty else { return [] }
    var held: Set<SHA256Digest> = []
    var number = log.oldest
    while number < log.next {
        switch log.part(at: number) {
        case .part(let part):
            if part.header.count == 1 { held.insert(SHA256Digest(of: Array(part.body))) }
            number += 1
        case .void(let gap), .gone(let gap): number = gap.range.upperBound
        case .beyond: number = log.next
        }
    }
    return documents.filter { !held.contains(SHA256Digest(of: $0.bytes)) }
}
