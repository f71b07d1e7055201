import Flexicast
import Objects
import QUIC
import Wire

/// A source and its receivers on a simulated network and a virtual clock: the machines that run in production, with packets
/// in the clear and every loss, delay and random number drawn from one seed. The same seed gives the same run.
public final class Simulation {
    private enum Event: Sendable {
        case toSource(Int, ClearDatagram)
        case toReceiver(Int, ClearDatagram)
        case flow(Int, ClearDatagram, secret: [UInt8])
        /// To all receivers on a branch.
        case branch(Int, ClearDatagram, secret: [UInt8])
        /// A stateless reset arrives at a receiver.
        case reset(Int)
        /// A receiver, or the source's end of its connection, may have something to do because time has passed.
        case receiverDue(Int)
        case peerDue(Int)
    }

    /// The simulated time. It begins a second after the clock's start.
    public private(set) var now = Instant(nanoseconds: 1_000_000_000)
    /// The one source.
    public let source: SimulatedSource
    /// In the order in which they were connected.
    public private(set) var receivers: [SimulatedReceiver] = []
    /// Every item so far, by stream.
    public private(set) var published: [(stream: StreamID, bytes: [UInt8])] = []

    /// In a simulation of as many, debug builds check after each event at the source that what always holds does.
    private static let fewReceivers = 16
    /// Noon of a day, at the beginning.
    private static let wallClock = WallTime(nanoseconds: 1_800_000_000_000_000_000)
    private let resetDelay = Duration.milliseconds(10)
    private var queue = EventQueue<Event>()
    private var room = [UInt8](repeating: 0, count: 1600)
    /// When the event comes by which each of them is looked at next, so that nobody else need be. Events of other times have
    /// been overtaken by an earlier one.
    private var receiverWakes: [Instant] = []
    private var peerWakes: [Instant] = []
    private var random: SeededRandom
    private let sourceAddress = SocketAddress("192.0.2.1:443")!
    private let configuration: FlowConfiguration
    private let service: FlowServerConfiguration
    private let store: SimulatedStore
    /// The branches of the multicast tree; receivers that are on none have a link of their own for the flow.
    public private(set) var branches: [Branch] = []
    /// What happened so far, in one number: runs with the same seed have the same.
    public private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325
    /// Datagrams that arrived.
    public private(set) var deliveries: UInt64 = 0

    /// A source with a flow and no receivers.
    /// - Parameters:
    ///   - seed: what all chance comes from: the same seed and calls give the same run.
    ///   - configuration: how the source runs its flow.
    ///   - history: recent items that a new receiver is given first.
    public init(seed: UInt64, configuration: FlowConfiguration = FlowConfiguration(), history: Int = 0) {
        random = SeededRandom(seed: seed)
        self.configuration = configuration
        var service = FlowServerConfiguration()
        service.history = history
        service.sendsDatagrams = true
        self.service = service
        store = SimulatedStore(epoch: Epoch(from: &random))
        source = SimulatedSource(
            Self.server(configuration, service, store, random: &random, wallClock: Self.wallClock, at: now))
    }

    private static func server(
        _ configuration: FlowConfiguration, _ service: FlowServerConfiguration, _ store: SimulatedStore,
        random: inout SeededRandom, wallClock: WallTime, at now: Instant
    ) -> FlowServer {
        let log: ObjectLog
        do { log = try ObjectLog(store) } catch { preconditionFailure("the log cannot be opened: \(error)") }
        let flow = FlowSource(
            flowID: FlowID(random.octets(8))!,
            parameters: FlowParameters(
                source: IPAddress("192.0.2.1")!, group: IPAddress("232.1.1.1")!, port: 4433, ackDelay: .zero),
            configuration: configuration, firstStream: log.next, seed: SeededRandom(from: &random), at: now)
        return FlowServer(
            flow: flow, log: log, configuration: service, seed: SeededRandom(from: &random), wallClock: wallClock,
            at: now)
    }

