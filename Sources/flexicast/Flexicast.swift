import ArgumentParser

@main
struct Flexicast: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flexicast",
        abstract: "One packet that a thousand receivers open: feeds over QUIC and IP multicast.",
        discussion: """
            Exit status: 0 done, 1 failed, 2 ran but below the asked limit, 64 bad usage.
            """,
        subcommands: [
            SourceCommand.self, ReceiveCommand.self, RelayCommand.self, GatewayCommand.self, DemoCommand.self,
            PerfCommand.self, RouterCommand.self,
        ])

    @Flag(help: "Show the version, the commit, and what libraries and backend are used here.")
    var version = false

    /// Here and not in `run`, which a command that follows would take the place of.
    func validate() throws { if version { throw CleanExit.message(Version.description) } }
}
