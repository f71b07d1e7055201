import QUIC
import Wire

/// Two connections that talk in the clear: no TLS, no packet protection, only the machines. What one writes, the other is
/// handed, packet by packet, as packet protection would.
struct ClearPair: ~Copyable {
    var client: Connection
    var server: Connection
    var now = Instant(nanoseconds: 1_000_000_000)
    /// Called for each datagram; true drops it.
    var drop: (_ fromClient: Bool, _ index: Int) -> Bool = { _, _ in false }
    /// Octets of the largest datagram that the path carries.
    var limit = Int.max
    /// Octets of the largest datagram that the server sent.
    var largest = 0
    var sentByClient = 0
    var sentByServer = 0
    /// One way.
    var delay = Duration.milliseconds(10)
    var clientEvents: [ConnectionEvent] = []
    var serverEvents: [ConnectionEvent] = []

    static let clientAddress = SocketAddress("192.0.2.1:5000")!
    static let serverAddress = SocketAddress("192.0.2.2:443")!

    /// Every packet that either end wrote, where they are kept.
    private(set) var written: [(fromClient: Bool, plan: PacketPlan, payload: [UInt8])] = []
    var keepsWritten = false

    private var inFlight: [(at: Instant, toServer: Bool, bytes: [UInt8], plans: [PacketPlan])] = []

    init(
        seed: UInt64 = 1, client clientConfiguration: ConnectionConfiguration = .init(),
        server serverConfiguration: ConnectionConfiguration = .init(), validated: Bool = true
    ) {
        var random = SeededRandom(seed: seed)
        let clientID = ConnectionID(random.octets(8))!
        let serverID = ConnectionID(random.octets(8))!
        let original = ConnectionID(random.octets(8))!
        client = Connection(
            client: clientConfiguration, to: Self.serverAddress, localID: clientID, serverID: original,
            seed: SeededRandom(seed: seed &+ 1), at: now)
        server = Connection(
            server: serverConfiguration, to: Self.clientAddress, localID: serverID, clientID: clientID,
            original: original,
            retrySource: nil, addressValidated: validated, resetToken: nil, seed: SeededRandom(seed: seed &+ 2), at: now
        )
    }

    /// A handshake whose messages are two words, with the keys installed by hand.
    mutating func handshake() {
        client.queueHandshakeBytes(Array("client hello".utf8), at: .initial)
        run(until: { $0.serverEvents.contains { if case .handshakeBytes = $0 { true } else { false } } })
        server.readKeysInstalled(.handshake, at: now)
        server.writeKeysInstalled(.handshake)
        server.writeKeysInstalled(.application)
        server.peerParametersReceived(client.localParameters.encoded(), at: now)
        server.queueHandshakeBytes(Array("server hello".utf8), at: .initial)
        run(until: { $0.clientEvents.contains { if case .handshakeBytes = $0 { true } else { false } } })
        for level in [ProtectionLevel.handshake, .application] {
            client.readKeysInstalled(level, at: now)
            client.writeKeysInstalled(level)
        }
        client.peerParametersReceived(server.localParameters.encoded(), at: now)
        client.queueHandshakeBytes(Array("finished".utf8), at: .handshake)
        client.handshakeCompleted(at: now)
        run(until: {
            $0.serverEvents.contains { if case .handshakeBytes(.handshake, _) = $0 { true } else { false } }
        })
        server.readKeysInstalled(.application, at: now)
        server.handshakeCompleted(at: now)
        run(until: { $0.client.isHandshakeConfirmed })
        clientEvents.removeAll()
        serverEvents.removeAll()
    }

    mutating func run(for duration: Duration) {
        let end = now + duration
        run { $0.now >= end }
    }

    /// Runs until `done`, or nothing is left to happen within a minute.
    mutating func run(until done: (borrowing ClearPair) -> Bool) {
        let limit = now + .seconds(60)
        while now < limit {
            pump()
            if done(self) { return }
            var next = min(client.nextDeadline, server.nextDeadline)
            for datagram in inFlight { next = min(next, datagram.at) }
            guard next < .distantFuture else { return }
            now = max(now + .microseconds(1), min(next, limit))
            deliver()
            if client.nextDeadline <= now { client.timerFired(at: now) }
            if server.nextDeadline <= now { server.timerFired(at: now) }
        }
    }

