import Synchronization
import Wire

// One QUIC connection (RFC 9000, 9001, 9002) as a pure value: opened packets and time go in, packets in the clear and
// events come out. It never sees a key, a socket or a clock.
//
//     received packet --> packetReceived --+--> streams, recovery, paths, connection IDs
//                                          +--> nextEvent()                       (to TLS and to the application)
//     application ------> write, read, …   +--> transmit(into:plans:) --> datagram in the clear + seal plans
//     time -------------> nextDeadline, timerFired(at:)
//
// The parts: Connection+Handshake, Connection+Receive (frames in), Connection+Transmit (frames out), Connection+Control
// (connection IDs and paths), Connection+Timers, Connection+Closing, Connection+Events, and the value types
// StreamTable, LossRecovery, AckTracker, CryptoStream, PathMTU, NetworkPath and the connection ID tables.

/// Our end of one QUIC connection, as a pure value. It is not copied: four kilobytes and two dozen references would go along.
public struct Connection: ~Copyable, Sendable {
    enum Phase: Sendable {
        case active
        /// We closed (RFC 9000 section 10.2.1). Held elsewhere, so that the phase is small: it is asked for with every packet.
        indirect case closing(Closing)
        /// The peer closed: silence (RFC 9000 section 10.2.2).
        case draining(until: Instant)
        case drained
    }

    enum Handshake: Sendable {
        case running
        /// TLS has finished at this end (RFC 9001 section 4.1.1).
        case complete
        /// The peer is known to have finished as well (RFC 9001 section 4.1.2).
        case confirmed
    }

    /// Whether packets of a level are spoken.
    enum LevelState: Sendable {
        /// There are no keys to seal them with yet.
        case awaited
        case spoken
        /// The keys are gone (RFC 9001 section 4.9).
        case discarded
    }

    /// Keeps a connection where it is: the compiler copies other structs onto the stack, four kilobytes of this one, for
    /// each call of a method that does not change them. Costs an octet.
    private let inPlace = Atomic<Bool>(true)

    /// Our end of it.
    public let role: Role
    /// As it was made with. `localParameters` are what has come of its `parameters`.
    public let configuration: ConnectionConfiguration
    /// Counts since the connection began.
    public internal(set) var statistics = ConnectionStatistics()

    var phase = Phase.active
    var handshake = Handshake.running
    /// By `ProtectionLevel`.
    var levels: InlineArray<3, LevelState> = [.spoken, .awaited, .awaited]

    var random: SeededRandom
    var localIDs: LocalConnectionIDs
    var remoteIDs: RemoteConnectionIDs
    /// The client's first choice of the server's ID, which the server must repeat (RFC 9000 section 7.3).
    let originalDestination: ConnectionID
    var retrySource: ConnectionID?
    var initialToken: [UInt8]
    var remoteIDConfirmed = false

    /// What we sent, connection IDs included.
    public internal(set) var localParameters: TransportParameters
    /// What the peer sent; nil until the handshake brought it.
    public internal(set) var peerParameters: TransportParameters?
    /// Both ends offered multipath.
    public internal(set) var isMultipathNegotiated = false
    /// Both ends offered `ConnectionConfiguration.extensionParameter`, and multipath.
    public internal(set) var isExtensionNegotiated = false

    var handshakeDoneDue = false
    /// Times that handshake octets were sent again because the peer repeated its own.
    var earlyResends = 0

    // 1-RTT key updates (RFC 9001 section 6).
    /// Which 1-RTT key packets are sealed with now: 0 first, one more for each key update, whoever began it.
    public internal(set) var keyGeneration: UInt64 = 0
    var firstPacketOfGeneration: UInt64 = 0
    var keyGenerationAcknowledged = false
    var peerKey = PeerKey()

    var path: NetworkPath
    /// The last validated path, to return to when the active one fails validation.
    var previousPath: PreviousPath?
    var largestApplicationPacket: UInt64?
    /// PATH_RESPONSE data owed, where to, and in a datagram of how many octets at the most.
    var pathResponses: [(data: UInt64, to: SocketAddress, limit: Int)] = []
    /// What may go back to an address other than the active one for the datagram under way (RFC 9000 section 8.1).
    var answerAllowance = 0

    var recovery: LossRecovery
    var mtu: PathMTU
    var crypto: [CryptoStream] = [CryptoStream(), CryptoStream(), CryptoStream()]
    var acks: [AckTracker]
    var probes: InlineArray<3, Int> = [0, 0, 0]
    var streams: StreamTable
    var datagrams: [[UInt8]] = []
    var newTokens: [[UInt8]] = []
    var extensionFrames = ExtensionFrameQueue()
    var flowPaths: [FlowPath] = []
    /// Paths that the peer has abandoned.
    var abandonedPaths: [UInt64] = []

