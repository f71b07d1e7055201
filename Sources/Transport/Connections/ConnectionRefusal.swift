import Wire

/// Why a client got no connection. It is told with CONNECTION_REFUSED (RFC 9000 sections 5.2.2 and 20.1).
package enum ConnectionRefusal: Int, Sendable, CaseIterable {
    /// The server has all the connections that it may have.
    case connections
    /// The client's address has all that it may have.
    case connectionsOfAddress
    /// Too many connections from the client's address began within a short time.
    case beginningsOfAddress
    /// The table of addresses is full.
    case accounts
    /// The connection could not be set up: a fault of this machine's.
    case setUp

    package init(_ refusal: AccountTable.Refusal) {
        switch refusal {
        case .connections: self = .connectionsOfAddress
        case .beginnings: self = .beginningsOfAddress
        case .table: self = .accounts
        }
    }

    /// What the client and the log are told: at most `Admission.longestReason` octets.
    package var text: String {
        switch self {
        case .connections: "the server has as many connections as it may have"
        case .connectionsOfAddress: "too many connections from your address"
        case .beginningsOfAddress: "too many new connections from your address; wait a little"
        case .accounts: "too many addresses have connections here"
        case .setUp: "the server cannot set up a connection"
        }
    }
}
