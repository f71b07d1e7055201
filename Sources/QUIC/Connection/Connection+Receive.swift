import Wire

extension Connection {
    /// A UDP datagram of `octets` came from `address`. Called once for each, before its packets.
    public mutating func datagramReceived(octets: Int, from address: SocketAddress, at now: Instant) {
        statistics.datagramsReceived += 1
        statistics.octetsReceived += UInt64(octets)
        answerAllowance = 3 * octets
        if address == path.remote {
            path.received(octets)
            recovery.amplificationBlocked = path.allowance < PathMTU.floor
        }
    }

    /// Takes an opened packet. A violation by the peer closes this connection and nothing else.
    public mutating func packetReceived<E: FrameExtension>(
        _ packet: ReceivedPacket, payload: Span<UInt8>, at now: Instant, extension: inout E
    ) {
        guard isActive else {
            packetReceivedAtEnd(payload)
            return
        }
        // A server does not move without our asking (RFC 9000 section 9).
        guard role == .server || packet.from == path.remote else { return }
        // Whoever retired an ID must not use it (RFC 9000 section 5.1.2); a client's first Initials have one of its own making.
        guard role == .server && packet.level != .application || localIDs.contains(packet.destination) else { return }
        let space = packet.level.rawValue
        guard levels[space] != .discarded else { return }
        // RFC 9000 section 12.3.
        guard !acks[space].isDuplicate(packet.packetNumber) else {
            statistics.packetsDuplicate += 1
            return
        }
        statistics.packetsReceived += 1
        do throws(TransportError) {
            // RFC 9000 sections 17.2 and 17.3.1.
            guard packet.reservedBitsAreZero else {
                throw TransportError(.protocolViolation, "reserved header bits are set")
            }
            // RFC 9000 section 12.4.
            guard payload.count > 0 else { throw TransportError(.protocolViolation, "packet without frames") }
            guard acceptSource(packet) else { return }
            noteHandshakeProgress(packet, at: now)
            if packet.level == .application { try noteKey(packet) }
            let content = try framesReceived(payload, packet: packet, at: now, extension: &`extension`)
            acks[space].received(
                packet.packetNumber, ackEliciting: content.isAckEliciting, ecn: packet.ecn, at: packet.arrival ?? now)
            if packet.level == .application {
                noteApplicationPacket(packet, isProbing: content.isProbing, at: now)
            }
            ackElicitingSinceReceive = false
            restartIdleTimer(at: now)
            // Nothing of what came before the error is taken back (RFC 9000 section 5.2).
        } catch { close(error, at: now) }
    }

    /// A client takes the server's ID from its first packet, and from then on only packets with that ID (RFC 9000 section 7.2).
    private mutating func acceptSource(_ packet: ReceivedPacket) -> Bool {
        guard packet.level != .application else { return true }
        if !remoteIDConfirmed {
            remoteIDs.replaceFirst(packet.source)
            remoteIDConfirmed = true
            return true
        }
        return isHandshakeComplete || packet.source == remoteIDs.active.first { $0.sequence == 0 }?.id
    }

    private mutating func noteHandshakeProgress(_ packet: ReceivedPacket, at now: Instant) {
        if path.local == nil { path.local = packet.to }
        guard role == .server, packet.level == .handshake else { return }
        // Only the holder of the address can have the Handshake keys (RFC 9000 section 8.1).
        if !path.isValidated, packet.from == path.remote { pathValidated(at: now) }
        discard(.initial)
    }

    mutating func pathValidated(at now: Instant) {
        // The address is proven, but not that the path carries 1200 octets (RFC 9000 sections 8.2.1 and 8.2.3).
        let isExpanded = path.challenge?.isExpanded ?? true
        path.validate()
        if !isExpanded { path.startChallenge(data: random.next(), pto: probeTimeout, at: now) }
        previousPath = nil
        recovery.amplificationBlocked = false
    }

    /// Follows the peer's key updates and refuses those that break a rule (RFC 9001 sections 6.2 and 6.4).
    private mutating func noteKey(_ packet: ReceivedPacket) throws(TransportError) {
        if packet.keyGeneration > peerKey.generation {
            guard peerKey.isAcknowledged else {
                throw TransportError(.keyUpdateError, "keys updated again before the last update was acknowledged")
            }
            peerKey = PeerKey(generation: packet.keyGeneration, lowest: packet.packetNumber, isAcknowledged: false)
            if packet.keyGeneration > keyGeneration { advanceKeys(to: packet.keyGeneration) }
        } else if packet.keyGeneration == peerKey.generation {
            peerKey.lowest = min(peerKey.lowest, packet.packetNumber)
        } else if packet.packetNumber > peerKey.lowest {
            throw TransportError(.keyUpdateError, "an old key sealed packet \(packet.packetNumber), after a newer one")
        }
    }