    /// Nanoseconds; nil when neither end has one.
    var idleTimeout: Int64?
    /// When the connection ends for want of packets that bring it on: of those of the handshake, and when that is complete of
    /// any at all.
    var idleDeadline: Instant
    var keepAliveDeadline = Instant.distantFuture
    var lastAckElicitingSent = Instant(nanoseconds: 0)
    var pingDue = false
    /// How the datagram being written will leave: what is noted for its packets must be what the network sees.
    var mark = ECN.notECT
    /// The datagram being written holds a PATH_CHALLENGE or PATH_RESPONSE, and has to be 1200 octets long.
    var carriesPathValidation = false
    var ackElicitingSinceReceive = false
    var ackOnlyPackets: UInt64 = 0

    // Reused between packets, so that none of them allocates.
    /// Of the packet being written, or of those that an acknowledgement names.
    var frames: [SentFrame] = []
    var lostFrames: [SentFrame] = []
    var ranges: [ClosedRange<UInt64>] = []

    /// What the shell takes after each batch of datagrams, at the latest. What a peer can repeat at will is bounded here: see
    /// `maxWaitingDatagrams`, `maxWaitingTokens` and `addressChanged`. The rest is bounded by what it tells of: CRYPTO octets
    /// by those of the batch; retired IDs by the IDs that were issued, and new ones are issued only when this was read; each
    /// of the other kinds comes once. Events of streams are bounded by the streams that may be open, see `StreamTable`.
    var events: [ConnectionEvent] = []
    var eventHead = 0
    /// Of `events`, those that were not taken yet.
    var waitingDatagrams = 0
    var waitingTokens = 0

    /// A packet number space that is received beside the connection's own path and acknowledged with PATH_ACK.
    struct FlowPath: Sendable {
        var id: UInt64
        var acks: AckTracker
        /// It goes with its next acknowledgement, and takes no more packets.
        var isClosing = false
    }

    /// The newest 1-RTT key that the peer has sealed with.
    struct PeerKey: Sendable {
        var generation: UInt64 = 0
        /// The lowest packet number that came under it.
        var lowest = UInt64.max
        /// We have sent an acknowledgement since it came: only then may the peer update again.
        var isAcknowledged = true
    }

    /// A path that the peer has left, or somebody who copies its packets.
    struct PreviousPath: Sendable {
        var path: NetworkPath
        /// Data of the PATH_CHALLENGE that is still to be sent on it: who only copied packets may have been faster than the
        /// peer, which comes back with its answer (RFC 9000 section 9.3.3).
        var challenge: UInt64?
    }

    /// DATAGRAM frames that may wait to be sent; for one more the oldest is dropped and counted.
    public static let maxQueuedDatagrams = 256
    /// Octets of the largest DATAGRAM frame's content: with its header it fits into a packet of the smallest size that every
    /// path carries.
    public static let largestDatagram = PathMTU.floor - 50 - datagramHeader
    /// Octets of type and length before a DATAGRAM frame's content that is not short.
    public static let datagramHeader = 3
    /// DATAGRAM frames received that may wait for the application: some batches full of them. More are dropped and counted
    /// (RFC 9221 section 5.3 leaves that to the receiver).
    static let maxWaitingDatagrams = 4096
    /// NEW_TOKEN frames that may wait, to be sent or to be read: one is enough for the next connection. More are
    /// dropped and counted.
    static let maxWaitingTokens = 8
    static let maxEarlyResends = 4
    /// The packet number from which on nothing is sent, which leaves room below 2^62-1 for one call's runs.
    static let lastPacketNumber = Varint.max - 1 << 20
    /// Paths that the peer may abandon: more than any end here ever allows.
    static let maxAbandonedPaths = 64
    /// PATH_RESPONSE frames that may wait to be sent (CVE-2023-49295).
    static let maxPathResponses = 4
    /// Octets of the smallest datagram that always has room for path validation.
    static let smallestAnswer = 80
    /// Octets of the longest NEW_TOKEN worth keeping: its Initial packet must have room for a hello beside it.
    static let maxTokenLength = 512

    /// A client's connection. `serverID` is a random destination ID of at least 8 octets; `localID` our own.
    public init(
        client configuration: ConnectionConfiguration, to remote: SocketAddress, localID: ConnectionID,
        serverID: ConnectionID, token: [UInt8] = [], seed: SeededRandom, at now: Instant
    ) {
        self.init(
            role: .client, configuration: configuration, remote: remote, localID: localID, remoteID: serverID,
            original: serverID, retrySource: nil, token: token, validated: true, resetToken: nil, seed: seed, at: now)
    }

