import Wire

/// The receiving part of one stream (RFC 9000 section 3.2):
///
///     receiving ─ FIN ─> sizeKnown ─ every octet ─> allReceived ─ read ─> (forgotten)
///         └───── RESET_STREAM ─────┴──> reset ─ the application was told ─> (forgotten)
struct ReceiveStream: Sendable {
    enum State: Sendable {
        case receiving
        case sizeKnown
        case allReceived
        case reset
    }

    let id: StreamID
    private(set) var state = State.receiving
    private(set) var buffer: ReceiveBuffer
    /// Where the stream ends, once a FIN or RESET_STREAM said so.
    private(set) var finalSize: UInt64?
    private(set) var octetsFromFlow: UInt64 = 0
    private(set) var octetsFromUnicast: UInt64 = 0
    /// The first offset that the peer may not send: what MAX_STREAM_DATA says.
    private(set) var maxStreamData: UInt64
    private let window: UInt64
    /// Set by STOP_SENDING: octets are still taken in, for flow control, and thrown away.
    private(set) var stopCode: UInt64?

    /// A `readable` event is out and was not yet answered with a read.
    var isAnnounced = false
    /// In the table's queue of streams with control frames to write.
    var isQueued = false
    var owesMaxStreamData = false
    var owesStopSending = false

    /// `expected`: about as many octets as it may have, 0 when nothing is known. `room`: an empty array to put them into.
    init(id: StreamID, window: UInt64, expected: Int = 0, room: consuming [UInt8] = []) {
        self.id = id
        buffer = ReceiveBuffer(expected: expected, room: room)
        self.window = window
        maxStreamData = window
    }

    /// One past the highest octet received, which is what a plain connection charges to flow control.
    var highest: UInt64 { buffer.highest }
    /// Octets received, each counted once.
    var received: UInt64 { octetsFromFlow + octetsFromUnicast }
    // Inlined, as below: the whole stream would be copied for the call.
    @inline(__always)
    var isReadable: Bool {
        state != .reset && stopCode == nil && (buffer.readable > 0 || buffer.readOffset == finalSize)
    }
    var isDiscarding: Bool { stopCode != nil }

    /// Takes in a STREAM frame whose octets the caller has found to be within the limits. Returns how many were new.
    mutating func receive(
        _ bytes: Span<UInt8>, at offset: UInt64, fin: Bool, origin: StreamOrigin, room: Int
    ) throws(TransportError) -> Int {
        let end = offset + UInt64(bytes.count)
        try checkFinalSize(end: end, fin: fin)
        guard state == .receiving || state == .sizeKnown else { return 0 }
        let added = buffer.insert(bytes, at: offset, room: room)
        switch origin {
        case .flow: octetsFromFlow += UInt64(added)
        case .unicast: octetsFromUnicast += UInt64(added)
        }
        if fin, finalSize == nil {
            finalSize = end
            state = .sizeKnown
            // The peer has said all: neither frame can do anything now (RFC 9000 sections 3.2 and 3.5).
            owesMaxStreamData = false
            owesStopSending = false
        }
        if received == finalSize { state = .allReceived }
        return added
    }

    /// Takes the packets of a run of the flow, from `first` on, that hold nothing but the next octets of this stream, which the
    /// application knows to be readable, up to `limit`: how many packets and octets.
    @inline(__always)
    mutating func receiveNext(
        _ datagrams: Span<UInt8>, _ run: RunPlan, from first: Int, limit: UInt64
    ) -> (packets: Int, octets: Int) {
        guard isAnnounced, state == .receiving, stopCode == nil else { return (0, 0) }
        let taken = buffer.insertNext(datagrams, run, from: first, id: id, limit: min(limit, maxStreamData))
        octetsFromFlow += UInt64(taken.octets)
        return taken
    }

    /// A RESET_STREAM. False when it changes nothing, because everything was received or a reset came before.
    mutating func reset(finalSize end: UInt64) throws(TransportError) -> Bool {
        try checkFinalSize(end: end, fin: true)
        guard state == .receiving || state == .sizeKnown else { return false }
        finalSize = end
        state = .reset
        owesMaxStreamData = false
        owesStopSending = false
        buffer.discard()
        return true
    }

    /// Whether all of it that was not read is there, up to its end.
    var isWhole: Bool { buffer.contiguousEnd == finalSize }

    /// What there is counts as read, and stays: how much.
    mutating func gather() -> Int {
        isAnnounced = false
        buffer.consume()
        return buffer.consumed
    }

    /// All octets that can be read now, gathered ones among them, and the end of the stream if it is reached; nil when there
    /// is neither.
    mutating func take() -> StreamChunk? {
        guard state != .reset, buffer.readable > 0 || buffer.readOffset == finalSize else { return nil }
        return takeReadable()
    }

    /// The same of a stream that is readable.
    mutating func takeReadable() -> StreamChunk {
        isAnnounced = false
        let offset = buffer.heldOffset
        let bytes = buffer.read() ?? []
        return StreamChunk(
            bytes: bytes, offset: offset, isFinished: buffer.readOffset == finalSize, octetsFromFlow: octetsFromFlow,
            octetsFromUnicast: octetsFromUnicast)
    }

    /// Opens the stream's window again when half of it was used. True when a MAX_STREAM_DATA became due.
    mutating func openWindow() -> Bool {
        let next = min(buffer.readOffset + window, Varint.max)
        guard state == .receiving, next > maxStreamData, next - maxStreamData >= (window + 1) / 2 else { return false }
        maxStreamData = next
        owesMaxStreamData = true
        return true
    }

    /// Asks the peer to stop. False when there is nothing left to stop.
    mutating func stop(code: UInt64) -> Bool {
        guard stopCode == nil, state == .receiving || state == .sizeKnown else { return false }
        stopCode = code
        owesStopSending = state == .receiving
        return true
    }

    /// RFC 9000 section 4.5: a final size never changes, and nothing lies beyond it.
    @inline(__always)
    private func checkFinalSize(end: UInt64, fin: Bool) throws(TransportError) {
        if let finalSize {
            guard end <= finalSize, !fin || end == finalSize else {
                throw TransportError(.finalSizeError, "stream \(id.rawValue) goes to \(end), but ends at \(finalSize)")
            }
        } else if fin, end < highest {
            throw TransportError(.finalSizeError, "stream \(id.rawValue) ends at \(end), but reached \(highest)")
        }
    }
}
