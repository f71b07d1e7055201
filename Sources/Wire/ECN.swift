/// The ECN codepoint of an IP header (RFC 3168 section 5).
public enum ECN: UInt8, Sendable {
    /// Not ECN-capable: congestion is told by loss alone.
    case notECT = 0
    /// ECT(1), for senders that answer marks in another way (RFC 9331).
    case ect1 = 1
    /// ECT(0), for senders that answer a mark as a loss.
    case ect0 = 2
    /// Congestion experienced: a router has marked the packet.
    case ce = 3
}
