import Wire

extension Connection {
    /// Writes one datagram in the clear and appends a plan for each of its packets. Call again until it returns nil.
    ///
    /// The datagram begins at the writer's offset and never exceeds the path MTU, the congestion window or, before the peer's
    /// address is validated, three times what it sent.
    @_lifetime(writer: copy writer)
    public mutating func transmit(into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant)
        -> OutgoingDatagram?
    {
        mark = recovery.ecnCapable ? .ect0 : .notECT
        switch phase {
        // RFC 9000 section 10.2.2.
        case .draining, .drained: return nil
        case .closing(var closing):
            guard closing.isDue else { return nil }
            closing.isDue = false
            phase = .closing(closing)
            // Closing is no way round the 3x limit (RFC 9000 section 10.2.1).
            return writeDatagram(
                into: &writer, plans: &plans, limit: min(PathMTU.floor, path.allowance), to: path.remote, at: now)
        case .active: break
        }
        guard recovery.nextPacketNumber(.application) < Self.lastPacketNumber else {
            // RFC 9000 section 12.3: there is no number left to say so with.
            end(.local(TransportError(.internalError, "packet numbers are used up")))
            return nil
        }
        if let response = pathResponses.first, response.to != path.remote {
            pathResponses.removeFirst()
            return writePathFrame(
                FrameType.pathResponse, response.data, .pathResponse, to: response.to, size: response.limit,
                into: &writer, plans: &plans, at: now)
        }
        if let datagram = transmitOnPath(into: &writer, plans: &plans, at: now) { return datagram }
        guard let previous = previousPath, let data = previous.challenge else { return nil }
        previousPath?.challenge = nil
        return writePathFrame(
            FrameType.pathChallenge, data, .pathChallenge, to: previous.path.remote, size: PathMTU.floor,
            into: &writer, plans: &plans, at: now)
    }

    /// The same for datagrams one after the other, `most` of them or as many as there is room for: appends them to
    /// `datagrams`, runs of those that are alike as one.
    /// - Returns: whether there is nothing more to send now; otherwise call again.
    @_lifetime(writer: copy writer)
    public mutating func transmit(
        into writer: inout ByteWriter, most: Int, plans: inout [PacketPlan], datagrams: inout [OutgoingDatagram],
        at now: Instant
    ) -> Bool {
        let first = plans.count
        while plans.count - first < most, plans.count == first || writer.remaining >= mtu.current {
            if let run = transmitRun(most - (plans.count - first), into: &writer, plans: &plans, at: now) {
                datagrams.append(run)
            } else if let datagram = transmit(into: &writer, plans: &plans, at: now) {
                datagrams.append(datagram)
            } else {
                return true
            }
        }
        return false
    }

    /// Full datagrams with nothing but octets of one stream, which it neither begins nor ends in, `most` at the most: they
    /// differ in nothing but number and offset, so that all that is asked and noted for each datagram else is asked and noted
    /// once. Nil when there is anything else to send, or less than one of them.
    @_lifetime(writer: copy writer)
    private mutating func transmitRun(
        _ most: Int, into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) -> OutgoingDatagram? {
        guard let bulk = streams.bulk, bulk.range.lowerBound > 0, sendsOnlyStreams(at: now) else { return nil }
        let size = mtu.current
        let begin = writer.offset
        let first = bulk.range.lowerBound
        mark = recovery.ecnCapable ? .ect0 : .notECT
        // All of a header but number and offset, and the header of the frame that fills the packet.
        var header = InlineArray<48, UInt8>(repeating: 0)
        let (numberOffset, headerLength): (Int, Int)
        do {
            var span = header.mutableSpan
            var template = ByteWriter(&span)
            numberOffset = open(.application, numberLength: 4, into: &template).packetNumberOffset
            template.uint8(UInt8(FrameType.stream.lowerBound) | 4)
            template.varint(bulk.id.rawValue)
            headerLength = template.offset
        }
        let width = Varint.length(first)
        let length = size - CipherSuite.tagLength - headerLength - width
        let content = streams.bulkBytes(bulk.at, from: first)
        let position = Int(first - content.start)
        // The stream's end, or a limit's, is not for here; the last offset of its width, or the last octet of a piece, ends
        // the run.
        let octets = min(Int(bulk.range.upperBound - first) - 1, content.bytes.count - position)
        let alike = Varint.alike(from: first, by: UInt64(length))
        let count = min(
            most, recovery.datagramsAllowed(at: now), writer.remaining / size, octets / length, Int(alike))
        guard count > 0 else { return nil }
        let numbers = recovery.sendRun(
            StreamRun(id: bulk.id, offset: first, length: length), count: count, size: size, ecn: mark, at: now)
        var sent = 0
        for number in numbers {
            let start = writer.offset
            writer.block(header, moving: numberOffset)
            writer.uint32(UInt32(truncatingIfNeeded: number))
            writer.advance(headerLength - numberOffset - 4)
            writer.varint(first + UInt64(sent))
            writer.octets(of: content.bytes.span, from: position + sent, count: length)
            writer.advance(CipherSuite.tagLength)
            sent += length
            plans.append(
                PacketPlan(
                    level: .application, start: start, packetNumberOffset: start + numberOffset, packetNumberLength: 4,
                    end: writer.offset, packetNumber: number, keyGeneration: keyGeneration))
        }
        noteAckElicitingSent(at: now)
        streams.bulkWritten(bulk.at, first..<(first + UInt64(sent)))
        return self.sent(from: begin, segment: size, into: &writer, to: path.remote, carriesStreams: true, at: now)
    }

