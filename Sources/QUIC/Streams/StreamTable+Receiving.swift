import Wire

// What the peer sends: octets, resets and limits. A frame that the peer had no right to send throws the error that closes
// the connection.
extension StreamTable {
    /// A STREAM frame (RFC 9000 section 19.8), within the limits of its stream and of all (RFC 9000 sections 4.1, 19.9 and
    /// 19.10).
    mutating func streamReceived(
        _ id: StreamID, offset: UInt64, bytes: Span<UInt8>, fin: Bool, origin: StreamOrigin
    ) throws(TransportError) {
        let frameType: UInt64 = 0x08
        guard offset <= Varint.max, UInt64(bytes.count) <= Varint.max - offset else {
            throw TransportError(.frameEncodingError, "stream data beyond 2^62-1", frameType: frameType)
        }
        guard let at = try receivingIndex(id, origin: origin, frameType: frameType) else {
            count { $0.octetsDuplicate += UInt64(bytes.count) }
            return
        }
        let end = offset + UInt64(bytes.count)
        guard end <= receiving[at].maxStreamData else {
            // A late listener hears the middle of a stream whose beginning comes by unicast.
            if origin == .flow, isShared(id) { return refuse(bytes.count) }
            throw TransportError(
                .flowControlError, "stream \(id.rawValue) goes beyond its limit", frameType: frameType)
        }
        guard try isWithinMaxData(at, id: id, end: end, count: bytes.count, offset: offset, origin: origin) else {
            return refuse(bytes.count)
        }

        let before = receiving[at].highest
        let held = receiving[at].buffer.segmentCount
        let refusedBefore = receiving[at].buffer.refused
        let added = try receiving[at].receive(
            bytes, at: offset, fin: fin, origin: origin, room: StreamBounds.segmentsPerConnection - segments)
        if receiving[at].state == .allReceived { hasWhole = true }
        segments += receiving[at].buffer.segmentCount - held
        dataReceived += isShared(id) ? UInt64(added) : receiving[at].highest - before
        let octets = UInt64(added)
        let lost = receiving[at].buffer.refused - refusedBefore
        count {
            if origin == .flow { $0.octetsFromFlow += octets } else { $0.octetsFromUnicast += octets }
            $0.octetsDuplicate += UInt64(bytes.count) - octets - lost
        }
        if lost > 0 {
            guard origin == .flow else {
                throw TransportError(.internalError, "too many gaps in stream data", frameType: frameType)
            }
            refuse(Int(lost))
        }
        if receiving[at].isDiscarding {
            throwAway(at, id: id)
        } else if receiving[at].isReadable, !receiving[at].isAnnounced {
            receiving[at].isAnnounced = true
            events.append(.readable(id))
        }
    }

    /// What nearly all packets of a flow are: full of the next octets of the stream of the packet before. As many of a run,
    /// from `first` on, as are so and within all limits are taken as one: how many.
    @inline(__always)
    mutating func receivedNext(_ datagrams: Span<UInt8>, _ run: RunPlan, from first: Int) -> Int {
        let allowed = maxData + local.initialMaxData
        guard let at = receiving.latest, isShared(receiving[at].id), dataReceived <= allowed else { return 0 }
        let limit = receiving[at].buffer.contiguousEnd + (allowed - dataReceived)
        let taken = receiving[at].receiveNext(datagrams, run, from: first, limit: limit)
        dataReceived += UInt64(taken.octets)
        count { $0.octetsFromFlow += UInt64(taken.octets) }
        return taken.packets
    }

    /// A RESET_STREAM frame (RFC 9000 section 19.4).
    mutating func resetReceived(
        _ id: StreamID, code: UInt64, finalSize: UInt64, origin: StreamOrigin = .unicast
    ) throws(TransportError) {
        let frameType: UInt64 = 0x04
        guard let at = try receivingIndex(id, origin: origin, frameType: frameType) else { return }
        if receiving[at].state == .reset {
            // Charged before; only its size may be wrong.
            _ = try receiving[at].reset(finalSize: finalSize)
            return
        }
        let shared = isShared(id)
        guard finalSize <= receiving[at].maxStreamData || shared else {
            throw TransportError(
                .flowControlError, "stream \(id.rawValue) ends beyond its limit", frameType: frameType)
        }
        // What was never received counts all the same (RFC 9000 section 4.5). On the shared space the source may have
        // sent it to others only, so that there it never breaks the limit.
        let counted = shared ? receiving[at].received : receiving[at].highest
        let rest = finalSize > counted ? finalSize - counted : 0
        guard shared || rest <= maxData - min(maxData, dataReceived) else {
            throw TransportError(.flowControlError, "reset beyond the connection's limit", frameType: frameType)
        }
        let consumed = receiving[at].buffer.readOffset
        let held = receiving[at].buffer.segmentCount
        guard try receiving[at].reset(finalSize: finalSize) else { return }
        segments -= held
        // Without a limit to hold it against, the size may be anything.
        dataReceived = min(dataReceived + rest, Varint.max)
        consume(finalSize - consumed)
        events.append(.reset(id, code: code))
    }

