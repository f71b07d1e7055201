import Cryptography
import Flexicast
import Logging
import Objects
import Operation
import QUIC
import Reactor
import Wire

// A receiver: one connection to the source, and the flows that the source announces and the network carries here.
//
//     source ══ connection ══> Peer<FlowClient> ──> objects, whole, once each
//        └── group ──> FlowReception ── opened packets ──^

/// One connection of a receiver's. After it has ended another one takes its place.
package final class Receiver {
    package let peer: Peer<FlowClient>
    package var onEvent: (Event) -> Void = { _ in }
    /// For the next connection: a ticket to resume with and a token that proves our address.
    package private(set) var addressToken: [UInt8] = []
    /// Octets of a large item, for the size of memory to keep ready.
    package static var largeItemOctets: Int { 16 << 20 }

    /// How long a source may be silent where there are others. A receiver asks for a sign of life in a third of it.
    package static var patienceWithOthers: Duration { .seconds(2) }

    package let reactor: Reactor
    package let log: Logger
    package let access: FlowAccess
    /// Whose key log gets the flows' secrets.
    package let tls: TLSContext
    package var flows: [FlowID: FlowReception] = [:]
    /// Those of them whose packets come on the connection's own way.
    package var replicated: [FlowReception] = []
    private var clientTimer: TimerHandle?
    private let socket: UDPSocket
    private let accessToken: AccessToken?
    package var qlog: Qlog?
    package var octetsOfClosedFlows: UInt64 = 0
    package var octetsOfClosedTunnels: UInt64 = 0
    package var strangersOfClosedFlows: UInt64 = 0

    package init(
        to remote: SocketAddress, serverName: String, tls: TLSContext, usesFlow: Bool, access: FlowAccess,
        wants: Wants = .everything, reports: Bool = false, qlogDirectory: String? = nil, token: [UInt8] = [],
        ticket: [UInt8]? = nil, shows accessToken: AccessToken? = nil, hasOthers: Bool = false,
        assembler: ObjectAssembler = ObjectAssembler(), grant: ReceiverGrant = ReceiverGrant(), reactor: Reactor,
        log: Logger
    ) throws {
        self.reactor = reactor
        self.log = log
        self.access = access
        self.tls = tls
        self.accessToken = accessToken
        var random = randomSeed()
        var configuration = ConnectionConfiguration.receiver(usesFlow: usesFlow, grant: grant)
        // When a source is back after a while, its receivers are to know it soon, and not all in the same moment.
        configuration.unansweredKeepAlive = .milliseconds(Int64.random(in: 750...1000, using: &random))
        if hasOthers { configuration.parameters.maxIdleTimeout = Self.patienceWithOthers }
        guard let id = ConnectionID(random.octets(8)) else { preconditionFailure("eight octets make an ID") }
        let connection = try SecureConnection(
            client: configuration, tls: tls, serverName: serverName, to: remote,
            localID: id,
            token: token, resume: ticket, seed: SeededRandom(from: &random), at: reactor.now)
        if let qlogDirectory {
            qlog = Qlog(
                directory: qlogDirectory, name: "\(id)_client", role: .client, groupID: id,
                frames: LoggedFlexicastFrames.self, at: reactor.now)
            try qlog?.keep()
            qlog?.attach(to: connection)
        }
        // Last of what can fail, so that no failure leaves it open.
        socket = try reactor.udpSocket(
            bind: SocketAddress(remote.address.isIPv4 ? .v4(0) : .v6(0), port: 0))
        var client = FlowClientConfiguration()
        client.ways = access.ways
        client.wants = wants
        client.reports = reports
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
            clientTimer?.schedule(at: Self.nextDeadline(of: &peer.extension))
        }
        peer.beforeReceive = { [unowned self] bytes, from, ecn in takeCopy(&bytes, from: from, ecn: ecn) }
        clientTimer = reactor.timer { [unowned self] in
            peer.extension.timerFired(at: self.reactor.now)
            peer.pump()
        }
    }

    /// In place: read from elsewhere, the whole client would be copied.
    private static func nextDeadline(of client: inout FlowClient) -> Instant { client.nextDeadline }

    /// Sends the first packet.
    package func start() { peer.pump() }

    package var sessionTicket: [UInt8]? { peer.connection.sessionTicket }
    /// Octets of UDP payload opened on flows.
    package var octetsFromFlows: UInt64 { flows.values.reduce(octetsOfClosedFlows) { $0 + $1.octetsOpened } }
    /// Those of them that came through a tunnel.
    package var octetsFromTunnels: UInt64 { flows.values.reduce(octetsOfClosedTunnels) { $0 + $1.octetsFromTunnel } }
    /// Octets of UDP payload that came on the connection.
    package var octetsFromUnicast: UInt64 { peer.connection.machine.statistics.octetsReceived }
    /// Packet numbers of flows that never came while listening; the few that a source skips on purpose are among them.
    package var packetsMissing: UInt64 { peer.extension.packetsMissing }

    /// Packets of no use, on flows and on the connection.
    package var packetsRejected: UInt64 {
        flows.values.reduce(strangersOfClosedFlows) { $0 + $1.strangers } + peer.extension.statistics.packetsRejected
            + peer.connection.packetsRejected
    }

    /// Tells the source of the reception.
    package func report(_ report: ReportMessage) {
        peer.extension.report(report, on: &peer.connection.machine)
        peer.pump()
    }

    /// Leaves groups and tells the source, which then sends nothing more.
    package func close() {
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
    package func release() {
        shutDown()
        // The peer may still have to be told why.
        socket.flush()
        socket.close()
    }

    // MARK: Events of the connection

    /// To a source that asks for it: it lets a stream be opened.
    private func showToken() {
        guard let accessToken, (try? peer.connection.machine.openStream(bidirectional: false)) == Access.stream else {
            return
        }
        try? peer.connection.machine.write(Access.stream, accessToken.octets, fin: true)
    }

    private func handle(_ event: ConnectionEvent) {
        if case .connected = event { showToken() }
        peer.extension.handle(event, on: &peer.connection.machine, at: reactor.now)
        switch event {
        // Nearly all: what comes of them is asked for once.
        case .streamReadable, .datagram: return
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
}
