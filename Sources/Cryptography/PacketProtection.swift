import CShims
import QUIC

extension fc_packet {
    /// Checks a plan of ours against the buffer: a plan that does not fit is our own mistake, and traps.
    fileprivate init(_ plan: PacketPlan, in size: Int) {
        precondition(
            plan.start >= 0 && plan.start < plan.packetNumberOffset && (1...4).contains(plan.packetNumberLength)
                && plan.packetNumberOffset + 4 + CipherSuite.tagLength <= plan.end && plan.end <= size,
            "the packet does not fit its buffer, or is too short for a header protection sample")
        self.init(
            start: plan.start, number_offset: plan.packetNumberOffset, payload_offset: plan.payloadOffset,
            end: plan.end, number: plan.packetNumber, path: plan.pathID, mask: 0)
    }

    /// A packet that came, with its mask still on; nil when it does not fit its buffer, or is too short for a header
    /// protection sample (RFC 9001 section 5.4.2).
    init?(start: Int, packetNumberOffset: Int, end: Int, pathID: UInt32, in size: Int) {
        guard start >= 0, start < packetNumberOffset, end <= size,
            packetNumberOffset + 4 + CipherSuite.tagLength <= end
        else { return nil }
        self.init()
        self.start = start
        number_offset = packetNumberOffset
        self.end = end
        path = pathID
    }
}

extension fc_run {
    fileprivate init(_ plan: RunPlan, in size: Int) {
        let last = plan.end - plan.start - (plan.count - 1) * plan.packetSize
        precondition(
            plan.start >= 0 && plan.start < plan.end && plan.end <= size && plan.headerLength > 0
                && plan.headerLength + 4 + CipherSuite.tagLength <= last,
            "the run does not fit its buffer, or is too short for a header protection sample")
        self.init(
            start: plan.start, end: plan.end, packet_size: plan.packetSize, header_length: plan.headerLength,
            number: plan.firstPacketNumber, path: 0)
    }
}

/// Seals packets of one direction and key generation (RFC 9001 section 5). It keeps contexts of the library that does it,
/// allocates nothing per packet, and belongs to one thread at a time.
public final class SealingKey {
    /// What it seals with.
    public let suite: CipherSuite
    private let secret: [UInt8]
    private let cipher: PacketCipher
    private let mask: HeaderProtection
    private let library: AEADLibrary
    /// Packets sealed so far, to be held against the suite's `confidentialityLimit` (RFC 9001 section 6.6).
    public private(set) var sealedCount: UInt64 = 0

    /// The keys of a traffic secret, which has the suite's `secretLength`.
    public convenience init(suite: CipherSuite, secret: [UInt8], library: AEADLibrary = .preferred) {
        self.init(suite, secret, HeaderProtection(suite, secret: secret), library)
    }

    private init(_ suite: CipherSuite, _ secret: [UInt8], _ mask: HeaderProtection, _ library: AEADLibrary) {
        self.suite = suite
        self.secret = secret
        self.cipher = PacketCipher(suite, secret: secret, sealing: true, library: library)
        self.mask = mask
        self.library = library
    }

    /// The key of the next generation, with the same header protection (RFC 9001 section 6.1).
    public func updated() -> SealingKey {
        SealingKey(
            suite, HKDF.expandLabel(suite.hash, secret: secret, "quic ku", length: suite.secretLength), mask, library)
    }

    /// Seals one packet in place and masks its header.
    public func seal(_ buffer: inout MutableSpan<UInt8>, _ plan: PacketPlan) {
        let packet = InlineArray<1, fc_packet>(repeating: fc_packet(plan, in: buffer.count))
        cipher.seal(&buffer, packet.span, mask: mask)
        sealedCount += 1
    }

    /// Seals a batch of packets in place: every payload first, then all header masks together, which is several
    /// times cheaper than one at a time. `masking` is false only where the cost of masks is to be known.
    public func seal(_ buffer: inout MutableSpan<UInt8>, _ plans: Span<PacketPlan>, masking: Bool = true) {
        var packets = InlineArray<16, fc_packet>(repeating: fc_packet())
        var next = 0
        while next < plans.count {
            let count = min(plans.count - next, 16)
            for index in 0..<count { packets[index] = fc_packet(plans[next + index], in: buffer.count) }
            cipher.seal(&buffer, packets.span.extracting(0..<count), mask: masking ? mask : nil)
            next += count
        }
        sealedCount += UInt64(plans.count)
    }

    /// Seals a run of packets in place, in one call of the library's shim.
    public func seal(_ buffer: inout MutableSpan<UInt8>, _ run: RunPlan) {
        cipher.seal(&buffer, fc_run(run, in: buffer.count), mask: mask)
        sealedCount += UInt64(run.count)
    }
}

/// A packet whose payload now lies in the clear in its datagram.
public struct OpenedPacket: Sendable, Equatable {
    /// The first header octet without its mask: packet number length, reserved bits, key phase.
    public var firstOctet: UInt8
    /// Whole, as it was restored from the 1 to 4 octets that travel (RFC 9000 section 17.1).
    public var packetNumber: UInt64
    /// Where the frames lie in the datagram.
    public var payload: Range<Int>
    /// Which 1-RTT key opened it: 0 first, one more for each key update.
    public var keyGeneration: UInt64 = 0
}

