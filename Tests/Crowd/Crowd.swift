import Cryptography
import Flexicast
import Foundation
import Objects
import QUIC
import Reactor
import TestShims
import Wire

/// What a source keeps for receivers that take nothing, on a virtual clock: the service and the connections of production,
/// keys and TLS included, and receivers of which nothing is left after the handshake but a PING every ten seconds, and of
/// every other one acknowledgements of what is not published.
///
///     Crowd RECEIVERS SECONDS OBJECTS [KIND]
///
/// KIND, 0 to 15, has all of them be alike: 1 speaks of no flows, 2 states no position, 4 grants no credit, 8 acknowledges
/// nothing at all. Without it each combination occurs equally often.
/// Publishes OBJECTS objects, evenly over SECONDS seconds, and prints one line of JSON: octets of heap in use when nobody
/// has come yet, with all of them connected, after SECONDS seconds, and when they have gone. Resident memory likewise, of
/// what the heap can give back.
@main final class Crowd {
    static func main() throws {
        let numbers = CommandLine.arguments.dropFirst().compactMap { Int($0) }
        guard (3...4).contains(numbers.count) else { fatalError("Crowd RECEIVERS SECONDS OBJECTS [KIND]") }
        let crowd = try Crowd(kind: numbers.count == 4 ? numbers[3] : nil)
        // What a first connection leaves behind is the process's, not a receiver's.
        try crowd.connect(0)
        crowd.leave()
        var report = CrowdReport(receivers: numbers[0], seconds: numbers[1], objects: numbers[2])
        report.before = .now
        for number in 0..<numbers[0] { try crowd.connect(number) }
        crowd.run(for: .seconds(2), objects: 0)
        report.connected = .now
        crowd.run(for: .seconds(Int64(numbers[1])), objects: numbers[2])
        report.after = .now
        report.stillConnected = crowd.server.receiverCount
        report.inFlight = crowd.ends.values.reduce(0) { $0 + $1.connection.machine.bytesInFlight }
        crowd.leave()
        report.gone = .now
        report.leftBehind = crowd.server.receiverCount
        let line = try JSONEncoder().encode(report)
        FileHandle.standardOutput.write(line + Data("\n".utf8))
    }

    private final class Run {
        var server: FlowServer
        var now = Instant(nanoseconds: 1_000_000_000)
        var ends: [Int: End] = [:]
        var random = SeededRandom(seed: 20_000)

        init(_ server: FlowServer) { self.server = server }
    }

    /// The source's end of a receiver's connection.
    private final class End {
        let connection: SecureConnection
        let id: ReceiverID
        let address: SocketAddress
        var frames = ReceivedFrames()
        var nextPing = Instant.distantFuture
        /// When time alone brings something about.
        var due = Instant(nanoseconds: 0)
        var nextPacketNumber: UInt64 = 1000
        var isDrained = false
        /// Numbers of packets without stream data that the receiver will acknowledge.
        var acknowledgeable: [UInt64] = []
        /// Of the datagram being written.
        fileprivate var written: [UInt64] = []

        init(_ connection: SecureConnection, id: ReceiverID, address: SocketAddress) {
            self.connection = connection
            self.id = id
            self.address = address
        }
    }

    private let run: Run
    private let kind: Int?
    private var buffer = [UInt8](repeating: 0, count: 2048)
    private let serverTLS: TLSContext
    private let clientTLS: TLSContext
    private let admission: Admission
    private static let source = SocketAddress("192.0.2.1:4433")!
    private static let name = "source.test"
    private static let tick = Duration.milliseconds(100)
    private static let pingInterval = Duration.seconds(10)

    private init(kind: Int?) throws {
        self.kind = kind
        var random = SeededRandom(seed: 1)
        let now = Instant(nanoseconds: 1_000_000_000)
        serverTLS = try TLSContext.server(selfSignedFor: [Self.name], alpn: ["flexicast/2"])
        clientTLS = try TLSContext.client(trust: .none, alpn: ["flexicast/2"])
        admission = Admission(random: SeededRandom(from: &random), at: now)
        let flow = FlowSource(
            flowID: FlowID(random.octets(8))!,
            parameters: FlowParameters(
                source: IPAddress("192.0.2.1")!, group: IPAddress("232.1.1.1")!, port: 4477, ackDelay: .zero),
            seed: SeededRandom(from: &random), at: now)
        run = Run(
            FlowServer(
                flow: flow, log: try ObjectLog(MemoryStore(epoch: Epoch(from: &random))),
                seed: SeededRandom(from: &random), wallClock: WallTime(nanoseconds: 1_800_000_000_000_000_000), at: now)
        )
    }

    private var server: FlowServer { run.server }
    private var ends: [Int: End] { run.ends }

    // MARK: Coming

    /// Who a receiver is: every combination of these occurs alike often.
    private struct Kind {
        var speaksOfFlows: Bool
        var statesPosition: Bool
        var grantsCredit: Bool
        /// Acknowledges whatever carries no stream data, so that the source takes it for slow and not for gone.
        var acknowledgesRest: Bool

