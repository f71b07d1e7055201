import Cryptography
import Flexicast
import Logging
import Objects
import QUIC
import Reactor
import Wire

// A receiver: one connection to the source, and the flows that the source announces and the network carries here.
//
//     source ══ connection ══> Peer<FlowClient> ──> objects, whole, once each
//        └── group ──> FlowReception ── opened packets ──^

/// One item as it came, whole.
struct ReceivedItem {
    /// The sequence number of its first part: rises in the order in which the source sent, with gaps.
    var position: UInt64
    var parts: UInt64
    var bytes: ArraySlice<UInt8>
    var via: Via
    /// From its publication to its last octet; nil while the source's clock is not known.
    var latency: Duration?
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
        /// The source's log, and whether the receiver goes on in it where it was.
        case log(LogMessage)
        case item(ReceivedItem)
        /// A part of an item of several, where parts are taken as they come.
        case part(ReceivedPart)
        case failed(AssemblyFailure)
        /// Nothing will come for these sequence numbers.
        case gap(Gap)
        case closed(CloseReason)
    }

    let peer: Peer<FlowClient>
    var onEvent: (Event) -> Void = { _ in }
    /// For the next connection: a ticket to resume with and a token that proves our address.
    private(set) var addressToken: [UInt8] = []
    /// Octets of a large item, for the size of memory to keep ready.
    static var largeItemOctets: Int { 16 << 20 }

    private let reactor: Reactor
    private let log: Logger
    private let access: FlowAccess
    private var flows: [FlowID: FlowReception] = [:]
    /// Those of them whose packets come on the connection's own way.
    private var replicated: [FlowReception] = []
    private var clientTimer: TimerHandle?
    private let socket: UDPSocket
    private var qlog: Qlog?
    private var octetsOfClosedFlows: UInt64 = 0
    private var octetsOfClosedTunnels: UInt64 = 0
    private var strangersOfClosedFlows: UInt64 = 0

    init(
        to remote: SocketAddress, serverName: String, tls: TLSContext, usesFlow: Bool, access: FlowAccess,
        qlogDirectory: String? = nil, token: [UInt8] = [], ticket: [UInt8]? = nil,
        assembler: ObjectAssembler = ObjectAssembler(), grant: Grant = Grant(), reactor: Reactor, log: Logger
    ) throws {
        self.reactor = reactor
        self.log = log
        self.access = access
        var random = randomSeed()
        guard let id = ConnectionID(random.octets(8)) else { preconditionFailure("eight octets make an ID") }
        let connection = try SecureConnection(
            client: Self.configuration(usesFlow: usesFlow, grant: grant), tls: tls, serverName: serverName, to: remote,
            localID: id,
            token: token, resume: ticket, seed: SeededRandom(from: &random), at: reactor.now)
        if let qlogDirectory {
            qlog = try Qlog(directory: qlogDirectory, name: "\(id)_client", role: .client, groupID: id, at: reactor.now)
            qlog?.attach(to: connection)
        }
        // Last of what can fail, so that no failure leaves it open.
        socket = try reactor.udpSocket(
            bind: SocketAddress(remote.address.isIPv4 ? .v4(0) : .v6(0), port: 0))
        var client = FlowClientConfiguration()
        client.ways = access.ways
        peer = Peer(
            connection,
            extension: FlowClient(configuration: client, assembler: assembler, seed: SeededRandom(from: &random)),
            socket: socket, reactor: reactor)
        socket.handler = peer
        peer.onEvent = { [unowned self] event in handle(event) }
        peer.afterEvents = { [unowned self] in drainClient() }
        peer.beforeTransmit = { [unowned self] in
            peer.extension.serve(on: &peer.connection.machine, at: self.reactor.now)
            drainClient()
            clientTimer?.schedule(at: peer.extension.nextDeadline)
        }
        peer.beforeReceive = { [unowned self] bytes, from, ecn in takeCopy(&bytes, from: from, ecn: ecn) }
        clientTimer = reactor.timer { [unowned self] in
            peer.extension.timerFired(at: self.reactor.now)
            peer.pump()
        }
    }

    /// What a receiver lets its source send before it is heard of again. A flow can go no faster than that much in two round
    /// trips (and whoever has less left than three trips take is put on unicast), so that it is what a gigabit takes with a
    /// delay of acknowledgements of a tenth of a second.
    struct Grant {
        var octets: UInt64 = 64 << 20
        var streams: UInt64 = 16_384
    }

    static func configuration(usesFlow: Bool, grant: Grant = Grant()) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.parameters.initialMaxData = grant.octets
        configuration.parameters.initialMaxStreamsUni = grant.streams
        configuration.keepAlive = .seconds(10)
        // When a source is back after a while, its receivers are to know it soon, and not all in the same moment.
        configuration.unansweredKeepAlive = .milliseconds(Int64.random(in: 750...1000))
        // Parts are no longer.
        configuration.parameters.initialMaxStreamDataUni = UInt64(ObjectLimits.streamOctets)
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
    var packetsMissing: UInt64 { peer.extension.packetsMissing }
    /// Octets of items that are not whole.
    var unfinishedOctets: Int { peer.extension.unfinishedOctets }

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
        peer.extension.shutDown()
        for id in flows.keys { closeFlow(id) }
        clientTimer = nil
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
        peer.extension.handle(event, on: &peer.connection.machine, at: reactor.now)
        switch event {
        // Nearly all: what comes of them is asked for once.
        case .streamReadable: return
        case .connected: onEvent(.connected)
        case .newToken(let token): addressToken = token
        case .closed(let reason): qlog?.closed(reason, at: reactor.now)
        default: break
        }
        drainClient()
        if case .closed(let reason) = event {
            shutDown()
            onEvent(.closed(reason))
        }
    }

    // MARK: What the client asks for

    private func drainClient() {
        while let action = peer.extension.nextAction() { perform(action) }
    }

    private func perform(_ action: ClientAction) {
        switch action {
        case .open(let id, let source, let group, let ways): openFlow(id, source: source, group: group, ways: ways)
        case .close(let id): closeFlow(id)
        case .openTunnel(let id):
            flows[id]?.openTunnel()
            onEvent(.way(.amt))
        case .closeTunnel(let id):
            flows[id]?.closeTunnel()
            onEvent(.way(.multicast))
        case .installKey(let id, let key): flows[id]?.install(key)
        case .dropKey(let id, let generation): flows[id]?.drop(generation)
        case .listening(let id): if let flow = flows[id] { onEvent(.listening(group: flow.group)) }
        case .returned: onEvent(.returned)
        case .fellBack(_, let reason):
            log.info("back on unicast", metadata: ["reason": "\(reason)"])
            switch reason {
            case .sourceLeft: onEvent(.fellBack(.evicted))
            case .withdrawn: onEvent(.fellBack(.withdrawn))
            default: onEvent(.fellBack(.silence))
            }
        case .log(let message): onEvent(.log(message))
        case .joinRefused:
            log.warning(
                "the source does not let this receiver listen to the flow now; its log says why. Items come on unicast")
        case .joinUnanswered:
            log.warning("the source has not answered the request to listen to the flow. Items come on unicast")
        case .object(let object):
            let via: Via =
                object.octetsFromFlow == object.body.count ? .flow : object.octetsFromFlow == 0 ? .unicast : .mixed
            onEvent(
                .item(
                    ReceivedItem(
                        position: object.first, parts: object.count, bytes: object.body, via: via,
                        latency: object.latency)))
        case .part(let part): onEvent(.part(part))
        case .failed(let failure):
            log.warning(
                "an item will not be whole",
                metadata: [
                    "sequence": "\(failure.object)", "name": "\(failure.name ?? "")", "reason": "\(failure.reason)",
                ])
            onEvent(.failed(failure))
        case .gap(let gap): onEvent(.gap(gap))
        case .end: log.info("the source's log is at its end")
        }
    }

    private func openFlow(_ id: FlowID, source: IPAddress?, group: SocketAddress, ways: FlowWays) {
        closeFlow(id)
        do throws(ReactorError) {
            let flow = try FlowReception(
                id, source: source, group: group, ways: ways, access: access, reactor: reactor, log: log)
            flows[id] = flow
            if !group.address.isMulticast { replicated.append(flow) }
            flow.onHeard = { [unowned self] in peer.extension.heard(id, count: $0, at: reactor.now) }
            flow.onNative = { [unowned self] in peer.extension.nativeHeard(id, at: reactor.now) }
            flow.onRejected = { [unowned self] in peer.extension.rejected(id, at: reactor.now) }
            flow.onPackets = { [unowned self] run, datagrams, ecn in take(id, run, in: datagrams, ecn: ecn) }
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
        let pathID: UInt64
        switch peer.extension.admit(id, run, at: now) {
        case .each: return nil
        case .refused: return 0
        case .path(let path): pathID = path
        }
        if let qlog {
            for index in 0..<run.count {
                let payload = datagrams.extracting(run.payload(index))
                qlog.flowPacket(
                    pathID: pathID, packetNumber: run.firstPacketNumber + UInt64(index), size: payload.count,
                    payload: payload, at: now)
            }
        }
        return peer.extension.received(
            id, pathID: pathID, run, in: datagrams, ecn: ecn, on: &peer.connection.machine, at: now)
    }
}
