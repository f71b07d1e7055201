import AMT
import Cryptography
import Logging
import Operation
import Reactor
import Wire

// A relay on the reactor: a shell that moves octets and time. What becomes of messages and packets is decided in AMT.
//
//     gateways ── UDP 2268 ──> datagramsReceived ──> Relay ──> answers, upstream joins
//     network ── packet socket ──> forward ──> Relay.nextStep ──> copies, run by run, to every gateway
//
// A packet is encapsulated where it was captured: two octets before its IP header.

package final class RelayServer: DatagramHandler {
    /// Captured batches per turn, before control messages have their turn again.
    private static let batchesPerTurn = 4

    package private(set) var relay: Relay
    package let sockets: [UDPSocket]
    /// Datagrams to the relay itself that the kernel dropped because they were not fetched in time.
    package var controlDrops: UInt64 { reactor.counters.kernelDrops }
    /// System calls beside the reactor's: captures.
    package private(set) var captureCalls: UInt64 = 0
    /// nil: multicast comes by ordinary sockets, or its interface is not there.
    package private(set) var capture: PacketCapture?
    private var captureWatch: FileWatch?
    /// Captured packets that the kernel dropped, those of interfaces that are gone included.
    package var captureDrops: UInt64 {
        capture?.updateDrops()
        return formerDrops + (capture?.kernelDrops ?? 0)
    }
    private var formerDrops: UInt64 = 0
    /// Whether the interface that multicast comes in by is there and can be listened to.
    package var hasUpstream: Bool { (upstream == nil || upstreamIndex != nil) && (plain != nil || capture != nil) }
    private let upstream: String?
    /// The number of `upstream`, which is another one when it was made again; nil: there is none.
    private var upstreamIndex: UInt32?
    /// Those that there are, when there is no `upstream`.
    private var interfaces: Set<UInt32> = []
    private var network: NetworkWatch?
    private let plain: PlainUpstream?
    let joins: UpstreamJoins

    private unowned let reactor: Reactor
    private let log: Logger
    private var refusalLog = LogBudget()
    private let socket4: UDPSocket?
    private let socket6: UDPSocket?
    private var timer: TimerHandle?
    /// ICMP, by whether it is that of IPv4; none without the privilege.
    private var networkErrors: [Bool: FileWatch] = [:]

    package init(_ options: RelayOptions, reactor: Reactor, log: Logger) throws {
        self.reactor = reactor
        self.log = log
        upstream = options.upstream
        upstreamIndex = options.upstream.flatMap { try? NetworkInterface.index(of: $0) }
        if let upstream, upstreamIndex == nil {
            log.error("the upstream interface is not there; it is waited for", metadata: ["interface": "\(upstream)"])
        }
        if options.groups.isEmpty {
            plain = nil
        } else {
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
            // DF is set on every packet and none is fragmented (RFC 7450 sections 5.3.3.6.3.1 and 5.3.3.6.3.2): so are all
            // sockets that do not ask for something else.
            let inherited = options.inherited.first { $0.address.address.isIPv4 == address.address.isIPv4 }
            sockets.append(
                try inherited.map { try reactor.udpSocket($0, options: udp) }
                    ?? reactor.udpSocket(bind: address, options: udp))
        }
        self.sockets = sockets
        socket4 = sockets.first { $0.localAddress.address.isIPv4 }
        socket6 = sockets.first { !$0.localAddress.address.isIPv4 }
        var configuration = options.relay
        if configuration.tunnelMTU == nil { configuration.linkMTUs = try Self.linkMTUs() }
        relay = Relay(configuration: configuration, seed: randomSeed(), at: reactor.now)
        for socket in sockets { socket.handler = self }
        timer = reactor.timer { [unowned self] in
            relay.timerFired(at: self.reactor.now)
            settle()
        }
        plain?.onPackets = { [unowned self] source, group, packets in
            send(relay.packetsReceived(packets, from: source, to: group, at: self.reactor.now))
        }
        if upstream == nil { interfaces = Self.interfaceNumbers() }
        if plain == nil, upstream == nil || upstreamIndex != nil { try startCapture() }
        network = try NetworkWatch(on: reactor) { [unowned self] in networkChanged() }
        for isIPv4 in [true, false] where (isIPv4 ? socket4 : socket6) != nil {
            do throws(ReactorError) {
                networkErrors[isIPv4] = try reactor.watchNetworkErrors(isIPv4: isIPv4) { [unowned self] octets in
                    guard let notice = TunnelNotice(octets.span, isIPv4: isIPv4) else { return }
                    relay.noticeReceived(notice)
                    settle()
                }
                relay.sendersCanBeTold(isIPv4: isIPv4)
            } catch {
                log.notice("what the network says of lost gateways is not heard", metadata: ["reason": "\(error)"])
            }
        }
    }

    /// What the link of each own address takes (RFC 7450 section 5.3.3.6.1). An address that the loopback interface keeps for
    /// the others, as an anycast one, has the least of theirs.
    private static func linkMTUs() throws(ReactorError) -> [IPAddress: Int] {
        let interfaces = try NetworkInterface.all().filter { $0.isUp && $0.mtu > 0 }
        let least = interfaces.filter { !$0.isLoopback }.map(\.mtu).min() ?? RelayConfiguration.usualMTU
        var mtus: [IPAddress: Int] = [:]
        for interface in interfaces {
            for address in interface.addresses {
                let isForeign = interface.isLoopback && !address.isLoopback
                mtus[address] = min(isForeign ? least : interface.mtu, 65_535)
            }
        }
        return mtus
    }

    // MARK: the upstream interface

    private func startCapture() throws(ReactorError) {
        let capture = try PacketCapture(interface: upstream, prefix: [6, 0])
        captureWatch = try reactor.watch(capture.descriptor) { [unowned self] _ in forward(capture) }
        self.capture = capture
    }

    private static func interfaceNumbers() -> Set<UInt32> {
        let interfaces = (try? NetworkInterface.all()) ?? []
        return Set(interfaces.compactMap { try? NetworkInterface.index(of: $0.name) })
    }

    /// An interface that was made again has forgotten who listens on it.
    private func networkChanged() {
        if let upstream {
            let index = try? NetworkInterface.index(of: upstream)
            guard index != upstreamIndex else { return }
            upstreamIndex = index
            if plain == nil {
                formerDrops = captureDrops
                captureWatch?.cancel()
                captureWatch = nil
                capture = nil
            }
            guard index != nil else {
                return log.error("the upstream interface is gone", metadata: ["interface": "\(upstream)"])
            }
            log.notice("the upstream interface is there", metadata: ["interface": "\(upstream)"])
            do throws(ReactorError) { if plain == nil { try startCapture() } } catch {
                log.error(
                    "multicast cannot be captured", metadata: ["interface": "\(upstream)", "reason": "\(error)"])
            }
        } else {
            let now = Self.interfaceNumbers()
            guard now != interfaces else { return }
            interfaces = now
        }
        if let plain { plain.joinAgain() } else { joins.joinAgain() }
    }

    package var time: Instant { reactor.now }

    /// Takes the limits of another configuration.
    package func useLimits(of configuration: RelayConfiguration) { relay.useLimits(of: configuration) }

    /// Tells every gateway to look elsewhere from now on.
    package func drain() { relay.drain() }

    package func close() {
        network = nil
        captureWatch?.cancel()
        joins.close()
        plain?.close()
        for socket in sockets { socket.close() }
    }

    // MARK: control

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        let now = reactor.now
        for index in 0..<batch.count {
            let from = batch.source(index)
            let local = batch.local(index).address
            let bytes = batch[index]
            guard let answer = relay.datagramReceived(bytes.span, from: from, to: local, at: now) else { continue }
            // To where the question came from, from where it went to (RFC 7450 sections 5.1.2, 5.1.4, 5.3.3.2 and 5.3.3.3).
            if !socket.send(copyOf: answer.span, to: from, from: local) { relay.copied(1, 0, isQueued: false) }
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
            let batch = capture.batch
            Self.read(batch, into: &relay)
            send(batch)
            if !mayHaveMore { break }
        }
        if let pause = relay.batchesEnded(total, at: Reactor.clock()) { reactor.gather(until: pause) }
    }

    /// Takes the relay itself: every access to what is in a class is checked at run time.
    private static func read(_ batch: CapturedBatch, into relay: inout Relay) {
        for index in 0..<batch.count {
            let segment = batch.segment(index)
            batch.withMutablePacket(index) { relay.packetCaptured(&$0, segment: segment) }
        }
    }

    private func send(_ batch: CapturedBatch) {
        let now = reactor.now
        while let step = relay.nextStep(at: now) {
            switch step {
            case .send(let run): send(run, of: batch)
            case .remake(let index, let tunnels):
                let segment = batch.segment(index)
                let remade = batch.withPacket(index) {
                    relay.remake(index, $0, segment: segment, for: tunnels, at: now)
                }
                guard let remade else { continue }
                send(remade.messages)
                guard let errors = networkErrors[remade.sender.isIPv4] else { continue }
                for notice in remade.notices { reactor.send(notice.span, to: remade.sender, on: errors) }
            }
        }
    }

    /// Sends packets as they lie: one copy of them serves all tunnels. They come from where the Update went to
    /// (RFC 7450 sections 5.1.6 and 5.3.3.6.3).
    private func send(_ run: SegmentedSend, of batch: CapturedBatch) {
        guard let socket = run.tunnels.isIPv4 ? socket4 : socket6 else { return }
        var isCopied = false
        for place in run.tunnels.places {
            guard let to = relay.spend(run, on: place, at: reactor.now) else { continue }
            let isQueued: Bool
            if isCopied {
                isQueued = socket.enqueueAgain(to: to.gateway, from: to.local, ecn: run.ecn)
            } else {
                isCopied = copy(run, of: batch, into: socket)
                isQueued = isCopied
                if isCopied {
                    socket.enqueue(run.octets, segment: run.segment, to: to.gateway, from: to.local, ecn: run.ecn)
                }
            }
            relay.copied(run.packets.count, run.octets, isQueued: isQueued)
        }
    }

    /// Copies packets with what makes messages of them into room of the socket: false when it has none.
    private func copy(_ run: SegmentedSend, of batch: CapturedBatch, into socket: UDPSocket) -> Bool {
        let done: Void? = socket.withSendBuffer(run.octets) { room in
            var offset = 0
            for packet in run.packets {
                let size = min(run.segment, run.octets - offset)
                batch.copy(packet, size, into: &room, at: offset)
                offset += size
            }
        }
        return done != nil
    }

    /// Sends messages that were made for a tunnel.
    private func send(_ messages: [TunnelMessage]) {
        for message in messages {
            guard let socket = message.to.gateway.address.isIPv4 ? socket4 : socket6 else { continue }
            let isQueued = socket.send(
                copyOf: message.octets.span, to: message.to.gateway, from: message.to.local, ecn: message.ecn)
            relay.copied(1, message.octets.count, isQueued: isQueued)
        }
    }
}
