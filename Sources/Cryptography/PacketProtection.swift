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
            end: plan.end, number: plan.packetNumber, path: plan.pathID)
    }
}

/// Seals packets of one direction and key generation (RFC 9001 section 5). It keeps OpenSSL contexts, allocates
/// nothing per packet, and belongs to one thread at a time.
public final class SealingKey {
    public let suite: CipherSuite
    private let secret: [UInt8]
    private let cipher: PacketCipher
    private let mask: HeaderProtection
    /// Packets sealed so far, to be held against the suite's `confidentialityLimit`.
    public private(set) var sealedCount: UInt64 = 0

    /// The keys of a traffic secret, which has the suite's `secretLength`.
    public convenience init(suite: CipherSuite, secret: [UInt8]) {
        self.init(suite, secret, HeaderProtection(suite, secret: secret))
    }

    private init(_ suite: CipherSuite, _ secret: [UInt8], _ mask: HeaderProtection) {
        self.suite = suite
        self.secret = secret
        self.cipher = PacketCipher(suite, secret: secret, sealing: true)
        self.mask = mask
    }

    /// The key of the next generation, with the same header protection (RFC 9001 section 6.1).
    public func updated() -> SealingKey {
        SealingKey(
            suite, HKDF.expandLabel(suite.hash, secret: secret, "quic ku", length: suite.secretLength), mask)
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
}

/// A packet whose payload now lies in the clear in its datagram.
public struct OpenedPacket: Sendable, Equatable {
    /// The first header octet without its mask: packet number length, reserved bits, key phase.
    public var firstOctet: UInt8
    public var packetNumber: UInt64
    /// Where the frames lie in the datagram.
    public var payload: Range<Int>
    /// Which 1-RTT key opened it: 0 first, one more for each key update.
    public var keyGeneration: UInt64 = 0
}

/// Opens packets of one direction and key generation (RFC 9001 section 5). It keeps OpenSSL contexts, allocates
/// nothing per packet, and belongs to one thread at a time.
public final class OpeningKey {
    public let suite: CipherSuite
    private let secret: [UInt8]
    private let cipher: PacketCipher
    let mask: HeaderProtection
    /// Packets that failed authentication, to be held against the suite's `integrityLimit`.
    public private(set) var failedCount: UInt64 = 0

    /// The keys of a traffic secret, which has the suite's `secretLength`.
    public convenience init(suite: CipherSuite, secret: [UInt8]) {
        self.init(suite, secret, HeaderProtection(suite, secret: secret))
    }

    private init(_ suite: CipherSuite, _ secret: [UInt8], _ mask: HeaderProtection) {
        self.suite = suite
        self.secret = secret
        self.cipher = PacketCipher(suite, secret: secret, sealing: false)
        self.mask = mask
    }

    /// The key of the next generation, with the same header protection (RFC 9001 section 6.1).
    public func updated() -> OpeningKey {
        OpeningKey(
            suite, HKDF.expandLabel(suite.hash, secret: secret, "quic ku", length: suite.secretLength), mask)
    }

    /// Removes header protection and opens the payload in place.
    ///
    /// - Parameters:
    ///   - start: index of the first header octet.
    ///   - packetNumberOffset: index of the first octet of the packet number.
    ///   - end: index just after the packet.
    ///   - largest: the largest packet number received so far in this space, nil before the first.
    ///   - pathID: path for the nonce, 0 outside multipath.
    ///   - packetNumberLength: when given, packets with another length are refused: on a multicast flow it is always
    ///     4 octets, so that whoever joins late decodes every packet.
    /// - Returns: nil when the packet is not authentic; the buffer is then as it was, for a try with another key.
    public func open(
        _ buffer: inout MutableSpan<UInt8>, start: Int, packetNumberOffset: Int, end: Int, largest: UInt64?,
        pathID: UInt32 = 0, packetNumberLength: Int? = nil
    ) -> OpenedPacket? {
        guard start >= 0, start < packetNumberOffset, end <= buffer.count,
            packetNumberOffset + 4 + CipherSuite.tagLength <= end
        else { return nil }
        let header = mask.remove(&buffer, start: start, packetNumberOffset: packetNumberOffset)
        if packetNumberLength == nil || packetNumberLength == header.numberLength {
            let number = PacketNumber.decode(
                truncated: header.truncatedNumber, length: header.numberLength, largest: largest)
            if let packet = open(
                &buffer, start: start, packetNumberOffset: packetNumberOffset, end: end, header, number: number,
                pathID: pathID)
            {
                return packet
            }
        }
        mask.restore(&buffer, start: start, packetNumberOffset: packetNumberOffset, header)
        return nil
    }

    /// Opens the payload of a packet whose header is unmasked already, and leaves the header so.
    func open(
        _ buffer: inout MutableSpan<UInt8>, start: Int, packetNumberOffset: Int, end: Int,
        _ header: HeaderProtection.Unmasked, number: UInt64, pathID: UInt32
    ) -> OpenedPacket? {
        let payload = packetNumberOffset + header.numberLength
        let packet = fc_packet(
            start: start, number_offset: packetNumberOffset, payload_offset: payload, end: end, number: number,
            path: pathID)
        guard cipher.open(&buffer, packet) else {
            failedCount += 1
            return nil
        }
        return OpenedPacket(
            firstOctet: header.first, packetNumber: number, payload: payload..<(end - CipherSuite.tagLength))
    }
}
