import AMT
import Glibc
import Logging
import Operation
import Reactor
import Relaying
import Transport
import Wire

/// What a measurement of a relay is made of.
package struct RelayTrialOptions: Sendable {
    /// Tunnels that each packet is copied into.
    package var gateways = 1
    /// Octets of UDP payload of the packets that are forwarded.
    package var size = 1200
    /// Bits per second of UDP payload at the source; nil is as fast as the machine can.
    package var rate: UInt64?
    /// Take packets by ordinary sockets, which needs no privilege.
    package var isPlain = false
    /// The interface that source, relay and gateways share.
    package var interface = "lo"
    /// Where the source sends to.
    package var group = SocketAddress(.v4(0xef0a_0001), port: 5995)
    /// How the reactor waits for the kernel.
    package var io = IOBackendChoice.auto

    /// One gateway, and as fast as the machine can.
    package init() {}
}

/// A source of plain multicast, a relay and its gateways in one thread, each on a reactor of its own: the relay is the one
/// that is measured.
package final class RelayTrial {
    private let origin: ChargedReactor
    private let relay: ChargedReactor
    private let gateways: ChargedReactor
    private let socket: UDPSocket
    private let server: RelayServer
    private var ears: [Ear] = []
    private let options: RelayTrialOptions
    private let payload: [UInt8]
    private let start: Instant
    private var sentPackets: UInt64 = 0

    /// Packets per turn of the source.
    private static let burst: UInt64 = 104

    private final class Ear: TunnelHandler {
        let tunnel: AMTTunnel
        var packets: UInt64 = 0

        init(_ tunnel: AMTTunnel) { self.tunnel = tunnel }

        func tunnelPacketReceived(
            _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN,
            hopLimit: UInt8
        ) { packets += 1 }
        func tunnelBatchEnded() {}
    }

    /// How the relay's reactor waits for the kernel.
    package var backendDescription: String { relay.reactor.backendDescription }

    /// - Throws: an error that says what could not be set up, such as a packet socket without the privilege.
    package init(_ options: RelayTrialOptions) throws {
        self.options = options
        Meters.raiseFileLimit()
        payload = [UInt8](repeating: 0x61, count: options.size)
        origin = try ChargedReactor(io: options.io)
        relay = try ChargedReactor(io: options.io)
        gateways = try ChargedReactor(io: options.io)
        let log = Logger(label: "trial") { _ in SwiftLogNoOpLogHandler() }
        let address = try FlowTrial.address(of: options.interface)
        var udp = UDPOptions()
        udp.multicastInterface = options.interface
        // A relay gets packets off a wire, one by one.
        udp.segment = false
        // The relay takes a hop.
        udp.multicastTTL = 2
        socket = try origin.reactor.udpSocket(bind: SocketAddress(address, port: 0), options: udp)
        var relayOptions = RelayOptions(listen: [SocketAddress(address, port: 0)])
        relayOptions.upstream = options.interface
        if options.isPlain { relayOptions.groups = [options.group] }
        do {
            server = try RelayServer(relayOptions, reactor: relay.reactor, log: log)
        } catch let error as ReactorError where error.code == EPERM {
            throw EndpointError("\(error); or take packets by ordinary sockets with --plain")
        }
        start = origin.reactor.now
        let relayAddress = server.sockets[0].localAddress
        let channel = Channel(source: nil, group: options.group.address)
        for _ in 0..<options.gateways {
            let tunnel = try AMTTunnel(
                relay: .at(relayAddress), source: nil, family: .ipv4, reactor: gateways.reactor, log: log)
            let ear = Ear(tunnel)
            tunnel.subscribe(channel, port: options.group.port, handler: ear)
            ears.append(ear)
        }
    }

    deinit {
        for ear in ears { ear.tunnel.close() }
        server.close()
        gateways.reactor.close()
        relay.reactor.close()
        origin.reactor.close()
    }

    /// Waits until every gateway gets packets.
    package func connect(within limit: Duration = .seconds(30)) throws {
        let end = Reactor.clock() + limit
        while ears.contains(where: { $0.packets == 0 }) {
            guard Reactor.clock() < end else {
                let count = ears.count { $0.packets > 0 }
                throw EndpointError("\(count) of \(options.gateways) gateways get packets after \(limit)")
            }
            // One now and then, until all have joined.
            if origin.reactor.counters.turns % 64 == 0 { send(1) }
            turn()
        }
    }

    /// What comes from now on is measured: the longest turn begins anew.
    package func begin() {
        for end in [origin, relay, gateways] { end.reactor.forgetLongestTurn() }
    }

    /// Sends and forwards until the source has sent `packets` more, or until `deadline`.
    package func run(packets: UInt64 = .max, until deadline: Instant = .distantFuture) {
        let begin = Reactor.clock()
        let before = sentPackets
        while case let now = Reactor.clock(), now < deadline, sentPackets - before < packets {
            var due = min(Self.burst, packets - (sentPackets - before))
            if let rate = options.rate {
                let wanted = Double((now - begin).nanoseconds) / 1e9 * Double(rate) / 8 / Double(options.size)
                due = min(due, UInt64(wanted) - min(sentPackets - before, UInt64(wanted)))
            }
            send(Int(due))
            turn()
        }
    }

    private func send(_ count: Int) {
        let payload = payload
        for _ in 0..<count {
            guard socket.send(copyOf: payload.span, to: options.group) else { return }
            sentPackets += 1
        }
    }

    private func turn() {
        origin.turn()
        relay.turn()
        gateways.turn()
    }

    /// What the relay has sent into tunnels, in totals: subtract two of them. Its drops are those of packets on their way in.
    package var forwarded: EndCounts {
        var counts = relay.sending
        counts.packets = server.relay.forwarding.packetsOut
        counts.octets = server.relay.forwarding.octetsOut
        counts.systemCalls += server.captureCalls
        counts.kernelDrops = UInt64(server.report.drops)
        return counts
    }

    /// Packets that the relay has not forwarded, by reason, in totals.
    package var drops: [(name: String, count: UInt64)] {
        let forwarding = server.relay.forwarding
        return [
            ("unwanted", forwarding.unwanted), ("too_large", forwarding.tooLarge), ("expired", forwarding.expired),
            ("over_rate", forwarding.overRate), ("over_channel_rate", forwarding.overChannelRate),
            ("queue_full", forwarding.queueFull), ("damaged", forwarding.damaged),
        ]
    }
    /// Packets that the source has sent to the group.
    package var sent: UInt64 { sentPackets }
    /// Packets that the relay has seen.
    package var captured: UInt64 { server.relay.forwarding.packetsIn }
    /// What the source's own socket has sent.
    package var source: EndCounts { origin.sending }
    /// What gateways have received: each packet counts as often as it came out of a tunnel.
    package var received: EndCounts {
        var counts = gateways.receiving
        counts.packets = ears.reduce(0) { $0 + $1.packets }
        return counts
    }
}
