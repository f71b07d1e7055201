import QUIC
import Wire

extension FlowSource {
    /// Writes one packet as `transmitRun` does and appends its plan; false when there is nothing to send now.
    @_lifetime(writer: copy writer)
    public mutating func transmit(
        into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) -> Bool {
        var runs: [RunPlan] = []
        transmitRun(of: 1, into: &writer, runs: &runs, at: now)
        guard let run = runs.first else { return false }
        plans.append(run.first)
        return true
    }

    /// Writes up to `count` packets in the clear, one after the other: headers, frames, and room for the tags. No frame of
    /// the extension is among them (draft section 11). All but the last are of one size, as a segmented send wants them.
    /// Appends a plan for each stretch of consecutive packet numbers under one key, which usually is all of them; none when
    /// there is nothing to send now, and `nextDeadline` then tells when there may be. `writer` needs room for
    /// `configuration.packetSize` octets each.
    @_lifetime(writer: copy writer)
    public mutating func transmitRun(
        of count: Int, into writer: inout ByteWriter, runs: inout [RunPlan], at now: Instant
    ) {
        guard audience > 0, !isWithdrawn else { return }
        relieveMemory(at: now)
        if hasWaiting { boundDatagrams() }
        sendMeter.note(octets: octetPosition, streams: streamPosition, packetOctets: log.octetsSent, at: now)
        let bits = rate
        var plan = newPlan(at: writer.offset)
        var left = count
        let before = octetPosition
        while left > 0 {
            let hasData = hasData
            guard !keys.isWornOut(at: log.next), writer.remaining >= Self.leastPacket else { break }
            guard hasData ? pacer.allows(rate: bits, at: now) : now >= nextPing else {
                if hasData {
                    slowStart.usedUp()
                } else if isOutOfCredit, hasRoomForRemovals {
                    removeOutOfCredit()
                    continue
                }
                break
            }
            if log.next == skipAt || isKeyDue(at: now) {
                if plan.end > plan.start { runs.append(plan) }
                leaveOutNumbers(at: now)
                plan = newPlan(at: writer.offset)
            }
            var octets = configuration.packetSize
            let alike = hasData ? continueStream(atMost: left, into: &writer, at: now) : 0
            left -= alike
            if alike == 0 {
                octets = writePacket(into: &writer, hasData: hasData, at: now)
                left -= 1
            }
            plan.end = writer.offset
            keys.sealed(before: log.next)
            if octets < configuration.packetSize { break }
        }
        if plan.end > plan.start { runs.append(plan) }
        if octetPosition > before {
            repairAllowance = min(mostRepairAllowance, repairAllowance + (octetPosition - before) / 2)
        }
        if memberCount == 0 { releaseSettled() }
    }

    private static var leastPacket: Int { 128 }

    /// The numbers that no packet gets: some to find out liars (RFC 9000 section 21.4), and what is left of a key.
    private mutating func leaveOutNumbers(at now: Instant) {
        if log.next == skipAt {
            log.skip(upTo: log.next + 1, at: now)
            drawSkip()
        }
        if isKeyDue(at: now) { switchKey(at: now) }
    }

    private func newPlan(at offset: Int) -> RunPlan {
        RunPlan(
            start: offset, packetSize: configuration.packetSize, end: offset, headerLength: 1 + flowID.count,
            firstPacketNumber: log.next, keyGeneration: keys.current.generation)
    }

    /// Writes one packet: how many octets it has, tag included.
    @inline(__always)
    @_lifetime(writer: copy writer)
    private mutating func writePacket(into writer: inout ByteWriter, hasData: Bool, at now: Instant) -> Int {
        let start = writer.offset
        let end = start + min(configuration.packetSize, writer.remaining) - CipherSuite.tagLength
        writeHeader(into: &writer)

        let firstFrame = log.frames.end
        let afterHeader = writer.offset
        if hasData {
            if hasWaiting {
                writeDatagrams(into: &writer, end: end)
                writeRepairs(into: &writer, end: end)
            }
            while writer.offset < end, mayContinue, writeNew(into: &writer, end: end) {}
            // The rest is too small for the next stream's frame. A packet that is shorter than the others would end
            // their segmented send.
            if writer.offset < end, end - writer.offset <= Self.mostPadding, self.hasData {
                writer.zeros(end - writer.offset)
            }
        }
        let isPing = writer.offset == afterHeader
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
        return octets
    }

    /// Fixed bit, key phase, four octets of packet number (RFC 9000 section 17.3.1).
    @inline(__always)
    @_lifetime(writer: copy writer)
    private func writeHeader(into writer: inout ByteWriter) {
        writer.uint8(0x43 | (keys.current.generation & 1 == 1 ? 0x04 : 0))
        if flowID.count == 8 {
            writer.uint64(flowID.prefix)
        } else {
            for index in 0..<flowID.count { writer.uint8(flowID[index]) }
        }
        writer.uint32(UInt32(truncatingIfNeeded: log.next))
    }

