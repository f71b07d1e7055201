import Wire

// How a connection ends (RFC 9000 section 10): we close it, the peer does, or the peer has lost its state.
extension Connection {
    /// What the peer is told.
    struct CloseFrame: Sendable {
        var code: UInt64
        var frameType: UInt64
        var isApplication: Bool
        var reason: String
    }

    /// We have closed, and say so again while the peer goes on talking.
    struct Closing: Sendable {
        let frame: CloseFrame
        let until: Instant
        /// The frame is to be sent, first or once more.
        var isDue = true
        private var packets: UInt64 = 0

        init(frame: CloseFrame, until: Instant) {
            self.frame = frame
            self.until = until
        }

        /// The peer has sent a packet: the 1st, 2nd, 4th, 8th … is answered with the frame.
        mutating func packetReceived() {
            packets += 1
            if packets & (packets - 1) == 0 { isDue = true }
        }
    }

    /// All that is sent is the close frame.
    var isClosing: Bool { if case .closing = phase { true } else { false } }

    // MARK: Ours

    /// Closes with an application's code.
    public mutating func close(applicationCode: UInt64, reason: String = "", at now: Instant) {
        close(
            CloseFrame(code: applicationCode, frameType: 0, isApplication: true, reason: reason),
            .localApplication(code: applicationCode, reason: reason), at: now)
    }

    /// Closes because of `error`, which the peer is told (RFC 9000 sections 10.3 and 11.1).
    public mutating func close(_ error: TransportError, at now: Instant) {
        close(
            CloseFrame(
                code: error.code.rawValue, frameType: error.frameType, isApplication: false, reason: error.reason),
            .local(error), at: now)
    }

    private mutating func close(_ frame: CloseFrame, _ reason: CloseReason, at now: Instant) {
        guard isActive else { return }
        phase = .closing(Closing(frame: frame, until: now + probeTimeout * 3))
        events.append(.closed(reason))
    }

    /// Ends at once and silently: there never was a peer, so that nobody closed anything either.
    public mutating func abandon() {
        guard isActive else { return }
        phase = .drained
        events.append(.drained)
    }

    /// Ends at once and silently.
    mutating func end(_ reason: CloseReason) {
        phase = .drained
        events.append(.closed(reason))
        events.append(.drained)
    }

    // MARK: The peer's

    /// The peer has closed: nothing is sent from here on.
    @_lifetime(reader: copy reader)
    mutating func closeReceived(_ type: UInt64, _ reader: inout ByteReader, at now: Instant)
        throws(TransportError)
    {
        guard let reason = Self.readClose(type, &reader) else { throw Self.truncated(type) }
        events.append(.closed(reason))
        phase = .draining(until: now + probeTimeout * 3)
    }

    @_lifetime(reader: copy reader)
    private static func readClose(_ type: UInt64, _ reader: inout ByteReader) -> CloseReason? {
        var frameType: UInt64 = 0
        guard let code = reader.varint() else { return nil }
        if type == FrameType.connectionClose {
            guard let value = reader.varint() else { return nil }
            frameType = value
        }
        guard let length = reader.varint(), length <= UInt64(reader.remaining), let text = reader.array(Int(length))
        else { return nil }
        // The peer's words go into logs and onto terminals: whatever is not UTF-8 is replaced, and what is not printed is
        // dropped: controls of all kinds, and what turns the direction of writing.
        var reason = String(decoding: text.prefix(256), as: UTF8.self)
        reason.unicodeScalars.removeAll {
            [.control, .format, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
        }
        return type == FrameType.connectionClose
            ? .peer(TransportError(TransportError.Code(rawValue: code), reason, frameType: frameType))
            : .peerApplication(code: code, reason: reason)
    }

    /// A packet that comes when the connection is not active any more: the peer's own close frame ends the exchange.
    mutating func packetReceivedAtEnd(_ payload: Span<UInt8>) {
        guard case .closing(var closing) = phase else { return }
        closing.packetReceived()
        var reader = ByteReader(payload)
        switch reader.varint() {
        case FrameType.connectionClose, FrameType.connectionCloseApplication: phase = .draining(until: closing.until)
        default: phase = .closing(closing)
        }
    }

    /// Whether the last 16 octets of an unreadable datagram say that the peer lost its state. Only the ID in use counts, not
    /// those that wait for their use or are retired (RFC 9000 section 10.3.1).
    public func isStatelessReset(_ token: [UInt8]) -> Bool {
        guard let known = remoteIDs.active[0].token, known.count == token.count else { return false }
        // Every octet is looked at, whatever the first differences are.
        return zip(known, token).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }

    /// The datagram was a stateless reset.
    public mutating func statelessResetReceived(at now: Instant) {
        guard isActive else { return }
        events.append(.closed(.statelessReset))
        phase = .draining(until: now + probeTimeout * 3)
    }
}
