import Wire

/// The CRYPTO stream of one protection level, both directions (RFC 9000 sections 7.5 and 19.6): what is lost goes again at
/// its level (RFC 9001 sections 4 and 4.9).
struct CryptoStream: Sendable {
    private var incoming = ReceiveBuffer()
    /// Everything appended from `outgoingStart` on: it is let go of when all of it was acknowledged.
    private var outgoing: [UInt8] = []
    private var outgoingStart: UInt64 = 0
    private var pending = OctetSet()
    private var acknowledged = OctetSet()

    init() {}

    // MARK: - Receiving

    /// The octets of a CRYPTO frame. Throws CRYPTO_BUFFER_EXCEEDED when they reach too far beyond what was read.
    mutating func received(_ bytes: Span<UInt8>, at offset: UInt64) throws(TransportError) {
        guard offset <= Varint.max, UInt64(bytes.count) <= Varint.max - offset else {
            throw TransportError(.frameEncodingError, "handshake data beyond 2^62-1", frameType: 0x06)
        }
        let refused = incoming.refused
        guard offset + UInt64(bytes.count) <= incoming.readOffset + UInt64(StreamBounds.cryptoBuffer) else {
            throw TransportError(.cryptoBufferExceeded, "too much handshake data out of order", frameType: 0x06)
        }
        _ = incoming.insert(bytes, at: offset)
        guard incoming.refused == refused else {
            throw TransportError(.cryptoBufferExceeded, "too many gaps in handshake data", frameType: 0x06)
        }
    }

    /// Octets that were read so far.
    var readOffset: UInt64 { incoming.readOffset }

    /// The next octets in order, for TLS.
    mutating func read() -> [UInt8]? { incoming.read() }

    /// Octets came that TLS was not handed.
    var hasUnread: Bool { incoming.buffered > 0 }
    /// Octets wait behind a hole.
    var hasGap: Bool { incoming.buffered > 0 && incoming.readable == 0 }

    // MARK: - Sending

    var hasPending: Bool { !pending.isEmpty }
    /// Everything appended was acknowledged.
    var isAllAcknowledged: Bool { acknowledged.prefix == outgoingEnd }
    /// One past the last octet appended.
    private var outgoingEnd: UInt64 { outgoingStart + UInt64(outgoing.count) }

    /// Octets from TLS, to go after those before.
    mutating func append(_ bytes: [UInt8]) {
        let start = outgoingEnd
        outgoing.append(contentsOf: bytes)
        pending.insert(start..<outgoingEnd)
    }

    /// Writes as many CRYPTO frames as fit, lowest offset first.
    @_lifetime(writer: copy writer)
    mutating func writeFrames(into writer: inout ByteWriter, sent: inout [SentFrame]) {
        while let range = pending.first {
            let room = writer.remaining - 1 - Varint.length(range.lowerBound)
            guard room >= 2 else { return }
            var count = min(range.count, room - 1)
            if Varint.length(UInt64(count)) > 1 { count = min(count, room - Varint.length(UInt64(count))) }
            guard count >= min(range.count, StreamBounds.smallestFragment) else { return }
            writer.uint8(0x06)
            writer.varint(range.lowerBound)
            writer.varint(UInt64(count))
            let start = Int(range.lowerBound - outgoingStart)
            writer.octets(outgoing.span.extracting(start..<(start + count)))
            pending.remove(range.lowerBound..<(range.lowerBound + UInt64(count)))
            sent.append(.crypto(offset: range.lowerBound, length: count))
        }
    }

    mutating func frameAcknowledged(_ frame: SentFrame) {
        guard case .crypto(let offset, let length) = frame else { return }
        let range = offset..<(offset + UInt64(length))
        acknowledged.insert(range)
        pending.remove(range)
        guard isAllAcknowledged else { return }
        outgoingStart = outgoingEnd
        outgoing = []
    }

    mutating func frameLost(_ frame: SentFrame) {
        guard case .crypto(let offset, let length) = frame else { return }
        resend(offset..<(offset + UInt64(length)))
    }

    /// Sends everything again that was not acknowledged: after a Retry, or as a probe (RFC 9002 section 6.2.4).
    mutating func retransmitAll() { resend(0..<outgoingEnd) }

    private mutating func resend(_ range: Range<UInt64>) {
        var lost = OctetSet()
        lost.insert(range)
        lost.subtract(acknowledged)
        pending.formUnion(lost)
    }
}