    /// Writes packets that the stream at the cursor fills and neither begins nor ends in: they differ in nothing but number
    /// and offset, so that all that is looked at before a packet is looked at once for all of them. How many there are, which
    /// may be none.
    @inline(__always)
    @_lifetime(writer: copy writer)
    private mutating func continueStream(atMost limit: Int, into writer: inout ByteWriter, at now: Instant) -> Int {
        let size = configuration.packetSize
        let first = streams.sent
        let allowed = alikeInStream
        guard allowed > 0 else { return 0 }
        let most = min(UInt64(limit), allowed, UInt64(writer.remaining / size))
        guard most > 0 else { return 0 }
        // All of a header but number and offset, and the header of the frame that fills the packet.
        var header = InlineArray<48, UInt8>(repeating: 0)
        let frame: Int
        let headerLength: Int
        do {
            var span = header.mutableSpan
            var template = ByteWriter(&span)
            writeHeader(into: &template)
            frame = template.offset
            template.uint8(0x0c)
            template.varint(StreamID(initiator: .server, bidirectional: false, index: streams.cursor).rawValue)
            headerLength = template.offset
        }
        let width = Varint.length(UInt64(first))
        let octets = size - CipherSuite.tagLength - headerLength - width
        // The last offset of this width ends the run: all its packets have as many octets of the stream.
        let alike = Varint.alike(from: UInt64(first), by: UInt64(octets))
        let count = Int(min(most, alike))
        let body = streams.currentBody
        let source = body.span
        let head = streams.currentHead.count
        var place = first - head
        for index in 0..<UInt64(count) {
            writer.block(header, moving: frame - 4)
            writer.uint32(UInt32(truncatingIfNeeded: log.next &+ index))
            writer.advance(headerLength - frame)
            writer.varint(UInt64(truncatingIfNeeded: place &+ head))
            writer.octets(of: source, from: place, count: octets)
            writer.advance(CipherSuite.tagLength)
            place &+= octets
        }
        log.appendPackets(
            count, octets: size,
            frame: FrameRecord(
                stream: streams.cursor, offset: UInt32(truncatingIfNeeded: first),
                length: UInt16(truncatingIfNeeded: octets), fin: false), at: now)
        let total = UInt64(count * octets)
        octetPosition += total
        statistics.newOctets += total
        streams.sentNew(Int(total), frames: UInt32(count), fin: false)
        pacer.spent(count * size)
        schedulePing(wasPing: false, at: now)
        statistics.packetsSent += UInt64(count)
        statistics.octetsSent += UInt64(count * size)
        return count
    }

    /// How many packets full of the stream at the cursor the rules allow one after the other, at least: what is left of
    /// the stream, members' credit, memory, key, pacing, and the next number to be left out.
    @inline(__always)
    private var alikeInStream: UInt64 {
        let size = UInt64(configuration.packetSize)
        // More stream data than that no packet has.
        let most = size - UInt64(CipherSuite.tagLength + 1 + flowID.count + 4)
        let rest = UInt64(streams.currentCount - streams.sent)
        guard rest > most, !hasWaiting, streams.sent > 0, streams.sent >= streams.currentHead.count, mayContinue
        else { return 0 }
        let memory = configuration.maximumUnsettledOctets - unsettledOctets
        return min(
            (rest - 1) / most, (octetLimits.minimum - octetPosition) / most, memory / size, UInt64(pacer.packets),
            min(skipAt, keys.endsAt) - log.next)
    }

    // Inlined, all of these: a getter that is called is given a copy of the whole flow (Swift 6.3, 1.4 KB).

    /// Whether there are frames to send, were it not for the pacer.
    @inline(__always)
    var hasData: Bool { hasWaiting || mayContinue }

    /// Whether the stream at the cursor may send: the members' credit and the memory bound allow it.
    @inline(__always)
    private var mayContinue: Bool {
        memberCount > 0 && !streams.isDrained && hasCredit && unsettledOctets < configuration.maximumUnsettledOctets
    }

    /// Whether the least of the members' limits lies further on.
    @inline(__always)
    var hasCredit: Bool {
        (streams.sent > 0 || streamPosition < streamLimits.minimum)
            && (streams.currentCount == 0 || octetPosition < octetLimits.minimum)
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

    /// Writes the header of a STREAM frame with as much as fits before `end` of the `length` octets that lie at `offset` of
    /// the stream: how many, which are to follow; nil when it is not worth a frame. `fin` says that the stream ends with them.
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
        if !fills { writer.uint16(UInt16(truncatingIfNeeded: count) | 0x4000) }
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
            streams.octets(frame.stream).write(Int(frame.offset)..<(Int(frame.offset) + count), into: &writer)
            statistics.octetsRepairedOnFlow += UInt64(count)
            if count == Int(frame.length) {
                // The queue's reference becomes the packet's.
                log.appendFrame(frame)
                repairs.removeFirst()
            } else {
                log.appendFrame(
                    FrameRecord(stream: frame.stream, offset: frame.offset, length: UInt16(count), fin: false))
                streams.retain(frame.stream)
                repairs[repairs.base].offset += UInt32(count)
                repairs[repairs.base].length -= UInt16(count)
                return
            }
        }
    }

    @inline(__always)
    @_lifetime(writer: copy writer)
    private mutating func writeNew(into writer: inout ByteWriter, end: Int) -> Bool {
        let index = streams.cursor
        let offset = streams.sent
        let rest = streams.currentCount - offset
        let length = min(rest, Int(clamping: octetLimits.minimum - min(octetPosition, octetLimits.minimum)))
        guard
            let count = writeStream(
                into: &writer, end: end, index: index, offset: offset, length: length, fin: length == rest)
        else { return false }
        let split = streams.currentHead.count
        if offset < split { streams.currentHead.write(offset..<min(split, offset + count), into: &writer) }
        if offset + count > split {
            let first = max(offset, split) - split
            let body = streams.currentBody
            writer.octets(body.span.extracting(first..<(offset + count - split)))
        }
        if offset == 0 {
            streamPosition += 1
            queuedStreams -= 1
        }
        octetPosition += UInt64(count)
        statistics.newOctets += UInt64(count)
        let fin = count == rest
        streams.sentNew(count, frames: 1, fin: fin)
        log.appendFrame(FrameRecord(stream: index, offset: UInt32(offset), length: UInt16(count), fin: fin))
        return true
    }
}
