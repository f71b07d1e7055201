import Wire

// Frames out, and what became of them.
extension StreamTable {
    /// Writes the control frames that are due, as many as fit.
    @_lifetime(writer: copy writer)
    mutating func writeControlFrames(into writer: inout ByteWriter, sent: inout [SentFrame]) {
        // For what comes on a flow too (draft-navarre-quic-flexicast-02 section 9).
        if owesMaxData, Self.writeLimit(0x10, maxData, into: &writer) {
            owesMaxData = false
            sent.append(.maxData)
        }
        if owesDataBlocked, Self.writeLimit(0x14, peerMaxData, into: &writer) {
            owesDataBlocked = false
            sent.append(.dataBlocked)
        }
        writeStreamCounts(bidirectional: true, into: &writer, sent: &sent)
        writeStreamCounts(bidirectional: false, into: &writer, sent: &sent)
        while let id = receiveControlQueue.first {
            if let at = receiving.index(of: id) {
                guard writeReceiveControl(at, id: id, into: &writer, sent: &sent) else { break }
                receiving[at].isQueued = false
            }
            receiveControlQueue.removeFirst()
        }
        while let id = sendControlQueue.first {
            if let at = sending.index(of: id) {
                guard writeSendControl(at, id: id, into: &writer, sent: &sent) else { break }
                sending[at].isQueuedControl = false
            }
            sendControlQueue.removeFirst()
        }
    }

    /// Writes as many STREAM frames as fit and the peer allows (RFC 9000 sections 2.2, 4.1 and 19.10): what was lost
    /// first, then stream after stream in the order in which they got something to send, each to its end. A frame that
    /// fills the packet has no length.
    @_lifetime(writer: copy writer)
    mutating func writeStreamFrames(into writer: inout ByteWriter, sent: inout [SentFrame]) {
        while let id = againQueue.first, let at = sending.index(of: id) {
            guard let frame = sending[at].writeAgain(into: &writer) else { return }
            if case .stream(_, _, let length, _) = frame { count { $0.octetsResent += UInt64(length) } }
            sent.append(frame)
            settleQueues()
        }
        while let id = freshQueue.first, let at = sending.index(of: id) {
            let credit = sendCredit
            if credit == 0, !sending[at].fresh.isEmpty { return }
            let isStart = sending[at].isAtStart
            guard let frame = sending[at].writeFresh(into: &writer, credit: credit) else { return }
            if case .stream(_, _, let length, _) = frame {
                dataSent += UInt64(length)
                count { $0.octetsSent += UInt64(length) }
            }
            if isStart, sending[at].owesStreamCredit {
                sending[at].owesStreamCredit = false
                sharedStreamsSent += 1
            }
            sent.append(frame)
            settleQueues()
        }
    }

    /// The stream whose turn it is, with octets that go before all else of streams and that no limit holds back.
    @inline(__always)  // The table would be copied for the call.
    var bulk: (at: StreamMap<SendStream>.Index, id: StreamID, range: Range<UInt64>)? {
        guard againQueue.isEmpty, let id = freshQueue.first, let at = sending.index(of: id),
            !sending[at].owesStreamCredit, let fresh = sending[at].fresh.first
        else { return nil }
        let limit = min(fresh.upperBound, sending[at].maxStreamData)
        guard limit > fresh.lowerBound else { return nil }
        return (at, id, fresh.lowerBound..<(fresh.lowerBound + min(limit - fresh.lowerBound, sendCredit)))
    }

    /// The octets from `offset` of a stream on, as far as they were written in one piece.
    func bulkBytes(_ at: StreamMap<SendStream>.Index, from offset: UInt64) -> (bytes: ArraySlice<UInt8>, start: UInt64)
    {
        sending[at].content.bytes(at: offset)
    }

    /// `range`, a part of `bulk`, went out in STREAM frames.
    mutating func bulkWritten(_ at: StreamMap<SendStream>.Index, _ range: Range<UInt64>) {
        sending[at].bulkWritten(range)
        dataSent += UInt64(range.count)
        count { $0.octetsSent += UInt64(range.count) }
        settleQueues()
    }

    /// A packet that carried `frame` was acknowledged.
    mutating func frameAcknowledged(_ frame: SentFrame) {
        switch frame {
        case .stream(let id, let offset, let length, let fin):
            guard let at = sending.index(of: id) else { return }
            let held = sending[at].content.held
            sending[at].acknowledge(offset..<(offset + UInt64(length)), fin: fin)
            heldOctets -= held - sending[at].content.held
            completeIfDone(at, id: id)
            settleQueues()
            makeWritable()
        case .resetStream(let id):
            guard let at = sending.index(of: id), sending[at].state == .resetSent else { return }
            sendingEnded(id)
        default:
            return
        }
    }

