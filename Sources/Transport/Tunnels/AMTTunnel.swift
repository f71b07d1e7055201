import AMT
import Cryptography
import Logging
import Reactor
import Wire

/// Gets the UDP packets of a channel that came through a tunnel.
package protocol TunnelHandler: AnyObject {
    /// One packet to `group`; its octets live until this returns.
    func tunnelPacketReceived(
        _ payload: inout MutableSpan<UInt8>, from source: SocketAddress, to group: SocketAddress, ecn: ECN,
        hopLimit: UInt8)
    /// Those that came together are over.
    func tunnelBatchEnded()
}

/// A tunnel to a relay on the reactor: one UDP socket, and neither a privilege nor a device.
///
/// All octets of the socket are judged by `AMT.Gateway` first; what reaches a handler came from the relay and is of a
/// channel that was asked for.
package final class AMTTunnel: DatagramHandler {
    private struct Subscription {
        var channel: Channel
        /// nil: every port.
        var port: UInt16?
        weak var handler: (any TunnelHandler)?
    }

    package private(set) var gateway: Gateway
    /// Nil as long as no relay is known.
    package private(set) var socket: UDPSocket?
    /// Tells what happens to the tunnel.
    package var onEvent: (GatewayEvent) -> Void = { _ in }

    private unowned let reactor: Reactor
    private let log: Logger
    private var timer: TimerHandle?
    private var finder: RelayFinder?
    private var subscriptions: [Subscription] = []

    /// - Parameters:
    ///   - relay: a relay, an address to discover one at, or how to search for one.
    ///   - source: whose relays are searched for.
    package init(
        relay: RelayChoice, source: IPAddress?, family: DataFamily,
        configuration: GatewayConfiguration = GatewayConfiguration(),
        reactor: Reactor, log: Logger
    ) throws(ReactorError) {
        self.reactor = reactor
        self.log = log
        let discovery: SocketAddress? = if case .at(let address) = relay { address } else { nil }
        gateway = Gateway(discovery: discovery, family: family, configuration: configuration, seed: randomSeed())
        timer = reactor.timer { [unowned self] in
            gateway.timerFired(at: self.reactor.now)
            settle()
        }
        switch relay {
        case .at(let address): try open(isIPv4: address.address.isIPv4)
        case .search(let options):
            let finder = RelayFinder(options, source: source, reactor: reactor, log: log) { [unowned self] in
                gateway.counters.packetsDelivered
            }
            self.finder = finder
            finder.onRelay = { [unowned self] in move(to: $0) }
            finder.start()
        }
    }

    private func open(isIPv4: Bool) throws(ReactorError) {
        var options = UDPOptions()
        options.receiveBuffer = 8 << 20
        options.receiveErrors = true
        socket = try reactor.udpSocket(bind: SocketAddress(isIPv4 ? .v4(0) : .v6(0), port: 0), options: options)
        socket?.handler = self
    }

    /// The search has found a relay, a better one, or that the one in use is the best there is.
    private func move(to relay: SocketAddress) {
        guard relay != gateway.relay else {
            gateway.relayAnswers(at: reactor.now)
            return settle()
        }
        gateway.leave(at: reactor.now)
        sendAll()
        if let old = socket, old.localAddress.address.isIPv4 != relay.address.isIPv4 {
            // What is said to the old relay leaves before its socket goes.
            old.flush()
            old.close()
            socket = nil
        }
        do throws(ReactorError) {
            if socket == nil { try open(isIPv4: relay.address.isIPv4) }
        } catch {
            log.warning("no tunnel", metadata: ["reason": "\(error)"])
        }
        gateway.move(to: relay, at: reactor.now)
        settle()
    }

    /// Has `handler` get what comes to `channel`, at `port` or at every port. False when the tunnel cannot carry it.
    @discardableResult
    package func subscribe(_ channel: Channel, port: UInt16?, handler: any TunnelHandler) -> Bool {
        guard gateway.subscribe(channel, at: reactor.now) else { return false }
        subscriptions.append(Subscription(channel: channel, port: port, handler: handler))
        settle()
        return true
    }

    package func unsubscribe(_ channel: Channel, handler: any TunnelHandler) {
        subscriptions.removeAll { $0.handler == nil || ($0.channel == channel && $0.handler === handler) }
        guard !subscriptions.contains(where: { $0.channel == channel }) else { return }
        gateway.unsubscribe(channel, at: reactor.now)
        settle()
    }

    /// Leaves everything and closes the socket.
    package func close() {
        guard timer != nil else { return }
        finder?.close()
        gateway.stop(at: reactor.now)
        settle()
        socket?.flush()
        socket?.close()
        timer = nil
        subscriptions = []
    }

    private func sendAll() {
        while let (bytes, relay) = gateway.nextDatagram() { _ = socket?.send(copyOf: bytes.span, to: relay) }
    }

    private func settle() {
        sendAll()
        while let event = gateway.nextEvent() {
            switch event {
            case .relayFound(let relay): log.info("relay found", metadata: ["relay": "\(relay)"])
            case .joined(let relay): log.info("tunnel open", metadata: ["relay": "\(relay)"])
            case .noAnswer(let attempt):
                log.notice(
                    "no relay answers",
                    metadata: ["relay": "\(gateway.discovery.map { "\($0)" } ?? "none")", "attempt": "\(attempt)"])
            case .limited: log.notice("the relay takes no new gateways")
            case .silent: log.info("nothing comes through the tunnel; asking again")
            case .unreachable(let host): log.notice("there is no relay", metadata: ["relay": "\(host)"])
            }
            onEvent(event)
            finder?.gatewayTold(event)
        }
        timer?.schedule(at: gateway.nextDeadline)
    }

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        let now = reactor.now
        for index in 0..<batch.count {
            let from = batch.source(index)
            let ecn = batch.ecn(index)
            var bytes = batch[index]
            guard let delivery = gateway.datagramReceived(bytes.span, from: from, ecn: ecn, at: now) else { continue }
            if var whole = delivery.reassembled {
                var octets = whole.mutableSpan
                deliver(&octets, delivery)
            } else {
                deliver(&bytes, delivery)
            }
        }
        for subscription in subscriptions { subscription.handler?.tunnelBatchEnded() }
        settle()
    }

    package func networkErrorReceived(_ error: NetworkError, on socket: UDPSocket) {
        guard let notice = GatewayNotice(error) else { return }
        gateway.noticeReceived(notice, at: reactor.now)
        settle()
    }

    private func deliver(_ bytes: inout MutableSpan<UInt8>, _ delivery: GatewayDelivery) {
        for subscription in subscriptions {
            guard subscription.channel.group == delivery.group.address,
                (subscription.channel.source ?? delivery.source.address) == delivery.source.address,
                (subscription.port ?? delivery.group.port) == delivery.group.port
            else { continue }
            var payload = bytes._mutatingExtracting(delivery.payload)
            subscription.handler?.tunnelPacketReceived(
                &payload, from: delivery.source, to: delivery.group, ecn: delivery.ecn,
                hopLimit: delivery.hopLimit)
        }
    }
}

extension GatewayNotice {
    /// Nil when it is of no interest.
    package init?(_ error: NetworkError) {
        let kind: Kind? =
            switch error.kind {
            case .hostUnreachable where error.reporter == error.destination.address: .full
            case .networkUnreachable, .hostUnreachable, .portUnreachable, .prohibited: .unreachable
            case .tooLarge: .tooLarge
            case .other: nil
            }
        guard let kind else { return nil }
        self.init(kind, destination: error.destination, quoted: error.quoted)
    }
}
