// Long because every step of a datagram needs the keys, which nothing else gets to see.
import QUIC
import Wire

/// A QUIC connection with its keys: protected datagrams go in and come out. It joins the machine (`Connection`), the
/// TLS session and packet protection, and still holds no socket and no clock.
///
///     datagram -> split, unmask, open in place -> machine.packetReceived -> CRYPTO octets -> TLS -> keys, and octets
///     machine.transmit -> packets in the clear + plans -> sealed in place, one call for each key -> datagram
///
/// After `receive` or `timerFired`, take `nextEvent` until it is nil, then call `transmit` until it returns nil. It
/// belongs to one thread at a time.
public final class SecureConnection {
    /// What became of packets that could not be opened at once.
    public struct Counters: Sendable, Equatable {
        /// Not authentic with the keys at hand.
        public var unopened: UInt64 = 0
        /// Kept until their keys came.
        public var buffered: UInt64 = 0
        /// Came before their keys when as many others, or as many octets, as may already waited.
        public var bufferOverflows: UInt64 = 0
        /// Malformed, of no use, or in a datagram that breaks a rule.
        public var ignored: UInt64 = 0
    }

    /// Its arrival is kept: the time it waits is no delay of ours (RFC 9000 section 13.2.5).
    private struct EarlyPacket {
        var level: ProtectionLevel
        var bytes: [UInt8]
        var from: SocketAddress
        var to: SocketAddress?
        var ecn: ECN
        var arrival: Instant
    }

    /// Packets that may wait for their keys (RFC 9001 section 5.7).
    public static let maxBuffered = 16
    /// Octets of them: anybody can make a server keep them, and a datagram may have 64 KiB.
    public static let maxBufferedOctets = 32 << 10

    /// The connection itself: streams, datagrams, closing. Take its events from `nextEvent` here.
    public var machine: Connection
    /// Counts since the connection began.
    public private(set) var counters = Counters()
    /// Client: the newest thing to resume with on another connection; it holds secrets.
    public private(set) var sessionTicket: [UInt8]?
    /// The agreed application protocol, once the handshake is complete.
    public private(set) var alpn: String?
    /// Whether the handshake resumed an earlier session.
    public private(set) var isResumed = false
    /// The suite of the 1-RTT keys, once there are any.
    public private(set) var suite: CipherSuite?
    /// Sees each packet in the clear, as it was opened or before it is sealed, for a log; nil costs nothing.
    public var onPacket: ((PacketTrace, Span<UInt8>) -> Void)?
    /// Packets sealed with one 1-RTT key before it is updated. The suite's confidentiality limit ends the connection.
    public var packetsPerKey: UInt64 = .max
    /// Packets sealed with one 1-RTT key before the connection ends, if it could not be updated. The suite's confidentiality limit
    /// ends it anyway.
    public var mostPerKey: UInt64 = .max
    /// Packets that may fail authentication with the 1-RTT keys. The suite's integrity limit ends the connection anyway.
    public var maxForgeries: UInt64 = .max

    private var tls: TLSSession?
    private let idLength: Int
    private let firstDestination: ConnectionID
    private var initialKeys: (sealing: SealingKey, opening: OpeningKey)?
    private var handshakeSealing: SealingKey?
    private var handshakeOpening: OpeningKey?
    private var handshakeDropped = false
    /// 1-RTT keys of one direction, until the other one's are there too.
    private var firstSealing: SealingKey?
    private var firstOpening: OpeningKey?
    private var application: ApplicationKeys?
    private var previousKeyDeadline = Instant.distantFuture

    private var early: [EarlyPacket] = []
    private var hasNewKeys = false
    /// Taken from the machine while the handshake lasts, at most `maxEarlyEvents`; what comes after them stays there, bounded.
    private var events: [ConnectionEvent] = []
    static let maxEarlyEvents = 64
    private var eventHead = 0
    private var plans: [PacketPlan] = []