/// Opens packets of one direction and key generation (RFC 9001 section 5). It keeps contexts of the library that does it,
/// allocates nothing per packet, and belongs to one thread at a time.
public final class OpeningKey {
    /// What it opens with.
    public let suite: CipherSuite
    private let secret: [UInt8]
    private let cipher: PacketCipher
    let mask: HeaderProtection
    private let library: AEADLibrary
    /// Packets that failed authentication, to be held against the suite's `integrityLimit`.
    public private(set) var failedCount: UInt64 = 0

    /// The keys of a traffic secret, which has the suite's `secretLength`.
    public convenience init(suite: CipherSuite, secret: [UInt8], library: AEADLibrary = .preferred) {
        self.init(suite, secret, HeaderProtection(suite, secret: secret), library)
    }

    private init(_ suite: CipherSuite, _ secret: [UInt8], _ mask: HeaderProtection, _ library: AEADLibrary) {
        self.suite = suite
        self.secret = secret
        self.cipher = PacketCipher(suite, secret: secret, sealing: false, library: library)
        self.mask = mask
        self.library = library
    }

    /// The key of the next generation, with the same header protection (RFC 9001 section 6.1).
    public func updated() -> OpeningKey {
        OpeningKey(
            suite, HKDF.expandLabel(suite.hash, secret: secret, "quic ku", length: suite.secretLength), mask, library)
    }

    /// Removes header protection and opens the payload in place.
    ///
    /// - Parameters:
    ///   - buffer: holds the packet, which is changed in place.
    ///   - start: index of the first header octet.
    ///   - packetNumberOffset: index of the first octet of the packet number.
    ///   - end: index just after the packet.
    ///   - largest: the largest packet number received so far in this space, nil before the first.
    ///   - pathID: path for the nonce, 0 outside multipath.
    ///   - packetNumberLength: when given, packets with another length are refused.
    /// - Returns: nil when the packet is not authentic; the buffer is then as it was, for a try with another key.
    public func open(
        _ buffer: inout MutableSpan<UInt8>, start: Int, packetNumberOffset: Int, end: Int, largest: UInt64?,
        pathID: UInt32 = 0, packetNumberLength: Int? = nil
    ) -> OpenedPacket? {
        guard
            var packet = fc_packet(
                start: start, packetNumberOffset: packetNumberOffset, end: end, pathID: pathID, in: buffer.count)
        else { return nil }
        mask.remove(&buffer, &packet)
        return open(&buffer, &packet, largest: largest, packetNumberLength: packetNumberLength)
    }

    /// Opens packets that lie back to back, as one sender's datagrams do that the kernel has coalesced: at most 64 of them,
    /// in one call of the library's shim. Those whose numbers have fewer than four octets are left to the call for one packet.
    ///
    /// - Parameters:
    ///   - buffer: holds the packets, which are changed in place.
    ///   - start: index of the first header octet.
    ///   - end: index just after the last packet.
    ///   - packetSize: octets of each packet but the last, which may have fewer.
    ///   - headerLength: octets before a packet number.
    ///   - largest: the largest packet number received so far, nil before the first. All are reckoned from it: four octets
    ///     tell two thousand million packets apart.
    ///   - wanted: a bit for each packet that is to be tried. Of the others the buffer stays as it was.
    ///   - numbers: gets the numbers of those that are authentic.
    /// - Returns: a bit for each packet that is authentic.
    public func open(
        _ buffer: inout MutableSpan<UInt8>, from start: Int, to end: Int, packetSize: Int, headerLength: Int,
        largest: UInt64?, wanted: UInt64, numbers: inout PacketNumbers
    ) -> UInt64 {
        let least = headerLength + 4 + CipherSuite.tagLength
        guard packetSize >= least, headerLength > 0 else { return 0 }
        precondition(start >= 0 && start <= end && end <= buffer.count, "the run does not fit its buffer")
        // The last packet may be too short to be one.
        let rest = (end - start) % packetSize
        let end = rest < least ? end - rest : end
        let count = (end - start + packetSize - 1) / packetSize
        precondition(count <= numbers.count, "\(count) packets in one call")
        guard count > 0 else { return 0 }
        let run = fc_run(
            start: start, end: end, packet_size: packetSize, header_length: headerLength,
            number: largest.map { $0 + 1 } ?? 0, path: 0)
        let wanted = wanted & (.max >> UInt64(64 - count))
        let authentic = cipher.open(&buffer, run, wanted: wanted, numbers: &numbers, mask: mask)
        failedCount += UInt64((wanted & ~authentic).nonzeroBitCount)
        return authentic
    }

    private func open(
        _ buffer: inout MutableSpan<UInt8>, _ packet: inout fc_packet, largest: UInt64?, packetNumberLength: Int?
    ) -> OpenedPacket? {
        if packetNumberLength == nil || packetNumberLength == packet.numberLength {
            packet.number = PacketNumber.decode(
                truncated: packet.number, length: packet.numberLength, largest: largest)
            if let opened = open(&buffer, packet) { return opened }
        }
        mask.restore(&buffer, packet)
        return nil
    }

    /// Opens the payload of a packet whose header is unmasked already, and leaves the header so.
    func open(_ buffer: inout MutableSpan<UInt8>, _ packet: fc_packet) -> OpenedPacket? {
        guard cipher.open(&buffer, packet) else {
            failedCount += 1
            return nil
        }
        return OpenedPacket(
            firstOctet: buffer[packet.start], packetNumber: packet.number,
            payload: packet.payload_offset..<(packet.end - CipherSuite.tagLength))
    }
}