    /// Migration (RFC 9000 section 9.3).
    private mutating func noteApplicationPacket(_ packet: ReceivedPacket, isProbing: Bool, at now: Instant) {
        let isNewest = packet.packetNumber >= (largestApplicationPacket ?? 0)
        largestApplicationPacket = max(packet.packetNumber, largestApplicationPacket ?? 0)
        guard isNewest, packet.from == path.remote else {
            if isNewest, !isProbing, role == .server, isHandshakeConfirmed { migrate(to: packet, at: now) }
            return
        }
        if let to = packet.to { path.local = to }
    }

    private mutating func migrate(to packet: ReceivedPacket, at now: Instant) {
        if path.isValidated {
            // RFC 9000 section 9.3.3.
            previousPath = PreviousPath(path: path, challenge: random.next())
        }
        let onlyPort = packet.from.address == path.remote.address
        if let back = previousPath?.path, back.remote == packet.from {
            path = back
            previousPath = nil
        } else {
            path = NetworkPath(remote: packet.from, isValidated: false)
            path.received(answerAllowance / 3)
            path.startChallenge(data: random.next(), pto: probeTimeout, at: now)
            recovery.amplificationBlocked = path.allowance < PathMTU.floor
        }
        path.local = packet.to
        if !onlyPort {
            // A new network: what was learnt of the old one does not hold (RFC 9000 section 9.4).
            recovery.resetForNewPath(at: now)
            mtu = PathMTU(ceiling: largestDatagram)
            recovery.maxDatagramSize = mtu.current
            _ = remoteIDs.rotate()
        }
        addressChanged(packet.from)
    }

    private struct Content {
        var isAckEliciting = false
        var isProbing = true
    }

    private mutating func framesReceived<E: FrameExtension>(
        _ payload: Span<UInt8>, packet: ReceivedPacket, at now: Instant, extension: inout E
    ) throws(TransportError) -> Content {
        var reader = ByteReader(payload)
        var content = Content()
        while !reader.isAtEnd {
            let begin = reader.offset
            guard let type = reader.varint() else { throw Self.truncated(0) }
            guard reader.offset - begin == Varint.length(type) else {
                throw TransportError(.protocolViolation, "frame type not in its shortest form", frameType: type)
            }
            // RFC 9000 sections 12.4 and 17.2.4, RFC 9221 sections 5 and 6.
            guard packet.level == .application || FrameType.allowedBeforeApplication(type) else {
                // An extension's frame is an unknown one here (draft-navarre-quic-flexicast-02 section 11), but for multipath's
                // (draft-ietf-quic-multipath-21 section 4).
                let code: TransportError.Code = isKnown(type) ? .protocolViolation : .frameEncodingError
                throw TransportError(
                    code, "frame 0x\(String(type, radix: 16)) in a \(packet.level) packet", frameType: type)
            }
            switch type {
            case FrameType.padding: continue
            case FrameType.ack, FrameType.ackECN:
                content.isProbing = false
                try ackReceived(type, &reader, packet: packet, at: now)
                continue
            case FrameType.pathACK, FrameType.pathACKECN:
                content.isProbing = false
                try pathACKReceived(type, &reader, packet: packet, at: now, extension: &`extension`)
                continue
            case FrameType.connectionClose, FrameType.connectionCloseApplication:
                try closeReceived(type, &reader, at: now)
                return content
            case FrameType.pathChallenge, FrameType.pathResponse, FrameType.newConnectionID: break
            default: content.isProbing = false
            }
            content.isAckEliciting = true
            switch type {
            case FrameType.ping: break
            case FrameType.crypto: try cryptoReceived(&reader, level: packet.level)
            case FrameType.stream: try streamReceived(type, &reader, origin: .unicast)
            case FrameType.resetStream: try resetReceived(&reader, origin: .unicast)
            case FrameType.datagram, FrameType.datagramWithLength:
                try datagramFrameReceived(type, &reader, origin: .unicast)
            default:
                if try controlReceived(type, &reader, packet: packet, at: now) { break }
                // What is not ours may be the extension's, if it was negotiated; it is acknowledged like ours (RFC 9000
                // section 19.21).
                guard isExtensionNegotiated,
                    let used = try `extension`.frameReceived(
                        type: type, body: payload.extracting(reader.offset..<payload.count), at: now),
                    reader.skip(used)
                else {
                    throw TransportError(
                        .frameEncodingError, "unknown frame 0x\(String(type, radix: 16))", frameType: type)
                }
            }
            if !isActive { break }
        }
        return content
    }

