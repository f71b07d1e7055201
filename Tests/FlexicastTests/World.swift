import Objects
import QUIC
import Simulation
import Wire

@testable import Flexicast

/// A virtual network with one flow and many receivers: the `FlowServer` and `FlowClient`s that production runs, with
/// packets in the clear and the rest of QUIC replaced by reliable, late channels.
final class World {
    enum Event {
        case toReceiver(Int, frame: [UInt8])
        case toSource(Int, frame: [UInt8])
        case acknowledgement(Int, pathID: UInt64, ranges: [ClosedRange<UInt64>])
        case acknowledge(Int)
        case flow(Int, packet: [UInt8], number: UInt64, secret: [UInt8])
        case unicast(Int, stream: UInt64, range: Range<UInt64>, fin: Bool, final: Int)
        case wake
    }

    struct Assembly {
        var got = Ranges()
        var final: UInt64?
        var viaFlow: UInt64 = 0
        var viaUnicast: UInt64 = 0
        var isComplete: Bool { final.map { got.covers(upTo: $0) } ?? false }
    }

    final class Receiver {
        let index: Int
        let id: ReceiverID
        var link: StandInLink
        var frames = ReceivedFrames()
        var client: FlowClient
        var clientLink = StandInClientLink()
        var loss = 0.0
        var ackLoss = 0.0
        var isCut = false
        var isGone = false
        var isInGroup = false
        var secrets: [UInt64: [UInt8]] = [:]
        var ackIsScheduled = false
        var opened = Ranges()
        var streams: [UInt64: Assembly] = [:]
        /// Delivered to the application, in order of completion.
        var delivered: [UInt64] = []
        let firstStream: UInt64
        var fallBacks: [FallBackReason] = []
        var returns = 0
        /// Octets and streams charged to its flow control by unicast.
        var charged: UInt64 = 0
        var chargedStreams: UInt64 = 0

        init(index: Int, id: ReceiverID, link: StandInLink, client: FlowClient, firstStream: UInt64) {
            self.index = index
            self.id = id
            self.link = link
            self.client = client
            self.firstStream = firstStream
        }

        var error: TransportError? { link.error }
        var ackDelay: Duration { clientLink.ackDelay }
        var pathID: UInt64? { clientLink.pathID }
        var state: ReceiverState { client.state(of: World.flowID) }
    }

    var now = Instant(nanoseconds: 1_000_000_000)
    var random: SeededRandom
    var server: FlowServer
    var flow: FlowSource { server.flow! }
    var receivers: [Receiver] = []
    var published: [[UInt8]] = []
    var secretsAtSource: [UInt64: [UInt8]] = [:]
    var lastPacketLog: [(number: UInt64, size: Int, at: Instant)] = []
    var latency = Duration.milliseconds(5)
    /// Octets each receiver grants in all; the world gives them as they are.
    var creditOctets: UInt64 = .max
    var receiverConfiguration = ReceiverConfiguration()
    var problems: [String] = []
    var queue = EventQueue<Event>()
    var buffer = [UInt8](repeating: 0, count: 65_536)

    static let flowID = FlowID([0xf1, 0, 0, 0, 0, 0, 0, 1])!
    static let parameters = FlowParameters(
        source: IPAddress("192.0.2.1")!, group: IPAddress("232.0.0.1")!, port: 5000, ackDelay: .milliseconds(5))

    init(seed: UInt64, configuration: FlowConfiguration = FlowConfiguration()) {
        random = SeededRandom(seed: seed)
        var service = FlowServerConfiguration()
        service.history = 0
        server = FlowServer(
            flow: FlowSource(
                flowID: Self.flowID, parameters: Self.parameters, configuration: configuration,
                seed: SeededRandom(seed: seed &+ 1000), at: now),
            log: try! ObjectLog(MemoryStore(epoch: Epoch(high: seed, low: 1))), configuration: service,
            seed: SeededRandom(seed: seed), wallClock: WallTime(nanoseconds: 0), at: now)
        server.checksInvariants = true
    }

    // MARK: Doing things

    @discardableResult
    func addReceiver(loss: Double = 0) -> Receiver {
        let index = receivers.count
        var client = FlowClientConfiguration()
        client.session = receiverConfiguration
        let receiver = Receiver(
            index: index, id: server.accept(at: now), link: StandInLink(creditOctets: creditOctets),
            client: FlowClient(configuration: client, seed: SeededRandom(seed: UInt64(index) + 77)),
            firstStream: flow.nextStream.index)
        receiver.loss = loss
        receivers.append(receiver)
        // It looks at every receiver after each event.
        server.checksInvariants = receivers.count <= 16
        receiver.client.handle(.connected, on: &receiver.clientLink, at: now)
        server.handle(.connected, of: receiver.id, on: &receiver.link, at: now)
        // It states where it is before anything else: nowhere, and wants what is new.
        receiver.link.said = try! ControlMessage.position(
            PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest))
        ).encoded()
        server.handle(.streamReadable(.control), of: receiver.id, on: &receiver.link, at: now)
        pump()
        return receiver
    }

    func disconnect(_ receiver: Receiver) {
        guard !receiver.isGone else { return }
        server.handle(.closed(.idleTimeout), of: receiver.id, on: &receiver.link, at: now)
        server.forget(receiver.id, at: now)
        receiver.isGone = true
        pump()
    }

    /// The member that the source takes the receiver for.
    func member(_ receiver: Receiver) -> MemberID? { server.slot(of: receiver.id).flatMap { server.seats[$0].member } }

    @discardableResult
    func publish(_ count: Int) -> UInt64 {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ published.count) }
        try! server.publish(body: bytes, at: now)
        // What is compared is the part's stream, prelude and all.
        guard case .part(let part) = server.log.part(at: server.log.next - 1) else { fatalError("no part") }
        published.append(part.stream)
        precondition(flow.nextStream.index == UInt64(published.count))
        pump()
        return UInt64(published.count - 1)
    }

    func unicast(_ receiver: Receiver, stream: UInt64, range: Range<UInt64>, fin: Bool, counted: Bool) {
        if counted {
            receiver.charged += UInt64(range.count)
            if range.lowerBound == 0 { receiver.chargedStreams += 1 }
        }
        schedule(
            .unicast(receiver.index, stream: stream, range: range, fin: fin, final: published[Int(stream)].count),
            after: latency + jitter())
    }

    func run(for duration: Duration) { run(until: now + duration) }

    func run(until end: Instant) {
        var turns = 0
        var turnsAt = now
        while true {
            // A deadline that passes without effect would keep a real event loop busy as well.
            turns = turnsAt == now ? turns + 1 : 0
            turnsAt = now
            precondition(turns < 1000, "the clock stands still: server \(server.nextDeadline) of \(now)")
            var next = min(server.nextDeadline, queue.next)
            for receiver in receivers where !receiver.isGone { next = min(next, receiver.client.nextDeadline) }
            guard next <= end else { break }
            if next > now { now = next }
            while let event = queue.take(at: now) {
                handle(event)
                pump()
            }
            if server.nextDeadline <= now { server.timerFired(at: now) }
            for receiver in receivers where !receiver.isGone && receiver.client.nextDeadline <= now {
                receiver.client.timerFired(at: now)
            }
            pump()
        }
        now = end
    }
}
