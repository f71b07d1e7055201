import Wire

// The gateway's side of AMT (RFC 7450 section 5.2) as a value: one tunnel, for data of one IP version.
//
//     subscribe ──> nextDatagram: what to send, until nil
//     datagram ──> datagramReceived ──> a UDP packet of the group, after all checks
//     nextDeadline ──> timerFired
//     nextEvent: what happened
//
//     discovering ── Advertisement ──> requesting ── Query ──> joined ── refresh, or silence ──> requesting
//          ^                               └── no answer ──┐                                        │
//          └───────────────────────────────────────────────┴────────────────────────────────────────┘
//
// Data is taken at all times from the relay joined last: a refresh that is not answered yet interrupts nothing.
// One Request is in flight at a time, since Linux relays keep one nonce only.

public struct Gateway: Sendable {
    private enum Pending {
        case nothing
        case discovery(nonce: UInt32)
        case request(nonce: UInt32)
    }

    /// What a Membership Query gave, for the Updates and the Teardown that follow it.
    private struct Grant {
        var mac: ResponseMAC
        var nonce: UInt32
        var gateway: SocketAddress?
        var robustness: Int
    }

    public private(set) var configuration: GatewayConfiguration
    public let family: DataFamily
    /// Where relays are looked for; nil as long as nobody knows: nothing is sent then.
    public private(set) var discovery: SocketAddress?
    public private(set) var counters = GatewayCounters()
    public private(set) var channels: [Channel] = []
    /// The relay that answers for us, once one was found.
    public private(set) var relay: SocketAddress?
    /// Whether the relay was told what is wanted, and nothing speaks against it since.
    public private(set) var isJoined = false

    private var pending = Pending.nothing
    private var attempts = 0
    private var retryAt = Instant.distantFuture
    private var refreshAt = Instant.distantFuture
    private var silentAt = Instant.distantFuture
    private var silence: Duration
    /// While the network says that the relay is gone: until when it may prove otherwise.
    private var doubtedUntil = Instant.distantFuture
    private var nextDoubtAt = Instant(nanoseconds: .min)
    /// Errors that prove nothing, one for each message sent at the most, and whether the last message has had its own.
    private var suspicions = 0
    private var isSuspected = false
    /// Relays found unreachable since one was joined.
    private var failures = 0
    private var grant: Grant?
    /// Which of `styles` the Requests have, and whether the relay has answered one of it.
    private var style = 0
    private var isStyleProven = false
    /// Messages that are sent again without an answer being known: state changes and teardowns (robustness).
    private var repeats: [(at: Instant, bytes: [UInt8], to: SocketAddress)] = []
    private var outgoing: [(bytes: [UInt8], to: SocketAddress)] = []
    private var events: [GatewayEvent] = []
    private var reassembly = Reassembly()
    private var random: SeededRandom

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

    private mutating func seek(at now: Instant) {
        attempts = 0
        guard let discovery else { return }
        if relay == nil, !configuration.discovers { relay = discovery }
        if relay != nil { request(at: now) } else { discover(at: now) }
    }

    private mutating func discover(at now: Instant) {
        pending = .discovery(nonce: nonce())
        sendPending(at: now)
    }