    /// A STOP_SENDING frame (RFC 9000 section 19.5), answered with RESET_STREAM.
    mutating func stopSendingReceived(_ id: StreamID, code: UInt64) throws(TransportError) {
        guard let at = try sendingIndex(id, frameType: 0x05) else { return }
        guard sending[at].state == .sending else { return }
        reset(id, code: code)
        events.append(.stopSending(id, code: code))
    }

    /// A limit that is no higher is old, and no error (RFC 9000 sections 4.1 and 13.3).
    mutating func maxDataReceived(_ limit: UInt64) {
        guard limit > peerMaxData else { return }
        let wasBlocked = sendCredit == 0
        peerMaxData = limit
        owesDataBlocked = false
        settleQueues()
        if wasBlocked, dataBlockedAt != nil {
            dataBlockedAt = nil
            owesWritable = true
        }
        makeWritable()
    }

    mutating func maxStreamDataReceived(_ id: StreamID, _ limit: UInt64) throws(TransportError) {
        guard try sendingIndex(id, frameType: 0x11) != nil else {
            if isShared(id), canSend(id) { rememberSharedLimit(id, limit) }
            return
        }
        raise(id, maxStreamData: limit)
        settleQueues()
    }

    /// MAX_STREAMS (RFC 9000 sections 4.6 and 19.11).
    mutating func maxStreamsReceived(bidirectional: Bool, _ limit: UInt64) throws(TransportError) {
        guard limit <= StreamBounds.maxStreams else {
            throw TransportError(
                .frameEncodingError, "MAX_STREAMS above 2^60", frameType: bidirectional ? 0x12 : 0x13)
        }
        guard limit > peerMaxStreams[bidirectional] else { return }
        peerMaxStreams[bidirectional] = limit
        owesStreamsBlocked[bidirectional] = false
        releaseCreditWaiters()
        settleQueues()
        makeWritable()
    }

    /// Only a wish: windows open as data is read, whatever the peer says (RFC 9000 section 4.2).
    mutating func dataBlockedReceived(_ limit: UInt64) {}

    /// STREAM_DATA_BLOCKED (RFC 9000 section 19.13).
    mutating func streamDataBlockedReceived(_ id: StreamID, _ limit: UInt64) throws(TransportError) {
        _ = try receivingIndex(id, origin: .unicast, frameType: 0x15)
    }

    /// STREAMS_BLOCKED (RFC 9000 section 19.14).
    mutating func streamsBlockedReceived(bidirectional: Bool, _ limit: UInt64) throws(TransportError) {
        guard limit <= StreamBounds.maxStreams else {
            throw TransportError(
                .frameEncodingError, "STREAMS_BLOCKED above 2^60", frameType: bidirectional ? 0x16 : 0x17)
        }
    }

    // MARK: - The application

    /// All octets of the stream that have come in order and were not read, and whether it ends with them; nil when there is
    /// nothing new. Lets the peer send more once half of a window was read.
    mutating func read(_ id: StreamID) -> StreamChunk? {
        guard let at = receiving.index(of: id), !receiving[at].isDiscarding else { return nil }
        let new = receiving[at].buffer.readable
        guard let chunk = receiving[at].take() else { return nil }
        wasRead(new, of: at, id: id)
        if chunk.isFinished { receivingEnded(id) }
        return chunk
    }

    /// Like `read`, but what has come stays here, without a copy, until the stream has ended and all of it is handed over. Nil
    /// when there is nothing new.
    mutating func gather(_ id: StreamID) -> StreamGathering? {
        guard let at = receiving.index(of: id), receiving[at].isReadable else { return nil }
        let new = receiving[at].buffer.readable
        guard receiving[at].isWhole else {
            let octets = receiving[at].gather()
            wasRead(new, of: at, id: id)
            return .part(octets)
        }
        var chunk = receiving[at].takeReadable()
        wasRead(new, of: at, id: id)
        receivingEnded(id)
        // The next one may be as long, or a little longer; the last part of an object is shorter than those of the next.
        let length = min(chunk.bytes.count + chunk.bytes.count / 8, StreamBounds.reservedOctets)
        expected = max(length, expectedBefore)
        expectedBefore = length
        keepRoom(of: &chunk)
        return .whole(chunk)
    }

