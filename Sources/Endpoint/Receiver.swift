import Cryptography
import Flexicast
import Logging
import QUIC
import Reactor
import Wire

// A receiver: one connection to the source, and the flows that the source announces and the network carries here.
//
//     source ══ connection ══> Peer<ReceiverSession> ──> streams ──> whole items, once each
//        └── group ──> FlowReception ── opened packets ──^

/// One item as it came, whole.
struct ReceivedItem {
    /// Its number among the source's items, with gaps.
    var stream: StreamID
    var bytes: [UInt8]
    var via: Via
    /// From the first octet to the last.
    var latency: Duration
}

/// One connection of a receiver's. After it has ended another one takes its place.
final class Receiver {
    /// What happened on the connection.
    enum Event {
        case connected
        case listening(group: SocketAddress)
        /// The flow is looked for another way.
        case way(FlowWay)
        case fellBack(FallbackReason)
        case returned
        case item(ReceivedItem)
        case closed(CloseReason)
    }

    let peer: Peer<ReceiverSession>
    var onEvent: (Event) -> Void = { _ in }
    /// For the next connection: a ticket to resume with and a token that proves our address.
    private(set) var addressToken: [UInt8] = []
    /// Items longer than this are refused.
    static let maxItemOctets = 16 << 20
    /// Octets of all items that are not whole yet; what goes beyond is refused.
    static let maxUnfinishedOctets = 256 << 20

    private let reactor: Reactor
    private let log: Logger
    private let access: FlowAccess
    private let usesFlow: Bool
    private var flows: [FlowID: FlowReception] = [:]
    /// Those of them whose packets come on the connection's own way.
    private var replicated: [FlowReception] = []
    private var sessionTimer: TimerHandle?
    /// How much has come of those that are not whole, and since when.
    private var items: [StreamID: (octets: Int, since: Instant)] = [:]
    /// Octets of `items`.
    private(set) var unfinishedOctets = 0
    private var random: SeededRandom
    private let socket: UDPSocket
    private var qlog: Qlog?
    private var missingBefore: UInt64 = 0
    private var octetsOfClosedFlows: UInt64 = 0
    private var octetsOfClosedTunnels: UInt64 = 0
    private var strangersOfClosedFlows: UInt64 = 0

    init(
        to remote: SocketAddress, serverName: String, tls: TLSContext, usesFlow: Bool, access: FlowAccess,
        qlogDirectory: String? = nil, token: [UInt8] = [], ticket: [UInt8]? = nil, reactor: Reactor, log: Logger
    ) throws {
        self.reactor = reactor
        self.log = log
        self.access = access
        self.usesFlow = usesFlow
        var random = randomSeed()
        guard let id = ConnectionID(random.octets(8)) else { preconditionFailure("eight octets make an ID") }
        let connection = try SecureConnection(
            client: Self.configuration(usesFlow: usesFlow), tls: tls, serverName: serverName, to: remote, localID: id,
            token: token, resume: ticket, seed: SeededRandom(from: &random), at: reactor.now)
        if let qlogDirectory {
            qlog = try Qlog(directory: qlogDirectory, name: "\(id)_client", role: .client, groupID: id, at: reactor.now)
            qlog?.attach(to: connection)
        }
        // Last of what can fail, so that no failure leaves it open.
        socket = try reactor.udpSocket(
            bind: SocketAddress(remote.address.isIPv4 ? .v4(0) : .v6(0), port: 0))
        let session = ReceiverSession(
            isNegotiated: false, maximumPathID: 0, seed: SeededRandom(from: &random), at: reactor.now)
        peer = Peer(connection, extension: session, socket: socket, reactor: reactor)
        self.random = random
        socket.handler = peer
        peer.onEvent = { [unowned self] event in handle(event) }
        peer.beforeTransmit = { [unowned self] in drainSession() }
        peer.beforeReceive = { [unowned self] bytes, from, ecn in takeCopy(&bytes, from: from, ecn: ecn) }
        sessionTimer = reactor.timer { [unowned self] in
            peer.extension.timerFired(at: self.reactor.now)
            peer.pump()
        }
    }