    /// The source's process ends, and another begins with the same log: all its connections are gone.
    public func restartSource() {
        let wallClock = source.server.wallTime(at: now)
        source.restart(Self.server(configuration, service, store, random: &random, wallClock: wallClock, at: now))
        source.server.checksInvariants = receivers.count <= Self.fewReceivers
        for receiver in receivers { receiver.flow = source.flow.flowID }
    }

    /// Adds a branch of the multicast tree, which receivers can be put on.
    public func addBranch(_ branch: Branch) { branches.append(branch) }

    /// Connects a receiver. `usesFlow` false is an ordinary QUIC client.
    @discardableResult
    public func addReceiver(
        links: ReceiverLinks = ReceiverLinks(), usesFlow: Bool = true,
        configuration: ReceiverConfiguration = ReceiverConfiguration(),
        branch: Int? = nil, connection change: (inout ConnectionConfiguration) -> Void = { _ in }
    ) -> SimulatedReceiver {
        var wanted = ConnectionConfiguration.receiver(usesFlow: usesFlow)
        change(&wanted)
        let receiver = SimulatedReceiver(
            index: receivers.count, connection: wanted, configuration: configuration, flow: source.flow.flowID,
            links: links, source: sourceAddress, seed: &random, at: now)
        receivers.append(receiver)
        receiverWakes.append(.distantFuture)
        peerWakes.append(.distantFuture)
        // It looks at every receiver after each event: in a crowd that would take longer than all else.
        source.server.checksInvariants = receivers.count <= Self.fewReceivers
        if let branch {
            receiver.branch = branch
            branches[branch].receivers.append(receiver.index)
        }
        accept(receiver)
        return receiver
    }

    /// The source's end of a connection that a receiver begins.
    private func accept(_ receiver: SimulatedReceiver) {
        let server = Connection(
            server: .source(hasFlow: true), to: receiver.address, localID: ConnectionID(random.octets(8))!,
            clientID: receiver.connection.localConnectionIDs[0], original: receiver.connection.remoteID,
            retrySource: nil, addressValidated: true, resetToken: nil, seed: SeededRandom(from: &random), at: now)
        receiver.serverParameters = server.localParameters
        source.accept(server, of: receiver.index, at: now)
        pump(receiver.index)
    }

    /// A receiver whose connection has ended begins another.
    public func reconnect(_ receiver: SimulatedReceiver) {
        if let peer = source.peers[receiver.index] {
            // The source has not noticed yet, and has two for one address until it does; here it forgets at once.
            source.server.forget(peer.id, at: now)
            source.peers[receiver.index] = nil
        }
        receiver.reconnect(to: sourceAddress, at: now)
        accept(receiver)
    }

    /// A receiver goes for good: it closes its connection, or just is not there any more.
    public func remove(_ receiver: SimulatedReceiver, closes: Bool) {
        receiver.ended = nil
        if closes {
            receiver.connection.close(applicationCode: 0, at: now)
            pump(receiver.index)
        }
        receiver.isGone = true
    }

    /// Publishes an item and returns its stream on the flow. `lifetime`: what is not there after so long does not come.
    @discardableResult
    public func publish(_ bytes: [UInt8], lifetime: Duration? = nil) -> StreamID {
        let stream = source.flow.nextStream
        do {
            try source.server.publish(body: bytes, until: lifetime.map { now + $0 }, at: now)
        } catch { preconditionFailure("an item was not published: \(error)") }
        published.append((stream, bytes))
        pumpSource()
        return stream
    }

    /// Sends a datagram to everybody.
    public func sendDatagram(_ bytes: [UInt8]) {
        do { try source.server.sendDatagram(bytes, at: now) } catch { preconditionFailure("\(error)") }
        pumpSource()
    }

    /// A branch of the tree carries nothing, or carries again.
    public func cut(branch: Int, _ isCut: Bool) { branches[branch].link.isCut = isCut }

    /// A receiver leaves the flow by its user's wish; `join` undoes it.
    public func leave(_ receiver: SimulatedReceiver) {
        receiver.leaveFlow(at: now)
        pump(receiver.index)
    }