    /// Nothing but stream data is to be sent, to a peer whose address is proven.
    private func sendsOnlyStreams(at now: Instant) -> Bool {
        let space = ProtectionLevel.application.rawValue
        guard isActive, isHandshakeConfirmed, path.isValidated, path.challenge == nil, previousPath?.challenge == nil,
            pathResponses.isEmpty, probes[space] == 0, !acks[space].hasUnacknowledged, !crypto[space].hasPending,
            !wantsControlFrames(at: now), !flowPaths.contains(where: { $0.acks.mustAckNow(at: now) })
        else { return false }
        return mtu.nextSize(at: now).map { !recovery.mayProbe($0) } ?? true
    }

    /// The next datagram for the active path.
    @_lifetime(writer: copy writer)
    private mutating func transmitOnPath(
        into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) -> OutgoingDatagram? {
        let allowance = path.allowance
        // A smaller datagram could not be padded as the handshake requires.
        guard allowance >= PathMTU.floor || isHandshakeComplete && allowance >= Self.smallestAnswer else {
            recovery.amplificationBlocked = true
            return nil
        }
        let mayCongest = recovery.canSend(at: now)
        if mayCongest, mayProbeMTU, let size = mtu.probeSize(at: now), writer.remaining >= size, size <= allowance,
            recovery.mayProbe(size)
        {
            return writeMTUProbe(size, into: &writer, plans: &plans, at: now)
        }
        guard ProtectionLevel.allCases.contains(where: { wants($0, mayCongest: mayCongest, at: now) }) else {
            recovery.pacer.isHoldingBack = !mayCongest && wantsToSend && recovery.windowAllows
            return nil
        }
        return writeDatagram(
            into: &writer, plans: &plans, limit: min(mtu.current, allowance), to: path.remote, at: now)
    }

    /// Whether a packet of `level` has anything to carry.
    private func wants(_ level: ProtectionLevel, mayCongest: Bool, at now: Instant) -> Bool {
        let space = level.rawValue
        guard levels[space] == .spoken else { return false }
        if isClosing { return true }
        if level == .application, !isHandshakeComplete { return false }
        if probes[space] > 0 || acks[space].mustAckNow(at: now) { return true }
        if level == .application {
            if wantsPathValidation(at: now) || flowPaths.contains(where: { $0.acks.mustAckNow(at: now) }) {
                return true
            }
        }
        guard mayCongest else { return false }
        return crypto[space].hasPending || level == .application && wantsApplicationFrames(at: now)
    }

    /// These do not wait for the congestion window: what fills it may have gone to an address that the peer has left, and only a
    /// validated path lets the connection go on (RFC 9000 section 9.4). The 3x limit bounds them.
    private func wantsPathValidation(at now: Instant) -> Bool { !pathResponses.isEmpty || path.challengeDue(at: now) }

    func wantsApplicationFrames(at now: Instant) -> Bool {
        wantsControlFrames(at: now) || streams.wantsToSendStreams
    }

    /// Any but STREAM frames.
    private func wantsControlFrames(at now: Instant) -> Bool {
        handshakeDoneDue || pingDue || !newTokens.isEmpty || wantsPathValidation(at: now) || !localIDs.pending.isEmpty
            || !remoteIDs.pendingRetire.isEmpty || extensionFrames.hasPending || !datagrams.isEmpty
            || streams.wantsToSendControl
    }

    /// Something waits only for the pacer or the window.
    var wantsToSend: Bool {
        switch phase {
        case .active: break
        case .closing(let closing): return closing.isDue
        case .draining, .drained: return false
        }
        return crypto.contains(where: \.hasPending) || isHandshakeComplete && wantsApplicationFrames(at: .distantFuture)
    }

