import Cryptography
import Flexicast
import Logging
import Objects
import Operation
import QUIC
import Reactor
import Wire

/// Receives what a `Broadcaster` publishes: on the multicast flow where the network carries it, else on a connection of its own,
/// which the application need not know. It connects, connects again after a failure, and goes on where it was. Lives on a reactor,
/// and is used on its thread alone.
public final class Subscriber {
    /// What a subscriber is to be like.
    public struct Options: Sendable {
        /// Host name or address literal of the source, without brackets: what its certificate must name.
        public var host: String
        /// UDP port of the source.
        public var port: UInt16
        /// Other sources with the same objects under the same numbers: heads of one distributed log. Each receiver begins at another
        /// of all of them, and goes on at the next where it was when its own is gone.
        public var others: [Source] = []
        /// Which certificates are believed.
        public var trust = TrustChoice.system
        /// Objects whose names begin with one of these are wanted; empty: all. A flow brings everything.
        public var prefixes: [String] = []
        /// Listen to the flow where it can be heard.
        public var usesFlow = true
        /// Name of the interface that the flow is joined on; nil lets the routing table choose.
        public var interface: String?
        /// How objects are given out.
        public var delivery = Delivery.whole
        /// Octets of an object that may wait for those before them, or for the rest of it; beyond it an object is given up.
        public var heldOctets = 64 << 20

        /// Shown to a source that asks for one.
        package var accessToken: AccessToken?
        package var relay: RelayChoice?
        package var joinsGroup = true
        package var qlogDirectory: String?
        package var keyLog: String?
        /// `report` will be called.
        package var reports = false

        /// For a source, with the system's trust, whole objects and the flow where it is heard.
        public init(host: String, port: UInt16) {
            self.host = host
            self.port = port
        }
    }

    /// How objects are given out.
    public enum Delivery: Sendable {
        /// Whole, each in one `object` event.
        case whole
        /// As they come, in order: `opened`, `data` as often as there is some, `finished`.
        case streamed
    }

    /// What happened.
    public enum Event {
        /// The handshake with the source is complete.
        case connected(to: SocketAddress)
        /// The connection has ended; another is tried.
        case disconnected(CloseReason)
        /// Packets of the flow are opened from now on.
        case listening(group: SocketAddress)
        /// The flow is looked for another way.
        case way(FlowWay)
        /// The flow is heard no more: everything comes on the connection.
        case fellBack(FallbackReason)
        /// The flow is heard again.
        case returned
        /// What the source has, and whether it serves from where this receiver was.
        case log(LogMessage)
        /// An object is whole (`Delivery.whole`).
        case object(ReceivedObject)
        /// An object begins: its number, name, media type, time of publication, and length where it is known.
        case opened(PartHeader)
        /// The next octets of an object.
        case data(object: UInt64, ArraySlice<UInt8>, via: Via)
        /// All of an object was given out.
        case finished(object: UInt64)
        /// An object will not be whole; what was given out of it is all there is.
        case reset(AssemblyFailure)
        /// Nothing will come for these numbers.
        case gap(Gap)
        /// A datagram, once at most. One that was lost does not come, and they may come in another order than they were sent.
        case datagram(ArraySlice<UInt8>, via: Via)
    }

    /// Gets every event.
    public var onEvent: (Event) -> Void = { _ in }
    /// Whether a connection came about.
    public private(set) var hasConnected = false
    /// Why the last connection ended, or none came about.
    public private(set) var lastFailure = "no answer yet"
    /// Why the source's certificate was not accepted in the last attempt to connect; nil when it was, or there was none.
    public private(set) var lastRefusal: String?

    /// Why the source has said that this receiver may not receive; nil when it has not.
    package private(set) var accessRefusal: String?

    private let options: Options
    private let reactor: Reactor
    private let log: Logger
    private var tls: TLSContext
    private var places: [Place]
    /// Which of them is tried next.
    private var nextPlace = 0
    package private(set) var receiver: Receiver?
    /// Attempts that were begun before that of `receiver` and have not come about yet.
    private var rivals: [Receiver] = []
    /// Begins an attempt at the next address while those before go on.
    private var race: TimerHandle?
    private var network: NetworkWatch?
    /// What the connection, or the attempt, stood on as it began.
    private var footing: Footing
    /// The connection before, kept until no call to it can be under way.
    private var retired: [Receiver] = []
    /// Connections tried since the last one that came about.
    private var attempts = 0
    /// Connections in a row that came about and ended soon with an error.
    private var violations = 0
    private var connectedAt = Instant(nanoseconds: 0)
    /// Where the receiver is in the source's log, from connection to connection.
    private var kept: ObjectAssembler
    private var order: PartOrder
    /// What sources have given for the next connection with them.
    private var passes: [Source: Pass] = [:]
    /// What earlier connections received.
    private var past = Counts()
    private var retry: TimerHandle?
    private var random = randomSeed()

