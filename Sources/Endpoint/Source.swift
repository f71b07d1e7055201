import Cryptography
import Feed
import Flexicast
import Logging
import Objects
import QUIC
import Reactor
import Wire

// A source on the reactor: it moves octets and time between sockets, connections and the `FlowServer`, which decides who gets
// what by which way.
//
//     receivers ──> Listener ──> SecureConnection × N ──events, frames──> FlowServer ──> FlowSender ──> group
//                       ^────────────── pump ──────────── nextTouched ──────┘
//
// Everything that a turn brought is answered at its end, so that packets for one destination leave together.

/// Application-Layer Protocol Negotiation name of a feed over Flexicast QUIC.
public let applicationProtocol = "flexicast/2"

final class Source {
    typealias SourcePeer = Peer<ReceivedFrames>

    let listener: Listener<ReceivedFrames>
    let sender: FlowSender?
    private(set) var server: FlowServer

    private let reactor: Reactor
    private let log: Logger
    /// For what time alone brings about where there is no flow; else the sender's does it.
    private var serverTimer: TimerHandle?
    /// The server's deadline that a timer is set for; nil when none is.
    private var deadline: Instant?
    /// By slot of the server's receivers.
    private var connections: [SourceConnection?] = []
    private var slots: [ObjectIdentifier: Int] = [:]
    /// Where connections are logged.
    private let qlogDirectory: String?
    /// Anybody can have a refusal logged.
    private var refusalLog = LogBudget(burst: 1)
    /// Or a JOIN that is refused.
    private var joinLog = LogBudget()
    /// What closed connections have sent, and what came for them in vain.
    private var past = (control: 0, withStreams: 0, rejected: UInt64(0))

    private struct SourceConnection {
        let peer: SourcePeer
        let id: ReceiverID
        var qlog: Qlog?
    }

    /// `sender` is the way out of the server's flow; nil when it has none.
    init(
        listen: UDPSocket, tls: TLSContext, limits: Listener<ReceivedFrames>.Limits = .init(), server: FlowServer,
        sender: FlowSender?, maxDatagramSize: Int = ConnectionConfiguration.datagramSizeLimit,
        resetKey: StatelessResetKey? = nil, qlogDirectory: String? = nil, reactor: Reactor, log: Logger
    ) {
        precondition((sender == nil) == (server.flow == nil), "a flow needs a way out")
        self.qlogDirectory = qlogDirectory
        self.reactor = reactor
        self.log = log
        self.server = server
        self.sender = sender
        var configuration = Self.configuration(hasFlow: sender != nil)
        configuration.maxDatagramSize = maxDatagramSize
        listener = Listener(
            socket: listen, tls: tls, configuration: configuration, limits: limits, resetKey: resetKey, reactor: reactor
        ) { ReceivedFrames() }
        listener.onAccept = { [unowned self] peer in accept(peer) }
        listener.onClosed = { [unowned self] peer in forget(peer) }
        listener.onRefused = { [unowned self] address, refusal in logRefusal(of: address, refusal) }
        sender?.onTimer = { [unowned self] in
            self.server.timerFired(at: self.reactor.now)
            pumpFlow()
        }
        if sender == nil {
            serverTimer = reactor.timer { [unowned self] in
                deadline = nil
                self.server.timerFired(at: self.reactor.now)
                report()
            }
        }
        reactor.onTurnEnd { [unowned self] in turnEnded() }
    }