    /// Sends what can be sent and drains the events.
    mutating func pump() {
        while let (bytes, plans) = Self.transmit(&client, at: now) {
            keep(bytes, plans, fromClient: true)
            if !drop(true, sentByClient), bytes.count <= limit { inFlight.append((now + delay, true, bytes, plans)) }
            sentByClient += 1
        }
        while let (bytes, plans) = Self.transmit(&server, at: now) {
            largest = max(largest, bytes.count)
            keep(bytes, plans, fromClient: false)
            if !drop(false, sentByServer), bytes.count <= limit { inFlight.append((now + delay, false, bytes, plans)) }
            sentByServer += 1
        }
        while let event = client.nextEvent() { clientEvents.append(event) }
        while let event = server.nextEvent() { serverEvents.append(event) }
    }

    private mutating func keep(_ bytes: [UInt8], _ plans: [PacketPlan], fromClient: Bool) {
        guard keepsWritten else { return }
        for plan in plans { written.append((fromClient, plan, Self.payload(of: plan, in: bytes))) }
    }

    /// The frames of a packet.
    static func payload(of plan: PacketPlan, in bytes: [UInt8]) -> [UInt8] {
        Array(bytes[plan.payloadOffset..<(plan.end - CipherSuite.tagLength)])
    }

    /// The names of the frames of each packet that `connection` has to send now, in order.
    static func frames(of connection: inout Connection, at now: Instant) -> [(level: ProtectionLevel, names: [String])]
    {
        var packets: [(ProtectionLevel, [String])] = []
        while let (bytes, plans) = transmit(&connection, at: now) {
            for plan in plans {
                packets.append((plan.level, LoggedFrame.frames(in: payload(of: plan, in: bytes).span).map(\.type)))
            }
        }
        return packets
    }

    /// The next datagram; `noting` is told where it goes.
    static func transmit(
        _ connection: inout Connection, at now: Instant, noting: (SocketAddress) -> Void = { _ in }
    ) -> ([UInt8], [PacketPlan])? {
        var bytes = [UInt8](repeating: 0, count: 10_000)
        var plans: [PacketPlan] = []
        let datagram: OutgoingDatagram?
        do {
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            datagram = connection.transmit(into: &writer, plans: &plans, at: now)
        }
        guard let datagram else { return nil }
        noting(datagram.to)
        return (Array(bytes.prefix(datagram.count)), plans)
    }

    private mutating func deliver() {
        let due = inFlight.filter { $0.at <= now }
        inFlight.removeAll { $0.at <= now }
        for datagram in due {
            if datagram.toServer {
                Self.deliver(datagram.bytes, datagram.plans, from: Self.clientAddress, to: &server, at: now)
            } else {
                Self.deliver(datagram.bytes, datagram.plans, from: Self.serverAddress, to: &client, at: now)
            }
        }
    }

    static func deliver(
        _ bytes: [UInt8], _ plans: [PacketPlan], from address: SocketAddress, to connection: inout Connection,
        at now: Instant
    ) {
        connection.datagramReceived(octets: bytes.count, from: address, at: now)
        for plan in plans {
            guard let header = PacketHeader.parse(bytes.span, at: plan.start, shortIDLength: 8) else { continue }
            inject(
                Array(bytes[plan.payloadOffset..<(plan.end - CipherSuite.tagLength)]), level: plan.level,
                number: plan.packetNumber, source: header.source, destination: header.destination, from: address,
                keyGeneration: plan.keyGeneration, to: &connection, at: now)
        }
    }

    /// Hands `connection` a packet with `payload`, whoever might have made it.
    static func inject(
        _ payload: [UInt8], level: ProtectionLevel = .application, number: UInt64, source: ConnectionID = .empty,
        destination: ConnectionID? = nil, from address: SocketAddress, keyGeneration: UInt64 = 0,
        reservedBitsAreZero: Bool = true, to connection: inout Connection, at now: Instant
    ) {
        var none = NoExtension()
        connection.packetReceived(
            ReceivedPacket(
                level: level, packetNumber: number, destination: destination ?? connection.localConnectionIDs[0],
                source: source, from: address, keyGeneration: keyGeneration,
                reservedBitsAreZero: reservedBitsAreZero),
            payload: payload.span, at: now, extension: &none)
    }
}

extension [ConnectionEvent] {
    var closeReason: CloseReason? {
        for case .closed(let reason) in self { return reason }
        return nil
    }
}
