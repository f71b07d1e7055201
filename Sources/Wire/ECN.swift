/// The ECN codepoint of an IP header (RFC 3168 section 5).
public enum ECN: UInt8, Sendable {
    case notECT = 0
    case ect1 = 1
    case ect0 = 2
    case ce = 3
}
