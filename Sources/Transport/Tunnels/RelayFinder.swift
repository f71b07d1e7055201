import AMT
import Cryptography
import Logging
import Reactor
import Wire

/// Searches for the relay of a source on the reactor: sockets and timers around `AMT.RelaySearch`.
///
/// Each question has a socket of its own, so that who would forge an answer has to guess a port besides the number.
package final class RelayFinder: DatagramHandler {
    /// A relay was found; it may be the one in use.
    package var onRelay: (SocketAddress) -> Void = { _ in }

    private var search: RelaySearch
    private let servers: NameServers
    private var lookups: [Int: Lookup] = [:]
    /// Where candidates are asked from.
    private let sockets: AskingSockets
    private var timer: TimerHandle?
    private var relay: SocketAddress?
    /// Packets that came through the tunnel so far, as told when the search wants to know.
    private let packets: () -> UInt64
    private unowned let reactor: Reactor
    private let log: Logger

    /// - Parameter packets: tells how many packets have come through the tunnel so far.
    package init(
        _ options: RelaySearchOptions, source: IPAddress?, reactor: Reactor, log: Logger,
        packets: @escaping () -> UInt64
    ) {
        self.reactor = reactor
        sockets = AskingSockets(reactor)
        self.log = log
        self.packets = packets
        var servers = NameServers.configured()
        if let given = options.nameServers { servers.servers = given }
        if let domains = options.domains { servers.domains = domains }
        self.servers = servers
        var configuration = RelaySearchConfiguration()
        configuration.ways = options.ways
        configuration.domains = servers.domains.compactMap { DomainName($0) }
        search = RelaySearch(source: source, configuration: configuration, seed: randomSeed())
        sockets.handler = self
        timer = reactor.timer { [unowned self] in
            search.delivered(self.packets(), at: self.reactor.now)
            search.timerFired(at: self.reactor.now)
            settle()
        }
    }

    package func start() {
        log.info("searching for a relay", metadata: ["source": "\(search.source.map { "\($0)" } ?? "any")"])
        search.start(at: reactor.now)
        settle()
    }

    package func close() {
        timer = nil
        sockets.close()
        for lookup in lookups.values { lookup.close() }
        lookups = [:]
    }

    /// Tells the search how the gateway fares.
    package func gatewayTold(_ event: GatewayEvent) {
        guard timer != nil else { return }
        let now = reactor.now
        search.delivered(packets(), at: now)
        switch event {
        case .joined: search.relayJoined(at: now)
        case .noAnswer(let attempt): search.noAnswer(attempt: attempt, at: now)
        case .limited: search.relayFailed(.limited, at: now)
        case .unreachable: search.relayFailed(.unreachable, at: now)
        case .relayFound, .silent: return
        }
        settle()
    }

    // MARK: the search's wishes

    private func settle() {
        while let (number, question) = search.nextQuestion() { look(up: question, number) }
        while let (bytes, address) = search.nextProbe() { sockets.send(bytes, to: address) }
        while let event = search.nextEvent() {
            switch event {
            case .found(let found):
                for lookup in lookups.values { lookup.close() }
                lookups = [:]
                if found != relay { log.info("relay found", metadata: ["relay": "\(found)"]) }
                relay = found
                onRelay(found)
            case .failing(let relay, let failure):
                log.notice(
                    "searching for another relay", metadata: ["relay": "\(relay)", "reason": "\(failure.rawValue)"])
            case .nothing(let wait):
                log.notice("no relay found", metadata: ["again_after": "\(wait)"])
            }
        }
        timer?.schedule(at: search.nextDeadline)
    }

    package func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let from = batch.source(index)
            let bytes = batch[index]
            search.datagramReceived(bytes.span, from: from, at: reactor.now)
        }
        settle()
    }

    package func networkErrorReceived(_ error: NetworkError, on socket: UDPSocket) {
        guard let notice = GatewayNotice(error) else { return }
        search.noticeReceived(notice, at: reactor.now)
        settle()
    }

    private func look(up question: DNSQuestion, _ number: Int) {
        let lookup = Lookup(question, servers, reactor: reactor) { [unowned self] outcome in
            guard let lookup = lookups.removeValue(forKey: number) else { return }
            lookup.close()
            log.debug(
                "looked up",
                metadata: ["name": "\(question.name)", "type": "\(question.type)", "outcome": "\(outcome)"])
            search.answered(number, outcome, at: reactor.now)
            settle()
        }
        lookups[number] = lookup
        lookup.start()
    }
}