    private mutating func request(at now: Instant) {
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

    private mutating func nonce() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) | 1 }

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

    private mutating func waitForRetry(at now: Instant) {
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

    private mutating func report(_ records: [GroupRecord], _ grant: Grant, at now: Instant, repeated: Bool) {
        guard let relay else { return }
        for part in MembershipReport(family: family, records: records).split() {
            counters.updatesSent += 1
            let bytes = Message.update(mac: grant.mac, nonce: grant.nonce).bytes(datagram: part.packet())
            outgoing.append((bytes, relay))
            if repeated { again(bytes, to: relay, times: grant.robustness - 1, at: now) }
        }
    }

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

    /// Handles one datagram that came to the gateway's socket. Its packet, if it was data of a channel asked for.
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
        if query.isLimited, !isJoined { events.append(.limited) }
        // A translator gave us another address or port: the relay keeps sending to the old one until told otherwise
        // (RFC 7450 section 5.2.3.7).
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

    private mutating func dataReceived(_ bytes: Span<UInt8>, outer: ECN, at now: Instant) -> GatewayDelivery? {
        let packet = bytes.extracting(Message.dataHeaderLength..<bytes.count)
        guard let header = try? IPHeader(packet), header.destination.isMulticast else {
            counters.damaged += 1
            return nil
        }
        guard
            channels.contains(where: { $0.group == header.destination && ($0.source ?? header.source) == header.source }
            )
        else {
            counters.notSubscribed += 1
            return nil
        }
        // Whatever is wrong with it: the tunnel works.
        trust()
        silentAt = now + configuration.silence
        silence = configuration.silence
        guard header.protocolNumber == IPProtocol.udp, let ecn = Self.combined(header.ecn, outer: outer) else {
            counters.damaged += 1
            return nil
        }
        if header.fragment != nil {
            counters.fragments += 1
            let whole = reassembly.add(header, packet.extracting(header.payload), at: now)
            counters.reassemblyFailures = reassembly.dropped
            guard let whole else { return nil }
            return deliver(whole.span, at: 0, header, ecn, reassembled: whole)
        }
        return deliver(
            packet.extracting(header.payload), at: Message.dataHeaderLength + header.headerLength, header, ecn,
            reassembled: nil)
    }

    private mutating func deliver(
        _ datagram: Span<UInt8>, at offset: Int, _ header: IPHeader, _ ecn: ECN, reassembled: [UInt8]?
    ) -> GatewayDelivery? {
        guard let udp = UDPHeader(datagram), udp.isIntact(datagram, from: header.source, to: header.destination) else {
            counters.damaged += 1
            return nil
        }
        counters.packetsDelivered += 1
        counters.octetsDelivered += UInt64(udp.length - UDPHeader.length)
        return GatewayDelivery(
            source: SocketAddress(header.source, port: udp.sourcePort),
            group: SocketAddress(header.destination, port: udp.destinationPort), ecn: ecn,
            hopLimit: header.hopLimit, payload: (offset + UDPHeader.length)..<(offset + udp.length),
            reassembled: reassembled)
    }

    /// The mark that counts after the tunnel (RFC 6040 section 4.2); nil: congestion that the sender cannot be told of,
    /// so that the packet is dropped.
    static func combined(_ inner: ECN, outer: ECN) -> ECN? {
        switch (inner, outer) {
        case (.notECT, .ce): nil
        case (.notECT, _), (.ce, _): inner
        case (_, .ce): .ce
        case (.ect0, .ect1): .ect1
        default: inner
        }
    }

    // MARK: what the network says

    /// Handles an ICMP error about a datagram of ours. It may be forged (RFC 5927): it has to be about something that is
    /// still to be answered and to quote its nonce, or to come again for the next message when the router quotes none;
    /// and a relay that was joined gets a moment to answer.
    public mutating func noticeReceived(_ notice: GatewayNotice, at now: Instant) {
        let sent: (to: SocketAddress?, type: UInt8, nonce: UInt32?) =
            switch pending {
            case .discovery(let nonce): (discovery, 1, nonce)
            case .request(let nonce): (relay, 3, nonce)
            case .nothing: (relay, 5, grant?.nonce)
            }
        guard let nonce = sent.nonce, notice.destination == sent.to || (isJoined && notice.destination == relay) else {
            counters.noticesIgnored += 1
            return
        }
        let isProven = notice.quotedNonce.map { $0.nonce == nonce && $0.type == sent.type }
        // Updates and Teardowns go on while a Request waits.
        let isOfGrant = notice.quotedNonce?.nonce == grant?.nonce && (notice.quotedNonce?.type ?? 0) >= 5
        guard isProven ?? true || isOfGrant else {
            counters.noticesIgnored += 1
            return
        }
        counters.notices += 1
        guard notice.kind != .tooLarge else {
            counters.tooLarge += 1
            return
        }
        if isJoined { return doubt(at: now) }
        if isProven == nil {
            if !isSuspected { suspicions += 1 }
            isSuspected = true
            guard suspicions >= 2 else { return }
        }
        giveUp(notice, at: now)
    }

    /// The relay answers.
    private mutating func trust() {
        doubtedUntil = .distantFuture
        suspicions = 0
    }

    private mutating func doubt(at now: Instant) {
        guard doubtedUntil == .distantFuture, now >= nextDoubtAt else { return }
        nextDoubtAt = now + configuration.graceInterval
        doubtedUntil = now + configuration.grace
        if case .nothing = pending { request(at: now) }
        // Once more within the grace: one message may be lost.
        retryAt = min(retryAt, now + configuration.grace / 2)
    }

    /// There is no relay where we ask. A shell that knows others goes over to one of them.
    private mutating func giveUp(_ notice: GatewayNotice, at now: Instant) {
        counters.unreachable += 1
        suspicions = 0
        doubtedUntil = .distantFuture
        isJoined = false
        grant = nil
        repeats = []
        (refreshAt, silentAt) = (.distantFuture, .distantFuture)
        events.append(notice.kind == .full ? .limited : .unreachable(notice.destination))
        guard configuration.discovers, case .request = pending else { return }
        // The discovery address may lead to another relay; if it leads to the same one, not without a pause.
        attempts = failures
        failures += 1
        if attempts == 0 {
            discover(at: now)
        } else {
            pending = .discovery(nonce: nonce())
            waitForRetry(at: now)
        }
    }

    // MARK: time

    public var nextDeadline: Instant {
        repeats.reduce(min(retryAt, refreshAt, silentAt, doubtedUntil)) { min($0, $1.at) }
    }

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

    public mutating func nextEvent() -> GatewayEvent? { events.isEmpty ? nil : events.removeFirst() }
}
