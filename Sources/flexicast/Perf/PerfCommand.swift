import ArgumentParser

struct PerfCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "perf",
        abstract: "Measure packet rates on this machine.",
        subcommands: [
            PerfSendCommand.self, PerfReceiveCommand.self, PerfFlowCommand.self, PerfFanoutCommand.self,
            PerfRelayCommand.self, PerfServeCommand.self, PerfCryptoCommand.self, PerfHandshakeCommand.self,
        ])
}
