import Flexicast
import QUIC
import Wire

/// One receiver: a real client `Connection` and a real `ReceiverSession`, and an application that keeps what it reads.
public final class SimulatedReceiver {
    public let index: Int
    public internal(set) var connection: Connection
    public internal(set) var session: ReceiverSession
    public var links: ReceiverLinks
    /// Streams read to their end, in the order of completion.
    public private(set) var items: [(stream: StreamID, bytes: [UInt8])] = []
    public private(set) var fallBacks: [FallBackReason] = []
    public private(set) var returns = 0
    public private(set) var closed: CloseReason?
    /// Octets that came first on the flow, and on the connection's own path.
    public private(set) var octetsFromFlow: UInt64 = 0
    public private(set) var octetsFromUnicast: UInt64 = 0

    /// Streams of which something was read and the end not yet.
    public var unfinishedStreams: Int { unfinished.count }

    let configuration: ReceiverConfiguration
    var isInGroup = false
    private var keys: [FlowKey] = []
    private var unfinished: Set<StreamID> = []
    private var random: SeededRandom
    private let flow: FlowID
    let address: SocketAddress

    init(
        index: Int, connection: ConnectionConfiguration, configuration: ReceiverConfiguration, flow: FlowID,
        links: ReceiverLinks, source: SocketAddress, seed: inout SeededRandom, at now: Instant
    ) {
        self.index = index
        self.configuration = configuration
        self.flow = flow
        self.links = links
        random = SeededRandom(from: &seed)
        address = SocketAddress(.v4(0x0a00_0000 + UInt32(index) + 1), port: 50_000)
        self.connection = Connection(
            client: connection, to: source, localID: ConnectionID(random.octets(8))!,
            serverID: ConnectionID(random.octets(8))!, seed: SeededRandom(from: &random), at: now)
        session = ReceiverSession(
            isNegotiated: false, maximumPathID: 0, seed: SeededRandom(from: &random), at: now)
        self.connection.queueHandshakeBytes(ClearTransport.clientHello, at: .initial)
    }

    var nextDeadline: Instant { min(connection.nextDeadline, session.nextDeadline) }

    func timerFired(at now: Instant) {
        if connection.nextDeadline <= now { connection.timerFired(at: now) }
        if session.nextDeadline <= now { session.timerFired(at: now) }
    }

    func receive(_ datagram: ClearDatagram, from source: SocketAddress, at now: Instant) {
        session.now = now
        ClearTransport.receive(datagram, from: source, into: &connection, extension: &session, at: now)
    }

    /// A packet of the flow; `secret` is what it would have been sealed with.
    func receiveFlow(_ packet: ClearDatagram, secret: [UInt8], at now: Instant) {
        guard isInGroup, let plan = packet.plans.first else { return }
        session.flowPacketHeard(flow, at: now)
        guard let key = keys.last(where: { $0.secret == secret }) else {
            session.flowPacketRejected(flow, at: now)
            return
        }
        guard
            let path = session.flowPacketOpened(
                flow, generation: key.generation, packetNumber: plan.packetNumber, at: now)
        else { return }
        // READY and the opened path come before the packet that caused them is acknowledged.
        drainSession(at: now)
        connection.flowPacketsReceived(
            pathID: path, RunPlan(plan), in: packet.bytes.span, ecn: .notECT, at: now, extension: &session)
    }

    /// Leaves the flow by the user's wish; `join` undoes it.
    public func leaveFlow(at now: Instant) { session.leave(flow, at: now) }
    public func joinFlow(at now: Instant) { session.join(flow, at: now) }

    func drain(server: TransportParameters, at now: Instant) {
        while let event = connection.nextEvent() {
            switch event {
            case .handshakeBytes(let level, _):
                ClearTransport.answerAtClient(&connection, level: level, server: server, at: now)
            case .connected:
                let limit = min(server.initialMaxPathID ?? 0, connection.localParameters.initialMaxPathID ?? 0)
                session = ReceiverSession(
                    isNegotiated: connection.isExtensionNegotiated, maximumPathID: limit, configuration: configuration,
                    seed: SeededRandom(from: &random), at: now)
            case .streamReadable(let stream): read(stream)
            case .closed(let reason): closed = reason
            case .connectionIDsWanted(let count):
                for _ in 0..<count {
                    connection.provideConnectionID(ConnectionID(random.octets(8))!, resetToken: random.octets(16))
                }
            default: break
            }
        }
        drainSession(at: now)
    }

    private func drainSession(at now: Instant) {
        while let action = session.nextAction() {
            switch action {
            case .send(let frame, let key): connection.sendExtensionFrame(frame, key: key)
            case .joinGroup: isInGroup = true
            case .leaveGroup: isInGroup = false
            case .installKey(_, let key): keys.append(key)
            case .dropKey(_, let generation): keys.removeAll { $0.generation == generation }
            case .openReceivePath(_, let path, let delay), .setAckDelay(_, let path, let delay):
                let phase = Duration.nanoseconds(Int64.random(in: 0...max(0, delay.nanoseconds), using: &random))
                connection.openReceivePath(path, ackDelay: delay, phase: phase)
            case .listening: break
            case .returned: returns += 1
            case .fellBack(_, let reason): fallBacks.append(reason)
            }
        }
    }

    private func read(_ stream: StreamID) {
        switch connection.gather(stream) {
        case .part: unfinished.insert(stream)
        case .whole(let chunk):
            unfinished.remove(stream)
            octetsFromFlow += chunk.octetsFromFlow
            octetsFromUnicast += chunk.octetsFromUnicast
            items.append((stream, chunk.bytes))
        case nil: break
        }
    }
}
