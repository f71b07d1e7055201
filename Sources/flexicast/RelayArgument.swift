import AMT
import ArgumentParser
import Transport
import Wire

/// `--relay auto` or `--relay ADDRESS[:PORT]`.
enum RelayArgument: Equatable {
    case auto
    case address(SocketAddress)

    init(_ text: String) throws {
        if text == "auto" {
            self = .auto
        } else {
            do {
                self = .address(try parseRelayAddress(text))
            } catch let problem as ArgumentProblem {
                throw ArgumentProblem("\(problem); or auto")
            }
        }
    }

    func choice(_ search: RelaySearchArguments) -> RelayChoice {
        switch self {
        case .auto: .search(search.options)
        case .address(let address): .at(address)
        }
    }
}

/// `dns-sd,anycast,source`, or some of these in another order.
struct DiscoveryOrder: Equatable {
    var ways: [RelayWay]

    private static let names: [(name: String, way: RelayWay)] = [
        ("dns-sd", .serviceDiscovery), ("anycast", .anycast), ("source", .sourceRecords),
    ]

    init(_ text: String) throws {
        ways = try text.split(separator: ",", omittingEmptySubsequences: false).map { word in
            guard let known = Self.names.first(where: { $0.name == word }) else { throw Self.problem }
            return known.way
        }
        guard Set(ways).count == ways.count else { throw Self.problem }
    }

    private static var problem: ArgumentProblem {
        ArgumentProblem("write some of dns-sd, anycast and source, each once, such as source,anycast")
    }
}

/// How `--relay auto` searches.
struct RelaySearchArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp("Name server for --relay auto instead of the system's.", valueName: "addr[:port]"),
        transform: parseNameServer)
    var dns: [SocketAddress] = []

    @Option(
        help: ArgumentHelp("Domain whose _amt._udp names relays, instead of the system's.", valueName: "domain"),
        transform: parseDomain)
    var dnsDomain: [String] = []

    @Option(
        help: ArgumentHelp(
            "How --relay auto searches, in this order (default: dns-sd,anycast,source).", valueName: "way,…"),
        transform: { try DiscoveryOrder($0) })
    var discover: DiscoveryOrder?

    /// Refuses what would have no effect.
    func refuse(without relay: RelayArgument?) throws {
        guard relay != .auto else { return }
        let given = [
            dns.isEmpty ? nil : "--dns", dnsDomain.isEmpty ? nil : "--dns-domain", discover.map { _ in "--discover" },
        ].compactMap { $0 }
        guard given.isEmpty else {
            throw ValidationError(
                "\(given.joined(separator: " and ")) say how relays are searched for: give --relay auto")
        }
    }

    var options: RelaySearchOptions {
        var options = RelaySearchOptions()
        if !dns.isEmpty { options.nameServers = dns }
        if !dnsDomain.isEmpty { options.domains = dnsDomain }
        if let discover { options.ways = discover.ways }
        return options
    }
}

/// `example.org`.
func parseDomain(_ text: String) throws -> String {
    guard let name = DomainName(text), !name.description.isEmpty, text != "." else {
        throw ArgumentProblem("write a domain, such as example.org")
    }
    return text
}

/// `192.0.2.53`, `192.0.2.53:5353` or `[2001:db8::53]:5353`.
func parseNameServer(_ text: String) throws -> SocketAddress {
    let bare = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
    guard let server = IPAddress(bare).map({ SocketAddress($0, port: 53) }) ?? SocketAddress(text), server.port != 0,
        !server.address.isMulticast
    else {
        throw ArgumentProblem("write ADDRESS or ADDRESS:PORT, such as 192.0.2.53 or [2001:db8::53]:5353")
    }
    return server
}
