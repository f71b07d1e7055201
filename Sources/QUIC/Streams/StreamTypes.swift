/// What the application takes from a stream in one read.
public struct StreamChunk: Sendable, Equatable {
    /// The next octets of the stream, in order. Empty only when the end of the stream came alone.
    public var bytes: [UInt8]
    /// Where `bytes` starts in the stream.
    public var offset: UInt64
    /// True when the stream ends with `bytes`: nothing follows.
    public var isFinished: Bool
    /// How many octets of the whole stream, up to now, came first on a multicast flow.
    public var octetsFromFlow: UInt64
    /// How many octets of the whole stream, up to now, came first on the connection's own path.
    public var octetsFromUnicast: UInt64

    /// Octets that lie at `offset` in the stream; the way they came is not said of octets that are not received.
    public init(
        bytes: [UInt8], offset: UInt64, isFinished: Bool, octetsFromFlow: UInt64 = 0, octetsFromUnicast: UInt64 = 0
    ) {
        self.bytes = bytes
        self.offset = offset
        self.isFinished = isFinished
        self.octetsFromFlow = octetsFromFlow
        self.octetsFromUnicast = octetsFromUnicast
    }
}

/// What there is of a stream that is gathered.
public enum StreamGathering: Sendable, Equatable {
    /// So many octets; they stay where they are.
    case part(Int)
    /// All of it, unless some was read before.
    case whole(StreamChunk)
}

/// Which way a frame came.
public enum StreamOrigin: Sendable {
    /// On the connection's own path.
    case unicast
    /// On a multicast flow that the connection listens to.
    case flow
}

/// No more streams of this kind may be opened until the peer raises its limit (RFC 9000 section 4.6).
public struct StreamsExhausted: Error, Equatable, Sendable {
    /// The error, which says all that there is.
    public init() {}
}

/// Why octets could not be written to a stream.
public enum StreamError: Error, Equatable, Sendable {
    /// Never opened, finished and acknowledged, or a stream that only the peer sends on, or one of a flow.
    case unknownStream
    /// The end of the stream was written before.
    case alreadyFinished
    /// The stream was reset, by us or because the peer asked with STOP_SENDING.
    case reset
    /// `StreamBounds.heldOctets` are waiting; try again after a `writable` event.
    case full
}

/// The stream limits among the transport parameters of one end (RFC 9000 section 18.2).
struct StreamLimits: Sendable, Equatable {
    var initialMaxData: UInt64
    var initialMaxStreamDataBidiLocal: UInt64
    var initialMaxStreamDataBidiRemote: UInt64
    var initialMaxStreamDataUni: UInt64
    var initialMaxStreamsBidi: UInt64
    var initialMaxStreamsUni: UInt64

    init(
        initialMaxData: UInt64 = 0, initialMaxStreamDataBidiLocal: UInt64 = 0,
        initialMaxStreamDataBidiRemote: UInt64 = 0, initialMaxStreamDataUni: UInt64 = 0,
        initialMaxStreamsBidi: UInt64 = 0, initialMaxStreamsUni: UInt64 = 0
    ) {
        self.initialMaxData = initialMaxData
        self.initialMaxStreamDataBidiLocal = initialMaxStreamDataBidiLocal
        self.initialMaxStreamDataBidiRemote = initialMaxStreamDataBidiRemote
        self.initialMaxStreamDataUni = initialMaxStreamDataUni
        self.initialMaxStreamsBidi = initialMaxStreamsBidi
        self.initialMaxStreamsUni = initialMaxStreamsUni
    }

    func maxStreams(bidirectional: Bool) -> UInt64 { bidirectional ? initialMaxStreamsBidi : initialMaxStreamsUni }
}

/// The sizes at which stream state stops growing, whatever a peer sends.
enum StreamBounds {
    /// The most streams of one kind that can ever be opened, and so the highest legal limit (RFC 9000 section 4.6).
    static let maxStreams: UInt64 = 1 << 60
    /// Separate pieces that one stream's receive buffer holds beyond the first hole.
    static let segmentsPerStream = 4096
    /// The same, over all streams of a connection.
    static let segmentsPerConnection = 32768
    /// Ranges of finished numbers on the shared space from which on the flow opens no stream that would begin another, until
    /// gaps between them are filled.
    static let finishedRanges = 1024
    /// Ranges from which on such a stream on the connection's own path ends the connection with INTERNAL_ERROR. A source
    /// sends what a receiver lacks lowest first, and in no more than a few dozen pieces.
    static let mostFinishedRanges = 4096
    /// Octets written and not yet acknowledged, over all streams, from which on `write` refuses.
    static let heldOctets = 64 << 20
    /// Streams of each kind that may be opened before the peer's limits are known.
    static let earlyStreams: UInt64 = 128
    /// MAX_STREAM_DATA kept for shared streams that have nothing to send on this connection at the time.
    static let sharedStreamLimits = 1024
    /// How many times its octets a stream that is gathered may have reserved, and how much at the most.
    static let reserve = 32
    static let reservedOctets = 16 << 20
    /// Octets that make it worth while to use an array again, and those of the largest one that is kept for it.
    static let roomOctets = (32 << 10)...(512 << 10)
    /// The least data worth a STREAM frame of its own at the end of a packet, when more is waiting.
    static let smallestFragment = 32
    /// Octets that may wait in a CRYPTO stream beyond what was read (RFC 9000 section 7.5 asks for 4096).
    static let cryptoBuffer = 65536
}

/// What the streams of a connection have done so far.
struct StreamStatistics: Sendable, Equatable {
    /// Octets that were new, by the way they came.
    var octetsFromFlow: UInt64 = 0
    var octetsFromUnicast: UInt64 = 0
    /// Octets that had come before.
    var octetsDuplicate: UInt64 = 0
    /// Octets and frames from a flow that did not fit this connection's limits and were not taken. The packet that
    /// carried one must not be acknowledged.
    var octetsRefused: UInt64 = 0
    var framesRefused: UInt64 = 0
    /// Stream data sent for the first time, and again.
    var octetsSent: UInt64 = 0
    var octetsResent: UInt64 = 0
    var streamsOpenedByPeer: UInt64 = 0
    var streamsFinished: UInt64 = 0
    /// Frames from a flow that were refused because their stream would have begun one gap too many. They are among
    /// `framesRefused`.
    var streamsRefusedForGaps: UInt64 = 0
}
