/// What packet protection has to do to one packet that a machine wrote in the clear into a send buffer: seal the
/// payload in place, then mask the header (RFC 9001 section 5).
public struct PacketPlan: Sendable, Equatable {
    /// Whose keys to seal it with.
    public var level: ProtectionLevel
    /// Index of the first header octet in the send buffer.
    public var start: Int
    /// Index of the first packet number octet.
    public var packetNumberOffset: Int
    /// Octets of the packet number field, 1 to 4.
    public var packetNumberLength: Int
    /// Index just after the packet, its 16-octet tag included.
    public var end: Int
    /// Whole, for the nonce (RFC 9001 section 5.3).
    public var packetNumber: UInt64
    /// Which 1-RTT key to seal with: 0 first, one more for each key update (RFC 9001 section 6). The key phase bit,
    /// its lowest bit, is in the header already.
    public var keyGeneration: UInt64
    /// Path ID for the nonce (draft-ietf-quic-multipath-21 section 2.4). 0 gives RFC 9001's nonce, which packets of a multicast
    /// flow have as well (draft-navarre-quic-flexicast-02 section 10.2).
    public var pathID: UInt32

    /// A plan for a packet in `start..<end`, whose tag's octets are left free. The defaults are the first key and the first path.
    public init(
        level: ProtectionLevel, start: Int, packetNumberOffset: Int, packetNumberLength: Int, end: Int,
        packetNumber: UInt64, keyGeneration: UInt64 = 0, pathID: UInt32 = 0
    ) {
        self.level = level
        self.start = start
        self.packetNumberOffset = packetNumberOffset
        self.packetNumberLength = packetNumberLength
        self.end = end
        self.packetNumber = packetNumber
        self.keyGeneration = keyGeneration
        self.pathID = pathID
    }

    /// Index of the first payload octet.
    public var payloadOffset: Int { packetNumberOffset + packetNumberLength }
}

/// The same for packets with consecutive numbers that lie back to back, all of one size but for the last: what a
/// multicast flow sends as one segmented send, and what is opened of it at the other end.
public struct RunPlan: Sendable, Equatable {
    /// Index of the first packet's first octet in the send buffer.
    public var start: Int
    /// Octets of each packet, tag included; the last may have fewer.
    public var packetSize: Int
    /// Index just after the last packet.
    public var end: Int
    /// Octets of a header with its packet number.
    public var payloadOffset: Int
    /// Of the packet at `start`; the next have one more each.
    public var firstPacketNumber: UInt64
    /// Which key seals or opens all of them: 0 first, one more for each key.
    public var keyGeneration: UInt64

    /// A run in `start..<end`, in packets of `packetSize` octets of which the last may have fewer. Packet numbers have four octets
    /// where it is to be sealed; what came may have others.
    public init(
        start: Int, packetSize: Int, end: Int, headerLength: Int, packetNumberLength: Int = 4,
        firstPacketNumber: UInt64, keyGeneration: UInt64
    ) {
        self.start = start
        self.packetSize = packetSize
        self.end = end
        payloadOffset = headerLength + packetNumberLength
        self.firstPacketNumber = firstPacketNumber
        self.keyGeneration = keyGeneration
    }

    /// A run of one packet, whose number has four octets.
    public init(_ plan: PacketPlan) {
        precondition(plan.packetNumberLength == 4)
        self.init(
            start: plan.start, packetSize: plan.end - plan.start, end: plan.end,
            headerLength: plan.packetNumberOffset - plan.start, firstPacketNumber: plan.packetNumber,
            keyGeneration: plan.keyGeneration)
    }

    /// Octets before a packet number of four octets.
    public var headerLength: Int { payloadOffset - 4 }

    /// How many packets there are.
    public var count: Int { (end - start + packetSize - 1) / packetSize }

    /// Of all the packets, ascending as they lie.
    public var packetNumbers: ClosedRange<UInt64> { firstPacketNumber...(firstPacketNumber + UInt64(count - 1)) }

    /// Where the frames of a packet lie.
    @inlinable
    public func payload(_ index: Int) -> Range<Int> {
        let begin = start + index * packetSize
        return (begin + payloadOffset)..<(min(end, begin + packetSize) - CipherSuite.tagLength)
    }

    /// Some of the packets.
    public func packets(_ range: Range<Int>) -> RunPlan {
        var part = self
        part.start += range.lowerBound * packetSize
        part.end = min(end, start + range.upperBound * packetSize)
        part.firstPacketNumber += UInt64(range.lowerBound)
        return part
    }

    /// The plan of the first packet alone.
    public var first: PacketPlan {
        PacketPlan(
            level: .application, start: start, packetNumberOffset: start + headerLength, packetNumberLength: 4,
            end: min(end, start + packetSize), packetNumber: firstPacketNumber, keyGeneration: keyGeneration)
    }
}
