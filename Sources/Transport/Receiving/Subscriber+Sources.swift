import Operation
import Reactor
import Wire

// Where a subscriber finds its source, or one of several.
extension Subscriber {
    /// Where a source is.
    public struct Source: Hashable, Sendable {
        /// Host name or address literal, without brackets: what its certificate must name.
        public var host: String
        /// UDP port.
        public var port: UInt16

        /// A source at this port of a host.
        public init(host: String, port: UInt16) {
            self.host = host
            self.port = port
        }
    }

    /// One address of a source.
    struct Place: Equatable {
        var source: Source
        var address: IPAddress

        var remote: SocketAddress { SocketAddress(address, port: source.port) }
    }

    /// A ticket to resume with and a token that proves our address.
    struct Pass {
        var ticket: [UInt8]?
        var token: [UInt8] = []
    }

    /// All addresses of all sources. Sources take turns, so that one that is gone costs one attempt; they and their addresses are in an
    /// order of chance, so that receivers spread over them.
    static func places(_ options: Options, random: inout some RandomNumberGenerator) throws -> [Place] {
        var lists: [[Place]] = []
        var failure: (any Error)?
        let sources = [Source(host: options.host, port: options.port)] + options.others
        for source in sources.shuffled(using: &random) {
            do {
                let found = try Resolver.addresses(of: source.host)
                guard let first = found.first else { throw EndpointError("\(source.host) has no address") }
                // That of the resolver's first is the version that this machine prefers.
                let mixed = found.shuffled(using: &random)
                let ordered = mixed.filter { $0.isIPv4 == first.isIPv4 } + mixed.filter { $0.isIPv4 != first.isIPv4 }
                lists.append(alternating(ordered).map { Place(source: source, address: $0) })
            } catch { failure = error }
        }
        if lists.isEmpty, let failure { throw failure }
        return (0..<(lists.map(\.count).max() ?? 0)).flatMap { index in
            lists.compactMap { $0.indices.contains(index) ? $0[index] : nil }
        }
    }

    /// Addresses of both versions take turns, that of the first one first (RFC 8305 section 4).
    static func alternating(_ addresses: [IPAddress]) -> [IPAddress] {
        let first = addresses.filter { $0.isIPv4 == addresses[0].isIPv4 }
        let second = addresses.filter { $0.isIPv4 != addresses[0].isIPv4 }
        return (0..<max(first.count, second.count)).flatMap { index in
            [first, second].compactMap { $0.indices.contains(index) ? $0[index] : nil }
        }
    }
}
