import Objects
import QUIC
import Wire

@testable import Flexicast

/// A `FlowServer` driven by hand: what receivers send comes when a test says so, and packets of the flow are kept.
final class SourceBench {
    final class Receiver {
        let index: Int
        var id: ReceiverID
        var link = StandInLink()
        var frames = ReceivedFrames()
        /// Of the FC_STATE frame that it sends next.
        var sequence: UInt64 = 0

        init(index: Int, id: ReceiverID) {
            self.index = index
            self.id = id
        }
    }

    var now = Instant(nanoseconds: 1_000_000_000)
    var server: FlowServer
    var receivers: [Receiver] = []
    private var buffer = [UInt8](repeating: 0, count: 2048)

    static let epoch = Epoch(high: 7, low: 7)
    /// Longer than the flow of the bench takes.
    static let longOctets = 20_000

    init(
        retention: Retention = Retention(), store: any LogStore = MemoryStore(epoch: SourceBench.epoch),
        memory: Int? = nil,
        service change: (inout FlowServerConfiguration) -> Void = { _ in }
    ) {
        var configuration = FlowConfiguration()
        configuration.initialRate = .max
        configuration.skipInterval = 1 << 40
        configuration.maximumStreamLength = 10_000
        // Each loss is repaired for the one that had it.
        configuration.flowRepairPercent = 1000
        var service = FlowServerConfiguration()
        change(&service)
        server = FlowServer(
            flow: FlowSource(
                flowID: World.flowID, parameters: World.parameters, configuration: configuration,
                seed: SeededRandom(seed: 5), at: now),
            log: try! ObjectLog(store, retention: retention, memory: memory),
            configuration: service, seed: SeededRandom(seed: 6), wallClock: WallTime(nanoseconds: 0), at: now)
        server.checksInvariants = true
    }

    func seat(_ receiver: Receiver) -> Seat { server.seats[receiver.id.slot] }

    func accept() -> Receiver {
        let receiver = Receiver(index: receivers.count, id: server.accept(at: now))
        receivers.append(receiver)
        return receiver
    }

    func connect() -> Receiver {
        let receiver = accept()
        handle(.connected, receiver)
        return receiver
    }

    /// The same for a receiver that says of itself what `link` does.
    func connect(_ link: StandInLink) -> Receiver {
        let receiver = accept()
        receiver.link = link
        handle(.connected, receiver)
        return receiver
    }

    func handle(_ event: ConnectionEvent, _ receiver: Receiver) {
        server.handle(event, of: receiver.id, on: &receiver.link, at: now)
    }

    func serve(_ receiver: Receiver) {
        server.serve(receiver.id, frames: &receiver.frames, on: &receiver.link, at: now)
    }

    func say(_ octets: [UInt8], _ receiver: Receiver, ends: Bool = false) {
        receiver.link.said = octets
        receiver.link.saysNoMore = ends
        handle(.streamReadable(.control), receiver)
        receiver.link.saysNoMore = false
    }

    func state(_ message: PositionMessage, _ receiver: Receiver) {
        say(try! ControlMessage.position(message).encoded(), receiver)
    }

    func stateNewest(_ receiver: Receiver) {
        state(PositionMessage(epoch: nil, cursor: Cursor(position: PositionMessage.newest)), receiver)
    }

    func send(_ action: StateFrame.Action, _ receiver: Receiver) {
        let frame = StateFrame(flowID: World.flowID, sequence: receiver.sequence, action: action)
        receiver.sequence += 1
        _ = try! World.deliver(frame.encoded, to: &receiver.frames, at: now)
        serve(receiver)
    }

    func acknowledge(_ ranges: [ClosedRange<UInt64>], path: UInt64 = 1, _ receiver: Receiver) {
        try! receiver.frames.pathAcknowledged(pathID: path, ranges: ranges, ackDelay: .zero, at: now)
        serve(receiver)
    }

    func makeMember(_ receiver: Receiver) {
        send(.join, receiver)
        send(.ready, receiver)
    }

    func publish(_ octets: Int, until end: Instant? = nil) {
        try! server.publish(body: [UInt8](repeating: 7, count: octets), until: end, at: now)
    }

    /// Writes the packets that may go now, and those that may go in the next while.
    func transmit() -> [(number: UInt64, packet: [UInt8])] {
        var packets: [(UInt64, [UInt8])] = []
        for _ in 0..<10 {
            server.settle(at: now)
            while server.nextKeyChange() != nil {}
            var plans: [PacketPlan] = []
            while true {
                var used = 0
                do {
                    var span = buffer.mutableSpan
                    var writer = ByteWriter(&span)
                    guard server.withFlow({ $0.transmit(into: &writer, plans: &plans, at: now) }) == true else { break }
                    used = writer.offset
                }
                packets.append((plans.removeLast().packetNumber, Array(buffer[..<used])))
            }
            server.settle(at: now)
            now += .milliseconds(2)
            if server.nextDeadline <= now { server.timerFired(at: now) }
        }
        return packets
    }

    /// The pieces of streams that a packet of the flow brings.
    static func pieces(of packet: [UInt8]) -> [(part: UInt64, range: Range<UInt64>)] { contents(of: packet).pieces }

    /// The datagrams that a packet of the flow brings.
    static func datagrams(of packet: [UInt8]) -> [[UInt8]] { contents(of: packet).datagrams }

    private static func contents(
        of packet: [UInt8]
    ) -> (pieces: [(part: UInt64, range: Range<UInt64>)], datagrams: [[UInt8]]) {
        var out: [(UInt64, Range<UInt64>)] = []
        var datagrams: [[UInt8]] = []
        var reader = ByteReader(packet.span, at: 1 + World.flowID.count + 4)
        while reader.remaining > CipherSuite.tagLength {
            let type = reader.uint8()!
            if type <= 1 { continue }  // PADDING, PING
            if type == 0x31 {
                datagrams.append(reader.array(Int(reader.varint()!))!)
                continue
            }
            let id = StreamID(reader.varint()!)
            let offset = type & 0x04 != 0 ? reader.varint()! : 0
            let length = type & 0x02 != 0 ? reader.varint()! : UInt64(reader.remaining - CipherSuite.tagLength)
            _ = reader.skip(Int(length))
            out.append((id.index, offset..<(offset + length)))
        }
        return (out, datagrams)
    }

    /// The numbers of the parts that the receiver's connection was handed whole since the last call.
    func takeWhole(_ receiver: Receiver) -> [UInt64] {
        receiver.link.takeParts().filter { $0.range.lowerBound == 0 && $0.fin }.map(\.stream.index)
    }
}
