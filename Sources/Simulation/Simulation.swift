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
    private var queue = EventQueue<Event>()
    private var random: SeededRandom
    private let sourceAddress = SocketAddress("192.0.2.1:443")!

    /// A source with a flow and no receivers.
    /// - Parameters:
    ///   - seed: what all chance comes from: the same seed and calls give the same run.
    ///   - configuration: how the source runs its flow.
    ///   - history: recent items that a new receiver is given first.
    public init(seed: UInt64, configuration: FlowConfiguration = FlowConfiguration(), history: Int = 0) {
        random = SeededRandom(seed: seed)
        let flow = FlowSource(
            flowID: FlowID(random.octets(8))!,
            parameters: FlowParameters(
                source: IPAddress("192.0.2.1")!, group: IPAddress("232.1.1.1")!, port: 4433, ackDelay: .zero),
            configuration: configuration, seed: SeededRandom(from: &random), at: now)
        var service = FlowServerConfiguration()
        service.history = history
        service.sendsDatagrams = true
        source = SimulatedSource(
            FlowServer(
                flow: flow, log: try! ObjectLog(MemoryStore(epoch: Epoch(from: &random))),
                configuration: service, seed: SeededRandom(from: &random), wallClock: Self.wallClock, at: now))
    }

    /// Connects a receiver. `usesFlow` false is an ordinary QUIC client.
    @discardableResult
    public func addReceiver(
        links: ReceiverLinks = ReceiverLinks(), usesFlow: Bool = true,
        configuration: ReceiverConfiguration = ReceiverConfiguration(),
        connection change: (inout ConnectionConfiguration) -> Void = { _ in }
    ) -> SimulatedReceiver {
        var wanted = ConnectionConfiguration.receiver(usesFlow: usesFlow)
        change(&wanted)
        let receiver = SimulatedReceiver(
            index: receivers.count, connection: wanted, configuration: configuration, flow: source.flow.flowID,
            links: links, source: sourceAddress, seed: &random, at: now)
        receivers.append(receiver)
        // It looks at every receiver after each event: in a crowd that would take longer than all else.
        source.server.checksInvariants = receivers.count <= Self.fewReceivers
        let server = Connection(
            server: .source(hasFlow: true), to: receiver.address, localID: ConnectionID(random.octets(8))!,
            clientID: receiver.connection.localConnectionIDs[0], original: receiver.connection.remoteID,
            retrySource: nil, addressValidated: true, resetToken: nil, seed: SeededRandom(from: &random), at: now)
        source.accept(server, at: now)
        pump(receiver.index)
        return receiver
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

    /// Has a receiver send a frame of the tester's making.
    public func send(_ frame: [UInt8], from receiver: SimulatedReceiver) {
        receiver.connection.sendExtensionFrame(frame, key: .max)
        pump(receiver.index)
    }

    /// Lets so much simulated time pass.
    public func run(for duration: Duration) {
        let end = now + duration
        while true {
            var next = min(queue.next, source.server.nextDeadline)
            for receiver in receivers { next = min(next, receiver.nextDeadline) }
            for peer in source.peers { next = min(next, peer.connection.nextDeadline) }
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
                let peer = source.peers[index]
                ClearTransport.receive(
                    datagram, from: receivers[index].address, into: &peer.connection, extension: &peer.frames, at: now)
                pumpPeer(index)
            case .toReceiver(let index, let datagram):
                receivers[index].receive(datagram, from: sourceAddress, at: now)
                pump(index)
            case .flow(let index, let packet, let secret):
                receivers[index].receiveFlow(packet, secret: secret, at: now)
                pump(index)
            }
        }
        for receiver in receivers where receiver.nextDeadline <= now {
            receiver.timerFired(at: now)
            pump(receiver.index)
        }
        for (index, peer) in source.peers.enumerated() where peer.connection.nextDeadline <= now {
            peer.connection.timerFired(at: now)
            pumpPeer(index)
        }
        if source.server.nextDeadline <= now { source.server.timerFired(at: now) }
        pumpSource()
    }

    /// Does what a receiver has to do now.
    private func pump(_ index: Int) {
        let receiver = receivers[index]
        receiver.drain(server: source.peers[index].connection.localParameters, at: now)
        while let datagram = ClearTransport.transmit(&receiver.connection, at: now) {
            for time in receiver.links.toSource.arrivals(of: datagram.bytes.count, at: now, random: &random) {
                queue.schedule(.toSource(index, datagram), at: time)
            }
        }
        receiver.drain(server: source.peers[index].connection.localParameters, at: now)
    }

    /// Does what the source has to do now: the flow, and connections that have something to send.
    private func pumpSource() {
        repeat {
            source.server.flowWasPumped()
            while let packet = source.transmitFlow(at: now) { send(packet) }
            source.server.settle(at: now)
            while let id = source.server.nextTouched() { pumpPeer(id.slot) }
        } while source.server.isFlowTouched
    }

    private func pumpPeer(_ index: Int) {
        let peer = source.peers[index]
        let parameters = receivers[index].connection.localParameters
        source.serve(index, client: parameters, at: now)
        while let datagram = ClearTransport.transmit(&peer.connection, at: now) {
            for time in receivers[index].links.fromSource.arrivals(of: datagram.bytes.count, at: now, random: &random) {
                queue.schedule(.toReceiver(index, datagram), at: time)
            }
        }
        source.serve(index, client: parameters, at: now)
    }

    private func send(_ packet: ClearDatagram) {
        guard let secret = source.secrets[packet.plans[0].keyGeneration] else {
            preconditionFailure("a packet under a key that was not installed")
        }
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
