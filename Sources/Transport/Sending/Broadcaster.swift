import Cryptography
import Flexicast
import Logging
import Objects
import QUIC
import Reactor
import Wire

/// An object that is being written to a `Broadcaster`, from `open` to `finish` or `reset`.
public struct BroadcastObject: Hashable, Sendable {
    /// Counts from 0 in the order of `open`.
    let number: UInt64
}

/// Publishes objects to receivers anywhere: once on an encrypted multicast flow, and on their own connections to those that
/// multicast does not reach. Lives on a reactor, and is used on its thread alone.
///
///     let broadcaster = try Broadcaster(options, on: reactor, log: logger)
///     let object = try broadcaster.open(name: "film.mp4")
///     try broadcaster.write(object, bytes)     // as often as there is something; false: wait for `onRoom`
///     try broadcaster.finish(object)
///
/// Octets that are written in a turn of the reactor leave at its end, in parts of at most 258 032. Objects go out in the order in
/// which they were opened: what is written to a later one waits until those before it are finished or reset.
public final class Broadcaster {
    /// What a broadcaster is to be like.
    public struct Options: Sendable {
        /// Where receivers connect. Port 0 takes any.
        public var listen: SocketAddress
        /// PEM files of the certificate chain and its key; nil makes a self-signed certificate for `names`.
        public var certificate: CertificateFiles?
        /// Names and addresses that a self-signed certificate is for.
        public var names = ["localhost", "127.0.0.1"]
        /// The flow. Without a group everybody is served on a connection of their own.
        public var flow = FlowOptions()
        /// Objects that a newcomer is given first, of those that were published before.
        public var history = 0
        /// What is kept for receivers that are slow or come back.
        public var retention = Retention(objects: 100_000, octets: 32 << 20)
        /// The most that is handed to receivers' connections, in bits per second; nil sets no bound.
        public var unicastRate: UInt64?
        /// Whom a writer waits for: `room` is what they leave.
        public var waiting = Waiting.nearlyAll
        /// Datagrams may be sent: then the flow is for those receivers alone that take them, as `Subscriber` does. Others are
        /// served on their connections.
        public var datagrams = true
        /// Connections at once.
        public var connections = 20_000
        /// Those of one IPv4 address or IPv6 /64 among them.
        public var connectionsPerAddress = 256

        /// What was published before, and where it is kept; nil forgets with the process.
        package var objects: ObjectLog?
        package var groupRetry = Duration.seconds(600)
        package var maxDatagramSize = ConnectionConfiguration.datagramSizeLimit
        package var resetKey: StatelessResetKey?
        /// What tickets are sealed with, so that they outlive the process.
        package var ticketSecret: [UInt8]?
        /// What address tokens are sealed with, so that they outlive the process.
        package var tokenSecret: [UInt8]?
        /// Who may receive; nil: everybody.
        package var access: AccessList?
        /// A socket to take instead of one that is bound to `listen`.
        package var inherited: InheritedSocket?
        package var qlogDirectory: String?
        package var keyLog: String?

        /// Without a flow and with a self-signed certificate, until it is said otherwise.
        public init(listen: SocketAddress) { self.listen = listen }
    }

    /// How long an object is worth something.
    public enum Lifetime: Sendable {
        /// Until everybody has it who is there, and afterwards for those who come back, as long as it is kept (`Options.retention`).
        case untilDelivered
        /// Until that time of the reactor's clock (`Reactor.now`): whoever has not all of it by then is told that nothing more
        /// comes (`Subscriber.Event.reset` and `gap`), and nothing of it is sent or repaired any more. Nor is it kept on disk.
        case until(Instant)

        fileprivate var end: Instant? { if case .until(let end) = self { end } else { nil } }
    }

    /// Whom a writer waits for.
    public enum Waiting: Sendable {
        /// All but the slowest quarter (`FlowOptions.pacePercent`), and at least one of two or more: no stranger holds up the
        /// others. Who is slower loses what retention takes meanwhile, and is told so.
        case nearlyAll
        /// Everybody. A receiver that takes nothing stops the writer: for receivers that can be trusted.
        case everybody
    }

    /// There is room again after `write` has said that there is none.
    public var onRoom: () -> Void = {}
    /// Where receivers connect.
    public var address: SocketAddress { listen.localAddress }
    /// The certificate in use, as PEM.
    public private(set) var certificatePEM: String
    /// What the certificate in use says: what it can be pinned by, and until when it is valid.
    public private(set) var certificate: CertificateFacts
    /// What was sent so far, and who is there.
    public var counts: SourceCounts {
        var counts = source.counts
        counts.objectsExpired += endedUnbegun
        return counts
    }

    private var options: Options
    private let reactor: Reactor
    private let listen: UDPSocket
    private let source: SourceEndpoint
    private var writers = WriterQueue()
    private var isFull = false
    /// The wall clock is looked at now and then: it may have been set.
    private var clock: TimerHandle?
    /// Objects that are being written may end.
    private var lifetimes: TimerHandle?
    /// Objects that ended before they began.
    private var endedUnbegun = 0