    /// A client's connection; its first datagram is ready.
    ///
    /// - Parameters:
    ///   - configuration: what the connection offers and allows.
    ///   - context: a client's.
    ///   - serverName: what the server's certificate must be for.
    ///   - remote: where the server is.
    ///   - localID: the ID that the server will address us by.
    ///   - token: from a NEW_TOKEN frame of an earlier connection to this server.
    ///   - resume: a `sessionTicket` of an earlier connection to this server.
    ///   - seed: where connection IDs and all else that nobody may guess come from.
    ///   - now: when the connection begins.
    public init(
        client configuration: ConnectionConfiguration, tls context: TLSContext, serverName: String?,
        to remote: SocketAddress, localID: ConnectionID, token: [UInt8] = [], resume: [UInt8]? = nil,
        seed: SeededRandom, at now: Instant
    ) throws(TLSConfigurationError) {
        precondition(context.role == .client)
        var random = seed
        let destination = ConnectionID(random.octets(8))!
        machine = Connection(
            client: configuration, to: remote, localID: localID, serverID: destination, token: token,
            seed: SeededRandom(from: &random), at: now)
        let session = try TLSSession(
            context: context, serverName: serverName, transportParameters: machine.localParameters.encoded(),
            resume: resume)
        tls = session
        idLength = localID.count
        firstDestination = destination
        initialKeys = InitialSecrets.keys(for: .client, destination: destination)
        do { try session.start() } catch { machine.close(error, at: now) }
        takeOutputs(at: now)
    }

    /// A server's connection for a client that was let in. Hand it the client's datagram next.
    ///
    /// - Parameters:
    ///   - configuration: what the connection offers and allows.
    ///   - context: a server's.
    ///   - admitted: what `Admission.judge` said of the client.
    ///   - localID: the ID that the client will address us by from its second flight on.
    ///   - resetToken: the stateless reset token of `localID`; nil for none.
    ///   - seed: where connection IDs and all else that nobody may guess come from.
    ///   - now: when the connection begins.
    public init(
        server configuration: ConnectionConfiguration, tls context: TLSContext, admitted: Admission.Client,
        localID: ConnectionID, resetToken: [UInt8]?, seed: SeededRandom, at now: Instant
    ) throws(TLSConfigurationError) {
        precondition(context.role == .server)
        machine = Connection(
            server: configuration, to: admitted.address, localID: localID, clientID: admitted.source,
            original: admitted.originalDestination, retrySource: admitted.retrySource,
            addressValidated: admitted.isValidated, resetToken: resetToken, seed: seed, at: now)
        tls = try TLSSession(context: context, transportParameters: machine.localParameters.encoded())
        idLength = localID.count
        firstDestination = admitted.destination
        initialKeys = InitialSecrets.keys(for: .server, destination: admitted.destination)
    }

    // MARK: Time and events

    /// When `timerFired` is to be called.
    public var nextDeadline: Instant { machine.nextDeadline }

    /// Time has come to `now`.
    public func timerFired(at now: Instant) { machine.timerFired(at: now) }

    /// The next thing that the application has to know or do; CRYPTO octets and keys have been seen to.
    public func nextEvent(at now: Instant) -> ConnectionEvent? {
        if eventHead < events.count {
            defer { eventHead += 1 }
            return events[eventHead]
        }
        if eventHead > 0 { events = [] }
        eventHead = 0
        while let event = machine.nextEvent() {
            if !handle(event, at: now) { return event }
        }
        return nil
    }

    // MARK: Datagrams in

    /// Takes a datagram, which is opened in place.
    ///
    /// - Parameters:
    ///   - datagram: the UDP payload, whose packets are opened in place.
    ///   - from: the sender's address.
    ///   - to: the local address it came to, where that is known.
    ///   - ecn: the codepoint of its IP header.
    ///   - now: when it came.
    ///   - extension: takes the frames that QUIC itself does not know.
    public func receive<E: FrameExtension>(
        _ datagram: inout MutableSpan<UInt8>, from: SocketAddress, to: SocketAddress?, ecn: ECN, at now: Instant,
        extension: inout E
    ) {
        machine.datagramReceived(octets: datagram.count, from: from, at: now)
        if now >= previousKeyDeadline {
            application?.dropPreviousReadKey()
            previousKeyDeadline = .distantFuture
        }
        var offset = 0
        var destination: ConnectionID?
        while offset < datagram.count {
            guard let header = PacketHeader.parse(datagram.span, at: offset, shortIDLength: idLength) else {
                ignore(datagram.span, at: now)
                break
            }
            // Coalesced packets are for one connection (RFC 9000 section 12.2).
            guard destination == nil || destination == header.destination else {
                counters.ignored += 1
                break
            }
            destination = header.destination
            offset = header.end
            switch header.kind {
            case .oneRTT:
                open(.application, header, &datagram, from: from, to: to, ecn: ecn, at: now, extension: &`extension`)
            case .handshake:
                open(.handshake, header, &datagram, from: from, to: to, ecn: ecn, at: now, extension: &`extension`)
            case .initial:
                // RFC 9000 sections 17.2.2, 14 and 14.1.
                guard machine.role == .client ? header.token.isEmpty : datagram.count >= 1200 else {
                    counters.ignored += 1
                    continue
                }
                open(.initial, header, &datagram, from: from, to: to, ecn: ecn, at: now, extension: &`extension`)
            case .retry: retryReceived(header, datagram.span, at: now)
            case .versionNegotiation: versionNegotiationReceived(header, datagram.span, at: now)
            // RFC 9000 section 5.2.1: of the versions, there is one.
            // 0-RTT packets are not opened by either end (RFC 9001 section 5.6).
            case .zeroRTT, .unknownVersion: ignore(datagram.span, at: now)
            }
        }
        while hasNewKeys { openEarlyPackets(at: now, extension: &`extension`) }
        // The server's flight is longer than what has come: it goes on when this is acknowledged.
        if handshakeOpening != nil, handshakeSealing == nil, !handshakeDropped {
            tls?.announceWriteSecret()
            takeOutputs(at: now)
        }
    }