    /// Packets of `pathID`'s flow, opened with the flow's key, in the datagrams they came in: how many are new and count as
    /// received, which those that our limits have no room for do not. Only frames
    /// that a shared flow may carry are accepted; others are a violation (draft-navarre-quic-flexicast-02 sections 7 and 11).
    @discardableResult
    public mutating func flowPacketsReceived<E: FrameExtension>(
        pathID: UInt64, _ run: RunPlan, in datagrams: Span<UInt8>, ecn: ECN, at now: Instant, extension: inout E
    ) -> Int {
        guard isActive, let path = flowPaths.firstIndex(where: { $0.id == pathID && !$0.isClosing }) else {
            return run.count
        }
        let numbers = run.packetNumbers
        guard flowPaths[path].acks.isNew(numbers) else {
            guard run.count > 1 else {
                statistics.flowPacketsDuplicate += 1
                return 0
            }
            var new = 0
            for index in 0..<run.count {
                new += flowPacketsReceived(
                    pathID: pathID, run.packets(index..<(index + 1)), in: datagrams, ecn: ecn, at: now,
                    extension: &`extension`)
            }
            return new
        }
        statistics.flowPacketsReceived += UInt64(run.count)
        // From `first` on packets are taken, all of them ack-eliciting or none, and not acknowledged.
        var first = numbers.lowerBound
        var isAckEliciting = true
        var taken = run.count
        do throws(TransportError) {
            let count = run.count
            var index = 0
            while index < count {
                if isAckEliciting { index += streams.receivedNext(datagrams, run, from: index) }
                guard index < count else { break }
                defer { index += 1 }
                let refused = streams.statistics.framesRefused
                let wants = try flowFramesReceived(
                    datagrams.extracting(run.payload(index)), extension: &`extension`)
                // What our limits had no room for must come again, so the packet does not count as received
                // (RFC 9000 section 13.1).
                let isRefused = streams.statistics.framesRefused != refused
                guard isRefused || wants != isAckEliciting else { continue }
                if isRefused { taken -= 1 }
                let number = numbers.lowerBound + UInt64(index)
                if first < number {
                    flowPaths[path].acks.received(
                        first...(number - 1), ackEliciting: isAckEliciting, ecn: ecn, at: now)
                }
                first = isRefused ? number + 1 : number
                isAckEliciting = wants
            }
            if first <= numbers.upperBound {
                flowPaths[path].acks.received(
                    first...numbers.upperBound, ackEliciting: isAckEliciting, ecn: ecn, at: now)
            }
        } catch { close(error, at: now) }
        return taken
    }

    /// Whether the packet wants to be acknowledged.
    @inline(__always)
    private mutating func flowFramesReceived<E: FrameExtension>(
        _ payload: Span<UInt8>, extension: inout E
    ) throws(TransportError) -> Bool {
        var reader = ByteReader(payload)
        var isAckEliciting = false
        while !reader.isAtEnd {
            guard let type = reader.varint() else { throw Self.truncated(0) }
            if type == FrameType.padding { continue }
            isAckEliciting = true
            switch type {
            case FrameType.ping: break
            case FrameType.stream: try streamReceived(type, &reader, origin: .flow)
            case FrameType.resetStream: try resetReceived(&reader, origin: .flow)
            case FrameType.datagram, FrameType.datagramWithLength:
                try datagramFrameReceived(type, &reader, origin: .flow)
            default: throw `extension`.forbiddenOnFlow(type: type)
            }
        }
        return isAckEliciting
    }

    private func isKnown(_ type: UInt64) -> Bool {
        switch type {
        case ...FrameType.handshakeDone, FrameType.datagram, FrameType.datagramWithLength: true
        case FrameType.pathACK, FrameType.pathACKECN, FrameType.pathAbandon...FrameType.pathCIDsBlocked:
            localParameters.initialMaxPathID != nil
        default: false
        }
    }

