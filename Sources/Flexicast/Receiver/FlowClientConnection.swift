import QUIC
import Wire

/// What a `FlowClient` needs of the QUIC connection to its source. `Connection` is one; a test may stand in for it.
public protocol FlowClientConnection: ~Copyable {
    /// Both ends offered the extension, and multipath.
    var isExtensionNegotiated: Bool { get }
    var peerParameters: TransportParameters? { get }
    var localParameters: TransportParameters { get }

    mutating func sendExtensionFrame(_ octets: [UInt8], key: UInt64)
    /// Asks the source for an answer.
    mutating func ping()
    /// See `Connection.openReceivePath`.
    mutating func openReceivePath(_ pathID: UInt64, ackDelay: Duration, phase: Duration)
    /// See `Connection.closeReceivePath`.
    mutating func closeReceivePath(_ pathID: UInt64, at now: Instant)
    /// See `Connection.flowPacketsReceived`.
    mutating func flowPacketsReceived<E: FrameExtension>(
        pathID: UInt64, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN, at now: Instant, extension: inout E
    ) -> Int
    /// Smoothed round-trip time; nil before the first sample.
    var smoothedRTT: Duration? { get }
    mutating func openStream(bidirectional: Bool) throws(StreamsExhausted) -> StreamID
    mutating func write(_ id: StreamID, _ bytes: [UInt8], fin: Bool) throws(StreamError)
    /// Octets written to the stream that are not acknowledged.
    func heldOctets(of id: StreamID) -> Int
    mutating func read(_ id: StreamID) -> StreamChunk?
    mutating func gather(_ id: StreamID) -> StreamGathering?
    mutating func close(applicationCode: UInt64, reason: String, at now: Instant)
    mutating func close(_ error: TransportError, at now: Instant)
    mutating func stopSending(_ id: StreamID, code: UInt64)
    mutating func provideConnectionID(_ id: ConnectionID, resetToken: [UInt8])
}

extension Connection: FlowClientConnection {}
