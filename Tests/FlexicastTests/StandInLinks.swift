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

    init(creditOctets: UInt64 = .max, streamWindow: UInt64 = 1 << 30) {
        self.creditOctets = creditOctets
        var parameters = TransportParameters()
        parameters.initialMaxPathID = 4
        parameters.initialMaxStreamDataUni = streamWindow
        parameters.others[FlexicastSupport.parameterID] = FlexicastSupport().encoded
        localParameters = parameters
        peerParameters = parameters
    }

    var sendCredit: UInt64 { creditOctets == .max ? .max : creditOctets - min(creditOctets, charged) }
    var streamCredit: UInt64 { .max }
    var sendRoom: SendRoom {
        SendRoom(octets: 1 << 30, credit: sendCredit, streams: .max, streamWindow: 1 << 30, openStreams: 0)
    }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64) { frames.append(octets) }
    mutating func sendStreamRange(_ id: StreamID, bytes: [UInt8], range: Range<UInt64>, fin: Bool, counted: Bool) {
        parts.append(Part(stream: id, bytes: bytes, range: range, fin: fin, counted: counted))
    }
    mutating func chargeExternal(octets: UInt64, streams count: UInt64) {
        charged += octets
        chargedStreams += count
    }
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID { throw StreamsExhausted() }
    /// What the receiver says next on its control stream, and what it was told there.
    var said: [UInt8] = []
    private(set) var told: [UInt8] = []
    mutating func read(_ id: StreamID) -> StreamChunk? {
        defer { said = [] }
        return said.isEmpty ? nil : StreamChunk(bytes: said, offset: 0, isFinished: false)
    }
    mutating func write(_ id: StreamID, _ bytes: [UInt8], fin: Bool) throws(StreamError) {
        guard id == .control else { throw .unknownStream }
        told += bytes
    }
    mutating func close(_ error: TransportError, at now: Instant) { self.error = error }
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant) {
        error = TransportError(.noError, reason)
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
    let isExtensionNegotiated = true
    let peerParameters: TransportParameters?
    let localParameters: TransportParameters
    private(set) var pathID: UInt64?
    private(set) var ackDelay = Duration.milliseconds(5)
    private var frames: [[UInt8]] = []

    init() {
        var parameters = TransportParameters()
        parameters.initialMaxPathID = 4
        localParameters = parameters
        peerParameters = parameters
    }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64) { frames.append(octets) }
    mutating func openReceivePath(_ pathID: UInt64, ackDelay: Duration, phase: Duration) {
        self.pathID = pathID
        self.ackDelay = ackDelay
    }
    mutating func flowPacketsReceived<E: FrameExtension>(
        pathID: UInt64, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN, at now: Instant, extension: inout E
    ) -> Int { run.count }
    let smoothedRTT: Duration? = nil
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID { .control }
    mutating func write(_ id: StreamID, _ bytes: [UInt8], fin: Bool) throws(StreamError) {}
    mutating func read(_ id: StreamID) -> StreamChunk? { nil }
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant) {}
    mutating func gather(_ id: StreamID) -> StreamGathering? { nil }
    mutating func stopSending(_ id: StreamID, code: UInt64) {}
    mutating func provideConnectionID(_ id: ConnectionID, resetToken: [UInt8]) {}

    mutating func takeFrames() -> [[UInt8]] {
        defer { frames = [] }
        return frames
    }
}