    private func open<E: FrameExtension>(
        _ level: ProtectionLevel, _ header: PacketHeader, _ datagram: inout MutableSpan<UInt8>, from: SocketAddress,
        to: SocketAddress?, ecn: ECN, at now: Instant, arrival: Instant? = nil, extension: inout E
    ) {
        let largest = machine.largestReceived(level)
        let opened: OpenedPacket?
        if level == .application, application != nil {
            opened = application!.open(
                &datagram, start: header.start, packetNumberOffset: header.packetNumberOffset, end: header.end,
                largest: largest)
        } else if let key = openingKey(level) {
            opened = key.open(
                &datagram, start: header.start, packetNumberOffset: header.packetNumberOffset, end: header.end,
                largest: largest)
        } else {
            keep(level, header, datagram.span, from: from, to: to, ecn: ecn, at: now)
            return
        }
        guard let opened else {
            notOpened(level, datagram.span, at: now)
            return
        }
        if level == .application, opened.keyGeneration > 0, previousKeyDeadline == .distantFuture,
            application?.keepsPreviousReadKey == true
        {
            // RFC 9001 section 6.5.
            previousKeyDeadline = now + machine.probeTimeout * 3
        }
        let reserved: UInt8 = level == .application ? 0x18 : 0x0c
        let packet = ReceivedPacket(
            level: level, packetNumber: opened.packetNumber, destination: header.destination, source: header.source,
            from: from, to: to, ecn: ecn, keyGeneration: opened.keyGeneration,
            reservedBitsAreZero: opened.firstOctet & reserved == 0, arrival: arrival)
        onPacket?(
            PacketTrace(
                isSent: false, level: level, packetNumber: opened.packetNumber, size: header.end - header.start, at: now
            ),
            datagram.span.extracting(opened.payload))
        let early = !handshakeDropped
        machine.packetReceived(
            packet, payload: datagram.span.extracting(opened.payload), at: now, extension: &`extension`)
        // The next packet of the datagram may need keys that this one brings.
        if early { takeEvents(at: now) }
    }

    /// Whether the datagram, of which something was no use, says that the peer has lost its state: whatever its header looks
    /// like (RFC 9000 sections 10.3 and 10.3.1).
    private func takeStatelessReset(_ datagram: Span<UInt8>, at now: Instant) -> Bool {
        guard datagram.count >= StatelessReset.minimumLength else { return false }
        let tail = (datagram.count - StatelessResetKey.tokenLength)..<datagram.count
        guard machine.isStatelessReset([UInt8](datagram.extracting(tail))) else { return false }
        machine.statelessResetReceived(at: now)
        return true
    }

    private func ignore(_ datagram: Span<UInt8>, at now: Instant) {
        counters.ignored += 1
        _ = takeStatelessReset(datagram, at: now)
    }

    private func openingKey(_ level: ProtectionLevel) -> OpeningKey? {
        switch level {
        case .initial: initialKeys?.opening
        case .handshake: handshakeOpening
        case .application: nil
        }
    }

    private func notOpened(_ level: ProtectionLevel, _ datagram: Span<UInt8>, at now: Instant) {
        counters.unopened += 1
        guard !takeStatelessReset(datagram, at: now), level == .application else { return }
        if let application, application.failedCount >= min(maxForgeries, application.suite.integrityLimit) {
            machine.close(TransportError(.aeadLimitReached, "too many packets failed authentication"), at: now)
        }
    }