        init(_ number: Int) {
            speaksOfFlows = number & 1 == 0
            statesPosition = number & 2 == 0
            grantsCredit = number & 4 == 0
            acknowledgesRest = number & 8 == 0
        }

        var configuration: ConnectionConfiguration {
            .receiver(
                usesFlow: speaksOfFlows, grant: grantsCredit ? ReceiverGrant() : ReceiverGrant(octets: 0, streams: 0))
        }
    }

    /// A receiver shakes hands, says where it is if it does, and is silent from then on.
    private func connect(_ number: Int) throws {
        let kind = Kind(kind ?? number)
        let address = SocketAddress(.v4(0x0a00_0001 + UInt32(number)), port: 5000)
        let client = try SecureConnection(
            client: kind.configuration, tls: clientTLS, serverName: Self.name, to: Self.source,
            localID: ConnectionID(run.random.octets(8))!, seed: SeededRandom(from: &run.random), at: run.now)
        // It is told of the flow, and does not join it.
        var session = ReceiverSession(
            isNegotiated: kind.speaksOfFlows, maximumPathID: 16, seed: SeededRandom(from: &run.random))
        var buffer = [UInt8](repeating: 0, count: 2048)
        var end: End?
        var hasSpoken = !kind.statesPosition
        var quiet = 0
        for _ in 0..<64 where quiet < 4 {
            run.now += .milliseconds(1)
            quiet += 1
            while let count = transmit(client, into: &buffer) {
                quiet = 0
                if end == nil { end = try accept(Array(buffer[..<count]), from: address) }
                if let end {
                    var room = buffer.mutableSpan
                    var datagram = room._mutatingExtracting(0..<count)
                    end.connection.receive(
                        &datagram, from: address, to: Self.source, ecn: .notECT, at: run.now, extension: &end.frames)
                }
            }
            guard let end else { continue }
            serve(end)
            while let count = transmit(end.connection, into: &buffer) {
                quiet = 0
                var room = buffer.mutableSpan
                var datagram = room._mutatingExtracting(0..<count)
                client.receive(
                    &datagram, from: Self.source, to: address, ecn: .notECT, at: run.now, extension: &session)
            }
            serve(end)
            while client.nextEvent(at: run.now) != nil {}
            if !hasSpoken, client.machine.isHandshakeConfirmed {
                hasSpoken = true
                quiet = 0
                let position = PositionMessage(epoch: nil, cursor: Cursor(position: 0))
                let control = try client.machine.openStream(bidirectional: true)
                try client.machine.write(control, ControlMessage.position(position).encoded(), fin: false)
            }
        }
        guard let end, end.connection.machine.isHandshakeConfirmed, client.machine.isHandshakeConfirmed else {
            fatalError("receiver \(number) did not connect")
        }
        end.nextPing = run.now + Self.pingInterval
        end.nextPacketNumber = (end.connection.machine.largestReceived(.application) ?? 0) + 1
        if kind.acknowledgesRest {
            end.connection.onPacket = { [unowned end] packet, _ in
                if packet.isSent, packet.level == .application { end.written.append(packet.packetNumber) }
            }
        }
        run.ends[end.id.slot] = end
    }

    private func accept(_ datagram: [UInt8], from address: SocketAddress) throws -> End {
        guard case .admit(let admitted) = admission.judge(datagram.span, from: address, at: run.now) else {
            fatalError("a receiver is not let in")
        }
        let (id, resetToken) = admission.newConnectionID()
        let connection = try SecureConnection(
            server: .source(hasFlow: true), tls: serverTLS, admitted: admitted, localID: id, resetToken: resetToken,
            seed: SeededRandom(from: &run.random), at: run.now)
        return End(connection, id: run.server.accept(at: run.now), address: address)
    }

    // MARK: Being there

    /// Publishes so many objects, evenly over the time.
    private func run(for duration: Duration, objects: Int) {
        let begin = run.now
        let ticks = Int(duration / Self.tick)
        var published = 0
        for tick in 1...max(1, ticks) {
            run.now = begin + Self.tick * tick
            while published < objects * tick / max(1, ticks) {
                published += 1
                do {
                    try run.server.publish(
                        name: "object \(published)", body: run.random.octets(2000), at: run.now)
                } catch { fatalError("object \(published) was not published: \(error)") }
            }
            step()
        }
    }

    private func step() {
        let due = run.ends.values.filter { $0.due <= run.now || !$0.acknowledgeable.isEmpty }
        for end in due {
            if end.nextPing <= run.now { ping(end) }
            if !end.acknowledgeable.isEmpty { acknowledge(end) }
            if end.connection.nextDeadline <= run.now { end.connection.timerFired(at: run.now) }
            pump(end)
        }
        if run.server.nextDeadline <= run.now { run.server.timerFired(at: run.now) }
        repeat {
            run.server.flowWasPumped()
            run.server.settle(at: run.now)
            sendFlow()
            run.server.settle(at: run.now)
            while let id = run.server.nextTouched() { if let end = run.ends[id.slot] { pump(end) } }
        } while run.server.isFlowTouched
        while run.server.nextNotice() != nil {}
        run.server.wallClockIs(run.server.wallTime(at: run.now), at: run.now)
    }