    /// A server's connection for a client's first Initial. `original` is the destination ID of the client's very first
    /// Initial; `retrySource` the ID our Retry gave it, when there was one; `addressValidated` whether its token proved
    /// the address.
    public init(
        server configuration: ConnectionConfiguration, to remote: SocketAddress, localID: ConnectionID,
        clientID: ConnectionID, original: ConnectionID, retrySource: ConnectionID?, addressValidated: Bool,
        resetToken: [UInt8]?, seed: SeededRandom, at now: Instant
    ) {
        self.init(
            role: .server, configuration: configuration, remote: remote, localID: localID, remoteID: clientID,
            original: original, retrySource: retrySource, token: [], validated: addressValidated,
            resetToken: resetToken,
            seed: seed, at: now)
    }

    private init(
        role: Role, configuration: ConnectionConfiguration, remote: SocketAddress, localID: ConnectionID,
        remoteID: ConnectionID, original: ConnectionID, retrySource: ConnectionID?, token: [UInt8], validated: Bool,
        resetToken: [UInt8]?, seed: SeededRandom, at now: Instant
    ) {
        self.role = role
        self.configuration = configuration
        random = seed
        localIDs = LocalConnectionIDs(first: localID)
        remoteIDs = RemoteConnectionIDs(first: remoteID)
        originalDestination = original
        self.retrySource = role == .server ? retrySource : nil
        initialToken = token
        var parameters = configuration.parameters
        parameters.initialSourceConnectionID = localID
        // Only a server sends these (RFC 9000 section 18.2).
        if role == .server {
            parameters.originalDestinationConnectionID = original
            parameters.retrySourceConnectionID = retrySource
            parameters.statelessResetToken = resetToken
            remoteIDConfirmed = true
        }
        // Multipath needs IDs at both ends (draft-ietf-quic-multipath-21 section 2.1).
        if localID.count == 0 || remoteID.count == 0 { parameters.initialMaxPathID = nil }
        localParameters = parameters
        path = NetworkPath(remote: remote, isValidated: validated)
        recovery = LossRecovery(
            role: role, maxDatagramSize: PathMTU.floor, at: now, random: SeededRandom(from: &random))
        mtu = PathMTU(ceiling: configuration.maxDatagramSize)
        acks = [
            // Those of the handshake at once (RFC 9000 section 13.2.1).
            AckTracker(maxAckDelay: .zero), AckTracker(maxAckDelay: .zero),
            AckTracker(maxAckDelay: parameters.maxAckDelay),
        ]
        streams = StreamTable(role: role, local: StreamLimits(parameters))
        idleDeadline = now + configuration.handshakeTimeout
        recovery.amplificationBlocked = !validated
    }

    // MARK: What the shell asks

    /// Where the peer is.
    public var remoteAddress: SocketAddress { path.remote }
    /// Whether the peer has shown that it is there (RFC 9000 section 8).
    public var isRemoteAddressValidated: Bool { path.isValidated }
    /// Where the peer's packets arrive; nil before the first.
    public var localAddress: SocketAddress? { path.local }
    /// Smoothed round-trip time; nil before the first sample.
    public var smoothedRTT: Duration? { recovery.rtt.hasSample ? recovery.rtt.smoothed : nil }
    /// How long an acknowledgement may take before we probe (RFC 9002 section 6.2.1), without back-off.
    public var probeTimeout: Duration { .nanoseconds(recovery.probeTimeout) }
    /// The current largest UDP payload, in octets.
    public var datagramSize: Int { mtu.current }
    /// The most room that the next datagram takes, in octets: it may be a larger one that tries the path.
    public func datagramRoom(at now: Instant) -> Int {
        guard mayProbeMTU, let size = mtu.nextSize(at: now), recovery.mayProbe(size) else { return mtu.current }
        return max(size, mtu.current)
    }
    /// Full datagrams that stream and window have ready, as far as can be told without writing them.
    public var datagramsReady: Int { min(recovery.windowRoom, streams.bulk?.range.count ?? 0) / mtu.current }
    /// Octets that may be in flight at once (RFC 9002 section 7.2).
    public var congestionWindow: Int { recovery.congestionWindow }
    /// Octets of packets sent that are neither acknowledged nor lost, headers and tags included (RFC 9002 section 2).
    public var bytesInFlight: Int { recovery.bytesInFlight }
    /// TLS has finished at this end (RFC 9001 section 4.1.1): streams may be opened.
    public var isHandshakeComplete: Bool { handshake != .running }
    /// The peer is known to have finished as well (RFC 9001 section 4.1.2): Handshake keys are gone, and keys may be updated. A
    /// server confirms when it completes, a client when HANDSHAKE_DONE comes.
    public var isHandshakeConfirmed: Bool { handshake == .confirmed }
    /// Neither end has closed.
    public var isActive: Bool { if case .active = phase { true } else { false } }
    /// The connection is over, and will neither send nor say anything more: forget it.
    public var isDrained: Bool { if case .drained = phase { true } else { false } }
    /// The destination ID that our packets carry.
    public var remoteID: ConnectionID { remoteIDs.current }
    /// The IDs we answer to.
    public var localConnectionIDs: [ConnectionID] { localIDs.active.map(\.id) }
    /// The largest packet number received at `level`, for decoding the next.
    public func largestReceived(_ level: ProtectionLevel) -> UInt64? { acks[level.rawValue].largest }

