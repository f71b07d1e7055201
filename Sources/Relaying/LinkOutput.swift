import AMT
import Cryptography
import Operation
import Reactor
import Wire

/// What did not go on the link, by reason. Plain totals.
struct LinkCounters: Sendable, Equatable {
    /// Packets that had no hop left.
    var expired: UInt64 = 0
    /// Packets that the link does not take and that must not be fragmented.
    var tooLarge: UInt64 = 0
    /// Packets withheld because others send them on the link.
    var native: UInt64 = 0
    /// Packets withheld because the relay would hear them.
    var looped: UInt64 = 0
}

/// Puts what comes out of tunnels on a link, so that programs and players there receive it by an ordinary join.
///
/// It does as a router does, and closes no loop: each packet loses a hop; a relay that is on the same link would hear
/// what is sent there and send it here again; and a channel that somebody else sends on the link, be it the source's own
/// network or another gateway, is left to them.
final class LinkOutput {
    /// How long a channel is left to others once they were heard, at least and at most: by lot, so that of two gateways
    /// that heard each other one begins again first.
    private static let deference: ClosedRange<Duration> = .seconds(3) ... .seconds(6)
    private static let channelLimit = 256

    private(set) var counters = LinkCounters()
    var sent: UInt64 { sender.sent }
    var refused: UInt64 { sender.refused }

    private let sender: LinkSender
    private let hopLimit: UInt8
    private let capture: PacketCapture
    private let wanted: Set<Channel>
    /// Channels that others were heard sending, until when they are left to them, and for how long each time.
    private var others: [Channel: (until: Instant, pause: Duration)] = [:]
    private var isLoop = false
    private var identification: UInt16 = 0
    private var random = randomSeed()
    private unowned let reactor: Reactor

    /// - Parameters:
    ///   - hopLimit: the most hops a packet may have left.
    ///   - wanted: the channels that will be sent.
    /// - Throws: `ReactorError` without the privilege, `EndpointError` for an interface that cannot serve.
    init(interface name: String, hopLimit: UInt8, wanted: Set<Channel>, reactor: Reactor) throws {
        self.reactor = reactor
        self.hopLimit = hopLimit
        self.wanted = wanted
        sender = try LinkSender(interface: name)
        guard !sender.interface.isLoopback, sender.interface.supportsMulticast else {
            throw EndpointError("\(name) is no link that carries multicast; --tun serves programs on this machine")
        }
        capture = try PacketCapture(interface: name, outgoing: false, receiveBuffer: 1 << 20)
        try reactor.watch(capture.descriptor) { [unowned self] _ in listen() }
    }

    /// Whether a relay at `address` would hear what is sent here.
    func isHeard(by address: IPAddress) -> Bool {
        let interface = (try? NetworkInterface.all())?.first { $0.name == sender.interface.name } ?? sender.interface
        return interface.reachesDirectly(address)
    }

    /// Another relay is used from now on. False when it is on this link: nothing is sent then.
    func relayChanged(to relay: IPAddress) -> Bool {
        isLoop = isHeard(by: relay)
        return !isLoop
    }

    func send(
        _ payload: Span<UInt8>, from source: SocketAddress, to group: SocketAddress, hopLimit hops: UInt8, ecn: ECN
    ) {
        guard hops > 1 else {
            counters.expired += 1
            return
        }
        guard !isLoop else {
            counters.looped += 1
            return
        }
        if !others.isEmpty, let other = others[Channel(source: source.address, group: group.address)],
            other.until > reactor.now
        {
            counters.native += 1
            return
        }
        identification &+= 1
        let packet = udpPacket(
            payload, from: source, to: group, hopLimit: min(hops - 1, hopLimit), ecn: ecn,
            identification: identification)
        let mtu = sender.interface.mtu
        guard mtu > 0, packet.count > mtu else { return sender.send(packet.span) }
        guard let pieces = fragments(packet.span, limit: mtu) else {
            counters.tooLarge += 1
            return
        }
        for piece in pieces { sender.send(piece.span) }
    }

    /// Looks at what others send on the link.
    private func listen() {
        _ = capture.receive()
        let batch = capture.batch
        for index in 0..<batch.count {
            guard let header = batch.withPacket(index, { DataHeader($0) }) else { continue }
            let channel = Channel(source: header.source, group: header.group)
            guard wanted.contains(channel) || wanted.contains(Channel(source: nil, group: header.group)) else {
                continue
            }
            let now = reactor.now
            if let other = others[channel], other.until > now {
                others[channel]?.until = now + other.pause
            } else {
                others = others.filter { $0.value.until > now }
                guard others.count < Self.channelLimit else { continue }
                let (least, most) = (Self.deference.lowerBound, Self.deference.upperBound)
                let pause = least + .nanoseconds(Int64(random.next() % UInt64((most - least).nanoseconds)))
                others[channel] = (now + pause, pause)
            }
        }
    }
}