    /// Nobody hears the flow.
    private func sendFlow() {
        while run.server.nextKeyChange() != nil {}
        var bytes = [UInt8](repeating: 0, count: 1500)
        var plans: [PacketPlan] = []
        var isSent = true
        while isSent {
            plans.removeAll(keepingCapacity: true)
            var span = bytes.mutableSpan
            var writer = ByteWriter(&span)
            isSent = run.server.withFlow { $0.transmit(into: &writer, plans: &plans, at: run.now) } ?? false
        }
    }

    /// A packet with nothing but a PING arrives.
    private func ping(_ end: End) {
        end.nextPing = run.now + Self.pingInterval
        receive([1], end)
    }

    /// A packet arrives that acknowledges those that carried no stream data, a tick after they were sent.
    private func acknowledge(_ end: End) {
        var ranges = RangeSet()
        for number in end.acknowledgeable { ranges.insert(number...number) }
        end.acknowledgeable.removeAll()
        guard let newest = ranges.last else { return }
        // RFC 9000 section 19.3: from the newest down, each with what lies between.
        var payload = [UInt8](repeating: 0, count: 64 + 16 * ranges.count)
        var span = payload.mutableSpan
        var writer = ByteWriter(&span)
        writer.uint8(2)
        writer.varint(newest.upperBound)
        writer.varint(0)
        writer.varint(UInt64(ranges.count - 1))
        writer.varint(newest.upperBound - newest.lowerBound)
        for index in stride(from: ranges.count - 2, through: 0, by: -1) {
            writer.varint(ranges[index + 1].lowerBound - ranges[index].upperBound - 2)
            writer.varint(ranges[index].upperBound - ranges[index].lowerBound)
        }
        let length = writer.offset
        payload.removeLast(payload.count - length)
        receive(payload, end)
    }

    private func receive(_ payload: [UInt8], _ end: End) {
        guard end.nextPing < .distantFuture, let destination = end.connection.machine.localConnectionIDs.last else {
            return
        }
        let packet = ReceivedPacket(
            level: .application, packetNumber: end.nextPacketNumber, destination: destination, from: end.address,
            to: Self.source)
        end.nextPacketNumber += 1
        end.connection.machine.datagramReceived(octets: 40, from: end.address, at: run.now)
        end.connection.machine.packetReceived(packet, payload: payload.span, at: run.now, extension: &end.frames)
    }

    private func serve(_ end: End) {
        while let event = end.connection.nextEvent(at: run.now) {
            switch event {
            case .connectionIDsWanted(let count):
                for _ in 0..<count {
                    let (id, token) = admission.newConnectionID()
                    end.connection.machine.provideConnectionID(id, resetToken: token)
                }
            case .drained: end.isDrained = true
            default: break
            }
            run.server.handle(event, of: end.id, on: &end.connection.machine, at: run.now)
        }
        run.server.serve(end.id, frames: &end.frames, on: &end.connection.machine, at: run.now)
    }

    private func pump(_ end: End) {
        serve(end)
        var withStreams = end.connection.machine.statistics.octetsSentWithStreams
        while transmit(end.connection, into: &buffer) != nil {
            let now = end.connection.machine.statistics.octetsSentWithStreams
            if now == withStreams { end.acknowledgeable += end.written }
            withStreams = now
            end.written.removeAll(keepingCapacity: true)
        }
        serve(end)
        end.due = min(end.nextPing, end.connection.nextDeadline)
    }

    private func transmit(_ connection: SecureConnection, into buffer: inout [UInt8]) -> Int? {
        var span = buffer.mutableSpan
        return connection.transmit(into: &span, at: run.now)?.count
    }

    // MARK: Going

    /// Nobody is heard of any more, until the last connection has been given up.
    private func leave() {
        for end in run.ends.values { end.nextPing = .distantFuture }
        for _ in 0..<600 where !run.ends.isEmpty {
            run.now += .seconds(1)
            step()
            for (slot, end) in run.ends where end.connection.machine.isDrained {
                run.ends[slot] = nil
                run.server.forget(end.id, at: run.now)
            }
        }
        run.ends = [:]
    }
}

/// What `Crowd` prints.
struct CrowdReport: Codable, Sendable {
    struct Memory: Codable, Sendable {
        /// Octets of heap in use, and resident.
        var heap = 0
        var resident = 0

        static var now: Memory {
            var memory = Memory()
            memory.heap = Meters.heapOctets
            ts_trim_heap()
            let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
            let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            memory.resident =
                1024 * (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0)
            return memory
        }
    }

    var receivers: Int
    var seconds: Int
    var objects: Int
    var before = Memory()
    var connected = Memory()
    var after = Memory()
    var gone = Memory()
    /// Connections that there still are after the time, and octets that wait on them for acknowledgements.
    var stillConnected = 0
    var inFlight = 0
    /// Connections that there still are when all have gone.
    var leftBehind = 0

    init(receivers: Int, seconds: Int, objects: Int) {
        self.receivers = receivers
        self.seconds = seconds
        self.objects = objects
    }
}