    /// A receiver joins the flow by its user's wish, after `leave`.
    public func join(_ receiver: SimulatedReceiver) {
        receiver.joinFlow(at: now)
        pump(receiver.index)
    }

    /// Has a receiver send a frame of the tester's making.
    public func send(_ frame: [UInt8], from receiver: SimulatedReceiver) {
        receiver.connection.sendExtensionFrame(frame, key: .max)
        pump(receiver.index)
    }

    /// Lets so much simulated time pass.
    public func run(for duration: Duration) {
        let end = now + duration
        // The tester may have changed anything since.
        for index in receivers.indices {
            wakeReceiver(index)
            wakePeer(index)
        }
        advance(to: end)
    }

    /// Lets time pass, where nobody has changed anything but by what is below.
    func advance(to end: Instant) {
        while true {
            let next = min(queue.next, source.nextDeadline)
            guard next <= end else { break }
            // A deadline in the past means "now"; the clock never stands still, or a mistake would hang the run.
            now = max(next, now + .microseconds(1))
            step()
        }
        now = max(now, end)
    }

    /// Runs until `done`, or for `limit`; whether it was done.
    @discardableResult
    public func run(limit: Duration = .seconds(60), until done: () -> Bool) -> Bool {
        let end = now + limit
        while now < end {
            if done() { return true }
            run(for: .milliseconds(50))
        }
        return done()
    }

    private func step() {
        while let event = queue.take(at: now) {
            switch event {
            case .toSource(let index, let datagram):
                // A source that knows nothing of the connection answers with a stateless reset (RFC 9000 section 10.3).
                guard let peer = source.peers[index] else {
                    if !receivers[index].isGone { queue.schedule(.reset(index), at: now + resetDelay) }
                    continue
                }
                ClearTransport.receive(
                    datagram, from: receivers[index].address, into: &peer.connection, extension: &peer.frames, at: now)
                pumpPeer(index)
            case .reset(let index):
                // It may be another connection's by now; a token would tell.
                guard source.peers[index] == nil else { continue }
                receivers[index].connection.statelessResetReceived(at: now)
                pump(index)
            case .toReceiver(let index, let datagram):
                guard !receivers[index].isGone, datagram.to == receivers[index].address else { continue }
                note(index, datagram)
                receivers[index].receive(datagram, from: sourceAddress, at: now)
                pump(index)
            case .flow(let index, let packet, let secret): deliver(packet, secret, to: index)
            case .branch(let branch, let packet, let secret):
                for index in branches[branch].receivers
                where receivers[index].isInGroup && !receivers[index].links.flow.loses(&random) {
                    deliver(packet, secret, to: index)
                }
            case .receiverDue(let index):
                guard receiverWakes[index] <= now else { continue }
                receiverWakes[index] = .distantFuture
                if receivers[index].nextDeadline <= now {
                    receivers[index].timerFired(at: now)
                    pump(index)
                } else {
                    wakeReceiver(index)
                }
            case .peerDue(let index):
                guard peerWakes[index] <= now else { continue }
                peerWakes[index] = .distantFuture
                guard let peer = source.peers[index] else { continue }
                if peer.connection.nextDeadline <= now {
                    peer.connection.timerFired(at: now)
                    pumpPeer(index)
                } else {
                    wakePeer(index)
                }
            }
        }
        if source.nextDeadline <= now { source.server.timerFired(at: now) }
        pumpSource()
    }

    private func deliver(_ packet: ClearDatagram, _ secret: [UInt8], to index: Int) {
        guard !receivers[index].isGone else { return }
        note(index, packet)
        receivers[index].receiveFlow(packet, secret: secret, at: now)
        pump(index)
    }

    /// A datagram has arrived.
    private func note(_ index: Int, _ datagram: ClearDatagram) {
        deliveries += 1
        for value in [UInt64(bitPattern: now.nanoseconds), UInt64(index), UInt64(datagram.bytes.count)] {
            digest = (digest ^ value) &* 0x100_0000_01b3
        }
    }

