import Wire

// The gateway's side of AMT (RFC 7450 section 5.2) as a value: one tunnel, for data of one IP version.
//
//     subscribe ──> nextDatagram: what to send, until nil
//     datagram ──> datagramReceived ──> a UDP packet of the group, after all checks        (Gateway+Data.swift)
//     ICMP error ──> noticeReceived                                                    (Gateway+Notices.swift)
//     nextDeadline ──> timerFired
//     nextEvent: what happened
//
//     discovering ── Advertisement ──> requesting ── Query ──> joined ── refresh, or silence ──> requesting
//          ^                               └── no answer ──┐                                        │
//          └───────────────────────────────────────────────┴────────────────────────────────────────┘
//
// Data is taken at all times from the relay joined last: a refresh that is not answered yet interrupts nothing.
// One Request is in flight at a time, since Linux relays keep one nonce only.

/// One tunnel as the gateway has it; see the essay at the top of this file.
public struct Gateway: Sendable {
    enum Pending {
        case nothing
        case discovery(nonce: UInt32)
        case request(nonce: UInt32)
    }

    /// What a Membership Query gave, for the Updates and the Teardown that follow it.
    struct Grant {
        var mac: ResponseMAC
        var nonce: UInt32
        var gateway: SocketAddress?
        var robustness: Int
    }

    /// How it behaves. After `move` it discovers no relays.
    public private(set) var configuration: GatewayConfiguration
    /// The IP version of the channels; that of the tunnel may be the other.
    public let family: DataFamily
    /// Where relays are looked for; nil as long as nobody knows: nothing is sent then.
    public private(set) var discovery: SocketAddress?
    /// What it has seen.
    public internal(set) var counters = GatewayCounters()
    /// What is asked for, in the order of the subscriptions.
    public private(set) var channels: [Channel] = []
    /// The relay that answers for us, once one was found.
    public private(set) var relay: SocketAddress?
    /// Whether the relay was told what is wanted, and nothing speaks against it since.
    public internal(set) var isJoined = false
    /// The last Query told gateways to look for another relay.
    private var isToldToGo = false

    var pending = Pending.nothing
    var attempts = 0
    var retryAt = Instant.distantFuture
    var refreshAt = Instant.distantFuture
    var silentAt = Instant.distantFuture
    var silence: Duration
    /// While the network says that the relay is gone: until when it may prove otherwise.
    var doubtedUntil = Instant.distantFuture
    var nextDoubtAt = Instant(nanoseconds: .min)
    /// Errors that prove nothing, one for each message sent at the most, and whether the last message has had its own.
    var suspicions = 0
    var isSuspected = false
    /// Relays found unreachable since one was joined.
    var failures = 0
    var grant: Grant?
    /// Which of `styles` the Requests have, and whether the relay has answered one of it.
    private var style = 0
    private var isStyleProven = false
    /// Messages that are sent again without an answer being known: state changes and teardowns (robustness).
    var repeats: [(at: Instant, bytes: [UInt8], to: SocketAddress)] = []
    private var outgoing: [(bytes: [UInt8], to: SocketAddress)] = []
    var events: [GatewayEvent] = []
    var reassembly = Reassembly()
    private var random: SeededRandom

    /// - Parameters:
    ///   - discovery: where relays are looked for; nil: nobody knows yet, `move` says.
    ///   - family: the IP version of the channels.
    ///   - configuration: times and limits.
    ///   - seed: where nonces and pauses come from; nobody else may know it (RFC 7450 sections 5.2.3.4.5 and 5.2.3.5.6).
    public init(
        discovery: SocketAddress?, family: DataFamily, configuration: GatewayConfiguration = GatewayConfiguration(),
        seed: SeededRandom
    ) {
        self.discovery = discovery
        self.family = family
        self.configuration = configuration
        silence = configuration.silence
        random = seed
    }

    // MARK: what is wanted

