import AMT
import Logging
import Operation
import Reactor
import Wire

/// Multicast for a relay without privileges: ordinary UDP sockets, one for each group and port that was configured. The
/// packets around the payloads are made again; of the original headers the addresses, ports and the ECN mark survive.
final class PlainUpstream: DatagramHandler {
    /// What TTL the packets are given: the original one is not told.
    private static let hopLimit: UInt8 = 64

    private let sockets: [UDPSocket]
    private let groups: [SocketAddress]
    private let interface: String?
    private unowned let reactor: Reactor
    private let log: Logger
    private var budget = LogBudget()
    private var identification: UInt16 = 0
    private var joined: Set<Channel> = []
    /// Packets of one channel that came together.
    var onPackets: (_ source: IPAddress, _ group: IPAddress, _ packets: [[UInt8]]) -> Void = { _, _, _ in }

    init(groups: [SocketAddress], interface: String?, reactor: Reactor, log: Logger) throws(ReactorError) {
        self.groups = groups
        self.interface = interface
        self.reactor = reactor
        self.log = log
        var options = UDPOptions()
        options.reuseAddress = true
        options.receiveBuffer = 8 << 20
        var sockets: [UDPSocket] = []
        for group in groups { sockets.append(try reactor.udpSocket(bind: group, options: options)) }
        self.sockets = sockets
        for socket in sockets { socket.handler = self }
    }

    /// Joins everything anew, since interfaces are others now.
    func joinAgain() {
        for channel in joined {
            for (socket, group) in zip(sockets, groups) where group.address == channel.group {
                // Where it is joined still, the kernel says no.
                try? socket.join(group: channel.group, source: channel.source, interface: interface)
            }
        }
    }

    func join(_ channel: Channel) {
        joined.insert(channel)
        change("join", channel) { socket throws(ReactorError) in
            try socket.join(group: channel.group, source: channel.source, interface: interface)
        }
    }

    func leave(_ channel: Channel) {
        joined.remove(channel)
        change("leave", channel) { socket throws(ReactorError) in
            try socket.leave(group: channel.group, source: channel.source, interface: interface)
        }
    }

    private func change(
        _ what: String, _ channel: Channel, _ body: (UDPSocket) throws(ReactorError) -> Void
    ) {
        var isConfigured = false
        for (socket, group) in zip(sockets, groups) where group.address == channel.group {
            isConfigured = true
            do throws(ReactorError) {
                try body(socket)
                guard budget.take(at: reactor.now) else { continue }
                log.info("\(what)", metadata: ["channel": "\(channel)", "untold": "\(budget.untold)"])
            } catch {
                guard budget.take(at: reactor.now) else { continue }
                log.error("cannot \(what)", metadata: ["channel": "\(channel)", "reason": "\(error)"])
            }
        }
        if !isConfigured, what == "join", budget.take(at: reactor.now) {
            log.notice("a gateway asks for a group that is not configured", metadata: ["channel": "\(channel)"])
        }
    }

    func close() { for socket in sockets { socket.close() } }

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        var packets: [[UInt8]] = []
        var source = batch.source(0).address
        let group = socket.localAddress.address
        for index in 0..<batch.count {
            // A socket bound to a group gets nothing else.
            let from = batch.source(index)
            if from.address != source {
                onPackets(source, group, packets)
                packets.removeAll()
                source = from.address
            }
            let ecn = batch.ecn(index)
            let bytes = batch[index]
            packets.append(packet(bytes.span, from: from, to: socket.localAddress, ecn: ecn))
        }
        onPackets(source, group, packets)
    }

    private func packet(
        _ payload: Span<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN
    ) -> [UInt8] {
        identification &+= 1
        return udpPacket(
            payload, from: source, to: group, hopLimit: Self.hopLimit, ecn: ecn, identification: identification)
    }
}
