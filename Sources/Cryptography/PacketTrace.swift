import QUIC
import Wire

/// A packet as a log shows it.
public struct PacketTrace: Sendable {
    /// Whether we sent it; else it was received and opened.
    public var isSent: Bool
    /// Whose keys protect it.
    public var level: ProtectionLevel
    /// Whole, not as it travels.
    public var packetNumber: UInt64
    /// Octets of the whole packet.
    public var size: Int
    /// When it was sealed or opened.
    public var at: Instant
}