    /// What came so far, in octets of UDP payload and in packets.
    package struct Counts {
        package var flow = 0
        package var tunnel = 0
        package var unicast = 0
        package var lost = 0
        package var rejected = 0

        mutating func add(_ receiver: Receiver) {
            flow += Int(receiver.octetsFromFlows)
            tunnel += Int(receiver.octetsFromTunnels)
            unicast += Int(receiver.octetsFromUnicast)
            lost += Int(receiver.packetsMissing)
            rejected += Int(receiver.packetsRejected)
        }
    }

    /// - Throws: an error that says what could not be set up.
    public convenience init(_ options: Options, on reactor: Reactor, log: Logger) throws {
        try self.init(options, resuming: nil, on: reactor, log: log)
    }

    /// - Parameter position: where an earlier receiver was in the source's log.
    package init(_ options: Options, resuming position: PositionMessage?, on reactor: Reactor, log: Logger) throws {
        self.options = options
        self.reactor = reactor
        self.log = log
        tls = try Self.context(options)
        let mode: ObjectAssembler.Mode = options.delivery == .whole ? .whole : .parts
        let limits = ObjectAssembler.Limits(octets: options.heldOctets)
        if let position, let epoch = position.epoch {
            kept = ObjectAssembler(resuming: epoch, at: position.cursor, mode: mode, limits: limits)
        } else {
            kept = ObjectAssembler(mode: mode, limits: limits)
        }
        order = PartOrder(limit: options.heldOctets)
        places = try Self.places(options, random: &random)
        footing = Footing(local: nil, interface: options.interface)
        reactor.onTurnEnd { [weak self] in self?.release() }
        retry = reactor.timer { [unowned self] in connect() }
        race = reactor.timer { [unowned self] in
            nextPlace += 1
            begin()
        }
        do throws(ReactorError) {
            network = try NetworkWatch(on: reactor) { [unowned self] in networkChanged() }
        } catch { log.notice("changes of the network are not heard of", metadata: ["reason": "\(error)"]) }
    }

    /// Connects. Set `onEvent` before.
    public func start() { connect() }

    /// Leaves the flow and tells the source, which then sends nothing more.
    public func close() {
        (retry, race, network) = (nil, nil, nil)
        for rival in rivals { drop(rival) }
        rivals = []
        receiver?.onEvent = { _ in }
        receiver?.close()
        keep()
    }

    /// Tells the source of the reception, while there is a connection.
    package func report(_ report: ReportMessage) { receiver?.report(report) }

    /// Where the receiver is in the source's log, and its estimate of the source's clock.
    package var assembler: ObjectAssembler { receiver?.peer.extension.assembler ?? kept }

    /// What came so far.
    package var counts: Counts {
        var counts = past
        if let receiver { counts.add(receiver) }
        return counts
    }

    // MARK: Connections

    private static func context(_ options: Options) throws(TLSConfigurationError) -> TLSContext {
        let trust: TLSContext.Trust =
            switch options.trust {
            case .system: .system
            case .file(let path): .file(path)
            case .pinned(let fingerprints): .pinned(fingerprints)
            case .anyone: .none
            }
        return try TLSContext.client(trust: trust, alpn: [applicationProtocol], keyLog: options.keyLog)
    }

    /// What is trusted may have changed since the source was believed last: its file is read again.
    private func readTrust() {
        guard lastRefusal != nil else { return }
        do { tls = try Self.context(options) } catch {
            log.error("the certificates that are trusted cannot be read again", metadata: ["reason": "\(error)"])
        }
    }

    private func release() {
        for old in retired { old.release() }
        retired.removeAll()
    }

