import AMT
import Cryptography
import Glibc
import Logging
import Reactor
import Wire

// A relay on the reactor.
//
//     gateways ── UDP 2268 ──> datagramsReceived ──> Relay ──> answers, upstream joins
//     network ── packet socket ──> forward ──> Relay.collectDestinations ──> copies, run by run, to every gateway
//
// A packet is encapsulated where it was captured: two octets before its IP header. All packets of one channel that came
// together go to one gateway, then to the next, so that each gateway's are one segmented send.
//
// A relay that keeps up finds a few packets at a time, and a turn costs more than they do. When turns follow each other
// closely it therefore looks a little later, as network cards do: more come at once, for a fraction of the work.

/// What a relay has forwarded. Plain totals.
struct ForwardingCounters: Sendable, Equatable {
    /// Multicast packets captured that might be forwarded.
    var packetsIn: UInt64 = 0
    /// Copies sent into tunnels, and octets of those packets.
    var packetsOut: UInt64 = 0
    var octetsOut: UInt64 = 0
    /// Packets captured that no gateway asked for.
    var unwanted: UInt64 = 0
    /// Copies not sent because the tunnel cannot carry them and they must not be fragmented.
    var tooLarge: UInt64 = 0
    /// Packets for their own link only: no hop is left to take.
    var expired: UInt64 = 0
    /// Copies not sent because their tunnel had had its rate.
    var overRate: UInt64 = 0
    /// Packets not forwarded because their channel had had its rate.
    var overChannelRate: UInt64 = 0
    /// Copies not sent because the send queue was full.
    var queueFull: UInt64 = 0
    /// Packets that are no sound multicast packets.
    var damaged: UInt64 = 0
}

final class RelayServer: DatagramHandler {
    /// Datagrams and octets of one segmented send.
    private static let runLimit = 64
    private static let runOctets = 65_400
    /// Captured batches per turn, before control messages have their turn again.
    private static let batchesPerTurn = 4
    /// A batch this large is worth its turn.
    private static let goodBatch = 24
    /// How long is waited for more, in microseconds, once small batches follow each other within `closeness`.
    private static let pause: UInt32 = 60
    private static let closeness = Duration.microseconds(150)
    /// Small batches in close order before the first pause: what comes now and then is passed on at once.
    private static let patience = 8

    private(set) var relay: Relay
    private(set) var forwarding = ForwardingCounters()
    let sockets: [UDPSocket]
    /// Datagrams to the relay itself that the kernel dropped because they were not fetched in time.
    var controlDrops: UInt64 { reactor.counters.kernelDrops }
    /// System calls beside the reactor's: captures, and pauses between them.
    private(set) var captureCalls: UInt64 = 0
    /// nil: multicast comes by ordinary sockets.
    let capture: PacketCapture?
    private let plain: PlainUpstream?
    let joins: UpstreamJoins

    private unowned let reactor: Reactor
    private let log: Logger
    private var refusalLog = LogBudget()
    private let socket4: UDPSocket?
    private let socket6: UDPSocket?
    /// The largest packet a tunnel takes, by the IP version around it.
    private let limit4: Int
    private let limit6: Int
    private var timer: TimerHandle?
    /// ICMP, by whether it is that of IPv4; none without the privilege.
    private var networkErrors: [Bool: FileWatch] = [:]
    private(set) var feedback = SenderFeedback()
    private var lastBatch = Instant(nanoseconds: 0)
    private var closeBatches = 0
    // Reused, so that a packet allocates nothing.
    private var headers: [DataHeader?] = []
    /// Octets of each packet of the batch; `Int.max` for one that does not go as it is.
    private var lengths: [Int] = []
    private var marks: [ECN] = []
    private var destinations: [Int] = []
    /// Packets of the batch that had to be made anew, as messages, by index and size limit.
    private var remade: [Remade: [[UInt8]]] = [:]

    private struct Remade: Hashable {
        var index: Int
        var limit: Int
    }

