import Cryptography
import Flexicast
import Logging
import Objects
import Operation
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
package let applicationProtocol = "flexicast/2"

/// A source's end of all its connections and of its flow.
package final class SourceEndpoint {
    package typealias ReceiverPeer = Peer<ReceivedFrames>

    package let listener: Listener<ReceivedFrames>
    package let sender: FlowSender?
    package private(set) var server: FlowServer

    private let reactor: Reactor
    private var log: SourceLog
    /// For what time alone brings about where there is no flow; else the sender's does it.
    private var serverTimer: TimerHandle?
    /// The server's deadline that a timer is set for; nil when none is.
    private var deadline: Instant?
    /// By slot of the server's receivers.
    package internal(set) var connections: [Connected?] = []
    /// Who may receive; nil: everybody.
    var access: AccessList?
    private var slots: [ObjectIdentifier: Int] = [:]
    /// Where connections are logged.
    private let qlogDirectory: String?
    private var logsKept = 0
    private var hasToldOfLogs = false
    package private(set) var past = Past()
    /// Members that went back to their connections, by reason.
    package private(set) var departures: [LeaveReason: UInt64] = [:]
    /// Receivers that were refused for want of a token, or of one that is known.
    package internal(set) var deniedAccess: UInt64 = 0

    private let reader: (any PartReader)?
    private var read: Mailbox<(Range<UInt64>, Result<[Part], LogStoreError>)>?

    /// Gets what receivers say of their reception.
    package var onReport: (SocketAddress, ReportMessage) -> Void = { _, _ in }

    /// A receiver that is connected.
    package struct Connected {
        package let peer: ReceiverPeer
        package let id: ReceiverID
        package var qlog: Qlog?
        /// When it began to be served as it is, and why.
        package var changedAt: Instant
        package var reason = ""
        /// Until it has shown a token, where it has to.
        var gate: Gate?
        /// Whose token it has shown.
        package var holder: AccessList.Holder?
    }

    /// `sender` is the way out of the server's flow; nil when it has none.
    package init(
        listen: UDPSocket, tls: TLSContext, limits: Listener<ReceivedFrames>.Limits = .init(), server: FlowServer,
        sender: FlowSender?, maxDatagramSize: Int = ConnectionConfiguration.datagramSizeLimit,
        resetKey: StatelessResetKey? = nil, tokenSecret: [UInt8]? = nil, access: AccessList? = nil,
        qlogDirectory: String? = nil, reactor: Reactor,
        log: Logger
    ) {
        precondition((sender == nil) == (server.flow == nil), "a flow needs a way out")
        self.qlogDirectory = qlogDirectory
        self.reactor = reactor
        self.log = SourceLog(log)
        self.server = server
        reader = server.log.store.reader
        self.sender = sender
        var configuration = ConnectionConfiguration.source(hasFlow: sender != nil)
        configuration.maxDatagramSize = maxDatagramSize
        if access != nil {
            configuration.parameters.initialMaxStreamsUni = 1
            configuration.parameters.initialMaxStreamDataUni = UInt64(AccessToken.lengths.upperBound) + 1
        }
        self.access = access
        listener = Listener(
            socket: listen, tls: tls, configuration: configuration, limits: limits, resetKey: resetKey,
            tokenSecret: tokenSecret, reactor: reactor
        ) { ReceivedFrames() }
        listener.onAccept = { [unowned self] peer in accept(peer) }
        listener.onClosed = { [unowned self] peer in forget(peer) }
        listener.onRefused = { [unowned self] address, refusal in
            self.log.refused(address, refusal, at: self.reactor.now)
        }
        if let sender, let id = self.server.flow?.flowID {
            sender.onKey = { [unowned listener] key in
                listener.tls.logFlowSecret(key.secret, of: id, suite: key.suite)
            }
        }
        if let qlogDirectory { startFlowLog(directory: qlogDirectory) }
        if reader != nil {
            read = reactor.mailbox { [weak self] numbers, result in
                guard let self else { return }
                self.server.partsRead(numbers, result, at: self.reactor.now)
            }
        }
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
        // The reactor may outlive the source.
        reactor.onTurnEnd { [weak self] in self?.turnEnded() }
    }

    // MARK: Items

    /// Sends an object to every receiver, and to those that come later and lack it, `until` then at the most.
    /// - Throws: what the log does not take.
    package func publish(
        name: String = "", mediaType: String = "", _ body: [UInt8], until end: Instant? = nil
    ) throws(LogError) {
        try server.publish(name: name, mediaType: mediaType, body: body, until: end, at: reactor.now)
    }

    /// Now, by the reactor.
    var time: Instant { reactor.now }

    /// Does something with the server; packets that this lets go leave at the end of the turn.
    package func withServer<R, E: Error>(_ body: (inout FlowServer) throws(E) -> R) throws(E) -> R { try body(&server) }

    /// The wall clock shows this: it may have been set, and time goes by for what is kept for so long.
    package func wallClockIs(_ time: WallTime) { server.wallClockIs(time, at: reactor.now) }

    // MARK: Connections

    private func accept(_ peer: ReceiverPeer) {
        let id = server.accept(at: reactor.now)
        var connection = Connected(peer: peer, id: id, changedAt: reactor.now)
        if access != nil { connection.gate = Gate() }
        if let qlogDirectory { connection.qlog = startLog(peer, directory: qlogDirectory) }
        while connections.count <= id.slot { connections.append(nil) }
        connections[id.slot] = connection
        slots[ObjectIdentifier(peer)] = id.slot
        // The listener holds the peer until `forget`: a connection may end within its own call.
        peer.onEvent = { [unowned self, unowned peer] event in handle(event, of: id, peer) }
        peer.beforeTransmit = { [unowned self, unowned peer] in
            if self.access != nil, connections[id.slot]?.gate != nil { return }
            server.serve(id, frames: &peer.extension, on: &peer.connection.machine, at: reactor.now)
            report()
        }
    }

    private func startLog(_ peer: ReceiverPeer, directory: String) -> Qlog? {
        guard let id = peer.connection.machine.localConnectionIDs.first else { return nil }
        let qlog = Qlog(
            directory: directory, name: "\(id)_server", role: .server, groupID: id,
            frames: LoggedFlexicastFrames.self, at: reactor.now)
        qlog.attach(to: peer.connection)
        return qlog
    }

    /// The flow's own log: what left on it, once, whoever hears it.
    private func startFlowLog(directory: String) {
        guard let sender, let id = server.flow?.flowID else { return }
        let qlog = Qlog(
            directory: directory, name: "\(id)_flow", role: .server, groupID: id,
            frames: LoggedFlexicastFrames.self, at: reactor.now)
        do { try qlog.keep() } catch {
            log.notLogged(error)
            return
        }
        sender.onRun = { [unowned reactor] run, octets in
            qlog.flowPackets(run, of: id, isSent: true, in: octets, at: reactor.now)
        }
    }

    /// Anybody can begin a connection with another's address: a file is made for those alone who have shown that theirs is
    /// their own, and not for more than so many.
    private func keepLog(of id: ReceiverID) {
        guard let qlog = connections[id.slot]?.qlog else { return }
        do {
            guard logsKept < Self.mostLogs else {
                throw EndpointError("there are \(Self.mostLogs) qlog files of this run")
            }
            try qlog.keep()
            logsKept += 1
        } catch {
            letGoOfLog(id)
            guard !hasToldOfLogs else { return }
            hasToldOfLogs = true
            log.notLogged(error)
        }
    }

    private func letGoOfLog(_ id: ReceiverID) {
        connections[id.slot]?.peer.connection.onPacket = nil
        connections[id.slot]?.qlog = nil
    }

    /// qlog files of one run.
    static let mostLogs = 10_000

    private func handle(_ event: ConnectionEvent, of id: ReceiverID, _ peer: ReceiverPeer) {
        if case .connected = event { keepLog(of: id) }
        if case .closed(let reason) = event {
            // A handshake that fails is worth a file, too.
            if connections[id.slot]?.qlog?.isKept == false {
                if peer.connection.machine.isRemoteAddressValidated { keepLog(of: id) } else { letGoOfLog(id) }
            }
            connections[id.slot]?.qlog?.closed(reason, at: reactor.now)
            log.gone(peer.connection.machine.remoteAddress, reason, at: reactor.now)
        }
        guard passes(event, of: id, peer) else { return }
        serve(event, of: id, peer)
    }

    func serve(_ event: ConnectionEvent, of id: ReceiverID, _ peer: ReceiverPeer) {
        server.handle(event, of: id, on: &peer.connection.machine, at: reactor.now)
    }

    func timer(after pause: Duration, _ action: @escaping () -> Void) -> TimerHandle {
        reactor.timer(at: reactor.now + pause, action)
    }

    func accessRefused(_ address: SocketAddress, _ reason: String) {
        log.accessRefused(address, reason, at: reactor.now)
    }

    private func forget(_ peer: ReceiverPeer) {
        guard let slot = slots.removeValue(forKey: ObjectIdentifier(peer)), let connection = connections[slot] else {
            return
        }
        connections[slot] = nil
        Self.letGo(of: peer)
        server.forget(connection.id, at: reactor.now)
        past.add(peer)
    }

    private static func letGo(of peer: ReceiverPeer) {
        peer.onEvent = { _ in }
        peer.beforeTransmit = {}
    }

    deinit {
        for case .some(let connection) in connections { Self.letGo(of: connection.peer) }
    }

    private func turnEnded() {
        // The flow first: what it hands to unicast paths leaves in this turn too.
        if server.isFlowTouched { pumpFlow() }
        repeat {
            while let id = server.nextTouched() { connections[id.slot]?.peer.pump() }
        } while beginReads()
        // Who has connected or waits for a turn was served after the flow's timer was set, if there is one.
        // A deadline that has passed meanwhile is not put off again and again.
        // In place: read from here, the whole server would be copied.
        let next = withServer { $0.nextDeadline }
        guard next != deadline else { return }
        deadline = next
        let wake = withServer { $0.nextWake(after: reactor.now) }
        if let sender { sender.schedule(at: wake) } else { serverTimer?.schedule(at: wake) }
    }

    /// Has parts read that receivers need and memory does not hold.
    /// - Returns: whether somebody need not wait for that any more.
    private func beginReads() -> Bool {
        while let numbers = server.nextRead() {
            guard let reader, let read else {
                preconditionFailure("a log without a reader has left parts to its store")
            }
            reader.read(numbers) { result in read.send((numbers, result)) }
        }
        return server.hasTouched
    }

    private func pumpFlow() {
        sender?.pump(&server)
        server.flowWasPumped()
        report()
    }

    /// Logs what the server has to tell.
    private func report() {
        while let notice = server.nextNotice() {
            note(notice)
            if case .reported(let id, let report) = notice,
                let address = connections[id.slot]?.peer.connection.machine.remoteAddress
            {
                onReport(address, report)
            }
            log.tell(
                notice, of: connections[notice.receiver.slot]?.peer.connection,
                holder: connections[notice.receiver.slot]?.holder, at: reactor.now)
        }
    }

    /// Keeps what an operator may ask of later.
    private func note(_ notice: ServerNotice) {
        let reason: String
        switch notice {
        case .listens: reason = ""
        case .backOnUnicast(_, let cause):
            reason = "\(cause)"
            departures[cause, default: 0] += 1
        default: return
        }
        connections[notice.receiver.slot]?.changedAt = reactor.now
        connections[notice.receiver.slot]?.reason = reason
    }

    /// Whether everybody who is connected has acknowledged all that was published, on the flow or on their connection.
    package var isDelivered: Bool {
        server.isHandedOver
            && connections.allSatisfy { ($0?.peer.connection.machine.sendingOctets ?? 0) == 0 }
    }

    /// Tells every receiver that the source ends.
    package func close() {
        for case .some(let connection) in connections {
            connection.peer.connection.machine.close(TransportError(.noError, "the source stops"), at: reactor.now)
            connection.peer.pump()
        }
    }
}
