import Wire

// What the application sends, and what the peer's limits leave of it.
extension StreamTable {
    /// Octets that the peer's MAX_DATA still allows.
    var sendCredit: UInt64 { peerMaxData > dataSent ? peerMaxData - dataSent : 0 }

    /// Unidirectional streams that the peer's MAX_STREAMS still allows.
    var streamCredit: UInt64 {
        let used = sharedStreamSpace && role == .server ? sharedStreamsSent : nextIndex.unidirectional
        let limit = peerMaxStreams.unidirectional
        return limit > used ? limit - used : 0
    }

    // MARK: - The application

    /// Opens our next stream, whose number no other has had (RFC 9000 section 2.1). Throws when the peer allows no more
    /// (RFC 9000 sections 4.6 and 19.11); a `writable` event tells when it does.
    mutating func open(bidirectional: Bool) throws(StreamsExhausted) -> StreamID {
        // The numbers of shared streams are the flow's to give.
        if !bidirectional, sharedStreamSpace, role == .server { throw StreamsExhausted() }
        let index = nextIndex[bidirectional]
        guard index < (knowsPeer ? peerMaxStreams[bidirectional] : StreamBounds.earlyStreams) else {
            owesWritable = true
            blockStreams(bidirectional: bidirectional)
            throw StreamsExhausted()
        }
        let id = StreamID(initiator: role, bidirectional: bidirectional, index: index)
        nextIndex[bidirectional] += 1
        makeSending(id)
        if bidirectional { receiving.insert(ReceiveStream(id: id, window: receiveWindow(id)), id: id) }
        return id
    }

    /// Appends `octets`, which are kept by reference until they are acknowledged, and with `fin` the end of the stream.
    mutating func write(_ id: StreamID, _ octets: StreamOctets, fin: Bool) throws(StreamError) {
        guard let at = sending.index(of: id), !sending[at].isRanged else { throw .unknownStream }
        guard sending[at].state == .sending else { throw .reset }
        guard sending[at].finalSize == nil else { throw .alreadyFinished }
        guard heldOctets < StreamBounds.heldOctets || octets.count == 0 else {
            owesWritable = true
            throw .full
        }
        heldOctets += octets.count
        sending[at].write(octets, fin: fin)
        queueFresh(at, id: id)
        settleQueues()
    }

    /// Octets written to the stream that are held until they are acknowledged.
    func heldOctets(of id: StreamID) -> Int { sending.index(of: id).map { sending[$0].content.held } ?? 0 }

    /// Sends, or sends again, `range` of the shared stream `id` whose whole content is `octets`; with `fin` also where it
    /// ends. Ranges may come in any order and overlap: what this connection has sent already it does not send again,
    /// because it answers for its loss. `counted` false means that the octets were charged to the peer before, when they
    /// went out on the flow; they go ahead of fresh octets, like those that were lost.
    ///
    /// The stream itself is charged to the peer's stream limit when its first octet goes out counted.
    mutating func sendRange(_ id: StreamID, _ octets: StreamOctets, range: Range<UInt64>, fin: Bool, counted: Bool) {
        guard isShared(id), id.initiator == role else { return }
        let at = sending.index(of: id) ?? makeSending(id, isRanged: true)
        // One that was opened before the space was shared is not the flow's.
        guard sending[at].isRanged else { return }
        let held = sending[at].content.held
        sending[at].sendRange(octets, range: range, fin: fin, counted: counted)
        heldOctets += sending[at].content.held - held
        queueFresh(at, id: id)
        queueAgain(at, id: id)
        settleQueues()
    }

    /// Octets and streams that were sent to this peer over the flow.
    mutating func chargeExternal(octets: UInt64, streams: UInt64) {
        dataSent += octets
        sharedStreamsSent += streams
        settleQueues()
    }

    /// Gives up sending on a stream (RFC 9000 section 3.1): because the application asks for it, here or at the peer (RFC 9000
    /// section 11.2).
    mutating func reset(_ id: StreamID, code: UInt64) {
        guard let at = sending.index(of: id), sending[at].state == .sending else { return }
        heldOctets -= sending[at].content.held
        // The receiver charges a shared stream up to its end; so does this.
        if sending[at].isRanged {
            dataSent += sending[at].fresh.octetCount
            if sending[at].owesStreamCredit { sharedStreamsSent += 1 }
            sending[at].owesStreamCredit = false
        }
        sending[at].reset(code: code)
        queueSendControl(at, id: id)
        settleQueues()
        makeWritable()
    }

    // MARK: - Queues

    /// Stream data that may go now, or control frames that are due.
    var wantsToSend: Bool { wantsToSendControl || wantsToSendStreams }

    @inline(__always)
    var wantsToSendControl: Bool {
        owesMaxData || owesMaxStreams.bidirectional || owesMaxStreams.unidirectional || owesDataBlocked
            || owesStreamsBlocked.bidirectional || owesStreamsBlocked.unidirectional || !receiveControlQueue.isEmpty
            || !sendControlQueue.isEmpty
    }