    /// Whether all of a stream has come that the application may not know of: it frees memory by taking events now.
    public var hasWholeStream: Bool { streams.hasWhole }

    /// What neither we nor the peer want to see exceeded, in octets of UDP payload.
    var largestDatagram: Int {
        min(configuration.maxDatagramSize, Int(min(peerParameters?.maxUDPPayloadSize ?? 65527, 65527)))
    }

    // MARK: The application

    /// Throws when the peer's limit is reached; `ConnectionEvent.writable` tells when it has grown.
    public mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID {
        try streams.open(bidirectional: bidirectional)
    }

    /// Queues octets, shared with the caller, on a stream.
    public mutating func write(_ id: StreamID, _ bytes: [UInt8], fin: Bool) throws(StreamError) {
        try streams.write(id, StreamOctets(bytes), fin: fin)
    }

    /// The same for octets in two pieces.
    public mutating func write(_ id: StreamID, _ octets: StreamOctets, fin: Bool) throws(StreamError) {
        try streams.write(id, octets, fin: fin)
    }

    /// Octets written to a stream that the peer has not acknowledged from its start on.
    public func heldOctets(of id: StreamID) -> Int { streams.heldOctets(of: id) }

    /// The octets of a stream that arrived in order since the last read; nil when there are none and it has not ended.
    public mutating func read(_ id: StreamID) -> StreamChunk? { streams.read(id) }
    /// The same, but they stay here until the stream has ended and all of it is handed over at once, not copied. Whoever
    /// gathers bounds what gathers: by `stopSending`.
    public mutating func gather(_ id: StreamID) -> StreamGathering? { streams.gather(id) }

    /// Gives up sending on a stream: RESET_STREAM with an application's `code` below 2^62 (RFC 9000 section 2.4). Nothing happens
    /// when all of it has been acknowledged, it was reset before, or there is no such stream.
    public mutating func reset(_ id: StreamID, code: UInt64) { streams.reset(id, code: code) }
    /// Gives up reading a stream: STOP_SENDING with an application's `code` below 2^62 (RFC 9000 section 3.5). What has come and
    /// what still comes is thrown away and counts as read. Nothing happens when there is no such stream.
    public mutating func stopSending(_ id: StreamID, code: UInt64) { streams.stopSending(id, code: code) }

    /// Queues a DATAGRAM frame (RFC 9221 section 3). It leaves when window and pacer let it (RFC 9221 section 5.4), and is not sent
    /// again when it is lost. For one more than may wait, the oldest is dropped and counted.
    /// - Returns: false when the peer takes none of that size, which is counted too; nothing is queued then.
    public mutating func sendDatagram(_ bytes: [UInt8]) -> Bool {
        // Type and length come on top.
        let frame = bytes.count + 1 + Varint.length(UInt64(bytes.count))
        guard UInt64(frame) <= peerParameters?.maxDatagramFrameSize ?? 0, bytes.count <= Self.largestDatagram else {
            statistics.datagramFramesRefused += 1
            return false
        }
        if datagrams.count == Self.maxQueuedDatagrams {
            datagrams.removeFirst()
            statistics.datagramFramesDropped += 1
        }
        datagrams.append(bytes)
        return true
    }

    /// Queues a NEW_TOKEN for the client's next connection. Server only.
    public mutating func sendNewToken(_ token: [UInt8]) {
        // A client sends none, and nobody an empty one (RFC 9000 section 19.7).
        precondition(role == .server)
        guard !token.isEmpty, newTokens.count < Self.maxWaitingTokens else {
            statistics.newTokensDropped += 1
            return
        }
        newTokens.append(token)
    }

