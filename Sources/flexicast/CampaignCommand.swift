import ArgumentParser
import Campaign
import FoundationEssentials
import Operation

struct CampaignCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "campaign",
        abstract: "Measure over many hosts: a plan says who does what, one folder has the results.",
        subcommands: [
            CampaignRunCommand.self, CampaignReportCommand.self, CampaignCompareCommand.self, CampaignAgentCommand.self,
        ],
        defaultSubcommand: CampaignRunCommand.self)
}

struct CampaignRunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a plan: source, relay and receivers on hosts that are reached by ssh.",
        discussion: """
            The word run may be left out. Exit status 0 when every receiver that was not ended on purpose has every item, 2 \
            when one lacks some or a host failed, 1 when nothing could be measured.
            """)

    @Argument(help: ArgumentHelp("The plan, in YAML; docs/campaign.md has its keys.", valueName: "plan"))
    var plan: String

    @Option(
        help: ArgumentHelp(
            "The folder for the results, which is made (default: the plan's name and the time).", valueName: "dir"))
    var output: String?

    @Flag(help: "Read the plan, say what is wrong in it, and do nothing else.")
    var check = false

    func run() throws {
        let plan = try Plan.read(file: plan)
        guard !check else { return print("\(self.plan): \(plan.hosts.count) hosts, \(plan.receivers.count) receivers") }
        let folder = output ?? "\(Self.fileName(plan.name))-\(timestamp().prefix(19).replacing(":", with: ""))"
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let settings = CampaignSettings(program: program, version: Version.description, folder: folder)
        let facts = try CampaignRun(plan, settings).run()
        let result = try CampaignResult.write(facts, folder: folder)
        show(result, folder)
        guard facts.failure == nil, !facts.isInterrupted, result.measurement.source.items > 0 else {
            throw ExitCode.failure
        }
        let isWhole = result.measurement.isComplete && facts.hosts.allSatisfy { $0.failure == nil }
        if !isWhole { throw ExitCode(2) }
    }

    /// Letters, digits and hyphens of a name.
    private static func fileName(_ name: String) -> String {
        String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") ? $0 : "-" })
    }
}

struct CampaignReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Make the report and the tables of a campaign's folder anew.")

    @Argument(help: ArgumentHelp("The folder that a campaign has made.", valueName: "folder"))
    var folder: String

    func run() throws { show(try CampaignResult.renew(folder: folder), folder) }
}

struct CampaignCompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare", abstract: "Show two campaigns side by side.")

    @Argument(help: ArgumentHelp("The folder of one campaign.", valueName: "A"))
    var first: String

    @Argument(help: ArgumentHelp("The folder of the other.", valueName: "B"))
    var second: String

    func run() throws {
        let comparison = CampaignComparison(try CampaignResult(folder: first), try CampaignResult(folder: second))
        print(comparison.lines.joined(separator: "\n"))
    }
}

struct CampaignAgentCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent",
        abstract: "What a campaign starts on a host; it obeys its standard input, and ends with it.")

    @Option(help: ArgumentHelp("Where it keeps files; it is removed at the end.", valueName: "dir"))
    var directory: String?

    func run() throws { try Agent.run(version: Version.description, directory: directory) }
}

/// What a campaign came to, in a few lines.
private func show(_ result: CampaignResult, _ folder: String) {
    for line in CampaignSummary(result).lines { print(line) }
    print("report: \(folder)/report.html")
}