    private func connect() {
        retry?.schedule(at: .distantFuture)
        // All of them failed: the name may stand for others by now.
        if nextPlace >= places.count {
            nextPlace = 0
            if let found = try? Self.places(options, random: &random) { places = found }
        }
        attempts += 1
        readTrust()
        footing = Footing(local: nil, interface: options.interface)
        begin()
    }

    /// Who was let go sooner waits before it tries another source, as it would before it tries the same.
    private static let leastStay = Duration.seconds(1)
    /// Within this time, at random, receivers turn to another source.
    private static let mostHaste = Duration.milliseconds(100)

    /// The least time between attempts at two addresses (RFC 8305 section 5).
    private static let raceDelay = Duration.milliseconds(250)

    /// There is more than one source. Two addresses of two versions are most often one's.
    private var hasOthers: Bool {
        !options.others.isEmpty || places.count { $0.address.isIPv4 } > 1 || places.count { !$0.address.isIPv4 } > 1
    }

    /// Begins an attempt at the address whose turn it is, beside those that are under way. The next follows soon, if there is one.
    private func begin() {
        guard nextPlace < places.count else { return }
        let place = places[nextPlace]
        let pass = passes[place.source] ?? Pass()
        if nextPlace + 1 < places.count { race?.schedule(at: reactor.now + Self.raceDelay) }
        do {
            let receiver = try Receiver(
                to: place.remote, serverName: place.source.host, tls: tls,
                usesFlow: options.usesFlow,
                access: FlowAccess(interface: options.interface, native: options.joinsGroup, relay: options.relay),
                wants: Wants(prefixes: options.prefixes),
                reports: options.reports, qlogDirectory: options.qlogDirectory, token: pass.token, ticket: pass.ticket,
                shows: options.accessToken, hasOthers: hasOthers, assembler: kept, reactor: reactor,
                log: log)
            if let earlier = self.receiver { rivals.append(earlier) }
            self.receiver = receiver
            receiver.onEvent = { [unowned self, unowned receiver] event in handle(event, of: receiver) }
            receiver.start()
        } catch {
            log.error("cannot connect", metadata: ["address": "\(place.remote)", "reason": "\(error)"])
            lastFailure = "\(error)"
            guard receiver == nil, nextPlace + 1 >= places.count else { return }
            nextPlace += 1
            tryAgain()
        }
    }

    /// One of several attempts has come about: the others are given up.
    private func won(_ winner: Receiver) {
        race?.schedule(at: .distantFuture)
        let others = (rivals + [receiver].compactMap(\.self)).filter { $0 !== winner }
        rivals = []
        receiver = winner
        for other in others { drop(other) }
        let remote = winner.peer.connection.machine.remoteAddress
        nextPlace = places.firstIndex { $0.remote == remote } ?? nextPlace
    }

    /// One of several attempts has failed; the others go on, and the next address has its turn.
    private func lost(_ loser: Receiver, _ reason: CloseReason) {
        log.info(
            "an address does not answer",
            metadata: ["address": "\(loser.peer.connection.machine.remoteAddress)", "reason": "\(reason)"])
        if loser === receiver { receiver = rivals.removeLast() } else { rivals.removeAll { $0 === loser } }
        drop(loser)
        if nextPlace + 1 < places.count { race?.schedule(at: reactor.now) }
    }

    /// Of an attempt nothing is kept.
    private func drop(_ receiver: Receiver) {
        receiver.onEvent = { _ in }
        receiver.close()
        past.add(receiver)
        retired.append(receiver)
    }

    // MARK: The network

    /// Interfaces or addresses of this machine are not what they were. A connection from an address that is gone would be silent until
    /// it times out, and an interface that is made again is in no group.
    private func networkChanged() {
        guard let receiver else {
            // It waits to try again.
            let now = Footing(local: nil, interface: options.interface)
            if !now.addresses.isSubset(of: footing.addresses) { connect() }
            return
        }
        let isConnected = attempts == 0
        let now = Footing(
            local: receiver.peer.connection.machine.localAddress?.address, interface: options.interface)
        guard isConnected ? footing.isLost(on: now) : !now.addresses.isSubset(of: footing.addresses) else { return }
        log.notice("the network of this machine has changed: connecting anew")
        race?.schedule(at: .distantFuture)
        for rival in rivals { drop(rival) }
        rivals = []
        receiver.onEvent = { _ in }
        receiver.close()
        keep()
        nextPlace = 0
        connect()
    }

