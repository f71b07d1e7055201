import QUIC
import Wire

/// The value of the transport parameter flexicast_support (draft section 4): which IP versions the endpoint can
/// take multicast on. Ignored by a peer that did not negotiate multipath.
public struct FlexicastSupport: Hashable, Sendable {
    /// The transport parameter's ID.
    public static let parameterID: UInt64 = 0xedf3

    /// Whether flows may come over IPv4 multicast.
    public var ipv4: Bool
    /// Whether flows may come over IPv6 multicast.
    public var ipv6: Bool

    /// At least one of the two must be true before it is sent: none is FC_PROTOCOL_VIOLATION at the peer.
    public init(ipv4: Bool = true, ipv6: Bool = true) {
        self.ipv4 = ipv4
        self.ipv6 = ipv6
    }

    /// Two octets, IPv4 first, each 0 or 1.
    public var encoded: [UInt8] { [ipv4 ? 1 : 0, ipv6 ? 1 : 0] }

    /// Reads a peer's value. The zero-length value of other implementations means both.
    /// Throws FC_PROTOCOL_VIOLATION when neither version is supported and TRANSPORT_PARAMETER_ERROR when the value
    /// is not two octets of 0 or 1.
    public init(parsing value: Span<UInt8>) throws(TransportError) {
        guard value.count != 0 else {
            self.init()
            return
        }
        guard value.count == 2, value[0] <= 1, value[1] <= 1 else {
            throw TransportError(.transportParameterError, "flexicast_support is not two octets of 0 or 1")
        }
        guard value[0] == 1 || value[1] == 1 else {
            throw .flexicast("flexicast_support with neither IPv4 nor IPv6")
        }
        self.init(ipv4: value[0] == 1, ipv6: value[1] == 1)
    }

    /// Whether flows with addresses like `address` can be received.
    public func supports(_ address: IPAddress) -> Bool { address.isIPv4 ? ipv4 : ipv6 }
}
