import Wire

/// A group, and whose packets to it are meant.
public struct Channel: Hashable, Sendable, CustomStringConvertible {
    /// nil: any source.
    public var source: IPAddress?
    /// A multicast address, of the source's IP version.
    public var group: IPAddress

    /// `source` nil is any source.
    public init(source: IPAddress?, group: IPAddress) {
        self.source = source
        self.group = group
    }

    public var description: String { source.map { "\($0)@\(group)" } ?? "\(group)" }
}

extension IPAddress {
    /// Whether packets to this group never leave a link, so that no tunnel may carry them: 224.0.0.0/24, and the
    /// IPv6 scopes 0 to 2 (RFC 4291 section 2.7).
    public var isLinkLocalGroup: Bool {
        switch self {
        case .v4(let bits): bits >> 8 == 0xe0_0000
        case .v6(let bits): bits >> 120 == 0xff && (bits >> 112) & 15 <= 2
        }
    }
}
