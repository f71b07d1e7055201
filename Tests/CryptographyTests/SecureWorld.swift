import Cryptography
import QUIC
import Testing
import Wire

/// A client, a server and the network between them, all in memory, with a clock that jumps from event to event. The
/// server echoes every bidirectional stream. The same seed gives the same run, but for the keys of TLS.
final class SecureWorld {
    static let clientAddress = SocketAddress("192.0.2.1:5000")!
    static let serverAddress = SocketAddress("192.0.2.2:443")!
    static let start = Instant(nanoseconds: 1_000_000_000)

    /// What the network does to each datagram.
    struct Network {
        var loss = 0.0
        var duplication = 0.0
        var corruption = 0.0
        /// One way.
        var delay = Duration.milliseconds(10)
        /// Added to each datagram's delay at random, so that they overtake each other.
        var jitter = Duration.zero
    }

    /// One end with what its application saw.
    final class End {
        let connection: SecureConnection
        var received: [StreamID: [UInt8]] = [:]
        var finished: Set<StreamID> = []
        var newTokens: [[UInt8]] = []
        var closeReason: CloseReason?
        var isConnected = false
        var isDrained = false
        /// Octets that wait for room.
        var unwritten: [(id: StreamID, bytes: [UInt8], fin: Bool)] = []

        init(_ connection: SecureConnection) { self.connection = connection }
    }

    var now = SecureWorld.start
    var network = Network()
    let client: End
    var server: End?
    /// Whether datagrams for the server find its connection, or a server that has forgotten it.
    var serverRemembers = true
    let admission: Admission
    let serverContext: TLSContext
    var serverConfiguration: ConnectionConfiguration
    var newTokenForClient = false

    private var random: SeededRandom
    private var inFlight: [(at: Instant, toServer: Bool, bytes: [UInt8])] = []
    private(set) var octetsToServer = 0
    private(set) var octetsToClient = 0
    private(set) var datagramsToClient: [[UInt8]] = []
    private var serverIDs: Set<ConnectionID> = []
    /// Called for each datagram; true drops it.
    var drop: (_ toServer: Bool, _ bytes: [UInt8]) -> Bool = { _, _ in false }

    init(
        seed: UInt64, client clientContext: TLSContext, server serverContext: TLSContext,
        clientConfiguration: ConnectionConfiguration = .init(), serverConfiguration: ConnectionConfiguration = .init(),
        name: String = "source.test", token: [UInt8] = [], resume: [UInt8]? = nil, requiresRetry: Bool = false,
        admission: Admission? = nil
    ) throws {
        random = SeededRandom(seed: seed)
        self.serverContext = serverContext
        self.serverConfiguration = serverConfiguration
        self.admission =
            admission
            ?? Admission(requiresRetry: requiresRetry, random: SeededRandom(from: &random), at: Self.start)
        client = End(
            try SecureConnection(
                client: clientConfiguration, tls: clientContext, serverName: name, to: Self.serverAddress,
                localID: ConnectionID(random.octets(8))!, token: token, resume: resume,
                seed: SeededRandom(from: &random), at: Self.start))
    }

    /// Runs until `done`, or for a minute. Returns whether it was done.
    @discardableResult
    func run(for limit: Duration = .seconds(60), until done: (SecureWorld) -> Bool) -> Bool {
        let end = now + limit
        pump()
        while !done(self) {
            var next = client.connection.nextDeadline
            if let server { next = min(next, server.connection.nextDeadline) }
            for datagram in inFlight { next = min(next, datagram.at) }
            guard next < end else { return false }
            now = max(now, next)
            deliver()
            for end in [client, server].compactMap({ $0 }) where end.connection.nextDeadline <= now {
                end.connection.timerFired(at: now)
            }
            pump()
            // A timer that does not move would hold the clock: let it move by itself then.
            now += .microseconds(1)
        }
        return true
    }

    func pump() {
        serve(client)
        send(client, toServer: true)
        guard let server else { return }
        serve(server)
        send(server, toServer: false)
    }

    /// Hands `bytes` to the client as if they came from the server's address.
    func injectToClient(_ bytes: [UInt8]) { receive(client, bytes, from: Self.serverAddress) }
    func injectToServer(_ bytes: [UInt8]) { toServer(bytes) }

    /// Puts `bytes` on a new stream of the client's.
    func write(_ bytes: [UInt8]) throws -> StreamID {
        let id = try client.connection.machine.openStream(bidirectional: true)
        client.unwritten.append((id, bytes, true))
        return id
    }

