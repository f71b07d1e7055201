import Cryptography
import QUIC
import Reactor
import Wire

/// The server's door: one UDP socket, many connections told apart by destination connection ID. What belongs to no connection is
/// for `Admission` to judge.
package final class Listener<Extension: FrameExtension>: DatagramHandler {
    package typealias ServerPeer = Peer<Extension>

    package struct Limits {
        /// Open connections; further clients are refused.
        package var connections = 20_000
        /// What one address may have of them. A connection costs about 220 KB, so that an address takes 56 MB at the most and it takes
        /// eighty to fill a server. Fewer would shut out people behind one address of a carrier's or an office's.
        package var accounts = AccountTable.Limits()
        /// Connections whose handshake is not complete, above which a Retry asks for proof of address (RFC 9000 section 8.1.2).
        package var unprovenHandshakes = 64
        /// Answers of each kind to datagrams of no connection, per second, beyond what `Admission` gives to each network.
        package var statelessAnswers = 1000
        /// Every client is sent a Retry.
        package var alwaysRetry = false

        package init() {}
    }

    package struct Counters: Sendable, Equatable {
        package var accepted: UInt64 = 0
        package var closed: UInt64 = 0
        /// Clients that got no connection, by `ConnectionRefusal`.
        package var refused: [UInt64] = Array(repeating: 0, count: ConnectionRefusal.allCases.count)
        /// First packets that could not be opened; their connections ended with them.
        package var unauthentic: UInt64 = 0
    }

    package let socket: UDPSocket
    package let admission: Admission
    package private(set) var counters = Counters()
    package private(set) var peers: [ObjectIdentifier: ServerPeer] = [:]
    /// Makes the extension's half for a new connection.
    private let makeExtension: () -> Extension
    /// A connection was accepted: attach to its events.
    package var onAccept: (ServerPeer) -> Void = { _ in }
    /// A client was refused a connection.
    package var onRefused: (SocketAddress, ConnectionRefusal) -> Void = { _, _ in }
    /// A connection is over and forgotten.
    package var onClosed: (ServerPeer) -> Void = { _ in }

    private unowned let reactor: Reactor
    private let configuration: ConnectionConfiguration
    /// For connections that begin from now on.
    package var tls: TLSContext
    /// For clients that come from now on.
    package var limits: Limits {
        didSet { accounts.limits = limits.accounts }
    }
    private var random: SeededRandom
    /// By the first octets of an ID that we issued; all of ours have `Admission.idLength` octets.
    private var routes: [UInt64: ServerPeer] = [:]
    /// By the destination IDs that a client's first Initials carried, its own choice and a Retry's, for as long as its
    /// connection lives: a late duplicate of one must not open another.
    private var firstRoutes: [ConnectionID: ServerPeer] = [:]
    private var touched: [ServerPeer] = []
    private let scratch = PeerScratch()
    /// Connections that are over, kept until nobody is in the middle of a call to them.
    private var retired: [ServerPeer] = []
    private var handshaking = 0
    /// Who has which connections. Only connections whose address is validated are in it.
    package private(set) var accounts: AccountTable

    package init(
        socket: UDPSocket, tls: TLSContext, configuration: ConnectionConfiguration, limits: Limits = Limits(),
        resetKey: StatelessResetKey? = nil, tokenSecret: [UInt8]? = nil, reactor: Reactor,
        makeExtension: @escaping () -> Extension
    ) {
        self.socket = socket
        self.tls = tls
        self.configuration = configuration
        self.limits = limits
        accounts = AccountTable(limits: limits.accounts)
        self.reactor = reactor
        self.makeExtension = makeExtension
        random = randomSeed()
        admission = Admission(
            resetKey: resetKey, tokenSecret: tokenSecret, answersPerSecond: limits.statelessAnswers,
            wallClock: .nanoseconds(Int64(clamping: wallClock().nanoseconds)), random: SeededRandom(from: &random),
            at: reactor.now)
        socket.handler = self
        reactor.onTurnEnd { [unowned self] in
            if !retired.isEmpty { retired.removeAll() }
        }
    }

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        let now = reactor.now
        // One client's datagrams come together: whose the last one was the next one mostly is, too. Collections of a
        // generic class's peers are asked seldom, which takes a thousand instructions (Swift 6.3).
        var latest: ServerPeer?
        var latestID: ConnectionID?
        for index in 0..<batch.count {
            let from = batch.source(index)
            let to = batch.local(index)
            let ecn = batch.ecn(index)
            var bytes = batch[index]
            let before = counters.accepted
            let header = PacketHeader.parse(bytes.span, at: 0, shortIDLength: admission.idLength)
            let peer: ServerPeer
            if let latest, let header, latestID == header.destination {
                peer = latest
            } else {
                guard let found = route(bytes.span, header, from: from) else { continue }
                peer = found
            }
            peer.receive(&bytes, from: from, to: to, ecn: ecn, at: now)
            if counters.accepted > before, peer.connection.machine.statistics.packetsReceived == 0 {
                // Anybody can write an Initial packet's header: one that does not open leaves nothing behind.
                counters.unauthentic += 1
                peer.connection.machine.abandon()
                peer.pump()
                continue
            }
            if latest !== peer { touched.append(peer) }
            latest = peer
            latestID = header?.destination
        }
        // Once per batch and connection: acknowledgements gather, and runs of packets leave together.
        let ready = touched
        touched.removeAll(keepingCapacity: true)
        for peer in ready { peer.pump() }
    }

    package func socketBecameWritable(_ socket: UDPSocket) {
        for peer in peers.values { peer.pump() }
    }

    /// The connection that a datagram belongs to, which may be made for it. What belongs to one is never answered with a stateless
    /// reset (RFC 9000 section 11).
    private func route(
        _ datagram: Span<UInt8>, _ header: PacketHeader?, from client: SocketAddress
    ) -> ServerPeer? {
        if let header {
            if header.destination.count == admission.idLength, let peer = routes[header.destination.prefix] {
                return peer
            }
            if let peer = firstRoutes[header.destination] { return peer }
        }
        // Who would be refused has to prove first that the address is its own. A handshake is not spent on it.
        admission.requiresRetry =
            limits.alwaysRetry || handshaking >= limits.unprovenHandshakes
            || accounts.verdict(on: client.address, at: reactor.now) != nil
        switch admission.judge(datagram, from: client, at: reactor.now) {
        case .admit(let admitted): return open(admitted)
        case .reply(let packet): send(packet, to: client)
        case .ignore: break
        }
        return nil
    }

    private func send(_ bytes: [UInt8], to client: SocketAddress) {
        let written: Void? = socket.withSendBuffer(bytes.count) { buffer in
            for index in bytes.indices { buffer[index] = bytes[index] }
        }
        if written != nil { socket.enqueue(bytes.count, to: client) }
    }

    /// Counts a refusal and tells of it.
    private func refused(_ client: SocketAddress, _ refusal: ConnectionRefusal) {
        counters.refused[refusal.rawValue] += 1
        onRefused(client, refusal)
    }

    private func open(_ client: Admission.Client) -> ServerPeer? {
        func refuse(_ refusal: ConnectionRefusal) -> ServerPeer? {
            refused(client.address, refusal)
            if let packet = admission.refusal(of: client, reason: refusal.text, at: reactor.now) {
                send(packet, to: client.address)
            }
            return nil
        }
        guard peers.count < limits.connections else { return refuse(.connections) }
        // An address that is not validated pays nothing: it may be somebody else's (RFC 9000 section 8.1).
        var isCharged = client.isValidated
        if isCharged, let refusal = accounts.begin(client.address.address, at: reactor.now) {
            return refuse(ConnectionRefusal(refusal))
        }
        let (id, resetToken) = admission.newConnectionID()
        guard
            let connection = try? SecureConnection(
                server: configuration, tls: tls, admitted: client, localID: id, resetToken: resetToken,
                seed: SeededRandom(from: &random), at: reactor.now)
        else {
            if isCharged { accounts.end(client.address.address, at: reactor.now) }
            return refuse(.setUp)
        }
        let peer = ServerPeer(
            connection, extension: makeExtension(), socket: socket, reactor: reactor, scratch: scratch)
        peers[ObjectIdentifier(peer)] = peer
        routes[id.prefix] = peer
        for id in [client.destination, client.originalDestination] { firstRoutes[id] = peer }
        handshaking += 1
        counters.accepted += 1
        onAccept(peer)
        let application = peer.onEvent
        var isHandshaking = true
        func handshakeIsOver() {
            if isHandshaking { handshaking -= 1 }
            isHandshaking = false
        }
        // The application has never heard of it, but for its end.
        var isRefused = false
        peer.onEvent = { [unowned self, unowned peer] (event: ConnectionEvent) in
            switch event {
            case .connected:
                handshakeIsOver()
                if !isCharged {
                    // The handshake has proved the address; until now there were at most `unprovenHandshakes` of these.
                    if let found = accounts.begin(client.address.address, at: reactor.now) {
                        let refusal = ConnectionRefusal(found)
                        isRefused = true
                        refused(client.address, refusal)
                        peer.connection.machine.close(
                            TransportError(.connectionRefused, refusal.text), at: reactor.now)
                        return
                    }
                    isCharged = true
                }
                peer.connection.machine.sendNewToken(
                    admission.newToken(client: client.address.address, at: reactor.now))
            case .connectionIDsWanted(let count):
                for _ in 0..<count {
                    let (id, resetToken) = admission.newConnectionID()
                    peer.connection.machine.provideConnectionID(id, resetToken: resetToken)
                    routes[id.prefix] = peer
                }
            case .connectionIDRetired(let id): routes[id.prefix] = nil
            default: break
            }
            if !isRefused { application(event) }
            if case .drained = event {
                handshakeIsOver()
                if isCharged { accounts.end(client.address.address, at: reactor.now) }
                isCharged = false
                forget(peer, of: client)
            }
        }
        return peer
    }

    private func forget(_ peer: ServerPeer, of client: Admission.Client) {
        guard peers.removeValue(forKey: ObjectIdentifier(peer)) != nil else { return }
        counters.closed += 1
        for id in [client.destination, client.originalDestination] { firstRoutes[id] = nil }
        for id in peer.connection.machine.localConnectionIDs { routes[id.prefix] = nil }
        retired.append(peer)
        onClosed(peer)
    }
}
