import ArgumentParser
import Relaying

/// The multicast router between source and relay in the demo's network.
struct RouterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "router",
        abstract: "Have the kernel forward multicast that hosts on one interface ask for (the demo's router).",
        discussion: "Needs root or CAP_NET_ADMIN. Routes IPv4 channels with a source; they go when it ends.",
        shouldDisplay: false)

    @Option(help: ArgumentHelp("Interface that multicast comes in by.", valueName: "if"))
    var upstream: String

    @Option(help: ArgumentHelp("Interface whose hosts are heard and served.", valueName: "if"))
    var downstream: String

    @OptionGroup var common: CommonOptions

    func run() throws {
        var options = RouterOptions(upstream: upstream, downstream: downstream)
        options.json = common.json
        options.io = common.io
        throw ExitCode(try runRouter(options, log: common.makeLogger("router")))
    }
}
