import AMT
import ArgumentParser
import Relaying
import Reactor
import Wire

/// `ADDRESS` or `ADDRESS:PORT`, such as `192.0.2.1`, `192.0.2.1:2268`, `2001:db8::1` or `[2001:db8::1]:2268`; the port
/// is AMT's when there is none.
func parseRelayAddress(_ text: String) throws -> SocketAddress {
    let bare = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
    guard let address = IPAddress(bare).map({ SocketAddress($0, port: relayPort) }) ?? SocketAddress(text),
        address.port != 0, !address.address.isMulticast
    else {
        throw ArgumentProblem("write ADDRESS or ADDRESS:PORT, such as 192.0.2.1, 192.0.2.1:2268 or [2001:db8::1]:2268")
    }
    return address
}

/// `232.1.0.0/16`, `ff3e::/32`, or one address.
func parsePrefix(_ text: String) throws -> AddressPrefix {
    guard let prefix = AddressPrefix(text) else {
        throw ArgumentProblem("write ADDRESS/BITS with no bits set behind, such as 232.1.0.0/16 or ff3e::/32")
    }
    return prefix
}

/// An address that others can send to.
private func parseOwnAddress(_ text: String) throws -> IPAddress {
    guard let address = IPAddress(text), !address.isMulticast, !address.isUnspecified else {
        throw ArgumentProblem("write an address of this machine, such as 192.0.2.1 or 2001:db8::1")
    }
    return address
}

extension RelayConfiguration.GatewayFields: ExpressibleByArgument {}

struct RelayCommand: ParsableCommand, Logs {
    static let configuration = CommandConfiguration(
        commandName: "relay",
        abstract: "Carry multicast to gateways in networks that have none (AMT, RFC 7450).",
        discussion: """
            Captures multicast packets as they are on the wire, which needs root or CAP_NET_RAW; with --group it needs no \
            privilege. SIGTERM drains: \
            gateways are told to look elsewhere for a while before the relay ends.
            """)

    @Option(
        help: ArgumentHelp("Where gateways reach the relay; twice for both IP versions.", valueName: "addr[:port]"),
        transform: parseRelayAddress)
    var listen: [SocketAddress] = []

    @Option(help: ArgumentHelp("Interface that multicast comes in by.", valueName: "if"))
    var upstream: String?

    @Option(
        help: ArgumentHelp(
            "Serve this group and port alone, through an ordinary socket and without privilege; may be given again.",
            valueName: "group:port"),
        transform: parseGroup)
    var group: [SocketAddress] = []

    @Option(
        help: ArgumentHelp(
            "Largest IP packet on the way to gateways (default: what the interface takes).", valueName: "octets"),
        transform: parseInteger(in: 576...65_535, "a number of octets"))
    var mtu: Int?

    @Option(
        help: ArgumentHelp("How often gateways come again.", valueName: "duration"), transform: parseDuration)
    var queryInterval: Duration = .seconds(125)

    @Option(
        help: ArgumentHelp("How long open tunnels are served after SIGTERM.", valueName: "duration"),
        transform: parseDuration)
    var drain: Duration = .seconds(5)

    @Flag(help: "Let ICMP errors lower a tunnel's largest packet, down to --minimum-mtu.")
    var dynamicMtu = false

    @Option(
        help: ArgumentHelp("How far --dynamic-mtu may go (default: 1280).", valueName: "octets"),
        transform: parseInteger(in: 576...65_535, "a number of octets"))
    var minimumMtu: Int?

    @Option(
        help: ArgumentHelp("ICMP errors in a row that end a tunnel (default: 3).", valueName: "n"),
        transform: parseInteger(in: 1...1000, "a number of errors"))
    var unreachableLimit = 3

    @Option(
        help: ArgumentHelp("Own address in answers to Discoveries at an anycast address.", valueName: "addr"),
        transform: parseOwnAddress)
    var advertise: [IPAddress] = []

    @Option(
        help: ArgumentHelp("Serve these groups only; may be given again.", valueName: "prefix"), transform: parsePrefix)
    var allowGroup: [AddressPrefix] = []

    @Option(
        help: ArgumentHelp("Do not serve these groups; may be given again.", valueName: "prefix"),
        transform: parsePrefix)
    var denyGroup: [AddressPrefix] = []

    @Option(
        help: ArgumentHelp("Serve these sources only; may be given again.", valueName: "prefix"), transform: parsePrefix
    )
    var allowSource: [AddressPrefix] = []

    @Option(
        help: ArgumentHelp("Do not serve these sources; may be given again.", valueName: "prefix"),
        transform: parsePrefix)
    var denySource: [AddressPrefix] = []

    @Option(
        name: [.customLong("tunnel-rate"), .customLong("endpoint-rate")],
        help: ArgumentHelp("The most that one tunnel is sent, in bits per second.", valueName: "bits"),
        transform: parseRate)
    var tunnelRate: UInt64?

    @Option(
        help: ArgumentHelp(
            "The most that is taken of one channel (source and group), in bits per second.", valueName: "bits"),
        transform: parseRate)
    var channelRate: UInt64?

    @Option(
        help: ArgumentHelp(
            "Serve /metrics for Prometheus and /endpoints, a list of tunnels, over HTTP here.", valueName: "addr:port"),
        transform: parsePagesAddress)
    var metrics: ListeningPlace?

    @Option(
        help: ArgumentHelp("Tunnels at once (default: 100000).", valueName: "n"),
        transform: parseInteger(in: 1...10_000_000, "a number of tunnels"))
    var tunnels = 100_000

