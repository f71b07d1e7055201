import AMT
import Wire

/// Which relay carries a channel.
public enum RelayChoice: Hashable, Sendable {
    /// This one, or one to be discovered at this address.
    case at(SocketAddress)
    /// One that has to be found (RFC 8777).
    case search(RelaySearchOptions)
}

/// How relays are searched for.
public struct RelaySearchOptions: Hashable, Sendable {
    /// In order of preference.
    public var ways: [RelayWay] = RelayWay.standardOrder
    /// Name servers that are asked; nil: those of the system.
    public var nameServers: [SocketAddress]?
    /// Domains of the local network; nil: those of the system.
    public var domains: [String]?

    /// The order of RFC 8777 section 3.1.2, and the system's name servers and domains.
    public init() {}
}

extension RelayChoice: CustomStringConvertible {
    /// As the command line takes it: an address, or `auto`.
    public var description: String {
        switch self {
        case .at(let address): "\(address)"
        case .search: "auto"
        }
    }
}