    // MARK: A datagram

    /// A packet that is being written.
    private struct OpenPacket {
        var level: ProtectionLevel
        var start: Int
        var lengthOffset: Int
        var packetNumberOffset: Int
        var packetNumberLength: Int
        var packetNumber: UInt64
    }

    /// Writes the datagram's packets, coalesced (RFC 9000 section 12.2).
    @_lifetime(writer: copy writer)
    private mutating func writeDatagram(
        into writer: inout ByteWriter, plans: inout [PacketPlan], limit: Int, to remote: SocketAddress, at now: Instant
    ) -> OutgoingDatagram? {
        let begin = writer.offset
        let end = begin + min(limit, writer.remaining)
        let outerReserve = writer.reserved
        defer { writer.reserved = outerReserve }
        writer.reserved = writer.capacity - end + CipherSuite.tagLength
        var mustFill = false
        var carriesStreams = false
        carriesPathValidation = false
        let mayCongest = recovery.canSend(at: now)
        for level in ProtectionLevel.allCases where wants(level, mayCongest: mayCongest, at: now) {
            // Room for a header, a sample and some frames, or it goes into the next datagram.
            guard writer.remaining >= 64 + (level == .initial ? initialToken.count : 0) else { break }
            let packet = open(level, into: &writer)
            frames.removeAll(keepingCapacity: true)
            let isAckEliciting = writeFrames(level, mayCongest: mayCongest, into: &writer, at: now)
            switch frames.last {
            case .stream, .datagram: carriesStreams = true
            default: break
            }
            // RFC 9000 sections 8.2.1 and 8.2.2.
            if carriesPathValidation { mustFill = true }
            // A packet without frames is none (RFC 9000 section 12.4).
            guard writer.offset > packet.packetNumberOffset + packet.packetNumberLength || mustFill else {
                writer.rewind(to: packet.start)
                continue
            }
            // RFC 9000 sections 8.1, 14 and 14.1, RFC 9001 section 9.3.
            if level == .initial, isAckEliciting || role == .client { mustFill = true }
            let isLast = !ProtectionLevel.allCases.contains { later in
                later > level && writer.remaining >= 100 && wants(later, mayCongest: mayCongest, at: now)
            }
            var isPadded = false
            if mustFill, isLast {
                let missing = min(begin + PathMTU.floor, end) - CipherSuite.tagLength - writer.offset
                if missing > 0 {
                    writer.zeros(missing)
                    isPadded = true
                }
            }
            finish(packet, isAckEliciting: isAckEliciting, isPadded: isPadded, into: &writer, plans: &plans, at: now)
            if role == .client, level == .handshake { discard(.initial) }
        }
        return sent(from: begin, into: &writer, to: remote, carriesStreams: carriesStreams, at: now)
    }

    @_lifetime(writer: copy writer)
    private mutating func sent(
        from begin: Int, segment: Int? = nil, into writer: inout ByteWriter, to remote: SocketAddress,
        carriesStreams: Bool = false, at now: Instant
    ) -> OutgoingDatagram? {
        let count = writer.offset - begin
        guard count > 0 else { return nil }
        let segment = segment ?? count
        statistics.datagramsSent += UInt64((count + segment - 1) / segment)
        statistics.octetsSent += UInt64(count)
        if carriesStreams { statistics.octetsSentWithStreams += UInt64(count) }
        if remote == path.remote {
            path.sent(count)
            recovery.amplificationBlocked = path.allowance < PathMTU.floor
        }
        return OutgoingDatagram(
            count: count, segment: segment, to: remote,
            from: path.local?.address.isUnspecified == false ? path.local : nil,
            ecn: mark)
    }

    @_lifetime(writer: copy writer)
    private func open(
        _ level: ProtectionLevel, numberLength: Int? = nil, into writer: inout ByteWriter
    ) -> OpenPacket {
        let number = recovery.nextPacketNumber(level)
        let length =
            numberLength ?? PacketNumber.length(number, largestAcked: recovery.largestAcknowledged(level))
        var packet = OpenPacket(
            level: level, start: writer.offset, lengthOffset: 0, packetNumberOffset: 0, packetNumberLength: length,
            packetNumber: number)
        // The reserved bits are 0 (RFC 9000 sections 17.2 and 17.3.1).
        let lowBits = UInt8(length - 1)
        if level == .application {
            writer.uint8(0x40 | UInt8(keyGeneration & 1) << 2 | lowBits)
            writer.connectionID(remoteIDs.current)
        } else {
            writer.uint8((level == .initial ? 0xc0 : 0xe0) | lowBits)
            writer.uint32(PacketHeader.version1)
            writer.uint8(UInt8(remoteIDs.current.count))
            writer.connectionID(remoteIDs.current)
            writer.uint8(UInt8(localIDs.first.count))
            writer.connectionID(localIDs.first)
            if level == .initial {
                // Of a Retry, or of an earlier connection (RFC 9000 sections 8.1.2 and 8.1.3).
                writer.varint(UInt64(initialToken.count))
                writer.octets(initialToken.span)
            }
            packet.lengthOffset = writer.offset
            writer.advance(2)
        }
        packet.packetNumberOffset = writer.offset
        writer.bigEndian(number, width: length)
        return packet
    }

