import Wire

/// All streams of a connection, and both directions of its flow control (RFC 9000 sections 2 to 4).
///
/// The file holds what there is: state, limits and events. `StreamTable+Receiving` takes the peer's frames,
/// `StreamTable+Sending` the application's octets, and `StreamTable+Frames` writes frames and learns what became of them.
///
/// **The shared space.** On a connection that negotiated Flexicast, the server's unidirectional streams are those of its
/// multicast flow. A receiver meets them from some number on and with gaps, over the flow or over the connection, so that
/// neither their number nor their highest offset says what was sent to it. There, both ends count the distinct streams
/// and the distinct octets that were sent to this receiver, whichever way. The receiver may hear octets of the flow that
/// the source has not charged to it yet (it listens before the source counts it in), hence it grants the shared space a
/// second window on top of what it advertised, and refuses, rather than punishes, what the flow brings beyond that.
struct StreamTable: Sendable {
    /// What the application must be told.
    enum Event: Sendable, Equatable {
        /// The peer opened a stream.
        case opened(StreamID)
        /// There is something to read; not said again before the next `read`.
        case readable(StreamID)
        /// The peer gave up a stream; what was not read of it is gone.
        case reset(StreamID, code: UInt64)
        /// The peer does not want the stream; it was answered with a reset.
        case stopSending(StreamID, code: UInt64)
        /// All octets and the end, or all parts asked for with `sendRange`, arrived.
        case sendCompleted(StreamID)
        /// A limit that refused `open` or `write` was raised, or the peer's flow control no longer holds data back.
        case writable
    }

    /// One of each for bidirectional and for unidirectional streams.
    struct Pair<Value: Sendable>: Sendable {
        var bidirectional: Value
        var unidirectional: Value

        init(_ value: Value) {
            bidirectional = value
            unidirectional = value
        }

        subscript(isBidirectional: Bool) -> Value {
            get { isBidirectional ? bidirectional : unidirectional }
            // In place: a set's array would be copied for each change.
            _modify { if isBidirectional { yield &bidirectional } else { yield &unidirectional } }
        }
    }

    let role: Role
    let local: StreamLimits
    var peer = StreamLimits()
    /// The peer's transport parameters have come.
    var knowsPeer = false
    private(set) var statistics = StreamStatistics()

    var receiving = StreamMap<ReceiveStream>()
    var sending = StreamMap<SendStream>()
    /// Bounded by the streams that may be open at once: `opened` comes once for each, `readable` not again before it was read,
    /// `reset` keeps a received stream until it is taken, and one of ours is stopped, and completed, once. `writable` is said
    /// once after each refusal.
    var events = RingQueue<Event>()
    /// All of a stream has come since the last event was taken.
    var hasWhole = false

    // Receiving: what we allow.
    /// What MAX_DATA says.
    var maxData: UInt64
    /// Charged to `maxData`.
    var dataReceived: UInt64 = 0
    /// Of those, read by the application or given up.
    var dataConsumed: UInt64 = 0
    /// What MAX_STREAMS says.
    var maxStreams: Pair<UInt64>
    /// Distinct streams that the peer opened by a frame.
    var openedByPeer = Pair<UInt64>(0)
    /// Numbers of the peer's streams that came to their end, in both directions if they have two.
    var finished = Pair(RangeSet())
    var finishedCount = Pair<UInt64>(0)
    /// Segments in all receive buffers.
    var segments = 0
    /// About as long as the stream that was gathered last.
    var expected = 0
    /// The same of the one before.
    var expectedBefore = 0
    /// The octets of the long stream that was handed over last: as soon as the application has let go of them, their room is
    /// used again. One array of `StreamBounds.roomOctets` at the most is held for it.
    var room: [UInt8] = []

    // Sending: what the peer allows.
    /// The highest MAX_DATA.
    var peerMaxData: UInt64 = 0
    /// Charged to it.
    var dataSent: UInt64 = 0
    var peerMaxStreams = Pair<UInt64>(0)
    /// The number of the next stream that we open.
    var nextIndex = Pair<UInt64>(0)
    /// Shared streams charged to `peerMaxStreams`.
    var sharedStreamsSent: UInt64 = 0
    /// Octets of content that is kept because not all of it was acknowledged.
    var heldOctets = 0
    /// MAX_STREAM_DATA for shared streams without state here, with the order they came in.
    var sharedStreamLimits: [StreamID: UInt64] = [:]
    var sharedStreamLimitOrder = RingQueue<StreamID>()

    // Who has something to send. Front entries are always valid; those behind may have become stale.
    var freshQueue = RingQueue<StreamID>()
    var againQueue = RingQueue<StreamID>()
    /// Streams that wait for MAX_STREAMS.
    var creditQueue = RingQueue<StreamID>()
    var receiveControlQueue = RingQueue<StreamID>()
    var sendControlQueue = RingQueue<StreamID>()

    // Control frames that are due.
    var owesMaxData = false
    var owesMaxStreams = Pair(false)
    var owesDataBlocked = false
    var owesStreamsBlocked = Pair(false)
    /// The limit that the last frame of the kind named: each is said once.
    var dataBlockedAt: UInt64?
    var streamsBlockedAt = Pair<UInt64?>(nil)
    /// `open` or `write` said no.
    var owesWritable = false

