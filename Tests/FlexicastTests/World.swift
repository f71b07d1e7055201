import Objects
import QUIC
import Wire

@testable import Flexicast

/// Sets of octet or packet number ranges, merged.
struct Ranges {
    private(set) var list: [Range<UInt64>] = []

    mutating func insert(_ range: Range<UInt64>) {
        guard !range.isEmpty else { return }
        var low = range.lowerBound
        var high = range.upperBound
        list.removeAll { old in
            guard old.upperBound >= low, old.lowerBound <= high else { return false }
            low = min(low, old.lowerBound)
            high = max(high, old.upperBound)
            return true
        }
        let place = list.firstIndex { $0.lowerBound > low } ?? list.count
        list.insert(low..<high, at: place)
    }

    var count: UInt64 { list.reduce(0) { $0 + UInt64($1.count) } }
    func covers(upTo end: UInt64) -> Bool { end == 0 || (list.count == 1 && list[0] == 0..<end) }
}

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

    struct Scheduled {
        var at: Instant
        var order: UInt64
        var event: Event
        func precedes(_ other: Scheduled) -> Bool { at < other.at || (at == other.at && order < other.order) }
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
    private var heap: [Scheduled] = []
    private var order: UInt64 = 0
    private var buffer = [UInt8](repeating: 0, count: 65_536)

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
            var next = min(server.nextDeadline, heap.first?.at ?? .distantFuture)
            for receiver in receivers where !receiver.isGone { next = min(next, receiver.client.nextDeadline) }
            guard next <= end else { break }
            if next > now { now = next }
            while let first = heap.first, first.at <= now {
                handle(pop().event)
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

    /// Runs until everybody has everything, or for `limit`; whether they have.
    @discardableResult
    func settle(limit: Duration = .seconds(30)) -> Bool {
        let end = now + limit
        while now < end {
            run(for: .milliseconds(100))
            if flow.isSettled, missing.isEmpty { return true }
        }
        return false
    }

    /// Streams that a receiver should have and has not.
    var missing: [String] {
        var out: [String] = []
        for receiver in receivers where !receiver.isGone {
            for stream in receiver.firstStream..<UInt64(published.count) {
                if !(receiver.streams[stream]?.isComplete ?? false) { out.append("r\(receiver.index) s\(stream)") }
            }
        }
        return out
    }

    /// Every receiver's deliveries are exactly once and charged exactly once.
    func check() {
        for receiver in receivers where !receiver.isGone {
            // What the flow has sent since is charged now.
            server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
            if Set(receiver.delivered).count != receiver.delivered.count { problems.append("delivered twice") }
            // It may have been given streams that began before it came, because it would hear parts of them.
            let expected = receiver.delivered.reduce(0) { $0 + UInt64(published[Int($1)].count) }
            let charged = receiver.charged + receiver.link.charged
            let streams = receiver.chargedStreams + receiver.link.chargedStreams
            if charged != expected { problems.append("r\(receiver.index) charged \(charged), not \(expected)") }
            if streams != UInt64(receiver.delivered.count) {
                problems.append("r\(receiver.index) charged \(streams) streams")
            }
            if let error = receiver.error { problems.append("r\(receiver.index): \(error)") }
        }
    }

    // MARK: Machinery

    private func jitter() -> Duration { .microseconds(Int64.random(in: 0...3000, using: &random)) }
    private func chance(_ probability: Double) -> Bool {
        probability > 0 && Double.random(in: 0..<1, using: &random) < probability
    }

    func schedule(_ event: Event, after delay: Duration) {
        heap.append(Scheduled(at: now + delay, order: order, event: event))
        order += 1
        var child = heap.count - 1
        while child > 0, heap[child].precedes(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private func pop() -> Scheduled {
        heap.swapAt(0, heap.count - 1)
        let top = heap.removeLast()
        var node = 0
        while true {
            var least = node
            for child in [2 * node + 1, 2 * node + 2] where child < heap.count && heap[child].precedes(heap[least]) {
                least = child
            }
            if least == node { return top }
            heap.swapAt(node, least)
            node = least
        }
    }

    private func handle(_ event: Event) {
        switch event {
        case .wake: break
        case .toReceiver(let index, let frame):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            do throws(TransportError) { _ = try World.deliver(frame, to: &receiver.client, at: now) } catch {
                receiver.link.error = error
            }
        case .toSource(let index, let frame):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            do throws(TransportError) { _ = try World.deliver(frame, to: &receiver.frames, at: now) } catch {
                receiver.link.error = error
            }
        case .acknowledgement(let index, let pathID, let ranges):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            do throws(TransportError) {
                try receiver.frames.pathAcknowledged(
                    pathID: pathID, ranges: ranges, ackDelay: .milliseconds(2), at: now)
            } catch { receiver.link.error = error }
        case .acknowledge(let index):
            let receiver = receivers[index]
            receiver.ackIsScheduled = false
            guard !receiver.isGone, let pathID = receiver.pathID, !receiver.opened.list.isEmpty else { return }
            let ranges = receiver.opened.list.suffix(32).reversed().map { $0.lowerBound...($0.upperBound - 1) }
            if chance(receiver.ackLoss) { return }
            schedule(.acknowledgement(index, pathID: pathID, ranges: ranges), after: latency + jitter())
        case .flow(let index, let packet, let number, let secret):
            let receiver = receivers[index]
            guard !receiver.isGone, receiver.isInGroup, !receiver.isCut else { return }
            receiver.client.heard(Self.flowID, count: 1, at: now)
            guard let generation = receiver.secrets.first(where: { $0.value == secret })?.key else {
                receiver.client.rejected(Self.flowID, at: now)
                return
            }
            let run = RunPlan(
                start: 0, packetSize: packet.count, end: packet.count, headerLength: 1 + Self.flowID.count,
                firstPacketNumber: number, keyGeneration: generation)
            guard case .path(let pathID) = receiver.client.admit(Self.flowID, run, at: now) else { return }
            _ = receiver.client.received(
                Self.flowID, pathID: pathID, run, in: packet.span, ecn: .notECT, on: &receiver.clientLink, at: now)
            if pathID != receiver.pathID { problems.append("path \(pathID)") }
            receiver.opened.insert(number..<(number + 1))
            read(packet, into: receiver)
            if !receiver.ackIsScheduled {
                receiver.ackIsScheduled = true
                schedule(.acknowledge(index), after: receiver.ackDelay)
            }
        case .unicast(let index, let stream, let range, let fin, let final):
            let receiver = receivers[index]
            guard !receiver.isGone else { return }
            take(receiver, stream: stream, range: range, final: fin ? UInt64(final) : nil, viaFlow: false)
        }
    }

    /// Hands a frame to a session as `Connection` would; how many octets it took.
    static func deliver(
        _ frame: [UInt8], to session: inout some FrameExtension, at now: Instant = Instant(nanoseconds: 1_000_000_000)
    ) throws(TransportError) -> Int? {
        var reader = ByteReader(frame.span)
        let type = reader.varint()!
        let body = frame.span.extracting(reader.offset..<frame.count)
        let used = try session.frameReceived(type: type, body: body, at: now)
        precondition(used == nil || used == body.count)
        return used
    }

    private func take(_ receiver: Receiver, stream: UInt64, range: Range<UInt64>, final: UInt64?, viaFlow: Bool) {
        var assembly = receiver.streams[stream] ?? Assembly()
        let was = assembly.isComplete
        assembly.got.insert(range)
        if let final { assembly.final = final }
        if viaFlow { assembly.viaFlow += UInt64(range.count) } else { assembly.viaUnicast += UInt64(range.count) }
        receiver.streams[stream] = assembly
        if assembly.isComplete, !was { receiver.delivered.append(stream) }
    }

    /// Reads the frames of a packet in the clear, and compares every octet.
    private func read(_ packet: [UInt8], into receiver: Receiver) {
        var reader = ByteReader(packet.span, at: 1 + Self.flowID.count + 4)
        while reader.remaining > CipherSuite.tagLength {
            let type = reader.uint8()!
            if type <= 1 { continue }  // PADDING, PING
            guard type & 0xf8 == 0x08 else {
                problems.append("frame \(type) on the flow")
                return
            }
            let id = StreamID(reader.varint()!)
            let offset = type & 0x04 != 0 ? reader.varint()! : 0
            // Without a length the frame takes the rest of the packet.
            let length = type & 0x02 != 0 ? reader.varint()! : UInt64(reader.remaining - CipherSuite.tagLength)
            let data = reader.array(Int(length))!
            guard id.initiator == .server, !id.isBidirectional, id.index < UInt64(published.count) else {
                problems.append("stream \(id)")
                return
            }
            let whole = published[Int(id.index)]
            if Array(whole[Int(offset)..<Int(offset + length)]) != data { problems.append("corrupt") }
            let fin = type & 0x01 != 0
            if fin, Int(offset + length) != whole.count { problems.append("fin before the end") }
            // What it could not process before its membership, its connection has been sent otherwise.
            take(
                receiver, stream: id.index, range: offset..<(offset + length), final: fin ? offset + length : nil,
                viaFlow: true)
        }
        if reader.remaining != CipherSuite.tagLength { problems.append("no room for the tag") }
    }

    /// Does everything that is to be done now.
    func pump() {
        var plans: [PacketPlan] = []
        repeat {
            server.flowWasPumped()
            for receiver in receivers where !receiver.isGone { serve(receiver) }
            server.settle(at: now)
            takeKeys()
            while let packet = transmit(&plans) { sendFlow(packet, plan: plans.removeLast()) }
            server.settle(at: now)
            if server.checksInvariants, let problem = server.checkInvariants() { problems.append(problem) }
            while let id = server.nextTouched() {
                if let receiver = receivers.first(where: { $0.id == id }) { serve(receiver) }
            }
        } while server.isFlowTouched
    }

    private func transmit(_ plans: inout [PacketPlan]) -> [UInt8]? {
        let used: Int
        do {
            var span = buffer.mutableSpan
            var writer = ByteWriter(&span)
            guard server.withFlow({ $0.transmit(into: &writer, plans: &plans, at: now) }) == true else { return nil }
            used = writer.offset
        }
        return Array(buffer[..<used])
    }

    private func takeKeys() {
        while let change = server.nextKeyChange() {
            switch change {
            case .install(let key): secretsAtSource[key.generation] = key.secret
            case .drop(let generation): secretsAtSource[generation] = nil
            }
        }
    }

    /// Both ends of a receiver's connection say what they have to.
    private func serve(_ receiver: Receiver) {
        server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
        for frame in receiver.link.takeFrames() {
            schedule(.toReceiver(receiver.index, frame: frame), after: latency + jitter())
        }
        for part in receiver.link.takeParts() {
            if part.bytes != published[Int(part.stream.index)] { problems.append("repair of another stream") }
            unicast(receiver, stream: part.stream.index, range: part.range, fin: part.fin, counted: part.counted)
        }
        receiver.client.serve(on: &receiver.clientLink, at: now)
        for frame in receiver.clientLink.takeFrames() {
            schedule(.toSource(receiver.index, frame: frame), after: latency + jitter())
        }
        while let action = receiver.client.nextAction() {
            switch action {
            case .open: receiver.isInGroup = true
            case .close: receiver.isInGroup = false
            case .installKey(_, let key): receiver.secrets[key.generation] = key.secret
            case .dropKey(_, let generation): receiver.secrets[generation] = nil
            case .returned: receiver.returns += 1
            case .fellBack(_, let reason): receiver.fallBacks.append(reason)
            case .listening, .openTunnel, .closeTunnel, .joinRefused, .joinUnanswered, .log, .object, .part, .failed,
                .gap, .end:
                break
            }
        }
    }

    private func sendFlow(_ packet: [UInt8], plan: PacketPlan) {
        let phase: UInt8 = packet[0] >> 2 & 1
        if UInt64(phase) != plan.keyGeneration & 1 { problems.append("key phase") }
        lastPacketLog.append((plan.packetNumber, packet.count, now))
        guard let secret = secretsAtSource[plan.keyGeneration] else {
            problems.append("sealing key \(plan.keyGeneration) not installed")
            return
        }
        for receiver in receivers where receiver.isInGroup && !receiver.isGone && !receiver.isCut {
            if chance(receiver.loss) { continue }
            schedule(
                .flow(receiver.index, packet: packet, number: plan.packetNumber, secret: secret),
                after: latency + .microseconds(Int64.random(in: 0...100, using: &random)))
        }
    }
}
