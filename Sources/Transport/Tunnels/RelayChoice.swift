import AMT
import Wire

/// Which relay carries a channel.
package enum RelayChoice: Hashable, Sendable {
    /// This one, or one to be discovered at this address.
    case at(SocketAddress)
    /// One that has to be found (RFC 8777).
    case search(RelaySearchOptions)
}

/// How relays are searched for.
package struct RelaySearchOptions: Hashable, Sendable {
    /// In order of preference.
    package var ways: [RelayWay] = RelayWay.standardOrder
    /// Name servers that are asked; nil: those of the system.
    package var nameServers: [SocketAddress]?
    /// Domains of the local network; nil: those of the system.
    package var domains: [String]?

    /// The order of RFC 8777 section 3.1.2, and the system's name servers and domains.
    package init() {}
}

extension RelayChoice: CustomStringConvertible {
    /// As the command line takes it: an address, or `auto`.
    package var description: String {
        switch self {
        case .at(let address): "\(address)"
        case .search: "auto"
        }
    }
}