    /// - Throws: an error that says what could not be set up.
    public init(_ options: Options, on reactor: Reactor, log: Logger) throws {
        self.reactor = reactor
        listen =
            if let inherited = options.inherited {
                try reactor.udpSocket(inherited)
            } else {
                try reactor.serverSocket(bind: options.listen)
            }
        let (tls, facts) = try Self.context(options)
        (certificatePEM, certificate, self.options) = (tls.certificatePEM, facts, options)
        // Held twice, it would be copied when it changes.
        self.options.objects = nil
        let objects = options.objects ?? memoryLog(retention: options.retention)
        var flowOptions = options.flow
        // Who has to leave must not be able to listen on.
        flowOptions.rotatesKeyAfterLeave = options.access != nil
        let (flow, sender) = try makeFlow(flowOptions, listen: listen, firstStream: objects.next, reactor: reactor)
        var configuration = FlowServerConfiguration(history: options.history)
        configuration.replicates = options.flow.replicates
        configuration.hasGroup = options.flow.group != nil
        configuration.groupRetry = options.groupRetry
        configuration.writerWaitsForEverybody = options.waiting == .everybody
        configuration.unicastRate = options.unicastRate
        configuration.sendsDatagrams = options.datagrams
        var limits = Listener<ReceivedFrames>.Limits()
        limits.connections = options.connections
        limits.accounts.connections = options.connectionsPerAddress
        // Before the source's own: what was written in a turn leaves at its end.
        let flush = TurnEnd()
        reactor.onTurnEnd { flush.action() }
        source = SourceEndpoint(
            listen: listen, tls: tls, limits: limits,
            server: FlowServer(
                flow: flow, log: objects, configuration: configuration, seed: randomSeed(), wallClock: wallClock(),
                at: reactor.now),
            sender: sender, maxDatagramSize: options.maxDatagramSize, resetKey: options.resetKey,
            tokenSecret: options.tokenSecret, access: options.access,
            qlogDirectory: options.qlogDirectory, reactor: reactor, log: log)
        flush.action = { [weak self] in self?.turnEnds() }
        clock = reactor.timer(at: reactor.now + .seconds(1)) { [unowned self] in
            source.wallClockIs(wallClock())
            clock?.schedule(at: self.reactor.now + .seconds(1))
        }
        lifetimes = reactor.timer { [unowned self] in endLifetimes() }
    }

    /// The reactor knows of it before the broadcaster is made.
    private final class TurnEnd { var action: () -> Void = {} }

    /// Whether everybody who is connected has acknowledged all that was published, on the flow or on their connection.
    public var isDelivered: Bool { source.isDelivered }

    /// Behind it all, for a look at single receivers.
    package var endpoint: SourceEndpoint { source }

    // MARK: Certificate

    private static func context(_ options: Options) throws -> (TLSContext, CertificateFacts) {
        let tls =
            if let files = options.certificate {
                try TLSContext.server(
                    certificateFile: files.certificate, keyFile: files.key, alpn: [applicationProtocol],
                    keyLog: options.keyLog)
            } else {
                try TLSContext.server(
                    selfSignedFor: options.names, alpn: [applicationProtocol], keyLog: options.keyLog)
            }
        if let secret = options.ticketSecret { tls.useTicketKeys(from: secret) }
        guard let facts = tls.certificateFacts else { preconditionFailure("a server's context without a certificate") }
        return (tls, facts)
    }

    /// Reads the files of `Options.certificate` again, for connections that begin from now on; those that are there stay.
    /// Does nothing where there are no files.
    /// - Throws: what is wrong with them; what was in use before stays in use.
    public func reloadCertificate() throws {
        guard options.certificate != nil else { return }
        let (tls, facts) = try Self.context(options)
        (certificatePEM, certificate) = (tls.certificatePEM, facts)
        source.listener.tls = tls
    }

    /// As `reloadCertificate`, with other files than before.
    package func useCertificate(_ files: CertificateFiles) throws {
        let before = options.certificate
        options.certificate = files
        do { try reloadCertificate() } catch {
            options.certificate = before
            throw error
        }
    }

    /// Who may receive from now on, of a source that was made with such a list. Others are let go.
    package func use(_ access: AccessList) { source.use(access) }

    // MARK: Objects

    /// Begins an object.
    /// - Parameters:
    ///   - name: at most 1024 octets of UTF-8. Receivers may ask for names that begin in some way.
    ///   - mediaType: at most 255 octets.
    ///   - length: its octets, where they are known: then `finish` wants just as many.
    ///   - lifetime: how long it is worth something. One that is not finished when it ends is reset.
    /// - Throws: `LogError.malformed` for a name or media type that is too long.
    public func open(
        name: String = "", mediaType: String = "", length: UInt64? = nil, lifetime: Lifetime = .untilDelivered
    ) throws(LogError) -> BroadcastObject {
        let header = PartHeader(
            sequence: 0, count: nil, length: length, published: WallTime(nanoseconds: 0), mediaType: mediaType,
            name: name)
        do { try header.check() } catch { throw .malformed(error) }
        defer { scheduleLifetimes() }
        return writers.open(name: name, mediaType: mediaType, length: length, until: lifetime.end)
    }