/// A UDP socket for each IP version that is sent to, with a port of the system's choice.
private final class AskingSockets {
    /// Gets what comes back.
    weak var handler: (any DatagramHandler)?
    private var sockets: [Bool: UDPSocket] = [:]
    private unowned let reactor: Reactor

    init(_ reactor: Reactor) { self.reactor = reactor }

    func send(_ bytes: [UInt8], to address: SocketAddress) {
        let isIPv4 = address.address.isIPv4
        if sockets[isIPv4] == nil {
            // A machine without one of the IP versions finds what it can by the other.
            var options = UDPOptions()
            options.receiveErrors = true
            sockets[isIPv4] = try? reactor.udpSocket(
                bind: SocketAddress(isIPv4 ? .v4(0) : .v6(0), port: 0), options: options)
            sockets[isIPv4]?.handler = handler
        }
        _ = sockets[isIPv4]?.send(copyOf: bytes.span, to: address)
    }

    func close() {
        for socket in sockets.values { socket.close() }
        sockets = [:]
    }
}

/// A question on its way to the name servers.
private final class Lookup: DatagramHandler {
    private var lookup: NameLookup
    private let sockets: AskingSockets
    /// Where an answer comes by that is too large for a datagram.
    private var stream: TCPRequest?
    private var timer: TimerHandle?
    private let onOutcome: (LookupOutcome) -> Void
    private unowned let reactor: Reactor

    init(
        _ question: DNSQuestion, _ servers: NameServers, reactor: Reactor,
        onOutcome: @escaping (LookupOutcome) -> Void
    ) {
        lookup = NameLookup(
            question, servers: servers.servers, timeout: servers.timeout, attempts: servers.attempts,
            random: randomSeed())
        self.reactor = reactor
        self.onOutcome = onOutcome
        sockets = AskingSockets(reactor)
        sockets.handler = self
        // Even what is known at once is told from a turn of the reactor.
        timer = reactor.timer { [unowned self] in
            lookup.timerFired(at: self.reactor.now)
            settle()
        }
    }

    func start() {
        lookup.start(at: reactor.now)
        send()
        timer?.schedule(at: lookup.outcome == nil ? lookup.nextDeadline : reactor.now)
    }

    func close() {
        timer = nil
        sockets.close()
        stream?.close()
    }

    private func settle() {
        send()
        timer?.schedule(at: lookup.nextDeadline)
        if let outcome = lookup.outcome, timer != nil { onOutcome(outcome) }
    }

    private func send() {
        while let (bytes, server) = lookup.nextDatagram() { sockets.send(bytes, to: server) }
        if let (bytes, server) = lookup.nextStream() { ask(bytes, server) }
    }

    private func ask(_ bytes: [UInt8], _ server: SocketAddress) {
        stream?.close()
        do throws(ReactorError) {
            stream = try TCPRequest(bytes, to: server, reactor: reactor) { [unowned self] octets in
                lookup.streamReceived(octets.span, at: reactor.now)
                settle()
            } ended: { [unowned self] in
                lookup.streamEnded(at: reactor.now)
                settle()
            }
        } catch {
            lookup.streamEnded(at: reactor.now)
        }
    }

    func datagramsReceived(_ batch: inout DatagramBatch, on socket: UDPSocket) {
        for index in 0..<batch.count {
            let from = batch.source(index)
            let bytes = batch[index]
            lookup.datagramReceived(bytes.span, from: from, at: reactor.now)
        }
        settle()
    }

    func networkErrorReceived(_ error: NetworkError, on socket: UDPSocket) {
        guard GatewayNotice(error)?.kind == .unreachable else { return }
        lookup.unreachable(error.destination, quoted: error.quoted, at: reactor.now)
        settle()
    }
}