    // MARK: Packets that come before their keys

    private func keep(
        _ level: ProtectionLevel, _ header: PacketHeader, _ datagram: Span<UInt8>, from: SocketAddress,
        to: SocketAddress?, ecn: ECN, at now: Instant
    ) {
        guard level == .application || level == .handshake && !handshakeDropped else {
            ignore(datagram, at: now)
            return
        }
        let octets = early.reduce(header.end - header.start) { $0 + $1.bytes.count }
        guard early.count < Self.maxBuffered, octets <= Self.maxBufferedOctets else {
            counters.bufferOverflows += 1
            return
        }
        counters.buffered += 1
        let bytes = [UInt8](datagram.extracting(header.start..<header.end))
        early.append(EarlyPacket(level: level, bytes: bytes, from: from, to: to, ecn: ecn, arrival: now))
    }

    private func openEarlyPackets<E: FrameExtension>(at now: Instant, extension: inout E) {
        hasNewKeys = false
        let waiting = early
        early.removeAll()
        for packet in waiting {
            guard packet.level == .application ? application != nil : handshakeOpening != nil else {
                if packet.level == .application || !handshakeDropped { early.append(packet) }
                continue
            }
            guard let header = PacketHeader.parse(packet.bytes.span, at: 0, shortIDLength: idLength) else { continue }
            var bytes = packet.bytes
            var span = bytes.mutableSpan
            open(
                packet.level, header, &span, from: packet.from, to: packet.to, ecn: packet.ecn, at: now,
                arrival: packet.arrival, extension: &`extension`)
        }
    }

    // MARK: Packets without packet numbers

    private func retryReceived(_ header: PacketHeader, _ datagram: Span<UInt8>, at now: Instant) {
        let packet = datagram.extracting(header.start..<header.end)
        guard machine.role == .client, machine.localConnectionIDs.contains(header.destination),
            // RFC 9000 section 17.2.5.2.
            Retry.isAuthentic(packet, originalDestination: firstDestination),
            machine.retryReceived(
                source: header.source, token: [UInt8](datagram.extracting(header.token)), at: now)
        else {
            counters.ignored += 1
            return
        }
        initialKeys = InitialSecrets.keys(for: .client, destination: header.source)
    }

    private func versionNegotiationReceived(_ header: PacketHeader, _ datagram: Span<UInt8>, at now: Instant) {
        // Only whoever saw our first packet knows both IDs (RFC 9000 section 17.2.1).
        guard machine.role == .client, machine.localConnectionIDs.contains(header.destination),
            header.source == firstDestination
        else {
            counters.ignored += 1
            return
        }
        machine.versionNegotiationReceived(VersionNegotiation.versions(in: datagram, header: header), at: now)
    }

    // MARK: TLS

    private func takeEvents(at now: Instant) {
        while events.count < Self.maxEarlyEvents, let event = machine.nextEvent() {
            if !handle(event, at: now) { events.append(event) }
        }
    }

    /// Sees to an event that is not the application's business.
    private func handle(_ event: ConnectionEvent, at now: Instant) -> Bool {
        switch event {
        case .handshakeBytes(let level, let bytes):
            do throws(TransportError) {
                guard let tls else {
                    throw TransportError(.crypto(alert: 10), "TLS message after the handshake")
                }
                try tls.receive(level: level, bytes.span)
            } catch { machine.close(error, at: now) }
            takeOutputs(at: now)
        case .discardKeys(.initial): initialKeys = nil
        case .discardKeys(.handshake):
            handshakeSealing = nil
            handshakeOpening = nil
            handshakeDropped = true
        default: return false
        }
        return true
    }

    private func takeOutputs(at now: Instant) {
        while let output = tls?.nextOutput() {
            switch output {
            case .handshake(let level, let bytes): machine.queueHandshakeBytes(bytes, at: level)
            case .secret(let level, let direction, let suite, let secret):
                install(level, direction, suite, secret, at: now)
            case .transportParameters(let bytes): machine.peerParametersReceived(bytes, at: now)
            case .completed:
                alpn = tls?.alpn
                isResumed = tls?.isResumed ?? false
                machine.handshakeCompleted(at: now)
            case .ticket(let bytes): sessionTicket = bytes
            }
        }
        // A server has no more to say in TLS, and a session is the heaviest part of an idle connection.
        if machine.role == .server, tls?.isComplete == true { tls = nil }
    }