    /// Asks for the packets of `channel`. False when there are too many, or it is of the other IP version.
    @discardableResult
    public mutating func subscribe(_ channel: Channel, at now: Instant) -> Bool {
        if channels.contains(channel) { return true }
        guard channels.count < configuration.channelLimit, channel.group.isMulticast, !channel.group.isLinkLocalGroup,
            channel.group.isIPv4 == (family == .ipv4), channel.source.map({ $0.isIPv4 == channel.group.isIPv4 }) ?? true
        else { return false }
        channels.append(channel)
        silence = configuration.silence
        if isJoined, let grant {
            report(records(of: [channel.group]), grant, at: now, repeated: true)
            silentAt = min(silentAt, now + silence)
        } else if case .nothing = pending {
            seek(at: now)
        }
        return true
    }

    /// Asks for `channel` no more, and tells the relay. One that was not asked for changes nothing.
    public mutating func unsubscribe(_ channel: Channel, at now: Instant) {
        guard let index = channels.firstIndex(of: channel) else { return }
        channels.remove(at: index)
        if let grant, isJoined {
            let record =
                if let source = channel.source {
                    GroupRecord(.block, channel.group, [source])
                } else {
                    GroupRecord(.toInclude, channel.group, sources(of: channel.group))
                }
            report([record], grant, at: now, repeated: true)
        }
        if channels.isEmpty { rest() }
    }

    /// Leaves everything. What is to be sent is there at once, for a shell that ends.
    public mutating func stop(at now: Instant) {
        leave(at: now)
        channels = []
        rest()
    }

    /// Goes over to `relay`, which takes Requests without discovery. What is wanted stays wanted; the relay used so far
    /// is told that nothing is wanted from it.
    public mutating func move(to relay: SocketAddress, at now: Instant) {
        leave(at: now)
        rest()
        forgetStyle()
        silence = configuration.silence
        configuration.discovers = false
        discovery = relay
        self.relay = relay
        if !channels.isEmpty { seek(at: now) }
    }

    /// The relay in use was seen to answer: a Request that waits to be sent again goes out now.
    public mutating func relayAnswers(at now: Instant) {
        guard case .request = pending, attempts > 0 else { return }
        attempts = 0
        request(at: now)
    }

    /// Tells the relay that nothing is wanted from it any more, here and now; what is wanted stays wanted.
    public mutating func leave(at now: Instant) {
        if let grant, isJoined, let relay {
            report(
                Set(channels.map(\.group)).map { GroupRecord(.toInclude, $0) }, grant, at: now, repeated: false)
            if let gateway = grant.gateway { tearDown(gateway, grant, relay, at: now, repeated: false) }
        }
        repeats = []
        grant = nil
        isJoined = false
    }

    /// Nothing is wanted: nothing is asked for.
    private mutating func rest() {
        pending = .nothing
        isJoined = false
        (retryAt, refreshAt, silentAt) = (.distantFuture, .distantFuture, .distantFuture)
        attempts = 0
        doubtedUntil = .distantFuture
        suspicions = 0
    }

    // MARK: asking

    /// First a relay, then a Query of it, then what is wanted (RFC 7450 section 5.2.3.6.2).
    private mutating func seek(at now: Instant) {
        attempts = 0
        guard let discovery else { return }
        if relay == nil, !configuration.discovers { relay = discovery }
        if relay != nil { request(at: now) } else { discover(at: now) }
    }

    mutating func discover(at now: Instant) {
        pending = .discovery(nonce: nonce())
        sendPending(at: now)
    }

    mutating func request(at now: Instant) {
        pending = .request(nonce: nonce())
        sendPending(at: now)
    }

    /// How Requests may be written, in the order in which a relay that does not answer is asked. Linux has P elsewhere,
    /// and drops a Request with E, or with P where RFC 7450 has it.
    private var styles: [(declaresECN: Bool, usesLinuxFlags: Bool)] {
        (configuration.declaresECN ? [(true, false)] : []) + (family == .ipv6 ? [(false, true)] : []) + [(false, false)]
    }

    private mutating func forgetStyle() {
        style = 0
        isStyleProven = false
    }

