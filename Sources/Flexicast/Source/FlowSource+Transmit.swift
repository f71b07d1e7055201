import QUIC
import Wire

extension FlowSource {
    /// Writes up to `count` packets, one after the other, as `transmit` does, and stops after one that is not full:
    /// all but the last are of one size, as a segmented send wants them.
    @_lifetime(writer: copy writer)
    public mutating func transmitRun(
        of count: Int, into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) {
        for _ in 0..<count {
            let start = writer.offset
            guard transmit(into: &writer, plans: &plans, at: now) else { return }
            if writer.offset - start < configuration.packetSize { return }
        }
    }

    /// Writes one packet of the flow in the clear, header and frames, leaves room for the tag and appends its plan.
    /// False when there is nothing to send now; `nextDeadline` tells when there may be. `writer` needs room for
    /// `configuration.packetSize` octets.
    @_lifetime(writer: copy writer)
    public mutating func transmit(
        into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) -> Bool {
        guard audience > 0, !isWithdrawn, !isKeyWornOut else { return false }
        relieveMemory(at: now)
        noteCredit(at: now)
        let hasData = hasData
        guard hasData ? pacer.allows(rate: rate, at: now) : now >= nextPing else {
            if hasData { slowStart.usedUp() }
            return false
        }

        if log.next == skipAt {
            log.skip(upTo: log.next + 1, at: now)
            drawSkip()
        }
        switchKey(at: now)
        let packetNumber = log.next
        let size = min(configuration.packetSize, writer.remaining)
        guard size >= 128 else { return false }

        let start = writer.offset
        let end = start + size - CipherSuite.tagLength
        // Fixed bit, key phase, four octets of packet number (RFC 9000 section 17.3.1).
        writer.uint8(0x43 | (keys.current.generation & 1 == 1 ? 0x04 : 0))
        if flowID.count == 8 {
            writer.uint64(flowID.prefix)
        } else {
            for index in 0..<flowID.count { writer.uint8(flowID[index]) }
        }
        let packetNumberOffset = writer.offset
        writer.uint32(UInt32(truncatingIfNeeded: packetNumber))

        let firstFrame = log.frames.end
        if hasData {
            writeRepairs(into: &writer, end: end)
            while mayContinue, writeNew(into: &writer, end: end) {}
            // The rest is too small for the next stream's frame. A packet that is shorter than the others would end
            // their segmented send.
            if writer.offset < end, end - writer.offset <= Self.mostPadding, hasData {
                writer.zeros(end - writer.offset)
            }
        }
        let isPing = log.frames.end == firstFrame
        if isPing {
            writer.uint8(0x01)
            statistics.pings += 1
        }
        writer.advance(CipherSuite.tagLength)

        let octets = writer.offset - start
        log.appendPacket(firstFrame: firstFrame, octets: octets, at: now)
        pacer.spent(octets)
        schedulePing(wasPing: isPing, at: now)
        statistics.packetsSent += 1
        statistics.octetsSent += UInt64(octets)
        plans.append(
            PacketPlan(
                level: .application, start: start, packetNumberOffset: packetNumberOffset, packetNumberLength: 4,
                end: writer.offset, packetNumber: packetNumber, keyGeneration: keys.current.generation))
        if memberCount == 0 { releaseSettled() }
        if keys.used(before: log.next) >= keyBudget { keys.wanted = true }
        return true
    }

    @inline(__always)
    private var keyBudget: UInt64 {
        min(configuration.packetsPerKey, keys.current.suite.confidentialityLimit / 2)
    }

    /// The key may seal no more (RFC 9001 section 6.6). It comes to that only when a new one cannot be made for want
    /// of acknowledgements under the one before.
    @inline(__always)
    var isKeyWornOut: Bool {
        keys.next == nil && keys.used(before: log.next) + 2 >= keys.current.suite.confidentialityLimit
    }

    // Inlined, all of these: a getter that is called is given a copy of the whole flow (Swift 6.3, 1.4 KB).

    /// Whether there are frames to send, were it not for the pacer.
    @inline(__always)
    var hasData: Bool { !repairs.isEmpty || mayContinue }

    /// Whether the stream at the cursor may send: every member's credit and the memory bound allow it.
    @inline(__always)
    private var mayContinue: Bool {
        memberCount > 0 && !streams.isDrained && hasCredit && unsettledOctets < configuration.maximumUnsettledOctets
    }