    init(_ options: RelayOptions, reactor: Reactor, log: Logger) throws {
        self.reactor = reactor
        self.log = log
        if options.groups.isEmpty {
            capture = try PacketCapture(interface: options.upstream, prefix: [6, 0])
            plain = nil
        } else {
            capture = nil
            plain = try PlainUpstream(
                groups: options.groups, interface: options.upstream, reactor: reactor, log: log)
        }
        joins = UpstreamJoins(interface: options.upstream, reactor: reactor, log: log)
        var udp = UDPOptions()
        udp.sendArena = 8 << 20
        udp.sendBuffer = 8 << 20
        var sockets: [UDPSocket] = []
        for address in options.listen {
            guard !sockets.contains(where: { $0.localAddress.address.isIPv4 == address.address.isIPv4 }) else {
                throw EndpointError("a relay listens on one IPv4 and one IPv6 address; \(address) is one too many")
            }
            sockets.append(try reactor.udpSocket(bind: address, options: udp))
        }
        self.sockets = sockets
        socket4 = sockets.first { $0.localAddress.address.isIPv4 }
        socket6 = sockets.first { !$0.localAddress.address.isIPv4 }
        limit4 = options.tunnelMTU - tunnelOverhead(outerIPv4: true)
        limit6 = options.tunnelMTU - tunnelOverhead(outerIPv4: false)
        relay = Relay(configuration: options.relay, seed: randomSeed(), at: reactor.now)
        for socket in sockets { socket.handler = self }
        timer = reactor.timer { [unowned self] in
            relay.timerFired(at: self.reactor.now)
            settle()
        }
        plain?.onPackets = { [unowned self] source, group, packets in forward(packets, from: source, to: group) }
        if let capture { try reactor.watch(capture.descriptor) { [unowned self] _ in forward(capture) } }
        for isIPv4 in [true, false] where (isIPv4 ? socket4 : socket6) != nil {
            do throws(ReactorError) {
                networkErrors[isIPv4] = try reactor.watchNetworkErrors(isIPv4: isIPv4) { [unowned self] octets in
                    guard let notice = TunnelNotice(octets.span, isIPv4: isIPv4) else { return }
                    relay.noticeReceived(notice)
                    settle()
                }
            } catch {
                log.notice("what the network says of lost gateways is not heard", metadata: ["reason": "\(error)"])
            }
        }
    }

    var time: Instant { reactor.now }

    /// Tells every gateway to look elsewhere from now on.
    func drain() { relay.drain() }

    func close() {
        joins.close()
        plain?.close()
        for socket in sockets { socket.close() }
    }

