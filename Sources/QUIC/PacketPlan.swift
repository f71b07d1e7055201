/// What packet protection has to do to one packet that a machine wrote in the clear into a send buffer: seal the
/// payload in place, then mask the header (RFC 9001 section 5).
public struct PacketPlan: Sendable, Equatable {
    public var level: ProtectionLevel
    /// Index of the first header octet in the send buffer.
    public var start: Int
    /// Index of the first packet number octet.
    public var packetNumberOffset: Int
    /// Octets of the packet number field, 1 to 4.
    public var packetNumberLength: Int
    /// Index just after the packet, its 16-octet tag included.
    public var end: Int
    public var packetNumber: UInt64
    /// Which 1-RTT key to seal with: 0 first, one more for each key update (RFC 9001 section 6). The key phase bit,
    /// its lowest bit, is in the header already.
    public var keyGeneration: UInt64
    /// Path ID for the nonce (draft-ietf-quic-multipath-21 section 4): 0 gives RFC 9001's nonce.
    public var pathID: UInt32

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