    /// True once Flexicast was negotiated: see above.
    var sharedStreamSpace = false {
        didSet {
            guard sharedStreamSpace, !oldValue, role == .server else { return }
            sharedStreamsSent += nextIndex.unidirectional
        }
    }

    /// `local` are our own transport parameters.
    init(role: Role, local: StreamLimits) {
        self.role = role
        self.local = local
        maxData = min(local.initialMaxData, Varint.max)
        maxStreams = Pair(0)
        maxStreams.bidirectional = min(local.initialMaxStreamsBidi, StreamBounds.maxStreams)
        maxStreams.unidirectional = min(local.initialMaxStreamsUni, StreamBounds.maxStreams)
    }

    /// The peer's transport parameters, which come with its handshake. What was opened and written before may go now.
    mutating func peerParameters(_ parameters: StreamLimits) {
        peer = parameters
        knowsPeer = true
        peerMaxData = max(peerMaxData, parameters.initialMaxData)
        peerMaxStreams.bidirectional = max(peerMaxStreams.bidirectional, parameters.initialMaxStreamsBidi)
        peerMaxStreams.unidirectional = max(peerMaxStreams.unidirectional, parameters.initialMaxStreamsUni)
        for id in sending.ids.sorted() { raise(id, maxStreamData: initialSendLimit(id)) }
        releaseCreditWaiters()
        settleQueues()
    }

    mutating func nextEvent() -> Event? {
        guard let event = events.first else {
            hasWhole = false
            return nil
        }
        events.removeFirst()
        // Only now is a reset stream over, so that a peer that opens and resets waits for the application.
        if case .reset(let id, _) = event { receivingEnded(id) }
        return event
    }

    // MARK: - Statistics

    /// Streams of which something may still be received, or is still to be read.
    var openReceiveCount: Int { receiving.count }
    var peerStreamCount: Int { receiving.ids.count { $0.initiator != role } }
    /// Streams of which something is to be sent or acknowledged, or that were not finished.
    var openSendCount: Int { sending.count }
    /// Received octets that wait to be read or for a hole to be filled.
    var bufferedOctets: Int { receiving.streams.reduce(0) { $0 + $1.buffer.buffered } }

    mutating func count(_ change: (inout StreamStatistics) -> Void) { change(&statistics) }

    // MARK: - Kinds of streams

    /// Whether `id` is in the space that this connection has in common with a multicast flow.
    func isShared(_ id: StreamID) -> Bool { sharedStreamSpace && id.initiator == .server && !id.isBidirectional }

    func canReceive(_ id: StreamID) -> Bool { id.isBidirectional || id.initiator != role }
    func canSend(_ id: StreamID) -> Bool { id.isBidirectional || id.initiator == role }

    /// What one stream may receive at first (RFC 9000 section 18.2: "local" is the end that opened the stream).
    func receiveWindow(_ id: StreamID) -> UInt64 {
        if !id.isBidirectional { return local.initialMaxStreamDataUni }
        return id.initiator == role ? local.initialMaxStreamDataBidiLocal : local.initialMaxStreamDataBidiRemote
    }

    func initialSendLimit(_ id: StreamID) -> UInt64 {
        if !id.isBidirectional { return peer.initialMaxStreamDataUni }
        return id.initiator == role ? peer.initialMaxStreamDataBidiRemote : peer.initialMaxStreamDataBidiLocal
    }

    // MARK: - Ends of streams

    /// Forgets the receiving part of a stream.
    mutating func receivingEnded(_ id: StreamID) {
        guard let at = receiving.index(of: id) else { return }
        segments -= receiving[at].buffer.segmentCount
        receiving.remove(at)
        partEnded(id)
    }

    /// Forgets the sending part of a stream.
    mutating func sendingEnded(_ id: StreamID) {
        guard let at = sending.index(of: id) else { return }
        heldOctets -= sending[at].content.held
        sending.remove(at)
        partEnded(id)
        makeWritable()
    }

    /// Lets the peer open another stream, whether or not it has said that it waits (RFC 9000 section 4.6).
    private mutating func partEnded(_ id: StreamID) {
        if id.isBidirectional, receiving.contains(id) || sending.contains(id) { return }
        statistics.streamsFinished += 1
        guard id.initiator != role else { return }
        let kind = id.isBidirectional
        finished[kind].insert(id.index...id.index)
        finishedCount[kind] += 1
        let window = local.maxStreams(bidirectional: kind)
        let limit = min(finishedCount[kind] + window, StreamBounds.maxStreams)
        if limit > maxStreams[kind], limit - maxStreams[kind] >= max(1, window / 2) {
            maxStreams[kind] = limit
            owesMaxStreams[kind] = true
        }
    }

    /// Says `writable` if somebody was refused and the reason is gone.
    mutating func makeWritable() {
        guard owesWritable, heldOctets <= StreamBounds.heldOctets / 2 else { return }
        owesWritable = false
        events.append(.writable)
    }
}