    @Option(
        help: ArgumentHelp("Tunnels of one IPv4 address or IPv6 /64 at once (default: 1024).", valueName: "n"),
        transform: parseInteger(in: 1...65_535, "a number of tunnels"))
    var tunnelsPerAddress = 1024

    @Option(
        help: ArgumentHelp("Channels joined at once (default: 4096).", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000, "a number of channels"))
    var channels = 4096

    @Option(
        help: ArgumentHelp(
            "Channels joined at once for the tunnels of one IPv4 address or IPv6 /64 (default: 1024).", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000, "a number of channels"))
    var channelsPerAddress = 1024

    @Option(
        help: ArgumentHelp("Channels of one tunnel at once (default: 256).", valueName: "n"),
        transform: parseInteger(in: 1...65_535, "a number of channels"))
    var channelsPerTunnel = 256

    @Option(
        help: ArgumentHelp("Groups of one tunnel at once (default: 64).", valueName: "n"),
        transform: parseInteger(in: 1...65_535, "a number of groups"))
    var groupsPerTunnel = 64

    @Option(
        help: ArgumentHelp("Sources of one group in one tunnel at once (default: 64).", valueName: "n"),
        transform: parseInteger(in: 1...2048, "a number of sources"))
    var sourcesPerGroup = 64

    @Option(
        help: ArgumentHelp(
            "Tell gateways their address, which lets them end a tunnel they left: auto not to those known to drop it.",
            valueName: "auto|always|never"))
    var gatewayFields: RelayConfiguration.GatewayFields = .auto

    @Flag(help: "Serve source-specific joins only.")
    var sourceSpecificOnly = false

    @Option(
        help: ArgumentHelp("Age at which the secret behind response MACs is replaced.", valueName: "duration"),
        transform: parseDuration)
    var secretLifetime: Duration = .seconds(3600)

    @Option(
        help: ArgumentHelp(
            "How long an open tunnel takes the MAC of its last Update again (default: 7 days).", valueName: "duration"),
        transform: parseDuration)
    var macLifetime: Duration = RelayConfiguration().repeatedMACLifetime

    @Option(
        help: ArgumentHelp(
            "Requests a second that one address without a tunnel is answered; five times as many at once (default: 20).",
            valueName: "n"),
        transform: parseInteger(in: 1...1_000_000, "a number of Requests"))
    var requestsPerAddress = 20

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let log = common.makeLogger("relay")
        let again = try ConfiguredCommand.reloading(
            Self.self,
            changeable: [
                "tunnels", "tunnels-per-address", "channels", "channels-per-address", "channels-per-tunnel",
                "groups-per-tunnel", "sources-per-group", "tunnel-rate", "channel-rate", "allow-group", "deny-group",
                "allow-source", "deny-source",
            ], log: log)
        throw ExitCode(try runRelay(options, reload: { again()?.options }, log: log))
    }

    func validate() throws {
        var problems: [String] = []
        if listen.count > 2 { problems.append("--listen takes one IPv4 and one IPv6 address") }
        if minimumMtu != nil, !dynamicMtu { problems.append("--minimum-mtu goes with --dynamic-mtu") }
        if let minimumMtu, let mtu, minimumMtu > mtu {
            problems.append("--minimum-mtu \(minimumMtu) is more than --mtu \(mtu)")
        }
        if advertise.count > 2 || Set(advertise.map(\.isIPv4)).count < advertise.count {
            problems.append("--advertise takes one IPv4 and one IPv6 address")
        }
        if queryInterval < .seconds(1) || queryInterval > .seconds(31_744) {
            problems.append("--query-interval must be from 1s to 31744s")
        }
        if secretLifetime < .seconds(1) || secretLifetime > .seconds(7200) {
            problems.append("--secret-lifetime must be from 1s to 2h")
        }
        try refuse(problems)
    }

    var options: RelayOptions {
        let everywhere = [SocketAddress(.v4(0), port: relayPort), SocketAddress(.v6(0), port: relayPort)]
        var options = RelayOptions(listen: listen.isEmpty ? everywhere : listen)
        options.upstream = upstream
        options.relay.tunnelMTU = mtu
        options.groups = group
        options.relay.followsPathMTU = dynamicMtu
        if let minimumMtu { options.relay.minimumMTU = minimumMtu }
        options.relay.unreachableLimit = unreachableLimit
        options.relay.advertisedIPv4 = advertise.first(where: \.isIPv4)
        options.relay.advertisedIPv6 = advertise.first { !$0.isIPv4 }
        options.relay.groups.allowed = allowGroup
        options.relay.groups.denied = denyGroup
        options.relay.sources.allowed = allowSource
        options.relay.sources.denied = denySource
        options.relay.endpointRate = tunnelRate
        options.relay.channelRate = channelRate
        options.metrics = metrics
        options.relay.endpointLimit = tunnels
        options.relay.endpointsPerAddressLimit = tunnelsPerAddress
        options.relay.upstreamLimit = channels
        options.relay.channelsPerAddressLimit = channelsPerAddress
        options.relay.channelsPerEndpointLimit = channelsPerTunnel
        options.relay.groupsPerEndpointLimit = groupsPerTunnel
        options.relay.sourcesPerGroupLimit = sourcesPerGroup
        options.relay.gatewayFields = gatewayFields
        options.drain = drain
        options.relay.requestRate = requestsPerAddress
        options.relay.requestBurst = 5 * requestsPerAddress
        options.relay.secretLifetime = secretLifetime
        options.relay.repeatedMACLifetime = macLifetime
        options.relay.queryInterval = queryInterval
        options.relay.allowsAnySource = !sourceSpecificOnly
        options.json = common.json
        options.io = common.io
        return options
    }
}