    private func install(
        _ level: ProtectionLevel, _ direction: TLSSession.Direction, _ suite: CipherSuite, _ secret: [UInt8],
        at now: Instant
    ) {
        switch (level, direction) {
        case (.handshake, .read): handshakeOpening = OpeningKey(suite: suite, secret: secret)
        case (.handshake, .write): handshakeSealing = SealingKey(suite: suite, secret: secret)
        case (.application, .read): firstOpening = OpeningKey(suite: suite, secret: secret)
        case (.application, .write): firstSealing = SealingKey(suite: suite, secret: secret)
        case (.initial, _): return
        }
        if level == .application {
            self.suite = suite
            if let firstOpening, let firstSealing {
                application = ApplicationKeys(reading: firstOpening, writing: firstSealing)
                self.firstOpening = nil
                self.firstSealing = nil
            }
        }
        switch direction {
        case .read:
            hasNewKeys = true
            machine.readKeysInstalled(level, at: now)
        case .write: machine.writeKeysInstalled(level)
        }
    }

    // MARK: Datagrams out

    /// Writes one protected datagram at the beginning of `buffer`; nil when there is nothing to send now. Call again
    /// until then.
    public func transmit(into buffer: inout MutableSpan<UInt8>, at now: Instant) -> OutgoingDatagram? {
        var datagrams: [OutgoingDatagram] = []
        _ = transmit(into: &buffer, most: 1, datagrams: &datagrams, at: now)
        return datagrams.first
    }

    /// Writes protected datagrams one after the other from the beginning of `buffer` on, `most` of them or as many as
    /// there is room for, and appends them to `datagrams`, runs of those that are alike as one. They are sealed together,
    /// which is cheaper than one by one.
    /// - Returns: whether there is nothing more to send now; otherwise call again.
    public func transmit(
        into buffer: inout MutableSpan<UInt8>, most: Int, datagrams: inout [OutgoingDatagram], at now: Instant
    ) -> Bool {
        plans.removeAll(keepingCapacity: true)
        let isDone: Bool
        do {
            var writer = ByteWriter(&buffer)
            isDone = machine.transmit(into: &writer, most: most, plans: &plans, datagrams: &datagrams, at: now)
        }
        guard !plans.isEmpty else { return isDone }
        if let onPacket {
            for plan in plans {
                onPacket(
                    PacketTrace(
                        isSent: true, level: plan.level, packetNumber: plan.packetNumber, size: plan.end - plan.start,
                        at: now),
                    buffer.span.extracting(plan.payloadOffset..<(plan.end - CipherSuite.tagLength)))
            }
        }
        var begin = 0
        while begin < plans.count {
            var end = begin + 1
            while end < plans.count, plans[end].level == plans[begin].level,
                plans[end].keyGeneration == plans[begin].keyGeneration
            {
                end += 1
            }
            seal(plans[begin].level, &buffer, begin..<end)
            begin = end
        }
        keepKeyYoung(at: now)
        return isDone
    }

    private func seal(_ level: ProtectionLevel, _ buffer: inout MutableSpan<UInt8>, _ range: Range<Int>) {
        // A reference of its own for the call, so that it does not overlap with changes to `self`.
        let all = plans
        switch level {
        case .initial: initialKeys!.sealing.seal(&buffer, all.span.extracting(range))
        case .handshake: handshakeSealing!.seal(&buffer, all.span.extracting(range))
        case .application:
            if application != nil {
                application!.seal(&buffer, all.span.extracting(range))
            } else {
                // A server may speak before it can listen.
                firstSealing!.seal(&buffer, all.span.extracting(range))
            }
        }
    }

    /// Updates a 1-RTT key before it has sealed too much, and ends the connection if that never succeeds, while there is still
    /// room to say so (RFC 9001 sections 5.3 and 6.6).
    private func keepKeyYoung(at now: Instant) {
        // Asked for after each batch, and a copy of the keys would be five references to retain.
        guard let sealed = application?.sealedCount, let suite else { return }
        let most = min(mostPerKey, suite.confidentialityLimit)
        guard sealed >= min(packetsPerKey, most / 2), machine.keyGeneration == application?.writeGeneration else {
            return
        }
        if machine.updateKeys() { return }
        if sealed + Self.closingReserve >= most {
            machine.close(TransportError(.aeadLimitReached, "the key is used up and could not be updated"), at: now)
        }
    }

    /// Packets that a key may still seal when the connection ends for its age: those of a batch, and of the closing.
    static let closingReserve: UInt64 = 256
}
