import AMT
import ArgumentParser
import Relaying
import Reactor
import Wire

/// `SOURCE@GROUP:PORT`, `SOURCE@GROUP` for every port, or without `SOURCE@` for every source. IPv6 addresses that a
/// port follows are in brackets.
struct ChannelArgument: Equatable {
    var channel: Channel
    var port: UInt16?

    init(_ text: String) throws {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        var source: IPAddress?
        if parts.count == 2 {
            guard let address = IPAddress(parts[0]), !address.isMulticast else { throw Self.problem }
            source = address
        }
        let rest = parts.last ?? ""
        let bare = rest.hasPrefix("[") && rest.hasSuffix("]") ? rest.dropFirst().dropLast() : rest
        let group: IPAddress
        if let address = IPAddress(bare) {
            group = address
        } else if let address = SocketAddress(rest), address.port != 0 {
            group = address.address
            port = address.port
        } else {
            throw Self.problem
        }
        guard group.isMulticast else { throw ArgumentProblem("\(group) is not a multicast address") }
        guard !group.isLinkLocalGroup else { throw ArgumentProblem("\(group) never leaves its link") }
        if let source, source.isIPv4 != group.isIPv4 {
            throw ArgumentProblem("\(source) and \(group) are of different IP versions")
        }
        if source == nil, group.isSourceSpecificMulticast {
            throw ArgumentProblem("\(group) is source-specific: write SOURCE@\(group)")
        }
        channel = Channel(source: source, group: group)
    }

    private static var problem: ArgumentProblem {
        ArgumentProblem(
            "write SOURCE@GROUP[:PORT], such as 192.0.2.1@232.1.2.3:5000 or 2001:db8::1@[ff3e::8000:1]:5000")
    }
}

struct GatewayCommand: ParsableCommand, Logs {
    static let configuration = CommandConfiguration(
        commandName: "gateway",
        abstract: "Take multicast out of a relay's tunnel (AMT, RFC 7450).",
        discussion: """
            Needs no privilege. Payloads go to a UDP port with --to, else to standard output, one after the other. With \
            --tun, players that join the groups on that interface receive them as multicast, if the kernel's reverse path \
            filter lets them pass (sysctl net.ipv4.conf.IF.rp_filter=2).
            """)

    @Option(
        help: ArgumentHelp(
            "Relay, an address to discover one at, or auto: search as RFC 8777 has it.",
            valueName: "auto|addr[:port]"),
        transform: { try RelayArgument($0) })
    var relay: RelayArgument

    @OptionGroup var search: RelaySearchArguments

    @Option(
        help: ArgumentHelp("What to receive; may be given several times.", valueName: "source@group[:port]"),
        transform: { try ChannelArgument($0) })
    var group: [ChannelArgument] = []

    @Option(
        help: ArgumentHelp(
            "Is the relay up, does this flow? Tell how fast and how whole, and end after --timeout, else 5s.",
            valueName: "source@group[:port]"),
        transform: { try ChannelArgument($0) })
    var verify: ChannelArgument?

    @Option(
        help: ArgumentHelp("Send payloads here as UDP datagrams.", valueName: "addr:port"),
        transform: parseTarget)
    var to: SocketAddress?

    @Option(
        help: ArgumentHelp(
            "Make this TUN interface and have the packets arrive on it; needs root or CAP_NET_ADMIN.", valueName: "if"))
    var tun: String?

    @Option(
        help: ArgumentHelp(
            "Send the packets as multicast on this interface's link, for any receiver there; needs root or CAP_NET_RAW.",
            valueName: "if"))
    var interface: String?

    @Option(
        help: ArgumentHelp(
            "With --interface: the most hops that packets may have left there (default: 255).", valueName: "n"),
        transform: parseInteger(in: 1...255, "a number of hops"))
    var ttl: Int?

    @Option(
        help: ArgumentHelp("Serve /metrics for Prometheus over HTTP here.", valueName: "addr:port"),
        transform: parsePagesAddress)
    var metrics: ListeningPlace?

    @Option(
        help: ArgumentHelp("Stop after so many packets.", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "a number of packets"))
    var count: Int?

    @Option(
        help: ArgumentHelp("Stop after so long; exit status 2 if --count was not reached.", valueName: "duration"),
        transform: parseDuration)
    var timeout: Duration?

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let log = common.makeLogger("gateway")
        guard verify == nil else {
            throw ExitCode(try runVerify(options, duration: timeout ?? .seconds(5), log: log))
        }
        let again = try ConfiguredCommand.reloading(Self.self, log: log)
        throw ExitCode(
            try runGateway(options, reload: { _ = again() }, log: log))
    }

    func validate() throws {
        var problems: [String] = []
        if (verify == nil) == group.isEmpty { problems.append("give --group, or --verify alone") }
        if verify != nil, to != nil || tun != nil || interface != nil || count != nil || metrics != nil {
            problems.append(
                "--verify only tells what it finds: --to, --tun, --interface, --metrics and --count do not go with it")
        }
        if [to != nil, tun != nil, interface != nil].count(where: { $0 }) > 1 {
            problems.append("--to, --tun and --interface exclude each other; give one of them")
        }
        if ttl != nil, interface == nil { problems.append("--ttl goes with --interface") }
        try refuse(problems)
        try search.refuse(without: relay)
    }

    var options: GatewayOptions {
        let wanted = verify.map { [$0] } ?? group
        var options = GatewayOptions(relay: relay.choice(search), channels: wanted.map { ($0.channel, $0.port) })
        options.to = to
        options.device = tun
        options.interface = interface
        if let ttl { options.timeToLive = UInt8(ttl) }
        options.metrics = metrics
        options.count = count
        options.timeout = timeout
        options.json = common.json
        options.io = common.io
        return options
    }
}
