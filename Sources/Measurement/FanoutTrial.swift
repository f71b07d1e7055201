import Cryptography
import Flexicast
import Logging
import Objects
import Operation
import QUIC
import Reactor
import Transport
import Wire

/// How a source reaches the receivers of a measurement.
package enum FanoutWay: String, CaseIterable, Sendable {
    /// One packet for all, to a group.
    case flow
    /// The same packets, a copy to each.
    case replicated
    /// Each on its own connection.
    case unicast
}

/// What a measurement with many receivers is made of.
package struct FanoutTrialOptions: Sendable {
    package var receivers = 1
    /// Octets of a full packet, whichever way it goes: the UDP payload.
    package var packetSize = 1200
    /// Octets of each published item.
    package var itemSize = 1 << 18
    /// Bits per second of the flow at the most; nil is what the receivers bear that share one thread.
    package var rate: UInt64?
    /// What they bear together, in bits per second.
    private static var bearable: UInt64 { 12_000_000_000 }
    var rateCeiling: UInt64 { rate ?? max(1_000_000, Self.bearable / UInt64(receivers)) }
    package var interface = "lo"
    package var group = SocketAddress(.v4(0xef0a_0001), port: 5996)
    package var io = IOBackendChoice.auto

    package init() {}
}

/// A source and its receivers in one thread, all of them whole: connections, keys, acknowledgements, items. Each side has a
/// reactor of its own, so that CPU is told apart; the next item is published when all have the one before the last.
package final class FanoutTrial {
    private let source: ChargedReactor
    private let receivers: ChargedReactor
    private let origin: SourceEndpoint
    private let options: FanoutTrialOptions
    private let item: [UInt8]
    private let clientContext: TLSContext
    private let way: FanoutWay
    private let address: SocketAddress
    private var audience: [Receiver] = []
    private var itemsOf: [Int] = []
    private var ready = 0
    private var published = 0
    /// Items that may be on their way.
    private static let window = 4
    /// Receivers that connect at the same time.
    private static let crowd = 32

    /// Times a receiver left the flow; connections that ended.
    package private(set) var fallbacks = 0
    package private(set) var closed = 0

    package var backendDescription: String { source.reactor.backendDescription }

    package init(_ way: FanoutWay, _ options: FanoutTrialOptions) throws {
        self.way = way
        self.options = options
        Meters.raiseFileLimit()
        source = try ChargedReactor(io: options.io)
        receivers = try ChargedReactor(io: options.io)
        item = [UInt8](repeating: 0x61, count: options.itemSize)
        let origin = try FlowTrial.address(of: options.interface)
        let listen = try source.reactor.udpSocket(bind: SocketAddress(origin, port: 0))
        address = listen.localAddress
        let server = try TLSContext.server(selfSignedFor: ["\(origin)"], alpn: [applicationProtocol])
        clientContext = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        var sender: FlowSender?
        var flow: FlowSource?
        if way != .unicast {
            flow = Self.makeFlow(options, origin: origin, reactor: source.reactor)
            sender = try Self.makeSender(
                options, origin: origin, copySocket: way == .replicated ? listen : nil, reactor: source.reactor)
        }
        var configuration = FlowServerConfiguration()
        configuration.history = 0
        configuration.replicates = way == .replicated
        configuration.hasGroup = way == .flow
        var limits = Listener<ReceivedFrames>.Limits()
        // All receivers have one address.
        limits.connections = max(limits.connections, options.receivers)
        limits.accounts.connections = options.receivers
        limits.accounts.beginningsPerSecond = options.receivers
        self.origin = SourceEndpoint(
            listen: listen, tls: server, limits: limits,
            server: FlowServer(
                flow: flow, log: memoryLog(retention: Retention(objects: 64, octets: 64 << 20)),
                configuration: configuration, seed: randomSeed(),
                wallClock: wallClock(), at: source.reactor.now),
            sender: sender, maxDatagramSize: options.packetSize, reactor: source.reactor, log: Self.quiet)
    }

    deinit {
        for receiver in audience { receiver.onEvent = { _ in } }
        audience = []
        receivers.reactor.close()
        source.reactor.close()
    }

    private static var quiet: Logger { Logger(label: "trial") { _ in SwiftLogNoOpLogHandler() } }

    private static func makeFlow(_ options: FanoutTrialOptions, origin: IPAddress, reactor: Reactor) -> FlowSource {
        var configuration = FlowConfiguration()
        configuration.packetSize = options.packetSize
        configuration.rateCeiling = options.rateCeiling
        configuration.rateFloor = min(configuration.rateFloor, configuration.rateCeiling)
        // All share one thread: the last of many waits long for its turn.
        configuration.memberTimeout = .seconds(600)
        configuration.floorPatience = .seconds(600)
        configuration.maximumUnsettledOctets = 256 << 20
        var random = randomSeed()
        guard let id = FlowID(random.octets(8)) else { preconditionFailure("eight octets make an ID") }
        return FlowSource(
            flowID: id,
            parameters: FlowParameters(
                source: origin, group: options.group.address, port: options.group.port, ackDelay: .milliseconds(25)),
            configuration: configuration, seed: SeededRandom(from: &random), at: reactor.now)
    }

    private static func makeSender(
        _ options: FanoutTrialOptions, origin: IPAddress, copySocket: UDPSocket?, reactor: Reactor
    ) throws -> FlowSender {
        if let copySocket {
            return FlowSender(packetSize: options.packetSize, copySocket: copySocket, reactor: reactor)
        }
        var udp = UDPOptions()
        udp.multicastInterface = options.interface
        let socket = try reactor.udpSocket(bind: SocketAddress(origin, port: 0), options: udp)
        return FlowSender(group: options.group, packetSize: options.packetSize, socket: socket, reactor: reactor)
    }

    // MARK: Connecting

    /// Connects all receivers and waits until they listen, if there is a flow to listen to.
    package func connect(within limit: Duration = .seconds(120)) throws {
        let end = Reactor.clock() + limit
        // A receiver knows of its connection before the source does.
        while ready < options.receivers || origin.counts.receivers < options.receivers {
            while audience.count < min(options.receivers, ready + Self.crowd) { try add() }
            turn()
            guard Reactor.clock() < end else {
                throw EndpointError(
                    "\(ready) of \(options.receivers) receivers are ready after \(limit); fewer may do, or another --io"
                )
            }
            guard closed == 0 else { throw EndpointError("a receiver's connection ended before it was ready") }
        }
    }

    private func add() throws {
        let receiver = try Receiver(
            to: address, serverName: "\(address.address)", tls: clientContext, usesFlow: way != .unicast,
            access: FlowAccess(interface: options.interface), assembler: ObjectAssembler(mode: .parts),
            reactor: receivers.reactor, log: Self.quiet)
        let index = audience.count
        audience.append(receiver)
        itemsOf.append(0)
        receiver.onEvent = { [unowned self] event in
            switch event {
            case .connected: if way == .unicast { ready += 1 }
            case .listening: ready += 1
            case .object: itemsOf[index] += 1
            case .part(let part): if part.completes { itemsOf[index] += 1 }
            case .fellBack: fallbacks += 1
            case .closed: closed += 1
            case .way, .returned, .log, .failed, .gap, .datagram: break
            }
        }
        receiver.start()
    }

    // MARK: Running

    /// What comes from now on is measured: the longest turn begins anew.
    package func begin() {
        for end in [source, receivers] { end.reactor.forgetLongestTurn() }
    }

    /// Publishes items one after the other until `deadline`, or until `packets` more have been delivered.
    package func run(packets: UInt64 = .max, until deadline: Instant) throws(LogError) {
        let start = delivered.packets
        while Reactor.clock() < deadline, delivered.packets - start < packets {
            let least = itemsOf.min() ?? 0
            if published - least < Self.window {
                published += 1
                try source.charge { () throws(LogError) in try origin.publish(item) }
            }
            turn()
        }
    }

    private func turn() {
        source.turn()
        receivers.turn()
    }

    /// Lets everybody be idle for so long.
    private func rest(for duration: Duration) {
        let end = Reactor.clock() + duration
        while Reactor.clock() < end { turn() }
    }

    /// What the source has sent, in totals: subtract two of them.
    package var sent: EndCounts { source.sending }
    /// What all receivers have received: each packet counts as often as it was delivered.
    package var delivered: EndCounts { receivers.receiving }
    /// Items that reached a receiver.
    package var itemsDelivered: Int { itemsOf.reduce(0, +) }

    // MARK: Memory

    /// Octets of heap that one receiver that is connected, a member of the flow if there is one, and idle costs the source.
    package static func idleMemory(_ way: FanoutWay, _ options: FanoutTrialOptions) throws -> Int {
        let trial = try FanoutTrial(way, options)
        let empty = Meters.heapOctets
        try trial.connect()
        // Handshakes end, and what they took is given back.
        trial.rest(for: .milliseconds(500))
        // Gone without a word: what is left is the source's.
        for receiver in trial.audience {
            receiver.onEvent = { _ in }
            receiver.release()
        }
        trial.audience = []
        return (Meters.heapOctets - empty) / options.receivers
    }
}