    /// Random, and not 0 (RFC 7450 section 5.2.3.4.5). Each Discovery and each Request that is not sent again has another
    /// (RFC 7450 section 5.2.3.5.6).
    mutating func nonce() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) | 1 }

    /// Sends what is asked, or sends it again, to where it has to go (RFC 7450 sections 5.1.1, 5.1.3, 5.2.3.4.2 and
    /// 5.2.3.5.2).
    private mutating func sendPending(at now: Instant) {
        isSuspected = false
        switch pending {
        case .nothing: return
        case .discovery(let nonce):
            guard let discovery else { return }
            counters.discoveriesSent += 1
            outgoing.append((Message.discovery(nonce: nonce).bytes, discovery))
        case .request(let nonce):
            guard let relay else { return }
            counters.requestsSent += 1
            let (declaresECN, usesLinuxFlags) = styles[style]
            let request = Message.Request(
                nonce: nonce, family: family, usesLinuxFlags: usesLinuxFlags, declaresECN: declaresECN)
            outgoing.append((Message.request(request).bytes, relay))
        }
        waitForRetry(at: now)
    }

    mutating func waitForRetry(at now: Instant) {
        let longest = min(configuration.firstRetry * (1 << min(attempts, 20)), configuration.longestRetry)
        let span = max(0, (longest - configuration.firstRetry).nanoseconds)
        let wait = configuration.firstRetry + .nanoseconds(Int64(random.next() % UInt64(span + 1)))
        retryAt = now + wait
    }

    private mutating func retry(at now: Instant) {
        attempts += 1
        events.append(.noAnswer(attempt: attempts))
        if case .request = pending {
            if attempts >= configuration.requestAttempts { isStyleProven = false }
            if !isStyleProven { style = (style + 1) % styles.count }
            if configuration.discovers, attempts >= configuration.requestAttempts {
                isJoined = false
                attempts = 0
                discover(at: now)
                return
            }
        }
        sendPending(at: now)
    }

    // MARK: telling

    private func sources(of group: IPAddress) -> [IPAddress] {
        channels.filter { $0.group == group }.compactMap(\.source)
    }

    /// Current-state records. Linux relays forget the source of an ALLOW at the next current-state record, so that
    /// joins are current-state records too.
    private func records(of groups: [IPAddress]) -> [GroupRecord] {
        groups.map { group in
            channels.contains(Channel(source: nil, group: group))
                ? GroupRecord(.isExclude, group) : GroupRecord(.isInclude, group, sources(of: group))
        }
    }

    /// Sends reports to the relay with what its last Query gave (RFC 7450 sections 5.1.5 and 5.2.3.6.2).
    private mutating func report(_ records: [GroupRecord], _ grant: Grant, at now: Instant, repeated: Bool) {
        guard let relay else { return }
        for part in MembershipReport(family: family, records: records).split() {
            counters.updatesSent += 1
            let bytes = Message.update(mac: grant.mac, nonce: grant.nonce).bytes(datagram: part.packet())
            outgoing.append((bytes, relay))
            if repeated { again(bytes, to: relay, times: grant.robustness - 1, at: now) }
        }
    }

    /// Sends the fields of the Query that gave the MAC of the last Update back to the relay (RFC 7450 sections 5.1.7 and
    /// 5.2.3.7.2).
    private mutating func tearDown(
        _ gateway: SocketAddress, _ grant: Grant, _ relay: SocketAddress, at now: Instant, repeated: Bool
    ) {
        counters.teardownsSent += 1
        let bytes = Message.teardown(mac: grant.mac, nonce: grant.nonce, gateway: gateway).bytes
        outgoing.append((bytes, relay))
        if repeated { again(bytes, to: relay, times: grant.robustness - 1, at: now) }
    }

    /// What is not answered goes out several times, a second apart.
    private mutating func again(_ bytes: [UInt8], to relay: SocketAddress, times: Int, at now: Instant) {
        for index in 0..<max(0, times) where repeats.count < 64 {
            repeats.append((now + .seconds(index + 1), bytes, relay))
        }
    }

    // MARK: hearing

    /// Handles one datagram that came to the gateway's socket: an Advertisement, a Query or data, and no other message
    /// (RFC 7450 section 5.2.3.2). Its packet, if it was data of a channel asked for, which may come at any time and has
    /// to come from the relay (RFC 7450 section 5.2.3.3).
    public mutating func datagramReceived(
        _ bytes: Span<UInt8>, from sender: SocketAddress, ecn: ECN = .notECT, at now: Instant
    ) -> GatewayDelivery? {
        switch Message(bytes) {
        case .data where sender == relay: return dataReceived(bytes, outer: ecn, at: now)
        case .advertisement(let nonce, let address): advertised(address, nonce: nonce, from: sender, at: now)
        case .query(let query) where sender == relay:
            queryReceived(query, GeneralQuery(bytes.extracting(query.datagram)), at: now)
        default: counters.unexpected += 1
        }
        return nil
    }

    /// An Advertisement counts when it is waited for, with the Discovery's nonce and from where that went
    /// (RFC 7450 section 5.2.3.4.4).
    private mutating func advertised(_ address: IPAddress, nonce: UInt32, from sender: SocketAddress, at now: Instant) {
        guard case .discovery(nonce) = pending, let discovery, sender == discovery,
            address.isIPv4 == discovery.address.isIPv4,
            !address.isMulticast, !address.isUnspecified
        else {
            counters.unexpected += 1
            return
        }
        let found = SocketAddress(address, port: discovery.port)
        if found != relay {
            grant = nil
            forgetStyle()
        }
        relay = found
        events.append(.relayFound(found))
        attempts = 0
        request(at: now)
    }

    /// A Query counts when it is waited for, with the Request's nonce, from the relay, and with a general query of our
    /// protocol in it. What it gives is kept, and says when to ask again (RFC 7450 section 5.2.3.5.4).
    private mutating func queryReceived(_ query: Message.Query, _ general: GeneralQuery?, at now: Instant) {
        guard case .request(query.nonce) = pending, let general, general.family == family, let relay else {
            counters.unexpected += 1
            return
        }
        counters.queriesReceived += 1
        isStyleProven = true
        trust()
        failures = 0
        let old = grant
        let fresh = Grant(
            mac: query.mac, nonce: query.nonce, gateway: query.gateway, robustness: Int(max(1, general.robustness)))
        pending = .nothing
        attempts = 0
        retryAt = .distantFuture
        // A relay that begins to drain, or has no room for what is wanted, says so to those it serves, too.
        if query.isLimited, !isJoined || !isToldToGo { events.append(.limited) }
        isToldToGo = query.isLimited
        // A translator gave us another address or port: the relay keeps sending to the old one until told otherwise
        // (RFC 7450 sections 5.2.3.5.4 and 5.2.3.7.1).
        if isJoined, let old, let before = old.gateway, let here = query.gateway, before != here {
            tearDown(before, old, relay, at: now, repeated: true)
        }
        grant = fresh
        var groups: [IPAddress] = []
        for channel in channels where !groups.contains(channel.group) { groups.append(channel.group) }
        report(records(of: groups), fresh, at: now, repeated: !isJoined)
        if !isJoined { events.append(.joined(relay)) }
        isJoined = true
        refreshAt = now + min(general.interval, configuration.refreshLimit)
        silentAt = now + silence
    }

    // MARK: time

    /// When `timerFired` is due.
    public var nextDeadline: Instant {
        repeats.reduce(min(retryAt, refreshAt, silentAt, doubtedUntil)) { min($0, $1.at) }
    }

    /// Sends what is due: retransmissions, refreshes (RFC 7450 section 5.2.3.5), and Requests after silence.
    public mutating func timerFired(at now: Instant) {
        for each in repeats where each.at <= now { outgoing.append((each.bytes, each.to)) }
        repeats.removeAll { $0.at <= now }
        if doubtedUntil <= now, let relay {
            giveUp(GatewayNotice(.unreachable, destination: relay), at: now)
        }
        if retryAt <= now { retry(at: now) }
        if silentAt <= now {
            silence = min(silence * 2, configuration.refreshLimit)
            silentAt = now + silence
            events.append(.silent)
            if case .nothing = pending { request(at: now) }
        }
        if refreshAt <= now {
            refreshAt = now + configuration.refreshLimit
            if case .nothing = pending { request(at: now) }
        }
    }

    // MARK: what comes out

    /// The next datagram to send, oldest first.
    public mutating func nextDatagram() -> (bytes: [UInt8], to: SocketAddress)? {
        outgoing.isEmpty ? nil : outgoing.removeFirst()
    }

    /// What happened, oldest first; nil when all was told.
    public mutating func nextEvent() -> GatewayEvent? { events.isEmpty ? nil : events.removeFirst() }
}
