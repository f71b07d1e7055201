import ArgumentParser
import FoundationEssentials
import System

@main
struct Flexicast: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flexicast",
        abstract: "One packet that a thousand receivers open: feeds over QUIC and IP multicast.",
        discussion: """
            Exit status: 0 done, 1 failed, 2 ran but below the asked limit, 64 bad usage.
            """,
        subcommands: [
            SourceCommand.self, PollCommand.self, ReceiveCommand.self, RelayCommand.self, GatewayCommand.self,
            CampaignCommand.self, SimulateCommand.self, FeedCommand.self,
            DemoCommand.self, PerfCommand.self, RouterCommand.self, CheckConfigCommand.self,
        ])

    /// As every command's, with the settings of files and variables before the command line's.
    static func main() {
        var arguments = Array(CommandLine.arguments.dropFirst())
        do {
            if let configured = ConfiguredCommand(
                commandLine: arguments, environment: ProcessInfo.processInfo.environment)
            {
                var warnings: [String] = []
                arguments = try configured.arguments(warnings: &warnings)
                for warning in warnings { tell("Warning: \(warning)") }
                ConfiguredCommand.current.withLock { $0 = configured }
            }
            var command = try parseAsRoot(arguments)
            try command.run()
        } catch let problems as ConfigurationProblems {
            for problem in problems.all { tell("Error: \(problem)") }
            exit(withError: ExitCode.validationFailure)
        } catch { exit(withError: error) }
    }

    /// A closed standard error is no reason to stop working.
    private static func tell(_ line: String) { try? OpenFile.standardError.write(Array((line + "\n").utf8)) }

    @Flag(help: "Show the version, the commit, and what libraries and backend are used here.")
    var version = false

    /// Here and not in `run`, which a command that follows would take the place of.
    func validate() throws { if version { throw CleanExit.message(Version.description) } }
}
