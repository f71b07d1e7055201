import QUIC
import Wire

@testable import Flexicast

/// The source's end of a connection that keeps what it is handed, for a test to deliver.
struct StandInLink: ReceiverConnection {
    struct Part {
        var stream: StreamID
        var bytes: [UInt8]
        var range: Range<UInt64>
        var fin: Bool
        var counted: Bool
    }

    var remoteAddress = SocketAddress("192.0.2.9:4000")!
    let localAddress: SocketAddress? = nil
    let isRemoteAddressValidated = true
    var isExtensionNegotiated = true
    let localParameters: TransportParameters
    let peerParameters: TransportParameters?
    /// Octets that the receiver grants in all.
    var creditOctets: UInt64
    private(set) var charged: UInt64 = 0
    private(set) var chargedStreams: UInt64 = 0
    var error: TransportError?
    private var frames: [[UInt8]] = []
    private var parts: [Part] = []

    init(creditOctets: UInt64 = .max, streamWindow: UInt64 = 1 << 30, datagramFrames: UInt64 = 65535) {
        self.creditOctets = creditOctets
        var parameters = TransportParameters()
        parameters.maxDatagramFrameSize = datagramFrames
        parameters.initialMaxPathID = 4
        parameters.initialMaxStreamDataUni = streamWindow
        parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
        localParameters = parameters
        peerParameters = parameters
    }

    var sendCredit: UInt64 { creditOctets == .max ? .max : creditOctets - min(creditOctets, charged) }
    var streamCredit: UInt64 { .max }
    /// What the congestion window has room for.
    var roomOctets = 1 << 30
    var sendRoom: SendRoom {
        SendRoom(octets: roomOctets, credit: sendCredit, streams: .max, streamWindow: 1 << 30, openStreams: 0)
    }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64) { frames.append(octets) }
    mutating func sendStreamRange(
        _ id: StreamID, _ octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool
    ) {
        parts.append(Part(stream: id, bytes: octets.array, range: range, fin: fin, counted: counted))
    }
    private var datagrams: [[UInt8]] = []
    mutating func sendDatagram(_ bytes: [UInt8]) -> Bool {
        guard UInt64(bytes.count + 3) <= peerParameters?.maxDatagramFrameSize ?? 0 else { return false }
        datagrams.append(bytes)
        return true
    }
    mutating func takeDatagrams() -> [[UInt8]] {
        defer { datagrams = [] }
        return datagrams
    }
    mutating func chargeExternal(octets: UInt64, streams count: UInt64) {
        charged += octets
        chargedStreams += count
    }
    private var opened: UInt64 = 0
    /// A connection that shares no streams has its own.
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID {
        if isExtensionNegotiated { throw StreamsExhausted() }
        opened += 1
        return StreamID(initiator: .server, bidirectional: false, index: opened - 1)
    }
    /// The application's code and words that the connection was closed with.
    private(set) var closedWith: (code: UInt64, reason: String)?
    /// The receiver ends its side of the control stream with what it says.
    var saysNoMore = false
    /// What the receiver says next on its control stream, and what it was told there.
    var said: [UInt8] = []
    private(set) var told: [UInt8] = []
    /// How much of that it has not acknowledged.
    private(set) var untaken = 0
    /// The connection holds as much as it may.
    var isFull = false
    var takesMessages = true { didSet { if takesMessages { untaken = 0 } } }
    /// Streams that it has been handed and that are not acknowledged.
    var unacknowledged = Set<StreamID>()
    private(set) var resets: [StreamID] = []
    mutating func reset(_ id: StreamID, code: UInt64) {
        resets.append(id)
        unacknowledged.remove(id)
    }
    func heldOctets(of id: StreamID) -> Int { id == .control ? untaken : unacknowledged.contains(id) ? 1 : 0 }
    mutating func read(_ id: StreamID) -> StreamChunk? {
        defer { said = [] }
        return said.isEmpty && !saysNoMore ? nil : StreamChunk(bytes: said, offset: 0, isFinished: saysNoMore)
    }
    mutating func write(_ id: StreamID, _ octets: StreamOctets, fin: Bool) throws(StreamError) {
        if id != .control, !isExtensionNegotiated { return }
        guard id == .control else { throw .unknownStream }
        guard !isFull else { throw .full }
        told += octets.array
        if !takesMessages { untaken += octets.count }
    }
    mutating func close(_ error: TransportError, at now: Instant) { self.error = error }
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant) {
        error = TransportError(.noError, reason)
        closedWith = (applicationCode, reason)
    }

    mutating func takeFrames() -> [[UInt8]] {
        defer { frames = [] }
        return frames
    }
    mutating func takeParts() -> [Part] {
        defer { parts = [] }
        return parts
    }
}

/// The receiver's end of the same.
struct StandInClientLink: FlowClientConnection {
    func heldOctets(of id: StreamID) -> Int { 0 }
    let isExtensionNegotiated = true
    let peerParameters: TransportParameters?
    let localParameters: TransportParameters
    private(set) var pathID: UInt64?
    private(set) var ackDelay = Duration.milliseconds(5)
    private var frames: [[UInt8]] = []

    /// - Parameter support: the source's flexicast_support.
    init(support: [UInt8] = FlexicastSupport().encoded) {
        var parameters = TransportParameters()
        parameters.initialMaxPathID = 4
        localParameters = parameters
        parameters.others[FlexicastSupport.parameterID] = support
        peerParameters = parameters
    }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64) { frames.append(octets) }
    private(set) var pings = 0
    mutating func ping() { pings += 1 }
    mutating func openReceivePath(_ pathID: UInt64, ackDelay: Duration, phase: Duration) {
        self.pathID = pathID
        self.ackDelay = ackDelay
    }
    mutating func closeReceivePath(_ pathID: UInt64, at now: Instant) { self.pathID = nil }
    mutating func flowPacketsReceived<E: FrameExtension>(
        pathID: UInt64, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN, at now: Instant, extension: inout E
    ) -> Int { run.count }
    let smoothedRTT: Duration? = nil
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID { .control }
    mutating func write(_ id: StreamID, _ bytes: [UInt8], fin: Bool) throws(StreamError) {}
    /// What the source says next on the control stream, and whether it ends it so.
    var said: [UInt8] = []
    var saysNoMore = false
    /// Streams of parts that have come, whole or as many octets as are given.
    var streams: [StreamID: StreamGathering] = [:]
    private(set) var closedWith: (code: UInt64, reason: String)?
    private(set) var stopped: [StreamID: UInt64] = [:]
    mutating func read(_ id: StreamID) -> StreamChunk? {
        defer { said = [] }
        return said.isEmpty && !saysNoMore ? nil : StreamChunk(bytes: said, offset: 0, isFinished: saysNoMore)
    }
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant) {
        closedWith = (applicationCode, reason)
    }
    private(set) var error: TransportError?
    mutating func close(_ error: TransportError, at now: Instant) { self.error = error }
    mutating func gather(_ id: StreamID) -> StreamGathering? { streams[id] }
    mutating func stopSending(_ id: StreamID, code: UInt64) { stopped[id] = code }
    mutating func provideConnectionID(_ id: ConnectionID, resetToken: [UInt8]) {}

    mutating func takeFrames() -> [[UInt8]] {
        defer { frames = [] }
        return frames
    }
}