    static func truncated(_ type: UInt64) -> TransportError {
        TransportError(.frameEncodingError, "truncated frame 0x\(String(type, radix: 16))", frameType: type)
    }

    // MARK: Acknowledgements

    /// Reads the ranges of an ACK or PATH_ACK into `ranges`, highest first (RFC 9000 section 19.3.1).
    @_lifetime(reader: copy reader)
    private mutating func readRanges(_ type: UInt64, _ reader: inout ByteReader) throws(TransportError) -> UInt64 {
        guard let largest = reader.varint(), let delay = reader.varint(), let count = reader.varint(),
            let first = reader.varint()
        else { throw Self.truncated(type) }
        func underflow() -> TransportError {
            TransportError(.frameEncodingError, "acknowledgement below packet 0", frameType: type)
        }
        guard first <= largest else { throw underflow() }
        ranges.removeAll(keepingCapacity: true)
        var smallest = largest - first
        ranges.append(smallest...largest)
        // Each range takes two octets at least, so a count that cannot be is refused before it costs anything.
        guard count <= UInt64(reader.remaining / 2) else { throw Self.truncated(type) }
        for _ in 0..<count {
            guard let gap = reader.varint(), let length = reader.varint() else { throw Self.truncated(type) }
            guard smallest >= gap + 2, smallest - gap - 2 >= length else { throw underflow() }
            let upper = smallest - gap - 2
            smallest = upper - length
            ranges.append(smallest...upper)
        }
        return delay
    }

    @_lifetime(reader: copy reader)
    private func readECN(_ type: UInt64, _ reader: inout ByteReader) throws(TransportError) -> (
        ect0: UInt64, ect1: UInt64, ce: UInt64
    )? {
        guard type & 1 == 1 else { return nil }
        guard let ect0 = reader.varint(), let ect1 = reader.varint(), let ce = reader.varint() else {
            throw Self.truncated(type)
        }
        return (ect0, ect1, ce)
    }

    private func ackDelay(_ encoded: UInt64, _ level: ProtectionLevel) -> Duration {
        guard level == .application else { return .zero }
        let exponent = UInt64(peerParameters?.ackDelayExponent ?? 3)
        // Beyond a minute it is a mistake or a lie; recovery caps it by max_ack_delay anyway.
        return .microseconds(Int64(min(encoded, 60_000_000 >> exponent) << exponent))
    }

    /// An ACK of either type (RFC 9000 section 19.3), with multipath too (draft-ietf-quic-multipath-21 section 2.3).
    @_lifetime(reader: copy reader)
    private mutating func ackReceived(
        _ type: UInt64, _ reader: inout ByteReader, packet: ReceivedPacket, at now: Instant
    ) throws(TransportError) {
        let delay = try readRanges(type, &reader)
        let ecn = type == FrameType.ackECN ? try readECN(type, &reader) : nil
        try ownPathAcknowledged(delay: delay, ecn: ecn, by: packet, at: now)
    }

    private mutating func ownPathAcknowledged(
        delay: UInt64, ecn: (ect0: UInt64, ect1: UInt64, ce: UInt64)?, by packet: ReceivedPacket, at now: Instant
    ) throws(TransportError) {
        let level = packet.level
        let largest = ranges[0].upperBound
        frames.removeAll(keepingCapacity: true)
        lostFrames.removeAll(keepingCapacity: true)
        try recovery.acknowledged(
            level, ranges: ranges, ackDelay: ackDelay(delay, level), ecnCounts: ecn, at: now, ackedFrames: &frames,
            lostFrames: &lostFrames)
        for frame in frames { frameAcknowledged(frame, level) }
        for frame in lostFrames { frameLost(frame, level) }
        noteLosses()
        if level == .application, largest >= firstPacketOfGeneration {
            // Whoever has opened it has the new keys and must use them (RFC 9001 section 6.2).
            guard packet.keyGeneration >= keyGeneration else {
                throw TransportError(.keyUpdateError, "old keys acknowledge packet \(largest), sealed with newer ones")
            }
            keyGenerationAcknowledged = true
        }
        if role == .client, level == .handshake { recovery.peerCompletedAddressValidation = true }
    }