    @_lifetime(writer: copy writer)
    private mutating func finish(
        _ packet: OpenPacket, isAckEliciting: Bool, isPadded: Bool, isPathProbe: Bool = false,
        into writer: inout ByteWriter,
        plans: inout [PacketPlan], at now: Instant
    ) {
        // The header protection sample needs four octets of packet number and payload before the tag (RFC 9001 section 5.4.2).
        let short = 4 - (writer.offset - packet.packetNumberOffset)
        if short > 0 { writer.zeros(short) }
        let end = writer.offset + CipherSuite.tagLength
        if packet.level != .application {
            let length = UInt64(end - packet.packetNumberOffset)
            writer.patch(length | 0x4000, width: 2, at: packet.lengthOffset)
        }
        // The tag's place is filled by packet protection.
        let reserve = writer.reserved
        writer.reserved = 0
        writer.advance(CipherSuite.tagLength)
        writer.reserved = reserve
        let number = recovery.takePacketNumber(packet.level)
        precondition(number == packet.packetNumber)
        recovery.packetSent(
            packet.level, packetNumber: number, size: end - packet.start, ackEliciting: isAckEliciting,
            inFlight: isAckEliciting || isPadded, frames: frames, ecn: mark,
            isPathProbe: isPathProbe, at: now)
        if probes[packet.level.rawValue] > 0, isAckEliciting { probes[packet.level.rawValue] -= 1 }
        if isAckEliciting { noteAckElicitingSent(at: now) }
        plans.append(
            PacketPlan(
                level: packet.level, start: packet.start, packetNumberOffset: packet.packetNumberOffset,
                packetNumberLength: packet.packetNumberLength, end: end, packetNumber: number,
                keyGeneration: packet.level == .application ? keyGeneration : 0))
    }

    // MARK: Datagrams of their own

    var mayProbeMTU: Bool { isHandshakeConfirmed && path.isValidated && path.challenge == nil }

    /// PING and PADDING of exactly `size` octets (RFC 9000 section 14.4).
    @_lifetime(writer: copy writer)
    private mutating func writeMTUProbe(
        _ size: Int, into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) -> OutgoingDatagram? {
        let begin = writer.offset
        let packet = open(.application, into: &writer)
        frames.removeAll(keepingCapacity: true)
        writer.uint8(UInt8(FrameType.ping))
        frames.append(.mtuProbe(packetNumber: packet.packetNumber))
        writer.zeros(begin + size - CipherSuite.tagLength - writer.offset)
        finish(packet, isAckEliciting: true, isPadded: true, isPathProbe: true, into: &writer, plans: &plans, at: now)
        mtu.probeSent(size, in: packet.packetNumber)
        var datagram = sent(from: begin, into: &writer, to: path.remote, at: now)
        datagram?.isProbe = true
        return datagram
    }

    /// One frame of path validation to an address other than the active one: a response goes back where its challenge came
    /// from (RFC 9000 section 8.2.2).
    @_lifetime(writer: copy writer)
    private mutating func writePathFrame(
        _ type: UInt64, _ data: UInt64, _ frame: SentFrame, to remote: SocketAddress, size: Int,
        into writer: inout ByteWriter, plans: inout [PacketPlan], at now: Instant
    ) -> OutgoingDatagram? {
        guard levels[ProtectionLevel.application.rawValue] == .spoken, writer.remaining >= size else { return nil }
        let begin = writer.offset
        let packet = open(.application, into: &writer)
        frames.removeAll(keepingCapacity: true)
        writer.uint8(UInt8(type))
        writer.uint64(data)
        frames.append(frame)
        writer.zeros(max(0, begin + size - CipherSuite.tagLength - writer.offset))
        finish(packet, isAckEliciting: true, isPadded: true, isPathProbe: true, into: &writer, plans: &plans, at: now)
        return sent(from: begin, into: &writer, to: remote, at: now)
    }
}