    static func configuration(hasFlow: Bool) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        // The receiver sends nothing but acknowledgements and, on the control stream, its position.
        configuration.parameters.initialMaxStreamsBidi = 1
        configuration.parameters.initialMaxStreamDataBidiRemote = 1 << 16
        configuration.parameters.initialMaxStreamsUni = 0
        configuration.keepAlive = .seconds(10)
        if hasFlow {
            configuration.parameters.initialMaxPathID = 16
            configuration.parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
            configuration.extensionParameter = FlexicastSupport.parameterID
        }
        return configuration
    }

    // MARK: Items

    /// Sends an object to every receiver, and to those that come later and lack it. One that the log does not take is
    /// logged as an error.
    func publish(name: String = "", mediaType: String = "", _ body: [UInt8]) {
        do {
            try server.publish(name: name, mediaType: mediaType, body: body, at: reactor.now)
        } catch {
            log.error("an item was not published", metadata: ["name": "\(name)", "reason": "\(error)"])
        }
    }

    /// Does something with the server; packets that this lets go leave at the end of the turn.
    func withServer<R>(_ body: (inout FlowServer) -> R) -> R { body(&server) }

    /// The wall clock shows this: it may have been set, and time goes by for what is kept for so long.
    func wallClockIs(_ time: WallTime) { server.wallClockIs(time, at: reactor.now) }

    // MARK: Connections

    private func accept(_ peer: SourcePeer) {
        let id = server.accept(at: reactor.now)
        var connection = SourceConnection(peer: peer, id: id)
        if let qlogDirectory { connection.qlog = startLog(peer, directory: qlogDirectory) }
        while connections.count <= id.slot { connections.append(nil) }
        connections[id.slot] = connection
        slots[ObjectIdentifier(peer)] = id.slot
        // The listener holds the peer until `forget`: a connection may end within its own call.
        peer.onEvent = { [unowned self, unowned peer] event in handle(event, of: id, peer) }
        peer.beforeTransmit = { [unowned self, unowned peer] in
            server.serve(id, frames: &peer.extension, on: &peer.connection.machine, at: reactor.now)
            report()
        }
    }

    private func startLog(_ peer: SourcePeer, directory: String) -> Qlog? {
        guard let id = peer.connection.machine.localConnectionIDs.first else { return nil }
        do {
            let qlog = try Qlog(directory: directory, name: "\(id)_server", role: .server, groupID: id, at: reactor.now)
            qlog.attach(to: peer.connection)
            return qlog
        } catch {
            log.error("a connection is not logged", metadata: ["reason": "\(error)"])
            return nil
        }
    }

    private func logRefusal(of address: SocketAddress, _ refusal: ConnectionRefusal) {
        guard refusalLog.take(at: reactor.now) else { return }
        log.warning(
            "connection refused",
            metadata: [
                "address": "\(address)", "reason": "\(refusal.text)", "not_logged": "\(refusalLog.untold)",
            ])
    }

    private func handle(_ event: ConnectionEvent, of id: ReceiverID, _ peer: SourcePeer) {
        if case .closed(let reason) = event {
            connections[id.slot]?.qlog?.closed(reason, at: reactor.now)
            log.info(
                "receiver gone",
                metadata: ["address": "\(peer.connection.machine.remoteAddress)", "reason": "\(reason)"])
        }
        server.handle(event, of: id, on: &peer.connection.machine, at: reactor.now)
    }

    private func forget(_ peer: SourcePeer) {
        guard let slot = slots.removeValue(forKey: ObjectIdentifier(peer)), let connection = connections[slot] else {
            return
        }
        connections[slot] = nil
        Self.letGo(of: peer)
        server.forget(connection.id, at: reactor.now)
        let statistics = peer.connection.machine.statistics
        past.withStreams += Int(statistics.octetsSentWithStreams)
        past.control += Int(statistics.octetsSent - statistics.octetsSentWithStreams)
        past.rejected += peer.connection.packetsRejected
    }

    private static func letGo(of peer: SourcePeer) {
        peer.onEvent = { _ in }
        peer.beforeTransmit = {}
    }

    deinit {
        for case .some(let connection) in connections { Self.letGo(of: connection.peer) }
    }

    private func turnEnded() {
        // The flow first: what it hands to unicast paths leaves in this turn too.
        if server.isFlowTouched { pumpFlow() }
        while let id = server.nextTouched() { connections[id.slot]?.peer.pump() }
        // Who has connected or waits for a turn was served after the flow's timer was set, if there is one.
        // A deadline that has passed meanwhile is not put off again and again.
        let next = server.nextDeadline
        guard next != deadline else { return }
        deadline = next
        let wake = server.nextWake(after: reactor.now)
        if let sender { sender.schedule(at: wake) } else { serverTimer?.schedule(at: wake) }
    }

    private func pumpFlow() {
        sender?.pump(&server)
        server.flowWasPumped()
        report()
    }

    /// Logs what the server has to tell.
    private func report() {
        while let notice = server.nextNotice() { log(notice) }
    }

    private func log(_ notice: ServerNotice) {
        func address(_ id: ReceiverID) -> Logger.MetadataValue {
            "\(connections[id.slot].map { "\($0.peer.connection.machine.remoteAddress)" } ?? "gone")"
        }
        switch notice {
        case .connected(let id, let speaksFlexicast):
            log.info("receiver connected", metadata: ["address": address(id), "flexicast": "\(speaksFlexicast)"])
        case .listens(let id, let members):
            log.info("receiver listens to the flow", metadata: ["address": address(id), "members": "\(members)"])
        case .notAdmitted(let id, let reason):
            log.warning(
                "receiver cannot listen to the flow", metadata: ["address": address(id), "reason": "\(reason)"])
        case .joinRefused(let id):
            guard joinLog.take(at: reactor.now) else { return }
            log.info(
                "receiver has to wait before it may listen to the flow",
                metadata: ["address": address(id), "not_logged": "\(joinLog.untold)"])
        case .backOnUnicast(let id, let reason):
            log.info("receiver is back on unicast", metadata: ["address": address(id), "reason": "\(reason)"])
        case .offeredCopies(let id):
            log.info("receiver is offered copies of the flow", metadata: ["address": address(id)])
        case .triedOnGroup(let id): log.info("receiver is tried on the group again", metadata: ["address": address(id)])
        case .stated(let id, let answer, let first):
            log.info(
                "receiver has said where it is",
                metadata: ["address": address(id), "answer": "\(answer)", "first": "\(first)"])
        case .saidNothing(let id):
            log.info("receiver said nothing of its position and gets what is new", metadata: ["address": address(id)])
        case .told(let id, let gap):
            log.warning(
                "receiver lacks what is not kept any more",
                metadata: ["address": address(id), "first": "\(gap.first)", "count": "\(gap.count)"])
        }
    }

    // MARK: Counts and the end

    /// What was sent so far.
    var counts: SourceCounts {
        var counts = SourceCounts()
        var withStreams = past.withStreams
        counts.bytesControl = past.control
        let door = listener.admission.counters
        // What belongs to no connection was refused, even where it was answered.
        var rejected = past.rejected + door.ignored + door.resets + door.tokensRefused + door.versionNegotiations
        for case .some(let connection) in connections {
            let statistics = connection.peer.connection.machine.statistics
            withStreams += Int(statistics.octetsSentWithStreams)
            counts.bytesControl += Int(statistics.octetsSent - statistics.octetsSentWithStreams)
            rejected += connection.peer.connection.packetsRejected
        }
        counts.packetsRejected = Int(rejected)
        if let sender, let flow = server.flow?.statistics {
            let onFlow = sender.group == nil ? 0 : Int(flow.octetsRepairedOnFlow)
            // Never negative: what was handed over for repair may not have left yet.
            let onUnicast = min(Int(flow.octetsRepairedOnUnicast), withStreams)
            counts.bytesFlow = Int(sender.octetsSent) - onFlow
            counts.bytesRepair = onFlow + onUnicast
            counts.bytesUnicast = withStreams - onUnicast
            counts.bytesReplicated = Int(sender.octetsCopied)
            counts.replicated = server.copiedCount
            counts.zeroCopy = sender.zeroCopyDescription
        } else {
            counts.bytesUnicast = withStreams
        }
        counts.receivers = server.receiverCount
        counts.members = server.flow?.memberCount ?? 0
        counts.items = Int(server.objectCount)
        counts.partsGone = Int(server.partsGone)
        counts.receiversWaiting = server.waitingReceivers
        counts.partsSentAgain = Int(server.partsSentAgain)
        counts.controlErrors = Int(server.controlErrors)
        counts.controlWaits = Int(server.controlWaits)
        counts.connectionsRefused = Int(listener.counters.refused.reduce(0, +))
        return counts
    }

    /// Tells every receiver that the source ends.
    func close() {
        for case .some(let connection) in connections {
            connection.peer.connection.machine.close(TransportError(.noError, "the source stops"), at: reactor.now)
            connection.peer.pump()
        }
    }
}
