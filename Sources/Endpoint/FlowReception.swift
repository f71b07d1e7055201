import AMT
import Cryptography
import Flexicast
import Logging
import QUIC
import Reactor
import Wire

/// The receiving end of one multicast flow: a socket in its group, a tunnel to a relay, or for a flow that the source
/// replicates the connection's own socket; and the keys that open its packets.
final class FlowReception: DatagramHandler {
    let flowID: FlowID
    /// In the group; nil when the flow comes through a tunnel only.
    private var socket: UDPSocket?
    private var tunnel: AMTTunnel?
    private var ladder: FlowLadder
    private var timer: TimerHandle?
    private unowned let reactor: Reactor
    private let access: FlowAccess
    private let log: Logger
    /// Octets of UDP payload in opened packets that came through a tunnel.
    private(set) var octetsFromTunnel: UInt64 = 0
    let group: SocketAddress
    let source: IPAddress?
    /// The newest key first: header protection differs too, so a key is tried, not read off the packet.
    private(set) var keys: [(key: FlowKey, opening: OpeningKey)] = []
    /// Octets of UDP payload in opened packets.
    private(set) var octetsOpened: UInt64 = 0
    /// Datagrams that are not of the flow at all.
    private(set) var strangers: UInt64 = 0

    /// Takes an opened packet: generation, packet number and frames.
    var onPacket: (_ generation: UInt64, _ packetNumber: UInt64, _ payload: Span<UInt8>, _ ecn: ECN) -> Void = {
        _, _, _, _ in
    }
    var onHeard: () -> Void = {}
    var onRejected: () -> Void = {}
    /// The flow is looked for another way from now on.
    var onWay: (FlowWay) -> Void = { _ in }
    /// The batch is over.
    var onBatchEnd: () -> Void = {}
    /// The largest packet number taken, for decoding the next.
    var largest: () -> UInt64? = { nil }

    init(
        _ flowID: FlowID, source: IPAddress?, group: SocketAddress, access: FlowAccess, reactor: Reactor, log: Logger
    ) throws(ReactorError) {
        self.flowID = flowID
        self.group = group
        self.source = source
        self.access = access
        self.reactor = reactor
        self.log = log
        ladder = FlowLadder(access, at: reactor.now)
        if access.native {
            do throws(ReactorError) {
                socket = try Self.join(source: source, group: group, interface: access.interface, reactor: reactor)
            } catch {
                guard access.relay != nil else { throw error }
                log.info("the group cannot be joined here", metadata: ["reason": "\(error)"])
            }
        }
        socket?.handler = self
        timer = reactor.timer { [unowned self] in
            take(ladder.timerFired(at: self.reactor.now))
            timer?.schedule(at: ladder.nextDeadline)
        }
        take(ladder.start())
        timer?.schedule(at: ladder.nextDeadline)
    }

    private static func join(
        source: IPAddress?, group: SocketAddress, interface: String?, reactor: Reactor
    ) throws(ReactorError) -> UDPSocket {
        var options = UDPOptions()
        // Several receivers on one machine listen to the same group and port.
        options.reuseAddress = true
        options.multicastInterface = interface
        let socket = try reactor.udpSocket(bind: group, options: options)
        do throws(ReactorError) {
            try socket.join(group: group.address, source: source, interface: interface)
        } catch {
            socket.close()
            throw error
        }
        return socket
    }

    private func take(_ step: FlowLadder.Step?) {
        switch step {
        case .openTunnel: openTunnel()
        case .closeTunnel:
            log.info("the group is heard again; closing the tunnel", metadata: ["group": "\(group)"])
            tunnel?.close()
            // It may be in the middle of a call that led here.
            retired = tunnel
            tunnel = nil
            onWay(.multicast)
        case nil: break
        }
    }

    private var retired: AMTTunnel?

    private func openTunnel() {
        guard let relay = access.relay else { return }
        do throws(ReactorError) {
            var configuration = GatewayConfiguration()
            // A receiver waits for its relay to come back; unicast serves it until then.
            configuration.longestRetry = .seconds(10)
            let tunnel = try AMTTunnel(
                relay: relay, source: source, family: group.address.isIPv4 ? .ipv4 : .ipv6, configuration: configuration,
                reactor: reactor, log: log)
            self.tunnel = tunnel
            log.info("asking a relay for the flow", metadata: ["relay": "\(relay)", "group": "\(group)"])
            tunnel.subscribe(Channel(source: source, group: group.address), port: group.port, handler: self)
            onWay(.amt)
        } catch {
            log.warning("no tunnel", metadata: ["reason": "\(error)"])
        }
    }

    func install(_ key: FlowKey) {
        drop(key.generation)
        keys.insert((key, OpeningKey(suite: key.suite, secret: key.secret)), at: 0)
    }

    func drop(_ generation: UInt64) { keys.removeAll { $0.key.generation == generation } }

    func close() {
        socket?.close()
        tunnel?.close()
        timer = nil
    }

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let ecn = batch.ecn(index)
            var bytes = batch[index]
            if receive(&bytes, ecn: ecn) { take(ladder.nativeHeard(at: reactor.now)) }
        }
        onBatchEnd()
    }

    /// Whether a datagram that came on the connection's socket is of this flow.
    func owns(_ datagram: Span<UInt8>) -> Bool {
        guard let header = PacketHeader.parse(datagram, at: 0, shortIDLength: flowID.count) else { return false }
        return header.kind == .oneRTT && header.destination == flowID
    }

    /// Whether it was a packet of the flow.
    @discardableResult
    func receive(_ bytes: inout MutableSpan<UInt8>, ecn: ECN) -> Bool {
        guard let header = PacketHeader.parse(bytes.span, at: 0, shortIDLength: flowID.count),
            header.kind == .oneRTT, header.destination == flowID
        else {
            strangers += 1
            return false
        }
        onHeard()
        guard !keys.isEmpty else { return true }
        for (key, opening) in keys {
            guard
                let packet = opening.open(
                    &bytes, start: 0, packetNumberOffset: header.packetNumberOffset, end: bytes.count,
                    largest: largest() ?? key.firstPacketNumber, packetNumberLength: 4)
            else { continue }
            octetsOpened += UInt64(bytes.count)
            onPacket(key.generation, packet.packetNumber, bytes.span.extracting(packet.payload), ecn)
            return true
        }
        onRejected()
        return true
    }
}

extension FlowReception: TunnelHandler {
    func tunnelPacketReceived(
        _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN
    ) {
        let before = octetsOpened
        receive(&payload, ecn: ecn)
        octetsFromTunnel += octetsOpened - before
    }

    func tunnelBatchEnded() { onBatchEnd() }
}