    @_lifetime(reader: copy reader)
    private mutating func pathACKReceived<E: FrameExtension>(
        _ type: UInt64, _ reader: inout ByteReader, packet: ReceivedPacket, at now: Instant, extension: inout E
    ) throws(TransportError) {
        guard isMultipathNegotiated, packet.level == .application else {
            throw TransportError(.frameEncodingError, "PATH_ACK without multipath", frameType: type)
        }
        guard let pathID = reader.varint() else { throw Self.truncated(type) }
        let delay = try readRanges(type, &reader)
        let ecn = type == FrameType.pathACKECN ? try readECN(type, &reader) : nil
        if pathID == 0 {
            try ownPathAcknowledged(delay: delay, ecn: ecn, by: packet, at: now)
        } else {
            try `extension`.pathAcknowledged(
                pathID: pathID, ranges: ranges, ackDelay: ackDelay(delay, .application), at: now)
        }
    }

    // MARK: Frames that carry data

    @_lifetime(reader: copy reader)
    private mutating func cryptoReceived(_ reader: inout ByteReader, level: ProtectionLevel) throws(TransportError) {
        guard let offset = reader.varint(), let length = reader.varint(), length <= UInt64(reader.remaining),
            let bytes = reader.take(Int(length))
        else { throw Self.truncated(FrameType.crypto) }
        guard offset <= Varint.max - length else {
            // RFC 9000 section 19.6.
            throw TransportError(.frameEncodingError, "CRYPTO beyond 2^62-1", frameType: FrameType.crypto)
        }
        // Octets that came before say that the peer misses something of ours: it gets it now, not at the next probe
        // (RFC 9002 section 6.2.3). A few times only, so that nobody can make us say everything many times over.
        if level != .application, length > 0, offset + length <= crypto[level.rawValue].readOffset,
            earlyResends < Self.maxEarlyResends
        {
            earlyResends += 1
            resendHandshake()
        }
        try crypto[level.rawValue].received(bytes, at: offset)
        if let ready = crypto[level.rawValue].read() { events.append(.handshakeBytes(level, ready)) }
    }

    @inline(__always)
    @_lifetime(reader: copy reader)
    private mutating func streamReceived(_ type: UInt64, _ reader: inout ByteReader, origin: StreamOrigin)
        throws(TransportError)
    {
        guard let id = reader.varint() else { throw Self.truncated(type) }
        var offset: UInt64 = 0
        if type & 4 != 0 {
            guard let value = reader.varint() else { throw Self.truncated(type) }
            offset = value
        }
        var length = UInt64(reader.remaining)
        if type & 2 != 0 {
            guard let value = reader.varint(), value <= UInt64(reader.remaining) else { throw Self.truncated(type) }
            length = value
        }
        guard offset <= Varint.max - length, let bytes = reader.take(Int(length)) else {
            // RFC 9000 section 19.8.
            throw TransportError(.frameEncodingError, "STREAM beyond 2^62-1", frameType: type)
        }
        try streams.streamReceived(StreamID(id), offset: offset, bytes: bytes, fin: type & 1 != 0, origin: origin)
    }

    @_lifetime(reader: copy reader)
    private mutating func resetReceived(_ reader: inout ByteReader, origin: StreamOrigin) throws(TransportError) {
        guard let id = reader.varint(), let code = reader.varint(), let size = reader.varint() else {
            throw Self.truncated(FrameType.resetStream)
        }
        try streams.resetReceived(StreamID(id), code: code, finalSize: size, origin: origin)
    }

    @_lifetime(reader: copy reader)
    private mutating func datagramFrameReceived(
        _ type: UInt64, _ reader: inout ByteReader, origin: StreamOrigin
    ) throws(TransportError) {
        let begin = reader.offset
        var length = UInt64(reader.remaining)
        if type == FrameType.datagramWithLength {
            guard let value = reader.varint(), value <= UInt64(reader.remaining) else { throw Self.truncated(type) }
            length = value
        }
        guard let bytes = reader.array(Int(length)) else { throw Self.truncated(type) }
        // RFC 9221 section 3: 0 is for none at all.
        guard UInt64(reader.offset - begin + 1) <= localParameters.maxDatagramFrameSize else {
            throw TransportError(
                .protocolViolation,
                "DATAGRAM larger than max_datagram_frame_size \(localParameters.maxDatagramFrameSize)",
                frameType: type)
        }
        guard waitingDatagrams < Self.maxWaitingDatagrams else {
            statistics.datagramFramesUnread += 1
            return
        }
        waitingDatagrams += 1
        events.append(.datagram(bytes, origin))
    }
}
