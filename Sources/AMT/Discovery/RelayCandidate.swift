import Wire

/// A way to find relays.
public enum RelayWay: Hashable, Sendable {
    /// Somebody named it.
    case given(SocketAddress)
    /// The local network names relays by DNS-SD, `_amt._udp` in its domains (RFC 8777 section 3.1.2).
    case serviceDiscovery
    /// The addresses that every network may have a relay at (RFC 7450 section 7.1).
    case anycast
    /// The source's network names relays by AMTRELAY records at the source's reverse name (RFC 8777 section 2.2).
    case sourceRecords

    /// The order of RFC 8777 section 3.1.2: relays of one's own network, those nearby, then the source's.
    public static let standardOrder: [RelayWay] = [.serviceDiscovery, .anycast, .sourceRecords]

    /// 192.52.193.1 and 2001:3::1.
    public static let anycastAddresses: [IPAddress] = [
        .v4(0xc034_c101), .v6(0x2001_0003 << 96 | 1),
    ]
}

/// Where a relay may be.
public struct RelayCandidate: Hashable, Sendable {
    /// Where to send a Relay Discovery.
    public var address: SocketAddress
    /// A Request may be sent there without discovery.
    public var isDiscoveryOptional = false
    /// Index of the way it was found by in the order of preference.
    public var way: Int
    /// Preference within the way; lower is better.
    public var precedence: Int
    /// Decides among equals.
    var tie: UInt64

    init(_ address: SocketAddress, isDiscoveryOptional: Bool = false, way: Int, precedence: Int, tie: UInt64) {
        self.address = address
        self.isDiscoveryOptional = isDiscoveryOptional
        self.way = way
        self.precedence = precedence
        self.tie = tie
    }

    /// Whether it is tried before `other`.
    func isPreferred(to other: RelayCandidate) -> Bool {
        (way, precedence, tie) < (other.way, other.precedence, other.tie)
    }
}

extension [AMTRelayRecord] {
    /// The records that count. One of type 0 says that no relay is to be used: those less preferred say nothing more.
    var usable: [AMTRelayRecord] {
        let end = filter { $0.relay == .none }.map(\.precedence).min()
        return filter { record in record.relay != .none && end.map { record.precedence < $0 } ?? true }
    }
}

extension [ServiceRecord] {
    /// The records in the order to try them: by priority, and by lot among equals, in proportion to the weights
    /// (RFC 2782). One whose target is the root says that there is no such service.
    func ordered(by random: inout SeededRandom) -> [ServiceRecord] {
        var rest = filter { !$0.target.isRoot }.sorted { $0.priority < $1.priority }
        var out: [ServiceRecord] = []
        while let priority = rest.first?.priority {
            let equals = rest.prefix { $0.priority == priority }
            // A weight of zero has a small chance, not none.
            let total = equals.reduce(0) { $0 + Int($1.weight) + 1 }
            var lot = Int(random.next() % UInt64(total))
            var chosen = 0
            while lot > Int(rest[chosen].weight) {
                lot -= Int(rest[chosen].weight) + 1
                chosen += 1
            }
            out.append(rest.remove(at: chosen))
        }
        return out
    }
}
