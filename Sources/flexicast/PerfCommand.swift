import ArgumentParser

struct PerfCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "perf",
        abstract: "Measure packet rates on this machine.",
        subcommands: [PerfFlowCommand.self])
}