    /// A packet that carried `frame` was lost: what still matters of it goes again.
    mutating func frameLost(_ frame: SentFrame) {
        switch frame {
        case .stream(let id, let offset, let length, let fin):
            guard let at = sending.index(of: id) else { return }
            sending[at].lose(offset..<(offset + UInt64(length)), fin: fin)
            queueAgain(at, id: id)
        case .resetStream(let id):
            guard let at = sending.index(of: id), sending[at].state == .resetSent else { return }
            sending[at].owesReset = true
            queueSendControl(at, id: id)
        case .streamDataBlocked(let id):
            guard let at = sending.index(of: id), sending[at].awaitsStreamData else { return }
            sending[at].owesBlocked = true
            queueSendControl(at, id: id)
        case .stopSending(let id):
            guard let at = receiving.index(of: id), receiving[at].state == .receiving else { return }
            receiving[at].owesStopSending = true
            requeue(at, id: id)
        case .maxStreamData(let id):
            guard let at = receiving.index(of: id), receiving[at].state == .receiving else { return }
            receiving[at].owesMaxStreamData = true
            requeue(at, id: id)
        case .maxData:
            owesMaxData = true
        case .maxStreams(let bidirectional):
            owesMaxStreams[bidirectional] = true
        case .dataBlocked:
            owesDataBlocked = dataBlockedAt == peerMaxData
        case .streamsBlocked(let bidirectional):
            owesStreamsBlocked[bidirectional] = streamsBlockedAt[bidirectional] == peerMaxStreams[bidirectional]
        default:
            return
        }
    }

    private mutating func requeue(_ at: StreamMap<ReceiveStream>.Index, id: StreamID) {
        guard !receiving[at].isQueued else { return }
        receiving[at].isQueued = true
        receiveControlQueue.append(id)
    }

    // MARK: - Control frames

    @_lifetime(writer: copy writer)
    private static func writeLimit(_ type: UInt8, _ limit: UInt64, into writer: inout ByteWriter) -> Bool {
        guard writer.remaining >= 1 + Varint.length(limit) else { return false }
        writer.uint8(type)
        writer.varint(limit)
        return true
    }

    @_lifetime(writer: copy writer)
    private static func writeStream(
        _ type: UInt8, _ id: StreamID, _ first: UInt64, _ second: UInt64? = nil, into writer: inout ByteWriter
    ) -> Bool {
        let size = 1 + Varint.length(id.rawValue) + Varint.length(first) + (second.map { Varint.length($0) } ?? 0)
        guard writer.remaining >= size else { return false }
        writer.uint8(type)
        writer.varint(id.rawValue)
        writer.varint(first)
        if let second { writer.varint(second) }
        return true
    }

    @_lifetime(writer: copy writer)
    private mutating func writeStreamCounts(
        bidirectional: Bool, into writer: inout ByteWriter, sent: inout [SentFrame]
    ) {
        let kind: UInt8 = bidirectional ? 0 : 1
        if owesMaxStreams[bidirectional], Self.writeLimit(0x12 | kind, maxStreams[bidirectional], into: &writer) {
            owesMaxStreams[bidirectional] = false
            sent.append(.maxStreams(bidirectional: bidirectional))
        }
        if owesStreamsBlocked[bidirectional], Self.writeLimit(0x16 | kind, peerMaxStreams[bidirectional], into: &writer)
        {
            owesStreamsBlocked[bidirectional] = false
            sent.append(.streamsBlocked(bidirectional: bidirectional))
        }
    }

    /// False when something is left that did not fit.
    @_lifetime(writer: copy writer)
    private mutating func writeReceiveControl(
        _ at: StreamMap<ReceiveStream>.Index, id: StreamID, into writer: inout ByteWriter,
        sent: inout [SentFrame]
    ) -> Bool {
        if receiving[at].owesStopSending {
            let code = receiving[at].stopCode ?? 0
            guard Self.writeStream(0x05, id, code, into: &writer) else { return false }
            receiving[at].owesStopSending = false
            sent.append(.stopSending(id))
        }
        if receiving[at].owesMaxStreamData {
            guard Self.writeStream(0x11, id, receiving[at].maxStreamData, into: &writer) else { return false }
            receiving[at].owesMaxStreamData = false
            sent.append(.maxStreamData(id))
        }
        return true
    }

    @_lifetime(writer: copy writer)
    private mutating func writeSendControl(
        _ at: StreamMap<SendStream>.Index, id: StreamID, into writer: inout ByteWriter,
        sent: inout [SentFrame]
    ) -> Bool {
        if sending[at].owesReset {
            let size = sending[at].finalSize ?? 0
            guard Self.writeStream(0x04, id, sending[at].resetCode, size, into: &writer) else { return false }
            sending[at].owesReset = false
            sent.append(.resetStream(id))
        }
        if sending[at].owesBlocked {
            guard Self.writeStream(0x15, id, sending[at].maxStreamData, into: &writer) else { return false }
            sending[at].owesBlocked = false
            sent.append(.streamDataBlocked(id))
        }
        return true
    }
}