    private func send(_ end: End, toServer: Bool) {
        var buffer = [UInt8](repeating: 0, count: 2048)
        while true {
            var span = buffer.mutableSpan
            guard let datagram = end.connection.transmit(into: &span, at: now) else { return }
            transfer(Array(buffer.prefix(datagram.count)), toServer: toServer)
            serve(end)
        }
    }

    private func transfer(_ bytes: [UInt8], toServer: Bool) {
        if toServer { octetsToServer += bytes.count } else { octetsToClient += bytes.count }
        if drop(toServer, bytes) { return }
        func chance(_ probability: Double) -> Bool {
            probability > 0 && Double.random(in: 0..<1, using: &random) < probability
        }
        for _ in 0..<(chance(network.duplication) ? 2 : 1) where !chance(network.loss) {
            var copy = bytes
            if chance(network.corruption) {
                copy[Int.random(in: 0..<copy.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            }
            var delay = network.delay
            if network.jitter > .zero {
                delay += .nanoseconds(Int64.random(in: 0..<network.jitter.nanoseconds, using: &random))
            }
            inFlight.append((now + delay, toServer, copy))
        }
    }

    private func deliver() {
        let due = inFlight.filter { $0.at <= now }.sorted { $0.at < $1.at }
        inFlight.removeAll { $0.at <= now }
        for datagram in due {
            if datagram.toServer {
                toServer(datagram.bytes)
            } else {
                datagramsToClient.append(datagram.bytes)
                receive(client, datagram.bytes, from: Self.serverAddress)
            }
        }
    }

    private func receive(_ end: End, _ bytes: [UInt8], from address: SocketAddress) {
        var copy = bytes
        var span = copy.mutableSpan
        var none = NoExtension()
        end.connection.receive(&span, from: address, to: nil, ecn: .notECT, at: now, extension: &none)
        serve(end)
    }

    private func toServer(_ bytes: [UInt8]) {
        if let server, serverRemembers,
            let header = PacketHeader.parse(bytes.span, at: 0, shortIDLength: admission.idLength),
            serverIDs.contains(header.destination)
        {
            receive(server, bytes, from: Self.clientAddress)
            return
        }
        switch admission.judge(bytes.span, from: Self.clientAddress, at: now) {
        case .ignore: break
        case .reply(let reply): transfer(reply, toServer: false)
        case .admit(let admitted):
            guard server == nil else { return }
            let (id, resetToken) = admission.newConnectionID()
            do {
                let end = End(
                    try SecureConnection(
                        server: serverConfiguration, tls: serverContext, admitted: admitted, localID: id,
                        resetToken: resetToken, seed: SeededRandom(from: &random), at: now))
                server = end
                receive(end, bytes, from: Self.clientAddress)
                // As a listener does: what cannot be opened leaves nothing behind.
                guard end.connection.machine.statistics.packetsReceived > 0 else {
                    server = nil
                    return
                }
                serverIDs.formUnion([id, admitted.destination])
            } catch { Issue.record(error) }
        }
    }

    /// The application of either end.
    private func serve(_ end: End) {
        let isServer = end === server
        while let event = end.connection.nextEvent(at: now) {
            switch event {
            case .connected: end.isConnected = true
            case .confirmed:
                if isServer, newTokenForClient {
                    end.connection.machine.sendNewToken(
                        admission.newToken(client: Self.clientAddress.address, at: now))
                }
            case .connectionIDsWanted(let count):
                for _ in 0..<count {
                    let (id, token) = admission.newConnectionID()
                    if isServer { serverIDs.insert(id) }
                    end.connection.machine.provideConnectionID(id, resetToken: token)
                }
            case .newToken(let token): end.newTokens.append(token)
            case .streamReadable(let id):
                while let chunk = end.connection.machine.read(id) {
                    end.received[id, default: []] += chunk.bytes
                    if chunk.isFinished { end.finished.insert(id) }
                    if isServer, id.isBidirectional { end.unwritten.append((id, chunk.bytes, chunk.isFinished)) }
                }
            case .closed(let reason): end.closeReason = reason
            case .drained: end.isDrained = true
            case .handshakeBytes, .discardKeys: Issue.record("\(event) is no business of the application")
            default: break
            }
        }
        var kept: [(id: StreamID, bytes: [UInt8], fin: Bool)] = []
        for item in end.unwritten {
            do {
                try end.connection.machine.write(item.id, item.bytes, fin: item.fin)
            } catch .full { kept.append(item) } catch { Issue.record("write: \(error)") }
        }
        end.unwritten = kept
    }
}
