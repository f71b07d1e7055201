import AMT
import ArgumentParser
import Endpoint
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

struct RelayCommand: ParsableCommand {
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
        help: ArgumentHelp("Largest IP packet on the way to gateways.", valueName: "octets"),
        transform: parseInteger(in: 576...65_535, "a number of octets"))
    var mtu: Int = 1500

    @Option(
        help: ArgumentHelp("How often gateways come again.", valueName: "duration"), transform: parseDuration)
    var queryInterval: Duration = .seconds(125)

    @Option(
        help: ArgumentHelp("How long open tunnels are served after SIGTERM.", valueName: "duration"),
        transform: parseDuration)
    var drain: Duration = .seconds(5)

    @Flag(help: "Let ICMP errors lower a tunnel's largest packet, down to 1280.")
    var dynamicMtu = false

    @Flag(help: "Serve source-specific joins only.")
    var sourceSpecificOnly = false

    @OptionGroup var common: CommonOptions

    func run() throws { throw ExitCode(try runRelay(options, log: common.makeLogger("relay"))) }

    func validate() throws {
        if listen.count > 2 { throw ValidationError("--listen takes one IPv4 and one IPv6 address") }
        if queryInterval < .seconds(1) || queryInterval > .seconds(31_744) {
            throw ValidationError("--query-interval must be from 1s to 31744s")
        }
    }

    var options: RelayOptions {
        let everywhere = [SocketAddress(.v4(0), port: relayPort), SocketAddress(.v6(0), port: relayPort)]
        var options = RelayOptions(listen: listen.isEmpty ? everywhere : listen)
        options.upstream = upstream
        options.tunnelMTU = mtu
        options.groups = group
        options.relay.followsPathMTU = dynamicMtu
        options.drain = drain
        options.relay.queryInterval = queryInterval
        options.relay.allowsAnySource = !sourceSpecificOnly
        options.json = common.json
        options.io = common.io
        return options
    }
}
