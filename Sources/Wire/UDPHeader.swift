/// A UDP header (RFC 768).
public struct UDPHeader: Hashable, Sendable {
    /// Octets of the header.
    public static let length = 8

    /// The sender's; 0 when it expects no answer.
    public var sourcePort: UInt16
    /// Where the datagram goes.
    public var destinationPort: UInt16
    /// Octets of header and payload.
    public var length: Int
    /// 0 is "none": the sender did not compute one.
    public var checksum: UInt16

    /// Reads the header at the start of `datagram`; nil when there are fewer octets than it, or its length, asks for.
    public init?(_ datagram: Span<UInt8>) {
        var reader = ByteReader(datagram)
        guard let source = reader.uint16(), let destination = reader.uint16(), let length = reader.uint16(),
            let checksum = reader.uint16(), Int(length) >= Self.length, Int(length) <= datagram.count
        else { return nil }
        sourcePort = source
        destinationPort = destination
        self.length = Int(length)
        self.checksum = checksum
    }

    /// Whether `datagram`, header first, arrived as it was sent; true when it has no checksum.
    public func isIntact(_ datagram: Span<UInt8>, from source: IPAddress, to destination: IPAddress) -> Bool {
        guard checksum != 0 else { return true }
        var sum = InternetChecksum(from: source, to: destination, protocol: IPProtocol.udp, length: length)
        sum.add(datagram.extracting(0..<length))
        return sum.value == 0
    }

    /// The checksum of a `datagram`, header first with a checksum field of zero. Never 0, which means "none".
    public static func checksum(_ datagram: Span<UInt8>, from source: IPAddress, to destination: IPAddress) -> UInt16 {
        var sum = InternetChecksum(from: source, to: destination, protocol: IPProtocol.udp, length: datagram.count)
        sum.add(datagram)
        return sum.value == 0 ? 0xffff : sum.value
    }
}
