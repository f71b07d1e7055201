import Cryptography
import Feed
import Flexicast
import Foundation
import Logging
import Objects
import QUIC
import Reactor
import System
import Wire

/// Why a source or receiver could not run, in words for the person who started it.
public struct EndpointError: Error, CustomStringConvertible {
    public var description: String
    init(_ description: String) { self.description = description }
}

extension Reactor.IO {
    init(_ choice: IOBackendChoice) {
        switch choice {
        case .auto: self = .auto
        case .ioUring: self = .ioUring
        case .epoll: self = .epoll
        }
    }
}

/// Runs a source until SIGTERM or SIGINT.
/// - Returns: the exit status, 0.
/// - Throws: an error that says what could not be set up.
public func runSource(_ options: SourceOptions, log: Logger) throws -> Int32 {
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
    let (flow, sender) = try makeFlow(options, listen: listen, firstStream: objects.next, reactor: reactor)
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
    configuration.replicates = options.replicates
    configuration.hasGroup = options.group != nil
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
            group: options.group.map { "\($0)" } ?? (options.replicates ? "each receiver" : "")))
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

/// The time of day.
func wallClock() -> WallTime {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    return WallTime(nanoseconds: Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec))
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

/// A log that is forgotten with the process.
func memoryLog(retention: Retention = Retention()) -> ObjectLog {
    var random = randomSeed()
    do {
        return try ObjectLog(MemoryStore(epoch: Epoch(from: &random)), retention: retention)
    } catch { preconditionFailure("an empty log holds what it may not: \(error)") }
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

/// The flow of a source and its way out; nil for a source that has none.
func makeFlow(
    _ options: SourceOptions, listen: UDPSocket, firstStream: UInt64 = 0, reactor: Reactor
) throws -> (flow: FlowSource?, sender: FlowSender?) {
    guard options.group != nil || options.replicates else { return (nil, nil) }
    // Without a group nobody is told of these addresses: each receiver hears of its own.
    let unused = listen.localAddress.address
    var parameters = FlowParameters(source: unused, group: unused, port: 0, ackDelay: .milliseconds(25))
    if let group = options.group {
        guard group.address.isMulticast else {
            throw EndpointError(
                "\(group.address) is no multicast group: take one of 232.0.0.0/8, 239.0.0.0/8 or ff3e::/32")
        }
        parameters = FlowParameters(
            source: try origin(options, group: group), group: group.address, port: group.port,
            ackDelay: parameters.ackDelay)
    }
    var configuration = FlowConfiguration()
    configuration.packetSize = options.packetSize
    if let rate = options.rate { configuration.rateCeiling = rate }
    configuration.rateFloor = min(options.rateFloor, configuration.rateCeiling)
    configuration.pacePercent = options.pacePercent
    if let delay = options.acknowledgementDelay { configuration.ackDelay = .fixed(delay) }
    var random = randomSeed()
    // Every packet carries it, and who shares a group and port with another source is told apart by it.
    guard let id = FlowID(random.octets(4)) else { preconditionFailure("four octets make an ID") }
    let flow = FlowSource(
        flowID: id, parameters: parameters, configuration: configuration, firstStream: firstStream,
        seed: SeededRandom(from: &random), at: reactor.now)
    let size = configuration.packetSize
    guard let group = options.group else {
        return (flow, FlowSender(packetSize: size, copySocket: listen, reactor: reactor))
    }
    var udp = UDPOptions()
    udp.multicastInterface = options.interface
    udp.multicastTTL = options.timeToLive
    // A Linux multicast router drops segmented sends that have DF set and reach it whole.
    udp.dontFragment = false
    udp.zeroCopy = options.zeroCopy
    let socket = try reactor.udpSocket(bind: SocketAddress(parameters.source, port: 0), options: udp)
    let sender = FlowSender(
        group: group, packetSize: size, socket: socket, copySocket: options.replicates ? listen : nil,
        reactor: reactor)
    return (flow, sender)
}

/// The address that the flow's packets come from: receivers join it together with the group.
private func origin(_ options: SourceOptions, group: SocketAddress) throws -> IPAddress {
    let isIPv4 = group.address.isIPv4
    if !options.listen.address.isUnspecified, options.listen.address.isIPv4 == isIPv4 { return options.listen.address }
    let interfaces = try NetworkInterface.all().filter { interface in
        options.interface.map { $0 == interface.name } ?? (interface.isUp && !interface.isLoopback)
    }
    let isLinkLocal = { (address: IPAddress) in
        if case .v6(let bits) = address { bits >> 118 == 0x3fa } else { false }
    }
    for interface in interfaces where interface.supportsMulticast || options.interface != nil {
        let addresses = interface.addresses.filter { $0.isIPv4 == isIPv4 }
        if let address = addresses.first(where: { !isLinkLocal($0) }) ?? addresses.first { return address }
    }
    let family = isIPv4 ? "IPv4" : "IPv6"
    throw EndpointError(
        options.interface.map { "interface \($0) has no \(family) address to send the flow from" }
            ?? "no interface has an \(family) address to send the flow from: name one with --interface")
}
