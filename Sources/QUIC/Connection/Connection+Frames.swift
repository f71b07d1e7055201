import Wire

// What a packet carries.
extension Connection {
    /// Returns whether any of them asks for an acknowledgement.
    @_lifetime(writer: copy writer)
    mutating func writeFrames(
        _ level: ProtectionLevel, mayCongest: Bool, into writer: inout ByteWriter, at now: Instant
    ) -> Bool {
        if case .closing(let closing) = phase {
            write(closing.frame, level, into: &writer)
            return false
        }
        let space = level.rawValue
        let isProbe = probes[space] > 0
        // A probe does not wait for the window (RFC 9002 section 7.5).
        let mayElicit = mayCongest || isProbe
        let hasMore =
            mayElicit && (crypto[space].hasPending || level == .application && wantsApplicationFrames(at: now))
        if acks[space].mustAckNow(at: now) || (hasMore || isProbe) && acks[space].hasUnacknowledged {
            writeACKs(level, into: &writer, at: now)
        }
        if level == .application { writeFlowACKs(into: &writer, at: now) }
        let afterACKs = writer.offset
        if level == .application { writePathValidation(into: &writer, at: now) }
        guard mayElicit else { return writer.offset > afterACKs }
        crypto[space].writeFrames(into: &writer, sent: &frames)
        if level == .application { writeApplicationFrames(into: &writer, at: now) }
        // A probe must elicit an acknowledgement whatever else there is (RFC 9002 section 6.2.4); now and then so must
        // a packet of acknowledgements, so that the peer's answer lets us forget the old ones, and no more than now and then
        // (RFC 9000 sections 13.2.1 and 13.2.4).
        if writer.offset == afterACKs, writer.remaining > 0 {
            if !isProbe { ackOnlyPackets += 1 }
            if isProbe || ackOnlyPackets % 32 == 0 {
                writer.uint8(UInt8(FrameType.ping))
                frames.append(.ping)
            }
        }
        return writer.offset > afterACKs
    }

    /// What came in a packet number space is acknowledged in it (RFC 9000 sections 13.2.6 and 17.2.3).
    @_lifetime(writer: copy writer)
    private mutating func writeACKs(_ level: ProtectionLevel, into writer: inout ByteWriter, at now: Instant) {
        let space = level.rawValue
        guard
            acks[space].writeACK(
                into: &writer, pathID: nil,
                ackDelayExponent: level == .application ? localParameters.ackDelayExponent : 0,
                at: now), let largest = acks[space].lastAckLargest
        else { return }
        if level == .application { peerKey.isAcknowledged = true }
        frames.append(.ack(space: 0, pathID: 0, largest: largest))
    }

    /// What came on flows is acknowledged here, on the unicast path (draft-navarre-quic-flexicast-02 sections 3.1 and 7), in
    /// 1-RTT packets (draft-ietf-quic-multipath-21 section 4).
    @_lifetime(writer: copy writer)
    private mutating func writeFlowACKs(into writer: inout ByteWriter, at now: Instant) {
        var isLast = false
        for index in flowPaths.indices where flowPaths[index].acks.mustAckNow(at: now) {
            let id = flowPaths[index].id
            guard
                flowPaths[index].acks.writeACK(
                    into: &writer, pathID: id, ackDelayExponent: localParameters.ackDelayExponent, at: now),
                let largest = flowPaths[index].acks.lastAckLargest
            else { continue }
            frames.append(.ack(space: 1, pathID: id, largest: largest))
            isLast = isLast || flowPaths[index].isClosing
        }
        if isLast { flowPaths.removeAll { $0.isClosing && !$0.acks.hasUnacknowledged } }
    }

    @_lifetime(writer: copy writer)
    private mutating func writePathValidation(into writer: inout ByteWriter, at now: Instant) {
        while let response = pathResponses.first, response.to == path.remote, writer.remaining >= 9 {
            pathResponses.removeFirst()
            writer.uint8(UInt8(FrameType.pathResponse))
            writer.uint64(response.data)
            frames.append(.pathResponse)
            carriesPathValidation = true
        }
        if path.challengeDue(at: now), writer.remaining >= 9, let challenge = path.challenge {
            writer.uint8(UInt8(FrameType.pathChallenge))
            writer.uint64(challenge.data)
            path.challengeSent(pto: probeTimeout, isExpanded: path.allowance >= PathMTU.floor, at: now)
            frames.append(.pathChallenge)
            carriesPathValidation = true
        }
    }

    @_lifetime(writer: copy writer)
    private mutating func writeApplicationFrames(into writer: inout ByteWriter, at now: Instant) {
        if handshakeDoneDue, writer.remaining >= 1 {
            handshakeDoneDue = false
            writer.uint8(UInt8(FrameType.handshakeDone))
            frames.append(.handshakeDone)
        }
        if pingDue, writer.remaining >= 1 {
            pingDue = false
            writer.uint8(UInt8(FrameType.ping))
            frames.append(.ping)
        }
        while writer.remaining >= 64, let entry = localIDs.takePending() {
            writer.uint8(UInt8(FrameType.newConnectionID))
            writer.varint(entry.sequence)
            writer.varint(0)
            writer.uint8(UInt8(entry.id.count))
            writer.connectionID(entry.id)
            writer.octets(entry.token.span)
            frames.append(.newConnectionID(sequence: entry.sequence))
        }
        while writer.remaining >= 9, let sequence = remoteIDs.takePendingRetire() {
            writer.uint8(UInt8(FrameType.retireConnectionID))
            writer.varint(sequence)
            frames.append(.retireConnectionID(sequence: sequence))
        }
        while let token = newTokens.first, writer.remaining >= token.count + 5 {
            newTokens.removeFirst()
            writer.uint8(UInt8(FrameType.newToken))
            writer.varint(UInt64(token.count))
            writer.octets(token.span)
            frames.append(.newToken)
        }
        // Like all frames here they go into 1-RTT packets only (draft-navarre-quic-flexicast-02 section 11).
        while let frame = extensionFrames.next(fitting: writer.remaining) {
            writer.octets(frame.octets.span)
            frames.append(.extensionFrame(key: frame.key, version: frame.version))
        }
        streams.writeControlFrames(into: &writer, sent: &frames)
        while let bytes = datagrams.first, writer.remaining >= bytes.count + 1 + Varint.length(UInt64(bytes.count)) {
            datagrams.removeFirst()
            writer.uint8(UInt8(FrameType.datagramWithLength))
            writer.varint(UInt64(bytes.count))
            writer.octets(bytes.span)
            frames.append(.datagram)
        }
        streams.writeStreamFrames(into: &writer, sent: &frames)
    }

    @_lifetime(writer: copy writer)
    private func write(_ frame: CloseFrame, _ level: ProtectionLevel, into writer: inout ByteWriter) {
        // Before 1-RTT an application's own reason must not leak (RFC 9000 sections 10.2.3 and 12.5).
        let hidden = frame.isApplication && level != .application
        let isTransport = !frame.isApplication || hidden
        let reason = hidden ? [] : Array(frame.reason.utf8.prefix(max(0, min(200, writer.remaining - 24))))
        writer.uint8(UInt8(isTransport ? FrameType.connectionClose : FrameType.connectionCloseApplication))
        writer.varint(hidden ? TransportError.Code.applicationError.rawValue : min(frame.code, Varint.max))
        if isTransport { writer.varint(hidden ? 0 : min(frame.frameType, Varint.max)) }
        writer.varint(UInt64(reason.count))
        writer.octets(reason.span)
    }
}
