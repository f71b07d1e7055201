import Wire

extension Connection {
    /// Frames that steer the connection. False: the type is none of them.
    @_lifetime(reader: copy reader)
    mutating func controlReceived(
        _ type: UInt64, _ reader: inout ByteReader, packet: ReceivedPacket, at now: Instant
    ) throws(TransportError) -> Bool {
        func truncated() -> TransportError {
            TransportError(.frameEncodingError, "truncated frame 0x\(String(type, radix: 16))", frameType: type)
        }
        switch type {
        case FrameType.stopSending:
            guard let id = reader.varint(), let code = reader.varint() else { throw truncated() }
            try streams.stopSendingReceived(StreamID(id), code: code)
        case FrameType.maxData:
            guard let value = reader.varint() else { throw truncated() }
            streams.maxDataReceived(value)
        case FrameType.maxStreamData:
            guard let id = reader.varint(), let value = reader.varint() else { throw truncated() }
            try streams.maxStreamDataReceived(StreamID(id), value)
        case FrameType.maxStreamsBidirectional, FrameType.maxStreamsUnidirectional:
            guard let value = reader.varint() else { throw truncated() }
            try streams.maxStreamsReceived(bidirectional: type == FrameType.maxStreamsBidirectional, value)
        case FrameType.dataBlocked:
            guard let value = reader.varint() else { throw truncated() }
            streams.dataBlockedReceived(value)
        case FrameType.streamDataBlocked:
            guard let id = reader.varint(), let value = reader.varint() else { throw truncated() }
            try streams.streamDataBlockedReceived(StreamID(id), value)
        case FrameType.streamsBlockedBidirectional, FrameType.streamsBlockedUnidirectional:
            guard let value = reader.varint() else { throw truncated() }
            try streams.streamsBlockedReceived(bidirectional: type == FrameType.streamsBlockedBidirectional, value)
        case FrameType.newToken: try newTokenReceived(&reader)
        case FrameType.newConnectionID: try newConnectionIDReceived(type, &reader, pathID: 0)
        case FrameType.retireConnectionID:
            guard let sequence = reader.varint() else { throw truncated() }
            try connectionIDRetired(sequence, packet: packet)
        case FrameType.pathChallenge:
            guard let data = reader.uint64() else { throw truncated() }
            pathChallengeReceived(data, from: packet.from)
        case FrameType.pathResponse:
            guard let data = reader.uint64() else { throw truncated() }
            // Whichever way it came (RFC 9000 section 8.2.2).
            if path.challenge?.data == data { pathValidated(at: now) }
        case FrameType.handshakeDone:
            // RFC 9000 section 19.20.
            guard role == .client else {
                throw TransportError(.protocolViolation, "HANDSHAKE_DONE from a client", frameType: type)
            }
            confirm(at: now)
        case FrameType.pathAbandon...FrameType.pathCIDsBlocked:
            try multipathReceived(type, &reader, packet: packet, at: now)
        default: return false
        }
        return true
    }

    /// The answer (RFC 9000 section 19.17) is expanded to 1200 octets as far as three times the question allows
    /// (RFC 9000 section 8.2.2).
    private mutating func pathChallengeReceived(_ data: UInt64, from address: SocketAddress) {
        let limit = address == path.remote ? PathMTU.floor : min(PathMTU.floor, answerAllowance)
        guard pathResponses.count < Self.maxPathResponses, limit >= Self.smallestAnswer else {
            statistics.pathResponsesDropped += 1
            return
        }
        if address != path.remote { answerAllowance -= limit }
        pathResponses.append((data, address, limit))
    }

    @_lifetime(reader: copy reader)
    private mutating func newTokenReceived(_ reader: inout ByteReader) throws(TransportError) {
        guard role == .client else {
            // RFC 9000 section 19.7.
            throw TransportError(.protocolViolation, "NEW_TOKEN from a client", frameType: FrameType.newToken)
        }
        guard let length = reader.varint(), length > 0, length <= UInt64(reader.remaining),
            let token = reader.array(Int(length))
        else {
            throw TransportError(.frameEncodingError, "NEW_TOKEN without a token", frameType: FrameType.newToken)
        }
        guard token.count <= Self.maxTokenLength else { return }
        guard waitingTokens < Self.maxWaitingTokens else {
            statistics.newTokensDropped += 1
            return
        }
        waitingTokens += 1
        events.append(.newToken(token))
    }

    private mutating func connectionIDRetired(
        _ sequence: UInt64, packet: ReceivedPacket
    ) throws(TransportError) {
        guard let id = try localIDs.retire(sequence, usedInPacket: packet.destination) else { return }
        events.append(.connectionIDRetired(id))
        // One for one: those asked for before are on their way.
        if localIDs.wanted > 0 { events.append(.connectionIDsWanted(1)) }
    }

