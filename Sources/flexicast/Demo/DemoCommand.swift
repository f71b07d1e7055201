import ArgumentParser
import Feeds
import FoundationEssentials
import Glibc
import Operation
import System
import Transport

/// What `flexicast demo` was asked to do.
struct DemoSettings: Sendable {
    var items = 60
    var interval: Duration = .milliseconds(250)
    var flowReceivers = 5
    var unicastReceivers = 4
    var lossPercent = 2.0
    var network = NetworkKind.auto
    var io = "auto"
    var feed: String?
    var duration: Duration = .seconds(120)
    /// The receivers' network has no multicast, and a relay brings it to them: where namespaces can be had, if nil.
    var amt: Bool?
    var router = MulticastRouting.Choice.auto
    /// The whole feed goes out with each item, and nothing is lost or cut.
    var wholeFeed = false
    var compare = false
    var keep = false

    /// The same run with those on the flow on connections instead, and with nobody else.
    var onUnicast: DemoSettings {
        var settings = self
        settings.unicastReceivers = flowReceivers
        settings.flowReceivers = 0
        return settings
    }
}

extension NetworkKind: ExpressibleByArgument {}

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Show all of it on this machine: a growing feed, one source, receivers with and without multicast.",
        discussion: """
            Each process has a network namespace of its own: the source, multicast routers, a relay, and receivers in a \
            network that has no multicast. Two receivers lose some of the flow's packets, one is cut off halfway and healed \
            later. Where namespaces cannot be made all run on loopback, without routers, relay, losses and cut. Exit status \
            1 when an item is missing, doubled or different anywhere. ^C ends it early, and what came by then is shown.
            """)

    @Option(
        help: ArgumentHelp("How many items the feed grows by (default: 60).", valueName: "n"),
        transform: parseInteger(in: 1...10_000, "a number of items"))
    var items = 60

    @Option(
        help: ArgumentHelp("Time between two items (default: 250ms).", valueName: "duration"),
        transform: parseDuration)
    var interval: Duration = .milliseconds(250)

    @Option(help: ArgumentHelp("Follow this feed instead of growing one from samples.", valueName: "url"))
    var feed: String?

    @Option(
        help: ArgumentHelp("With --feed: stop after so long, whatever came (default: 2m).", valueName: "duration"),
        transform: parseDuration)
    var duration: Duration = .seconds(120)

    @Option(
        help: ArgumentHelp("How many receivers hear the flow (default: 5).", valueName: "n"),
        transform: parseInteger(in: 0...60, "a number of receivers"))
    var receivers = 5

    @Option(
        help: ArgumentHelp("How many receivers are on unicast (default: 4).", valueName: "n"),
        transform: parseInteger(in: 0...60, "a number of receivers"))
    var unicast = 4

    @Option(
        help: ArgumentHelp(
            "Percent of the flow's packets that two receivers lose (default: 2, or 0 with --whole-feed).",
            valueName: "percent"),
        transform: parsePercent)
    var loss: Double?

    @Option(
        help: ArgumentHelp("auto: namespaces where they may be made; namespaces; loopback.", valueName: "kind"))
    var network: NetworkKind = .auto

    @Option(help: ArgumentHelp("Input/output backend of the processes: auto, io_uring or epoll.", valueName: "backend"))
    var io: IOBackendChoice = .auto

    @Option(help: ArgumentHelp("Write the result here as JSON.", valueName: "file"))
    var report: String?

    @Flag(
        inversion: .prefixedNo,
        help: """
            Put multicast routers and a relay between the source and the receivers, whose network has no multicast; those \
            on the flow take it through the relay (AMT). Without: all are on one link (default: --amt where namespaces can \
            be had).
            """)
    var amt: Bool?

    @Option(
        help: ArgumentHelp(
            "With --amt: kernel (one Linux multicast router), pim (two with FRR's pimd), auto (pim where FRR is installed).",
            valueName: "kind"))
    var router: MulticastRouting.Choice = .auto

    @Flag(
        help: """
            Send the whole feed with each item, as the deployment paper did, over a network that neither loses nor cuts \
            anything.
            """)
    var wholeFeed = false

    @Option(
        help: ArgumentHelp("Draw what the source sent over time, as FILE.svg and FILE.png.", valueName: "file"))
    var figure: String?

    @Flag(
        help: """
            Run those on the flow once more on connections of their own, to compare: the figure and the report have what \
            the source sent them so.
            """)
    var compare = false

    @Flag(help: "Keep the items and logs of all processes.")
    var keep = false

    func validate() throws {
        guard receivers + unicast > 0 else {
            throw ValidationError("--receivers and --unicast are both 0; at least one receiver is needed")
        }
        guard !compare || receivers > 0 else {
            throw ValidationError("--compare needs receivers on the flow: --receivers is 0")
        }
        guard !compare || feed == nil else {
            throw ValidationError("--compare needs the same items twice, and --feed brings what it brings")
        }
    }

    func run() throws {
        if let feed { _ = try FeedLocation(feed) }
        var settings = DemoSettings()
        settings.items = items
        settings.interval = interval
        settings.flowReceivers = receivers
        settings.unicastReceivers = unicast
        settings.lossPercent = loss ?? (wholeFeed ? 0 : 2)
        settings.wholeFeed = wholeFeed
        settings.network = network
        settings.io = io.rawValue
        settings.feed = feed
        settings.duration = duration
        settings.amt = amt
        settings.router = router
        settings.compare = compare
        settings.keep = keep
        // Before anything is run.
        for path in [figure, report] { if let path { try Chart.check(path) } }
        var outcome = try DemoRun(settings).run()
        if compare, !outcome.isInterrupted {
            outcome.compare(with: try DemoRun(settings.onUnicast, title: "the same on unicast, to compare").run())
        }
        try show(outcome)
        guard !outcome.isInterrupted else { throw ExitCode(128 + SIGINT) }
        guard outcome.isGood else { throw ExitCode.failure }
    }

    private func show(_ outcome: DemoOutcome) throws {
        var lines = [""] + outcome.board.finalTable
        if let ratio = outcome.measuredSaving, let compared = outcome.compared.first {
            lines += wrapped(
                """
                measured: the same \(receivers) on unicast took \(grouped(compared.board.source.onConnections)) B; the flow with its repair \
                is \(fixed(ratio, 2)) times less
                """)
        }
        if let figure { lines += try demoFigure(outcome).write(to: figure).map { "figure: \($0)" } }
        if let report {
            let json = try DemoReport(outcome).json()
            try saying("write \(report)") { try json.write(to: URL(filePath: report), options: .atomic) }
            lines.append("report: \(report)")
        }
        print((lines + [""] + outcome.verdict).joined(separator: "\n"))
    }
}

/// `2`, `0.5`: percent below 100, in hundredths.
private func parsePercent(_ text: String) throws -> Double {
    guard let percent = Double(text), percent >= 0, percent < 100 else {
        throw ArgumentProblem("write percent from 0 to below 100, such as 2 or 0.5")
    }
    return (percent * 100).rounded() / 100
}