    /// Keeps the array for a later stream. The application gets one of its own instead where it would hold much room for
    /// few octets.
    private mutating func keepRoom(of chunk: inout StreamChunk) {
        guard StreamBounds.roomOctets.contains(chunk.bytes.capacity) else { return }
        if chunk.bytes.count < chunk.bytes.capacity / 2 {
            swap(&room, &chunk.bytes)
            chunk.bytes = Array(room[...])
        } else {
            room = chunk.bytes
        }
    }

    /// An empty array for a stream of about as many octets as are expected: in place of the one that was kept, if the
    /// application still holds that.
    private mutating func takeRoom() -> [UInt8] {
        guard StreamBounds.roomOctets.contains(expected), !room.isEmpty else { return [] }
        var taken: [UInt8] = []
        swap(&taken, &room)
        taken.removeAll(keepingCapacity: true)
        return taken
    }

    /// Asks the peer to send no more on the stream (RFC 9000 section 3.5). What was received and not read is dropped.
    mutating func stopSending(_ id: StreamID, code: UInt64) {
        guard let at = receiving.index(of: id) else { return }
        if receiving[at].stop(code: code) {
            if receiving[at].owesStopSending { queueReceiveControl(at, id: id) }
            throwAway(at, id: id)
        } else if receiving[at].state == .allReceived {
            // Nothing is left to stop, and nobody will read.
            consume(UInt64(receiving[at].buffer.buffered))
            receivingEnded(id)
        }
    }

    // MARK: - Inside

    /// Where the state of a stream that the peer sends on is, made now if this is its first frame; nil when the frame is
    /// to be ignored, because the stream is over or was refused.
    private mutating func receivingIndex(
        _ id: StreamID, origin: StreamOrigin, frameType: UInt64
    ) throws(TransportError) -> StreamMap<ReceiveStream>.Index? {
        if let at = receiving.index(of: id) { return at }
        guard canReceive(id) else {
            throw TransportError(.streamStateError, "stream \(id.rawValue) is ours to send on", frameType: frameType)
        }
        guard try openByPeer(id, origin: origin, frameType: frameType) else { return nil }
        return receiving.index(of: id)
    }

    /// The same for the streams that we send on.
    private mutating func sendingIndex(
        _ id: StreamID, frameType: UInt64
    ) throws(TransportError) -> StreamMap<SendStream>.Index? {
        if let at = sending.index(of: id) { return at }
        guard canSend(id) else {
            throw TransportError(.streamStateError, "stream \(id.rawValue) is the peer's", frameType: frameType)
        }
        guard try openByPeer(id, origin: .unicast, frameType: frameType) else { return nil }
        return sending.index(of: id)
    }

    /// Opens the peer's stream `id`, unless it is open or over. False when there is nothing new.
    private mutating func openByPeer(
        _ id: StreamID, origin: StreamOrigin, frameType: UInt64
    ) throws(TransportError) -> Bool {
        let kind = id.isBidirectional
        guard id.initiator != role else {
            // Ours: it is over, unless it never was. A shared stream may have gone over the flow alone.
            guard isShared(id) || id.index < nextIndex[kind] else {
                throw TransportError(
                    .streamStateError, "stream \(id.rawValue) was never opened", frameType: frameType)
            }
            return false
        }
        // Both parts of a bidirectional stream begin together, so that one alone means that the other is over.
        if kind, receiving.contains(id) || sending.contains(id) { return false }
        if isShared(id) {
            if finished[kind].contains(id.index) { return false }
            let limit = maxStreams[kind] + local.maxStreams(bidirectional: kind)
            guard openedByPeer[kind] < limit else {
                if origin == .flow {
                    count { $0.framesRefused += 1 }
                    return false
                }
                throw TransportError(.streamLimitError, "more streams than allowed", frameType: frameType)
            }
            guard try hasRoomToRemember(id, origin: origin, frameType: frameType) else { return false }
        } else {
            guard id.index < maxStreams[kind] else {
                throw TransportError(
                    .streamLimitError, "stream \(id.rawValue) is beyond the limit", frameType: frameType)
            }
            if finished[kind].contains(id.index) { return false }
        }
        openedByPeer[kind] += 1
        let room = kind ? [] : takeRoom()
        receiving.insert(ReceiveStream(id: id, window: receiveWindow(id), expected: expected, room: room), id: id)
        if kind { sending.insert(SendStream(id: id, maxStreamData: initialSendLimit(id), isRanged: false), id: id) }
        count { $0.streamsOpenedByPeer += 1 }
        // Of one that only the peer sends on, what it sends is news enough.
        if kind { events.append(.opened(id)) }
        return true
    }