    // MARK: control

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        let now = reactor.now
        for index in 0..<batch.count {
            let from = batch.source(index)
            let local = batch.local(index).address
            let bytes = batch[index]
            guard let answer = relay.datagramReceived(bytes.span, from: from, to: local, at: now) else { continue }
            if !socket.send(copyOf: answer.span, to: from, from: local) { forwarding.queueFull += 1 }
        }
        settle()
    }

    /// Does what the relay's state now asks for.
    private func settle() {
        while let change = relay.nextUpstreamChange() {
            switch change {
            case .join(let channel): if let plain { plain.join(channel) } else { joins.join(channel) }
            case .leave(let channel): if let plain { plain.leave(channel) } else { joins.leave(channel) }
            }
        }
        while let refusal = relay.nextRefusal() {
            guard refusalLog.take(at: reactor.now) else { continue }
            log.notice(
                "refused",
                metadata: [
                    "gateway": "\(refusal.gateway)", "group": "\(refusal.group.map { "\($0)" } ?? "")",
                    "reason": "\(refusal.reason)", "untold": "\(refusalLog.untold)",
                ])
        }
        timer?.schedule(at: relay.nextDeadline)
    }

    // MARK: data

    /// Perf/check counts the instructions of this function and of what it calls.
    @inline(never)
    private func forward(_ capture: PacketCapture) {
        var total = 0
        for _ in 0..<Self.batchesPerTurn {
            let mayHaveMore = capture.receive()
            captureCalls += 1
            total += capture.count
            fanOut(capture.batch)
            if !mayHaveMore { break }
        }
        pauseIfClose(total)
    }

    private func pauseIfClose(_ count: Int) {
        let now = Reactor.clock()
        let isClose = now - lastBatch < Self.closeness
        lastBatch = now
        if !isClose { closeBatches = 0 }
        guard isClose, count < Self.goodBatch else { return }
        closeBatches += 1
        guard closeBatches > Self.patience else { return }
        // What has been read leaves first.
        for socket in sockets { socket.flush() }
        captureCalls += 1
        usleep(Self.pause)
        lastBatch = Reactor.clock()
    }

    /// Packets that did not come by the capture.
    private func forward(_ packets: [[UInt8]], from source: IPAddress, to group: IPAddress) {
        forwarding.packetsIn += UInt64(packets.count)
        destinations.removeAll(keepingCapacity: true)
        let match = relay.collectDestinations(source: source, group: group, into: &destinations)
        if destinations.isEmpty { forwarding.unwanted += UInt64(packets.count) }
        let octets = packets.reduce(0) { $0 + $1.count }
        guard relay.admit(packets.count, octets, of: match, at: reactor.now) else {
            forwarding.overChannelRate += UInt64(packets.count)
            return
        }
        var made: [Int: [[UInt8]]] = [:]
        for slot in destinations {
            let destination = relay.destination(slot)
            let limit = limit(destination)
            let messages = made[limit] ?? self.messages(packets, limit: limit)
            made[limit] = messages
            send(messages, to: destination, slot)
        }
    }

    /// Reads what forwarding needs to know of each packet, and takes a hop from it.
    private func readHeaders(_ capture: CapturedBatch) {
        // Taken out of the class, whose every access is checked at run time.
        var all: (headers: [DataHeader?], lengths: [Int], marks: [ECN]) = ([], [], [])
        swap(&all.headers, &headers)
        swap(&all.lengths, &lengths)
        swap(&all.marks, &marks)
        all.headers.removeAll(keepingCapacity: true)
        all.lengths.removeAll(keepingCapacity: true)
        all.marks.removeAll(keepingCapacity: true)
        for index in 0..<capture.count {
            var header = capture.withPacket(index) { DataHeader($0) }
            if header == nil {
                forwarding.damaged += 1
            } else if header?.hopLimit ?? 0 <= 1 {
                forwarding.expired += 1
                header = nil
            } else {
                capture.withMutablePacket(index) { takeHop(from: &$0) }
            }
            all.headers.append(header)
            all.lengths.append(capture.segment(index) == 0 ? header?.length ?? 0 : .max)
            all.marks.append(header?.ecn ?? .notECT)
        }
        (headers, lengths, marks) = all
    }

    private func fanOut(_ capture: CapturedBatch) {
        if !remade.isEmpty { remade.removeAll() }
        readHeaders(capture)
        let headers = headers
        forwarding.packetsIn += UInt64(headers.count)
        var index = 0
        while index < headers.count {
            guard let first = headers[index] else {
                index += 1
                continue
            }
            var end = index + 1
            var octets = first.length
            while end < headers.count, let next = headers[end], next.source == first.source, next.group == first.group {
                octets += next.length
                end += 1
            }
            destinations.removeAll(keepingCapacity: true)
            let match = relay.collectDestinations(source: first.source, group: first.group, into: &destinations)
            if destinations.isEmpty { forwarding.unwanted += UInt64(end - index) }
            if relay.admit(end - index, octets, of: match, at: reactor.now) {
                send(index..<end, of: capture)
            } else {
                forwarding.overChannelRate += UInt64(end - index)
            }
            index = end
        }
    }

    /// The largest packet that fits a tunnel.
    private func limit(_ destination: TunnelDestination) -> Int {
        let isIPv4 = destination.gateway.address.isIPv4
        let configured = isIPv4 ? limit4 : limit6
        return destination.pathMTU == .max
            ? configured : min(configured, destination.pathMTU - tunnelOverhead(outerIPv4: isIPv4))
    }

    /// What decides how packets go into a tunnel.
    private struct Shape: Equatable {
        var isIPv4: Bool
        var limit: Int
        var isECNCapable: Bool
    }

    private func shape(_ slot: Int) -> Shape {
        let destination = relay.destination(slot)
        return Shape(
            isIPv4: destination.gateway.address.isIPv4, limit: limit(destination),
            isECNCapable: destination.isECNCapable)
    }

    /// Sends packets of one channel to its destinations.
    private func send(_ run: Range<Int>, of capture: CapturedBatch) {
        var first = 0
        while first < destinations.count {
            let shape = shape(destinations[first])
            var end = first + 1
            while end < destinations.count, self.shape(destinations[end]) == shape { end += 1 }
            send(run, of: capture, to: first..<end, shape)
            first = end
        }
    }

    /// Sends packets to neighbours among the destinations whose tunnels are alike.
    private func send(_ run: Range<Int>, of capture: CapturedBatch, to places: Range<Int>, _ shape: Shape) {
        guard let socket = shape.isIPv4 ? socket4 : socket6 else { return }
        let lengths = lengths
        let marks = marks
        var index = run.lowerBound
        while index < run.upperBound {
            let first = lengths[index]
            if first > shape.limit {
                if let header = headers[index] {
                    let messages = messages(capture, index, header, limit: shape.limit)
                    for place in places {
                        if messages.isEmpty { tell(capture, index, header, limit: shape.limit) }
                        let slot = destinations[place]
                        send(messages, to: relay.destination(slot), slot)
                    }
                }
                index += 1
                continue
            }
            // As many as are of one size, and the next when it is smaller, are one segmented send.
            let segment = first + Message.dataHeaderLength
            var end = index + 1
            var octets = segment
            while end < run.upperBound, lengths[end] <= first, lengths[end - 1] == first, end - index < Self.runLimit,
                octets + segment <= Self.runOctets, !shape.isECNCapable || marks[end] == marks[index]
            {
                octets += lengths[end] + Message.dataHeaderLength
                end += 1
            }
            let mark = shape.isECNCapable ? marks[index] : .notECT
            var isCopied = false
            for place in places {
                let slot = destinations[place]
                guard relay.spend(octets, packets: end - index, on: slot, at: reactor.now) else {
                    forwarding.overRate += UInt64(end - index)
                    continue
                }
                let destination = relay.destination(slot)
                let (gateway, local) = (destination.gateway, destination.local)
                // One copy serves all of them.
                if isCopied {
                    count(socket.enqueueAgain(to: gateway, from: local, ecn: mark), end - index, octets)
                    continue
                }
                isCopied = copy(index..<end, of: capture, octets, into: socket)
                if isCopied { socket.enqueue(octets, segment: segment, to: gateway, from: local, ecn: mark) }
                count(isCopied, end - index, octets)
            }
            index = end
        }
    }

    /// Copies packets with what makes messages of them into room of the socket: false when it has none.
    private func copy(_ packets: Range<Int>, of capture: CapturedBatch, _ octets: Int, into socket: UDPSocket) -> Bool {
        let lengths = lengths
        let done: Void? = socket.withSendBuffer(octets) { room in
            var offset = 0
            for packet in packets {
                let size = lengths[packet] + Message.dataHeaderLength
                capture.copy(packet, size, into: &room, at: offset)
                offset += size
            }
        }
        return done != nil
    }

    /// Sends messages that were made for a tunnel.
    private func send(_ messages: [[UInt8]], to destination: TunnelDestination, _ slot: Int) {
        guard let socket = destination.gateway.address.isIPv4 ? socket4 : socket6 else { return }
        for message in messages {
            guard relay.spend(message.count, on: slot, at: reactor.now) else {
                forwarding.overRate += 1
                continue
            }
            let mark = destination.isECNCapable ? Self.mark(message) : .notECT
            let isQueued = socket.send(
                copyOf: message.span, to: destination.gateway, from: destination.local, ecn: mark)
            count(isQueued, 1, message.count)
        }
    }

    /// The mark of the packet in a Multicast Data message.
    private static func mark(_ message: [UInt8]) -> ECN {
        DataHeader(message.span.extracting(Message.dataHeaderLength..<message.count))?.ecn ?? .notECT
    }

    /// Tells the sender of a packet that no tunnel of this size takes it.
    private func tell(_ capture: CapturedBatch, _ index: Int, _ header: DataHeader, limit: Int) {
        guard let errors = networkErrors[header.source.isIPv4] else { return }
        let message = capture.withPacket(index) { feedback.tooLarge($0, header, limit: limit, at: reactor.now) }
        if let message { reactor.send(message.span, to: header.source, on: errors) }
    }

    private func count(_ isQueued: Bool, _ packets: Int, _ octets: Int) {
        if isQueued {
            forwarding.packetsOut += UInt64(packets)
            forwarding.octetsOut += UInt64(octets)
        } else {
            forwarding.queueFull += UInt64(packets)
        }
    }

    /// Multicast Data messages of a packet that does not go as it is.
    private func messages(
        _ capture: CapturedBatch, _ index: Int, _ header: DataHeader, limit: Int
    ) -> [[UInt8]] {
        let key = Remade(index: index, limit: limit)
        if let known = remade[key] { return known }
        let segment = capture.segment(index)
        let packets: [[UInt8]]? = capture.withPacket(index) { packet in
            let whole = packet.extracting(0..<header.length)
            return segment != 0 ? splitSegments(whole, segment: segment) : [[UInt8](whole)]
        }
        let messages = self.messages(packets ?? [], limit: limit)
        remade[key] = messages
        return messages
    }

    private func messages(_ packets: [[UInt8]], limit: Int) -> [[UInt8]] {
        var messages: [[UInt8]] = []
        for packet in packets {
            if packet.count <= limit {
                messages.append(Message.data.bytes(datagram: packet))
            } else if let pieces = fragments(packet.span, limit: limit) {
                messages += pieces.map { Message.data.bytes(datagram: $0) }
            } else {
                forwarding.tooLarge += 1
            }
        }
        return messages
    }
}