    private func tryAgain() {
        retry?.schedule(
            at: reactor.now + ReconnectPause.afterFailures(max(attempts, violations), random: &random))
    }

    /// What the connection that ends has brought goes on to the next.
    private func keep() {
        guard let receiver else { return }
        kept = receiver.peer.extension.assembler
        past.add(receiver)
        let remote = receiver.peer.connection.machine.remoteAddress
        if let source = places.first(where: { $0.remote == remote })?.source {
            var pass = passes[source] ?? Pass()
            pass.ticket = receiver.sessionTicket ?? pass.ticket
            if !receiver.addressToken.isEmpty { pass.token = receiver.addressToken }
            passes[source] = pass
        }
        retired.append(receiver)
        self.receiver = nil
    }

    private func closed(_ reason: CloseReason) {
        log.warning("connection ended", metadata: ["reason": "\(reason)"])
        lastFailure = "\(reason)"
        lastRefusal = if case .local(let error) = reason, error.isOfCertificate { error.reason } else { nil }
        if case .peerApplication(Access.refusal, let text) = reason { accessRefusal = text }
        if attempts == 0, reason.isViolation, reactor.now - connectedAt < ReconnectPause.goodConduct {
            violations += 1
        } else if attempts == 0 {
            violations = 0
        }
        race?.schedule(at: .distantFuture)
        // One that never came about says that this address is of no use.
        if attempts > 0 { nextPlace += 1 }
        keep()
        if attempts == 0, hasOthers, reactor.now - connectedAt >= Self.leastStay, accessRefusal == nil {
            // Another has what this one had. All that it served come in these moments, and not all to the same one.
            places.append(places.remove(at: min(nextPlace, places.count - 1)))
            nextPlace = 0
            retry?.schedule(at: reactor.now + Self.mostHaste * Double.random(in: 0...1, using: &random))
            onEvent(.disconnected(reason))
            return
        }
        // Without a connection that had come about there would be no end to it.
        if reason == .statelessReset, attempts == 0 {
            retry?.schedule(at: reactor.now + ReconnectPause.afterReset(random: &random))
        } else {
            tryAgain()
        }
        onEvent(.disconnected(reason))
    }

    // MARK: Events

    private func handle(_ event: Receiver.Event, of receiver: Receiver) {
        switch event {
        case .connected:
            won(receiver)
            footing = Footing(
                local: receiver.peer.connection.machine.localAddress?.address, interface: options.interface)
            attempts = 0
            hasConnected = true
            connectedAt = reactor.now
            lastRefusal = nil
            onEvent(.connected(to: receiver.peer.connection.machine.remoteAddress))
        case .listening(let group): onEvent(.listening(group: group))
        case .way(let way): onEvent(.way(way))
        case .fellBack(let reason): onEvent(.fellBack(reason))
        case .returned: onEvent(.returned)
        case .log(let message): onEvent(.log(message))
        case .object(let object): take(object)
        case .part(let part): take(part)
        case .failed(let failure):
            guard options.delivery == .whole || order.failed(failure.object) else { break }
            onEvent(.reset(failure))
        case .gap(let gap): onEvent(.gap(gap))
        case .datagram(let octets, let via): onEvent(.datagram(octets, via: via))
        case .closed(let reason):
            if rivals.isEmpty { closed(reason) } else { lost(receiver, reason) }
        }
    }

    private func take(_ object: ReceivedObject) {
        guard options.delivery == .streamed else {
            onEvent(.object(object))
            return
        }
        onEvent(
            .opened(
                PartHeader(
                    sequence: object.first, count: 1, length: UInt64(object.body.count), published: object.published,
                    mediaType: object.mediaType, name: object.name)))
        onEvent(.data(object: object.first, object.body, via: object.via))
        onEvent(.finished(object: object.first))
    }

    private func take(_ part: ReceivedPart) {
        let via: Via =
            switch part.way {
            case .flow: .flow
            case .connection: .unicast
            case .both: .mixed
            }
        for step in order.take(part, via: via) {
            switch step {
            case .opened(let header): onEvent(.opened(header))
            case .data(let object, let bytes, let via): onEvent(.data(object: object, bytes, via: via))
            case .finished(let object): onEvent(.finished(object: object))
            case .gaveUp(let object):
                onEvent(.reset(AssemblyFailure(object: object, name: part.header.name, reason: .noRoom)))
            }
        }
    }
}