    /// Whether the number of one more shared stream can be remembered once it is over. A gap is never closed to make room: what
    /// is missing there may be under way to be repaired, and would be taken for a late copy and dropped. So the flow waits, as it
    /// can be repaired, and a connection that goes on regardless ends.
    ///
    /// Ranges are at most `mostFinishedRanges` and as many more as streams are open at once. Without a shared space a number is
    /// below the limit that we gave, and all but a window of those are over: there are never more ranges than a window
    /// has streams.
    private mutating func hasRoomToRemember(
        _ id: StreamID, origin: StreamOrigin, frameType: UInt64
    ) throws(TransportError) -> Bool {
        guard finished[id.isBidirectional].count >= StreamBounds.finishedRanges else { return true }
        let known = finished[id.isBidirectional]
        let isBesideAnother =
            id.index > 0 && (known.contains(id.index - 1) || receiving.contains(id.neighbour(id.index - 1)))
            || known.contains(id.index + 1) || receiving.contains(id.neighbour(id.index + 1))
        if isBesideAnother { return true }
        if origin == .flow {
            count {
                $0.framesRefused += 1
                $0.streamsRefusedForGaps += 1
            }
            return false
        }
        guard known.count < StreamBounds.mostFinishedRanges else {
            throw TransportError(.internalError, "too many gaps between streams", frameType: frameType)
        }
        return true
    }

    /// Whether the connection's window has room for a frame. False for one from the flow that is to be refused.
    private func isWithinMaxData(
        _ at: StreamMap<ReceiveStream>.Index, id: StreamID, end: UInt64, count: Int, offset: UInt64,
        origin: StreamOrigin
    ) throws(TransportError) -> Bool {
        // All of a reset stream was charged with the reset; its data may come later all the same.
        if receiving[at].state == .reset { return true }
        var limit = maxData
        var new = UInt64(count)
        if isShared(id) {
            limit += local.initialMaxData
            if dataReceived + new <= limit { return true }
            new = UInt64(receiving[at].buffer.missing(count, at: offset))
        } else {
            let highest = receiving[at].highest
            new = end > highest ? end - highest : 0
        }
        if new == 0 || dataReceived + new <= limit { return true }
        if origin == .flow, isShared(id) { return false }
        throw TransportError(.flowControlError, "more data than the connection allows", frameType: 0x08)
    }

    private mutating func refuse(_ octets: Int) {
        count {
            $0.octetsRefused += UInt64(octets)
            $0.framesRefused += 1
        }
    }

    /// Reads a stopped stream for nobody.
    private mutating func throwAway(_ at: StreamMap<ReceiveStream>.Index, id: StreamID) {
        let new = receiving[at].buffer.readable
        guard let chunk = receiving[at].take() else { return }
        wasRead(new, of: at, id: id)
        if chunk.isFinished { receivingEnded(id) }
    }

    private mutating func wasRead(_ octets: Int, of at: StreamMap<ReceiveStream>.Index, id: StreamID) {
        if receiving[at].openWindow() { queueReceiveControl(at, id: id) }
        consume(UInt64(octets))
    }

    /// Octets that no longer need room. MAX_DATA follows when half of the window was used.
    private mutating func consume(_ octets: UInt64) {
        dataConsumed = min(dataConsumed + octets, Varint.max)
        let window = local.initialMaxData
        let limit = min(dataConsumed + window, Varint.max)
        guard limit > maxData, limit - maxData >= (window + 1) / 2 else { return }
        maxData = limit
        owesMaxData = true
    }

    private mutating func queueReceiveControl(_ at: StreamMap<ReceiveStream>.Index, id: StreamID) {
        guard !receiving[at].isQueued else { return }
        receiving[at].isQueued = true
        receiveControlQueue.append(id)
    }

    private mutating func rememberSharedLimit(_ id: StreamID, _ limit: UInt64) {
        guard limit > initialSendLimit(id) else { return }
        if let known = sharedStreamLimits[id] {
            sharedStreamLimits[id] = max(known, limit)
            return
        }
        if sharedStreamLimitOrder.count >= StreamBounds.sharedStreamLimits, let oldest = sharedStreamLimitOrder.first {
            sharedStreamLimitOrder.removeFirst()
            sharedStreamLimits[oldest] = nil
        }
        sharedStreamLimits[id] = limit
        sharedStreamLimitOrder.append(id)
    }
}

extension StreamID {
    /// The stream of the same kind with another number.
    fileprivate func neighbour(_ index: UInt64) -> StreamID {
        StreamID(initiator: initiator, bidirectional: isBidirectional, index: index)
    }
}