    // Inlined, as the table would be copied for the call.
    @inline(__always)
    var wantsToSendStreams: Bool {
        if !againQueue.isEmpty { return true }
        guard let id = freshQueue.first else { return false }
        if sendCredit > 0 { return true }
        return sending.index(of: id).map { sending[$0].fresh.isEmpty } ?? false
    }

    @discardableResult
    private mutating func makeSending(
        _ id: StreamID, isRanged: Bool = false
    ) -> StreamMap<SendStream>.Index {
        var limit = initialSendLimit(id)
        if isShared(id), let raised = sharedStreamLimits[id] { limit = max(limit, raised) }
        return sending.insert(SendStream(id: id, maxStreamData: limit, isRanged: isRanged), id: id)
    }

    mutating func queueFresh(_ at: StreamMap<SendStream>.Index, id: StreamID) {
        guard sending[at].hasFresh, !sending[at].isQueuedFresh, !sending[at].awaitsStreamCredit
        else { return }
        sending[at].isQueuedFresh = true
        freshQueue.append(id)
    }

    mutating func queueAgain(_ at: StreamMap<SendStream>.Index, id: StreamID) {
        guard sending[at].hasAgain, !sending[at].isQueuedAgain else { return }
        sending[at].isQueuedAgain = true
        againQueue.append(id)
    }

    mutating func queueSendControl(_ at: StreamMap<SendStream>.Index, id: StreamID) {
        guard !sending[at].isQueuedControl else { return }
        sending[at].isQueuedControl = true
        sendControlQueue.append(id)
    }

    mutating func raise(_ id: StreamID, maxStreamData limit: UInt64) {
        guard let at = sending.index(of: id) else { return }
        sending[at].raise(maxStreamData: limit)
        if sending[at].awaitsStreamData, !sending[at].isBlocked {
            sending[at].awaitsStreamData = false
            sending[at].owesBlocked = false
            queueFresh(at, id: id)
        }
    }

    /// Brings the front of each queue up to date, so that what stands there can be sent unless the connection's window is
    /// closed, and asks for room where a limit holds data back.
    mutating func settleQueues() {
        while let id = againQueue.first {
            if let at = sending.index(of: id) {
                if sending[at].hasAgain { break }
                sending[at].isQueuedAgain = false
            }
            againQueue.removeFirst()
        }
        while let id = freshQueue.first {
            if let at = sending.index(of: id), sending[at].hasFresh {
                if needsStreamCredit(at, id: id) {
                    sending[at].awaitsStreamCredit = true
                    creditQueue.append(id)
                    blockStreams(bidirectional: id.isBidirectional)
                } else if sending[at].isBlocked {
                    sending[at].awaitsStreamData = true
                    blockStream(at, id: id)
                } else {
                    if sendCredit == 0, !sending[at].fresh.isEmpty { blockData() }
                    break
                }
            }
            if let at = sending.index(of: id) { sending[at].isQueuedFresh = false }
            freshQueue.removeFirst()
        }
    }

    /// MAX_STREAMS was raised: those that waited for it try again, in their order.
    mutating func releaseCreditWaiters() {
        while let id = creditQueue.first {
            creditQueue.removeFirst()
            guard let at = sending.index(of: id) else { continue }
            sending[at].awaitsStreamCredit = false
            queueFresh(at, id: id)
        }
    }

    // Inlined: the whole table would be copied for the call.
    @inline(__always)
    private func needsStreamCredit(_ at: StreamMap<SendStream>.Index, id: StreamID) -> Bool {
        guard id.initiator == role else { return false }
        guard isShared(id) else { return id.index >= peerMaxStreams[id.isBidirectional] }
        return sending[at].owesStreamCredit && sending[at].isAtStart && streamCredit == 0
    }

    /// Each of the three is sent once for each limit that held us back (RFC 9000 section 4.1), and not before the peer's
    /// limits are known.
    private mutating func blockData() {
        guard knowsPeer, dataBlockedAt != peerMaxData else { return }
        dataBlockedAt = peerMaxData
        owesDataBlocked = true
    }

    private mutating func blockStreams(bidirectional: Bool) {
        let limit = peerMaxStreams[bidirectional]
        guard knowsPeer, streamsBlockedAt[bidirectional] != limit else { return }
        streamsBlockedAt[bidirectional] = limit
        owesStreamsBlocked[bidirectional] = true
    }

    private mutating func blockStream(_ at: StreamMap<SendStream>.Index, id: StreamID) {
        let limit = sending[at].maxStreamData
        guard knowsPeer, sending[at].blockedAt != limit else { return }
        sending[at].blockedAt = limit
        sending[at].owesBlocked = true
        queueSendControl(at, id: id)
    }

    /// Forgets a stream of which everything was acknowledged.
    mutating func completeIfDone(_ at: StreamMap<SendStream>.Index, id: StreamID) {
        guard sending[at].isComplete else { return }
        sendingEnded(id)
        events.append(.sendCompleted(id))
    }
}
