import Flexicast
import Objects
import QUIC
import Wire

/// One receiver: a real client `Connection` and the `FlowClient` that production runs, and an application that keeps what
/// it reads.
public final class SimulatedReceiver {
    /// Its place in `Simulation.receivers`.
    public let index: Int
    /// Its end of the connection to the source.
    public internal(set) var connection: Connection
    /// Its part in flows, which the tester may look at.
    public internal(set) var client: FlowClient
    /// The three ways between it and the source; the tester may change them at any time.
    public var links: ReceiverLinks
    /// Told of each object, which is not kept in `items` then: in a crowd they would fill memory.
    var takesObject: ((ReceivedObject) -> Void)?
    /// Told when its connection ends.
    var ended: ((CloseReason) -> Void)?
    /// It sends nothing any more once it is on a flow.
    var fallsSilent = false
    /// Objects in the order of completion.
    public private(set) var items: [(stream: StreamID, bytes: [UInt8])] = []
    /// From publication to the last octet, of each of them.
    public private(set) var latencies: [Duration] = []
    /// The sequence numbers that it was told will not come.
    public private(set) var gaps: [Gap] = []
    /// Datagrams in the order in which they came.
    public private(set) var datagrams: [[UInt8]] = []
    /// Objects that will not be whole.
    private(set) var failures: [AssemblyFailure] = []
    /// Why it stopped listening to the flow, each time.
    public private(set) var fallBacks: [FallBackReason] = []
    /// Times that it listened to the flow again.
    public private(set) var returns = 0
    /// Why its connection ended; nil while it has not.
    public private(set) var closed: CloseReason?
    /// Octets of objects that came first on the flow.
    public private(set) var octetsFromFlow: UInt64 = 0
    /// Octets of objects that came first on the connection's own path.
    public private(set) var octetsFromUnicast: UInt64 = 0
    /// Objects of which something has come and not all.
    public var unfinishedStreams: Int { connection.receivingStreamCount }

    var isInGroup = false
    private var keys: [FlowKey] = []
    var flow: FlowID
    /// What the source's end of the connection has said of itself in TLS.
    var serverParameters = TransportParameters()
    /// Where it is in the multicast tree.
    var branch: Int?
    private let configuration: FlowClientConfiguration
    private let wanted: ConnectionConfiguration
    private var random: SeededRandom
    private var port: UInt16 = 50_000
    /// Where datagrams come from and go to; a NAT may change the port at any time.
    var address: SocketAddress { SocketAddress(.v4(0x0a00_0000 + UInt32(index) + 1), port: port) }
    /// It is not there any more: whatever comes is lost.
    public internal(set) var isGone = false

    init(
        index: Int, connection: ConnectionConfiguration, configuration: ReceiverConfiguration, flow: FlowID,
        links: ReceiverLinks, source: SocketAddress, seed: inout SeededRandom, at now: Instant
    ) {
        self.index = index
        self.flow = flow
        self.links = links
        wanted = connection
        random = SeededRandom(from: &seed)
        var client = FlowClientConfiguration()
        client.session = configuration
        self.configuration = client
        self.client = FlowClient(configuration: client, seed: SeededRandom(from: &random))
        self.connection = Self.connection(wanted, to: source, random: &random, at: now)
    }

    private static func connection(
        _ configuration: ConnectionConfiguration, to source: SocketAddress, random: inout SeededRandom, at now: Instant
    ) -> Connection {
        var connection = Connection(
            client: configuration, to: source, localID: ConnectionID(random.octets(8))!,
            serverID: ConnectionID(random.octets(8))!, seed: SeededRandom(from: &random), at: now)
        connection.queueHandshakeBytes(ClearTransport.clientHello, at: .initial)
        return connection
    }

    /// Begins a new connection, with what it has of objects.
    func reconnect(to source: SocketAddress, at now: Instant) {
        isInGroup = false
        keys = []
        closed = nil
        client = FlowClient(
            configuration: configuration, assembler: client.assembler, seed: SeededRandom(from: &random))
        connection = Self.connection(wanted, to: source, random: &random, at: now)
    }

    /// A NAT on the way gives it another port.
    public func rebind() { port = port == .max ? 50_000 : port + 1 }

    var nextDeadline: Instant { isGone ? .distantFuture : min(connection.nextDeadline, Self.nextDeadline(of: &client)) }
    // By reference, as all of it would be copied.
    private static func nextDeadline(of client: inout FlowClient) -> Instant { client.nextDeadline }

    func timerFired(at now: Instant) {
        if connection.nextDeadline <= now { connection.timerFired(at: now) }
        if Self.nextDeadline(of: &client) <= now { client.timerFired(at: now) }
    }

    func receive(_ datagram: ClearDatagram, from source: SocketAddress, at now: Instant) {
        ClearTransport.receive(datagram, from: source, into: &connection, extension: &client, at: now)
    }

    /// A packet of the flow; `secret` is what it would have been sealed with.
    func receiveFlow(_ packet: ClearDatagram, secret: [UInt8], at now: Instant) {
        guard isInGroup, let plan = packet.plans.first else { return }
        client.heard(flow, count: 1, at: now)
        guard let key = keys.last(where: { $0.secret == secret }) else {
            client.rejected(flow, at: now)
            return
        }
        var run = RunPlan(plan)
        run.keyGeneration = key.generation
        guard case .path(let path) = client.admit(flow, run, at: now) else { return }
        _ = client.received(
            flow, pathID: path, run, in: packet.bytes.span, ecn: .notECT, on: &connection, at: now)
    }

    /// Leaves the flow by the user's wish; `join` undoes it.
    public func leaveFlow(at now: Instant) { client.leave(flow, at: now) }
    /// Joins the flow by the user's wish, after `leaveFlow` or where receivers join nothing by themselves.
    public func joinFlow(at now: Instant) { client.join(flow, at: now) }

    func drain(at now: Instant) {
        while let event = connection.nextEvent() {
            switch event {
            case .handshakeBytes(let level, _):
                ClearTransport.answerAtClient(&connection, level: level, server: serverParameters, at: now)
            case .closed(let reason):
                closed = reason
                ended?(reason)
            default: break
            }
            client.handle(event, on: &connection, at: now)
        }
        client.serve(on: &connection, at: now)
        while let action = client.nextAction() { perform(action) }
    }

    private func perform(_ action: ClientAction) {
        switch action {
        case .open: isInGroup = true
        case .listening where fallsSilent: links.toSource.isCut = true
        case .close: isInGroup = false
        case .installKey(_, let key): keys.append(key)
        case .dropKey(_, let generation): keys.removeAll { $0.generation == generation }
        case .returned: returns += 1
        case .fellBack(_, let reason): fallBacks.append(reason)
        case .object(let object):
            octetsFromFlow += object.octetsFromFlow
            octetsFromUnicast += UInt64(object.body.count) - object.octetsFromFlow
            if let takesObject {
                takesObject(object)
                break
            }
            items.append(
                (StreamID(initiator: .server, bidirectional: false, index: object.first), Array(object.body)))
            latencies.append(object.latency ?? .zero)
        case .gap(let gap): gaps.append(gap)
        case .failed(let failure): failures.append(failure)
        case .datagram(let octets, _): datagrams.append(Array(octets))
        case .listening, .openTunnel, .closeTunnel, .joinRefused, .joinUnanswered, .log, .part, .end: break
        }
    }
}