    /// Does what a receiver has to do now.
    private func pump(_ index: Int) {
        let receiver = receivers[index]
        guard !receiver.isGone else { return }
        receiver.drain(at: now)
        while let datagram = ClearTransport.transmit(&receiver.connection, room: &room, at: now) {
            for time in receiver.links.toSource.arrivals(of: datagram.bytes.count, at: now, random: &random) {
                queue.schedule(.toSource(index, datagram), at: time)
            }
        }
        receiver.drain(at: now)
        wakeReceiver(index)
    }

    /// Has the receiver looked at when its next deadline comes, not in this turn.
    private func wakeReceiver(_ index: Int) {
        let due = max(receivers[index].nextDeadline, now + .microseconds(1))
        guard due < receiverWakes[index] else { return }
        receiverWakes[index] = due
        queue.schedule(.receiverDue(index), at: due)
    }

    private func wakePeer(_ index: Int) {
        guard let peer = source.peers[index] else { return }
        let due = max(peer.connection.nextDeadline, now + .microseconds(1))
        guard due < peerWakes[index] else { return }
        peerWakes[index] = due
        queue.schedule(.peerDue(index), at: due)
    }

    /// Does what the source has to do now: the flow, and connections that have something to send.
    private func pumpSource() {
        repeat {
            source.server.flowWasPumped()
            while let packet = source.transmitFlow(at: now) { send(packet) }
            source.server.settle(at: now)
            while let index = source.nextTouched() { pumpPeer(index) }
        } while source.server.isFlowTouched
    }

    private func pumpPeer(_ index: Int) {
        guard let peer = source.peers[index] else { return }
        let parameters = receivers[index].connection.localParameters
        source.serve(index, client: parameters, at: now)
        while let datagram = ClearTransport.transmit(&peer.connection, room: &room, at: now) {
            for time in receivers[index].links.fromSource.arrivals(of: datagram.bytes.count, at: now, random: &random) {
                queue.schedule(.toReceiver(index, datagram), at: time)
            }
        }
        source.serve(index, client: parameters, at: now)
        wakePeer(index)
    }

    private func send(_ packet: ClearDatagram) {
        guard let secret = source.secrets[packet.plans[0].keyGeneration] else {
            preconditionFailure("a packet under a key that was not installed")
        }
        for branch in branches.indices {
            for time in branches[branch].link.arrivals(
                of: packet.bytes.count, flowPacket: packet.plans[0].packetNumber, at: now, random: &random)
            {
                queue.schedule(.branch(branch, packet, secret: secret), at: time)
            }
        }
        guard branches.isEmpty else { return }
        for (index, receiver) in receivers.enumerated() where receiver.isInGroup {
            for time in receiver.links.flow.arrivals(
                of: packet.bytes.count, flowPacket: packet.plans[0].packetNumber, at: now, random: &random)
            {
                queue.schedule(.flow(index, packet, secret: secret), at: time)
            }
        }
    }

    // MARK: Judgement

    /// What is wrong with what a receiver has read: items from stream `first` on that are missing, doubled or corrupt.
    public func faults(of receiver: SimulatedReceiver, from first: StreamID = StreamID(0)) -> [String] {
        var seen: [StreamID: Int] = [:]
        var faults: [String] = []
        let expected = Dictionary(uniqueKeysWithValues: published.map { ($0.stream, $0.bytes) })
        for item in receiver.items {
            seen[item.stream, default: 0] += 1
            guard let bytes = expected[item.stream] else {
                faults.append("stream \(item.stream.rawValue) was never published")
                continue
            }
            if bytes != item.bytes { faults.append("stream \(item.stream.rawValue) is corrupt") }
        }
        for (stream, count) in seen where count > 1 { faults.append("stream \(stream.rawValue) came \(count) times") }
        for item in published where item.stream >= first && seen[item.stream] == nil {
            faults.append("stream \(item.stream.rawValue) is missing")
        }
        if let reason = receiver.closed { faults.append("closed: \(reason)") }
        return faults
    }
}