    /// Updates the 1-RTT keys (RFC 9001 section 6.1). False when the last update, or the handshake, is not confirmed yet.
    public mutating func updateKeys() -> Bool {
        guard isHandshakeConfirmed, keyGeneration == 0 || keyGenerationAcknowledged else { return false }
        advanceKeys(to: keyGeneration + 1)
        return true
    }

    /// Every later packet is sealed with this key or a newer one (RFC 9001 section 6.4).
    mutating func advanceKeys(to generation: UInt64) {
        keyGeneration = generation
        firstPacketOfGeneration = recovery.nextPacketNumber(.application)
        keyGenerationAcknowledged = false
    }

    /// A connection ID and its stateless reset token for the peer to use, in answer to `connectionIDsWanted`.
    public mutating func provideConnectionID(_ id: ConnectionID, resetToken: [UInt8]) {
        localIDs.add(id, token: resetToken)
    }

    /// Asks the peer for an answer, whatever else there is to send: one that has lost its state answers too, with a
    /// stateless reset.
    public mutating func ping() { pingDue = true }

    // MARK: Extensions that share streams between connections

    /// Sends an opaque, ack-eliciting frame in a 1-RTT packet, and again when it is lost. A frame with a `key` that is
    /// in use takes the place of the older one.
    public mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64) {
        extensionFrames.enqueue(octets, key: key)
    }

    /// Opens the packet number space of `pathID`, whose packets arrive by `flowPacketsReceived` and are acknowledged
    /// with PATH_ACK every `ackDelay`, at times shifted by `phase` so that many receivers do not report at once.
    public mutating func openReceivePath(_ pathID: UInt64, ackDelay: Duration, phase: Duration) {
        flowPaths.removeAll { $0.id == pathID && $0.isClosing }
        if let index = flowPaths.firstIndex(where: { $0.id == pathID }) {
            flowPaths[index].acks.maxAckDelay = ackDelay
            flowPaths[index].acks.setReportGrid(phase: phase)
            return
        }
        var tracker = AckTracker(maxAckDelay: ackDelay)
        tracker.setReportGrid(phase: phase)
        flowPaths.append(FlowPath(id: pathID, acks: tracker))
    }

    /// Forgets the packet number space of `pathID` when what came and was not acknowledged has been, which the next packet does.
    public mutating func closeReceivePath(_ pathID: UInt64, at now: Instant) {
        guard let index = flowPaths.firstIndex(where: { $0.id == pathID }) else { return }
        guard flowPaths[index].acks.hasUnacknowledged else {
            flowPaths.remove(at: index)
            return
        }
        flowPaths[index].isClosing = true
        flowPaths[index].acks.acknowledgeNow(at: now)
    }

    /// The largest packet number that was received on `pathID`.
    public func largestReceived(onPath pathID: UInt64) -> UInt64? {
        flowPaths.first { $0.id == pathID }?.acks.largest
    }

    /// Sends part of a shared stream, whose whole content is `octets`, on this connection; from then on the connection
    /// sees to its arrival. `counted`: charge the peer's flow control, unless the octets were charged before.
    public mutating func sendStreamRange(
        _ id: StreamID, _ octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool
    ) {
        streams.sendRange(id, octets, range: range, fin: fin, counted: counted)
    }

    /// Charges octets and streams that reach this peer by another way to its flow control.
    public mutating func chargeExternal(octets: UInt64, streams count: UInt64) {
        streams.chargeExternal(octets: octets, streams: count)
    }

    /// Streams that the peer has begun, of which not all was read.
    public var receivingStreamCount: Int { streams.peerStreamCount }
    /// Streams with something to send, or sent and not acknowledged.
    public var sendingStreamCount: Int { streams.openSendCount }
    /// Octets held for them; of a stream sent by ranges, all of its content.
    public var sendingOctets: Int { streams.heldOctets }
    /// Octets that the peer's connection flow control still allows.
    public var sendCredit: UInt64 { streams.sendCredit }
    /// Unidirectional streams that the peer still allows.
    public var streamCredit: UInt64 { streams.streamCredit }
}

extension StreamLimits {
    init(_ parameters: TransportParameters) {
        self.init(
            initialMaxData: parameters.initialMaxData,
            initialMaxStreamDataBidiLocal: parameters.initialMaxStreamDataBidiLocal,
            initialMaxStreamDataBidiRemote: parameters.initialMaxStreamDataBidiRemote,
            initialMaxStreamDataUni: parameters.initialMaxStreamDataUni,
            initialMaxStreamsBidi: parameters.initialMaxStreamsBidi,
            initialMaxStreamsUni: parameters.initialMaxStreamsUni)
    }
}