    /// Adds octets to an object. They are taken whatever there is room for.
    /// - Returns: whether there is room for more. If not, receivers are behind, and `onRoom` tells when to go on; whoever
    ///   writes on all the same has it held in memory.
    /// - Throws: `LogError.noObjectOpen` when the object is finished or reset, or its lifetime has ended.
    @discardableResult
    public func write(_ object: BroadcastObject, _ bytes: [UInt8]) throws(LogError) -> Bool {
        guard writers.write(object, bytes) else { throw .noObjectOpen }
        // Whole parts need not wait for the end of the turn.
        if writers.firstOctets >= ObjectLimits.partOctets { try send(all: false) }
        isFull = room <= 0
        return !isFull
    }

    /// Octets that may be written before receivers are too far behind; negative when they are.
    public var room: Int { source.withServer { $0.writeRoom } - writers.octets }

    /// The object is whole.
    /// - Throws: `LogError.noObjectOpen` when it is finished or reset already, or its lifetime has ended; `LogError.lengthMismatch` when it has not the length that it
    ///   was opened with: it is reset then.
    public func finish(_ object: BroadcastObject) throws(LogError) {
        guard writers.finish(object) else { throw .noObjectOpen }
        try send(all: true)
    }

    /// Gives an object up. Receivers that were sent a part of it are told that nothing more comes. Ignored for one that is
    /// finished.
    public func reset(_ object: BroadcastObject) {
        guard let began = writers.remove(object) else { return }
        if began { source.withServer { $0.abandonObject(at: self.reactor.now) } }
    }

    /// Publishes an object that is all there.
    /// - Throws: what `open` and `finish` do.
    public func publish(
        name: String = "", mediaType: String = "", lifetime: Lifetime = .untilDelivered, _ body: [UInt8]
    ) throws(LogError) {
        guard writers.first != nil else {
            try source.publish(name: name, mediaType: mediaType, body, until: lifetime.end)
            return
        }
        let object = try open(name: name, mediaType: mediaType, length: UInt64(body.count), lifetime: lifetime)
        try write(object, body)
        try finish(object)
    }

    /// Sends what the log that this one follows has under its next numbers. Nothing else may be published then.
    /// - Throws: what `ObjectLog.follow` does.
    package func follow(_ entry: FollowedEntry) throws(LogError) {
        try source.withServer { server throws(LogError) in try server.follow(entry, at: self.reactor.now) }
    }

    // MARK: Datagrams

    /// Octets of the largest datagram: it fits one packet of the flow, and one of any receiver's connection.
    public var largestDatagram: Int { source.withServer { $0.largestDatagram } }

    /// Sends a datagram (RFC 9221) to everybody who is there: once on the flow, and on the connections of those that do not hear it.
    /// It leaves at the end of the reactor's turn, at the pace of flow and connection, before objects' octets, and is not sent again
    /// where it is lost. Where more wait than may, the oldest are dropped (`SourceCounts.datagramsDropped`).
    /// - Throws: `DatagramError.tooLong` for more than `largestDatagram` octets; `DatagramError.notOffered` without
    ///   `Options.datagrams`. Nothing was sent then.
    public func sendDatagram(_ octets: [UInt8]) throws(DatagramError) {
        try source.withServer { server throws(DatagramError) in
            try server.sendDatagram(octets, at: self.reactor.now)
        }
    }

    /// Tells every receiver that the broadcaster ends. Objects that are open are reset.
    public func close() {
        while let object = writers.first { reset(object) }
        source.close()
        listen.flush()
    }

    private func scheduleLifetimes() { lifetimes?.schedule(at: writers.nextEnd ?? .distantFuture) }

    /// The server ends the one that has begun; those behind it go on.
    private func endLifetimes() {
        endedUnbegun += writers.expire(at: reactor.now)
        source.withServer { $0.timerFired(at: self.reactor.now) }
        try? send(all: true)
        scheduleLifetimes()
    }

    private func turnEnds() {
        // What is wrong with an object was told by `write` and `finish`; what is left is the log's numbers.
        try? send(all: true)
        if isFull, room > 0 {
            isFull = false
            onRoom()
        }
    }

    /// Publishes what was written, in order; without `all` only parts that are full.
    private func send(all: Bool) throws(LogError) {
        while let piece = writers.next(all: all) {
            do throws(LogError) {
                try source.withServer { server throws(LogError) in
                    let now = self.reactor.now
                    if piece.isFirst {
                        try server.beginObject(
                            name: piece.name, mediaType: piece.mediaType, length: piece.length, until: piece.end,
                            at: now)
                    }
                    try server.append(part: piece.bytes, isLast: piece.isLast, at: now)
                }
            } catch {
                source.withServer { $0.abandonObject(at: self.reactor.now) }
                _ = writers.remove(piece.object)
                throw error
            }
        }
    }
}