    static func configuration(usesFlow: Bool) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.keepAlive = .seconds(10)
        if usesFlow {
            configuration.parameters.initialMaxPathID = 16
            configuration.parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
            configuration.extensionParameter = FlexicastSupport.parameterID
        }
        return configuration
    }

    /// Sends the first packet.
    func start() { peer.pump() }

    var sessionTicket: [UInt8]? { peer.connection.sessionTicket }
    /// Octets of UDP payload opened on flows.
    var octetsFromFlows: UInt64 { flows.values.reduce(octetsOfClosedFlows) { $0 + $1.octetsOpened } }
    /// Those of them that came through a tunnel.
    var octetsFromTunnels: UInt64 { flows.values.reduce(octetsOfClosedTunnels) { $0 + $1.octetsFromTunnel } }
    /// Octets of UDP payload that came on the connection.
    var octetsFromUnicast: UInt64 { peer.connection.machine.statistics.octetsReceived }
    /// Packet numbers of flows that never came while listening; the few that a source skips on purpose are among them.
    var packetsMissing: UInt64 { flows.values.reduce(missingBefore) { $0 + ($1.reach?.missing ?? 0) } }

    /// Packets of no use, on flows and on the connection.
    var packetsRejected: UInt64 {
        flows.values.reduce(strangersOfClosedFlows) { $0 + $1.strangers } + peer.extension.statistics.packetsRejected
            + peer.connection.packetsRejected
    }

    /// Leaves groups and tells the source, which then sends nothing more.
    func close() {
        peer.connection.machine.close(TransportError(.noError, ""), at: reactor.now)
        peer.pump()
        socket.flush()
        shutDown()
    }

    private func shutDown() {
        for id in flows.keys { closeFlow(id) }
        sessionTimer = nil
    }

    /// Gives up the socket; the reactor must not be in a call of it.
    func release() {
        shutDown()
        // The peer may still have to be told why.
        socket.flush()
        socket.close()
    }

    // MARK: Events of the connection

    private func handle(_ event: ConnectionEvent) {
        switch event {
        case .connected: connected()
        case .streamOpened(let id): items[id] = (0, reactor.now)
        case .streamReadable(let id): read(id)
        case .streamReset(let id, let code):
            log.warning("the source gave up an item", metadata: ["stream": "\(id.rawValue)", "code": "\(code)"])
            _ = takeUnfinished(id)
        case .newToken(let token): addressToken = token
        case .connectionIDsWanted(let count):
            for _ in 0..<count {
                guard let id = ConnectionID(random.octets(8)) else { continue }
                // Nobody else could tell who sent a reset: a client's token is as good as random.
                peer.connection.machine.provideConnectionID(id, resetToken: random.octets(16))
            }
        case .closed(let reason):
            qlog?.closed(reason, at: reactor.now)
            shutDown()
            onEvent(.closed(reason))
        default: break
        }
    }

    private func connected() {
        let connection = peer.connection
        let limit = min(
            connection.machine.peerParameters?.initialMaxPathID ?? 0,
            connection.machine.localParameters.initialMaxPathID ?? 0)
        peer.extension = ReceiverSession(
            isNegotiated: connection.machine.isExtensionNegotiated, maximumPathID: limit,
            seed: SeededRandom(from: &random),
            at: reactor.now)
        onEvent(.connected)
    }

    private func read(_ id: StreamID) {
        guard id.initiator == .server, !id.isBidirectional, let gathered = peer.connection.machine.gather(id) else {
            return
        }
        let since = takeUnfinished(id) ?? reactor.now
        let octets =
            switch gathered {
            case .part(let octets): octets
            case .whole(let chunk): chunk.bytes.count
            }
        guard octets <= Self.maxItemOctets, unfinishedOctets + octets <= Self.maxUnfinishedOctets else {
            log.warning(
                "an item was refused: more than \(Self.maxItemOctets) octets, or \(Self.maxUnfinishedOctets) in all unfinished ones",
                metadata: ["stream": "\(id.rawValue)", "octets": "\(octets)"])
            peer.connection.machine.stopSending(id, code: 1)
            return
        }
        guard case .whole(let chunk) = gathered else {
            unfinishedOctets += octets
            items[id] = (octets, since)
            return
        }
        let via: Via = chunk.octetsFromUnicast == 0 ? .flow : chunk.octetsFromFlow == 0 ? .unicast : .mixed
        onEvent(.item(ReceivedItem(stream: id, bytes: chunk.bytes, via: via, latency: reactor.now - since)))
    }

    /// Forgets an item that is not whole: since when it came.
    private func takeUnfinished(_ id: StreamID) -> Instant? {
        guard let item = items.removeValue(forKey: id) else { return nil }
        unfinishedOctets -= item.octets
        return item.since
    }

    // MARK: Flows

    private func drainSession() {
        peer.extension.now = reactor.now
        while let action = peer.extension.nextAction() { perform(action) }
        sessionTimer?.schedule(at: peer.extension.nextDeadline)
    }

    private func perform(_ action: ReceiverAction) {
        switch action {
        case .send(let frame, let key): peer.connection.machine.sendExtensionFrame(frame, key: key)
        case .joinGroup(let id, let source, let group, let port):
            openFlow(id, source: source, group: SocketAddress(group, port: port))
        case .leaveGroup(let id, _, _, _): closeFlow(id)
        case .installKey(let id, let key): flows[id]?.install(key)
        case .dropKey(let id, let generation): flows[id]?.drop(generation)
        case .openReceivePath(_, let pathID, let delay), .setAckDelay(_, let pathID, let delay):
            // Each receiver reports at a phase of its own, so that the source hears them evenly.
            let phase = Duration.nanoseconds(Int64.random(in: 0...max(0, delay.nanoseconds), using: &random))
            peer.connection.machine.openReceivePath(pathID, ackDelay: delay, phase: phase)
        case .listening(let id):
            if let flow = flows[id] {
                missingBefore += flow.forgetReach()
                onEvent(.listening(group: flow.group))
            }
        case .returned: onEvent(.returned)
        case .fellBack(let id, let reason):
            missingBefore += flows[id]?.forgetReach() ?? 0
            log.info("back on unicast", metadata: ["reason": "\(reason)"])
            switch reason {
            case .sourceLeft: onEvent(.fellBack(.evicted))
            case .withdrawn: onEvent(.fellBack(.withdrawn))
            default: onEvent(.fellBack(.silence))
            }
        }
    }

    private func openFlow(_ id: FlowID, source: IPAddress?, group: SocketAddress) {
        closeFlow(id)
        do throws(ReactorError) {
            // Copies for this receiver alone come where the connection's packets come.
            let isReplicated = !group.address.isMulticast
            let flow = try FlowReception(
                id, source: source, group: group, access: isReplicated ? FlowAccess(native: false) : access,
                reactor: reactor, log: log)
            flows[id] = flow
            if isReplicated { replicated.append(flow) }
            flow.onHeard = { [unowned self] in peer.extension.flowPacketHeard(id, count: $0, at: reactor.now) }
            flow.onRejected = { [unowned self] in peer.extension.flowPacketRejected(id, at: reactor.now) }
            flow.onPackets = { [unowned self] run, datagrams, ecn in take(id, run, in: datagrams, ecn: ecn) }
            flow.onWay = { [unowned self] way in onEvent(.way(way)) }
            // An item that is whole is handed over before the next one takes memory of its own.
            flow.onMessageEnd = { [unowned self] in
                if peer.connection.machine.hasWholeStream { peer.handOutEvents() }
            }
            flow.onBatchEnd = { [unowned self] in peer.pumpSoon() }
        } catch {
            // The unicast path serves as well; the flow stays joined in name and is given up for silence.
            log.warning("cannot listen to the flow", metadata: ["group": "\(group)", "reason": "\(error)"])
        }
    }

    private func closeFlow(_ id: FlowID) {
        guard let flow = flows.removeValue(forKey: id) else { return }
        replicated.removeAll { $0 === flow }
        missingBefore += flow.forgetReach()
        octetsOfClosedFlows += flow.octetsOpened
        octetsOfClosedTunnels += flow.octetsFromTunnel
        strangersOfClosedFlows += flow.strangers
        flow.close()
    }

    /// A datagram on the connection's socket that is of a replicated flow.
    private func takeCopy(_ datagram: inout MutableSpan<UInt8>, from: SocketAddress, ecn: ECN) -> Bool {
        guard !replicated.isEmpty, from == peer.connection.machine.remoteAddress else { return false }
        for flow in replicated where flow.owns(datagram.span) {
            return flow.receive(&datagram, packetSize: datagram.count, ecn: ecn)
        }
        return false
    }

    /// How many of the packets are new and can be used; nil: ask for each of them.
    private func take(_ id: FlowID, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN) -> Int? {
        let now = reactor.now
        let numbers = run.packetNumbers
        var pathID = peer.extension.flowPacketsOpened(
            id, generation: run.keyGeneration, packetNumbers: numbers, at: now)
        if pathID == nil {
            guard numbers.count == 1 else { return nil }
            pathID = peer.extension.flowPacketOpened(
                id, generation: run.keyGeneration, packetNumber: run.firstPacketNumber, at: now)
        }
        guard let pathID else { return 0 }
        if let qlog {
            for index in 0..<run.count {
                let payload = datagrams.extracting(run.payload(index))
                qlog.flowPacket(
                    pathID: pathID, packetNumber: run.firstPacketNumber + UInt64(index), size: payload.count,
                    payload: payload, at: now)
            }
        }
        return peer.connection.machine.flowPacketsReceived(
            pathID: pathID, run, in: datagrams, ecn: ecn, at: now, extension: &peer.extension)
    }
}