    @inline(__always)
    private var hasCredit: Bool {
        let cursor = streams.cursor
        return (streams[cursor].sent > 0 || streamPosition < streamLimits.minimum)
            && (streams[cursor].bytes.isEmpty || octetPosition < octetLimits.minimum)
    }

    /// Remembers since when a member's credit has held the flow up.
    private mutating func noteCredit(at now: Instant) {
        guard memberCount > 0, !streams.isDrained, !hasCredit else {
            creditBlockedSince = nil
            return
        }
        if creditBlockedSince == nil { creditBlockedSince = now }
    }

    /// A frame needs this much more than its header, or less where the stream ends.
    private static var leastRoom: Int { 16 }
    /// PADDING frames in a packet that more data follows: what the header of the next frame and `leastRoom` may take.
    private static var mostPadding: Int { leastRoom + 1 + 8 + 8 + 2 }

    /// Octets of a STREAM frame's header with a two-octet length.
    @inline(__always)
    private func headerLength(_ stream: StreamID, offset: UInt64) -> Int {
        1 + Varint.length(stream.rawValue) + (offset == 0 ? 0 : Varint.length(offset)) + 2
    }

    /// Writes as much of `range` of a stream as fits before `end`; nil when it is not worth a frame.
    @inline(__always)
    @_lifetime(writer: copy writer)
    private func writeStream(
        into writer: inout ByteWriter, end: Int, index: UInt64, offset: Int, length: Int, fin: Bool
    ) -> Int? {
        let stream = StreamID(initiator: .server, bidirectional: false, index: index)
        let header = headerLength(stream, offset: UInt64(offset))
        let room = end - writer.offset - header
        guard room >= min(length, Self.leastRoom) else { return nil }
        // A frame that takes all the rest of the packet needs no length (RFC 9000 section 19.8).
        let fills = length >= room + 2
        let count = fills ? room + 2 : min(length, room, 16_383)
        let fin = fin && count == length
        writer.uint8(0x08 | (fills ? 0 : 0x02) | (offset == 0 ? 0 : 0x04) | (fin ? 0x01 : 0))
        writer.varint(stream.rawValue)
        if offset > 0 { writer.varint(UInt64(offset)) }
        if !fills { writer.varint(UInt64(count), width: 2) }
        writer.octets(streams[index].bytes.span.extracting(offset..<(offset + count)))
        return count
    }

    @_lifetime(writer: copy writer)
    private mutating func writeRepairs(into writer: inout ByteWriter, end: Int) {
        while !repairs.isEmpty {
            let frame = repairs[repairs.base]
            guard
                let count = writeStream(
                    into: &writer, end: end, index: frame.stream, offset: Int(frame.offset),
                    length: Int(frame.length), fin: frame.fin)
            else { return }
            statistics.octetsRepairedOnFlow += UInt64(count)
            if count == Int(frame.length) {
                // The queue's reference becomes the packet's.
                log.appendFrame(frame)
                repairs.removeFirst()
            } else {
                log.appendFrame(
                    FrameRecord(stream: frame.stream, offset: frame.offset, length: UInt32(count), fin: false))
                streams.retain(frame.stream)
                repairs[repairs.base].offset += UInt32(count)
                repairs[repairs.base].length -= UInt32(count)
                return
            }
        }
    }

    @_lifetime(writer: copy writer)
    private mutating func writeNew(into writer: inout ByteWriter, end: Int) -> Bool {
        let index = streams.cursor
        let offset = Int(streams[index].sent)
        let rest = streams[index].bytes.count - offset
        let credit = Int(clamping: octetLimits.minimum - min(octetPosition, octetLimits.minimum))
        let length = min(rest, credit)
        guard
            let count = writeStream(
                into: &writer, end: end, index: index, offset: offset, length: length, fin: length == rest)
        else { return false }
        if offset == 0 {
            streamPosition += 1
            queuedStreams -= 1
        }
        octetPosition += UInt64(count)
        statistics.newOctets += UInt64(count)
        let sent = streams.sentNew(count)
        log.appendFrame(FrameRecord(stream: index, offset: sent.offset, length: UInt32(count), fin: sent.fin))
        return true
    }
}