    /// `pathID`: whose IDs these are. Of others than the one unicast path they are checked and not kept: no packet of ours goes
    /// there.
    @_lifetime(reader: copy reader)
    private mutating func newConnectionIDReceived(
        _ type: UInt64, _ reader: inout ByteReader, pathID: UInt64
    ) throws(TransportError) {
        guard let sequence = reader.varint(), let retirePriorTo = reader.varint(), let length = reader.uint8(),
            // RFC 9000 section 19.15.
            (1...20).contains(length), let id = reader.connectionID(Int(length)), let token = reader.array(16),
            retirePriorTo <= sequence
        else { throw TransportError(.frameEncodingError, "malformed NEW_CONNECTION_ID", frameType: type) }
        guard pathID == 0 else { return }
        try remoteIDs.add(sequence: sequence, retirePriorTo: retirePriorTo, id: id, token: token)
    }

    /// Frames of draft-ietf-quic-multipath-21 section 4. We run one unicast path, of ID 0, whose connection IDs are renewed by
    /// these frames or by those of RFC 9000, in one row of sequence numbers (draft-ietf-quic-multipath-21 section 3.2). For
    /// others we issue none, so that the peer cannot open any: their IDs are for flows. Path IDs stay below the limit that we
    /// named, and never moved (draft-ietf-quic-multipath-21 sections 4.6 and 4.7).
    @_lifetime(reader: copy reader)
    private mutating func multipathReceived(
        _ type: UInt64, _ reader: inout ByteReader, packet: ReceivedPacket, at now: Instant
    ) throws(TransportError) {
        func malformed() -> TransportError {
            TransportError(
                .frameEncodingError, "malformed multipath frame 0x\(String(type, radix: 16))", frameType: type)
        }
        func violation(_ what: String) -> TransportError {
            TransportError(.protocolViolation, what, frameType: type)
        }
        guard isMultipathNegotiated else {
            throw TransportError(
                .frameEncodingError, "frame 0x\(String(type, radix: 16)) without multipath", frameType: type)
        }
        guard let first = reader.varint() else { throw malformed() }
        if type == FrameType.maxPathID {
            guard first <= 1 << 32 - 1, first >= peerParameters?.initialMaxPathID ?? 0 else {
                throw violation("MAX_PATH_ID \(first) above 2^32-1 or below initial_max_path_id")
            }
            return
        }
        let limit = localParameters.initialMaxPathID ?? 0
        guard first <= limit else { throw violation("path \(first) above our limit \(limit)") }
        switch type {
        case FrameType.pathsBlocked: break
        case FrameType.pathAbandon:
            guard reader.varint() != nil else { throw malformed() }
            guard first != 0 else {
                throw TransportError(.noError, "the peer abandoned the only unicast path", frameType: type)
            }
            try pathAbandoned(first, at: now)
        case FrameType.pathStatusBackup, FrameType.pathStatusAvailable:
            guard reader.varint() != nil else { throw malformed() }
        case FrameType.pathRetireConnectionID:
            guard let sequence = reader.varint() else { throw malformed() }
            // What comes late for a path that is gone is ignored (draft-ietf-quic-multipath-21 section 4).
            guard !abandonedPaths.contains(first) else { break }
            guard first == 0 else { throw violation("an ID of path \(first) is retired, and there was none") }
            try connectionIDRetired(sequence, packet: packet)
        case FrameType.pathNewConnectionID: try newConnectionIDReceived(type, &reader, pathID: first)
        case FrameType.pathCIDsBlocked:
            guard let next = reader.varint() else { throw malformed() }
            // Only path 0 has any.
            let expected = first == 0 ? localIDs.nextSequence : 0
            guard next <= expected else {
                throw violation("PATH_CIDS_BLOCKED at \(next) of path \(first), whose next is \(expected)")
            }
        default:
            throw malformed()
        }
    }

    /// A path that the peer abandons is abandoned from here too (draft-ietf-quic-multipath-21 section 3.4).
    private mutating func pathAbandoned(_ pathID: UInt64, at now: Instant) throws(TransportError) {
        guard !abandonedPaths.contains(pathID) else { return }
        guard abandonedPaths.count < Self.maxAbandonedPaths else {
            throw TransportError(
                .internalError, "more than \(Self.maxAbandonedPaths) paths abandoned", frameType: FrameType.pathAbandon)
        }
        abandonedPaths.append(pathID)
        let answer = [UInt8].written(capacity: 20) { writer in
            writer.varint(FrameType.pathAbandon)
            writer.varint(pathID)
            writer.varint(TransportError.Code.noError.rawValue)
        }
        // An extension's own keys count from 0.
        sendExtensionFrame(answer, key: .max - pathID)
        closeReceivePath(pathID, at: now)
        events.append(.pathAbandoned(pathID))
    }
}
