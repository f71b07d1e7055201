import ArgumentParser
import Feeds
import Objects
import System

struct PollCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "poll",
        abstract: "Poll feeds and append each new item to a distributed log, from which many sources send it.",
        discussion: """
            Of all that poll for one log one does at a time; the others stand by and take over when it is gone. Sources follow \
            the log with flexicast source --log.
            """)

    @Option(
        help: ArgumentHelp(
            "A feed: an http, https or file URL, or a path, also after a name that receivers can choose; may be given again.",
            valueName: "[name=]url"))
    var feed: [String]

    @Option(
        help: ArgumentHelp("Time between two polls (default: 5s).", valueName: "duration"), transform: parseDuration)
    var poll: Duration = .seconds(5)

    @OptionGroup var distributedLog: DistributedLogOptions

    @Option(
        help: ArgumentHelp(
            "How long after the last sign of the one that polls another takes over (default: 15s); alike for all of a log.",
            valueName: "duration"),
        transform: parseDuration)
    var lease = LogLease.usualLife

    @Flag(help: "Append the whole feed as one document each time that it changes, not only what has changed.")
    var wholeFeed = false

    @Option(
        help: ArgumentHelp(
            "How many messages a log keeps that is made because there is none (default: 1000000).", valueName: "n"),
        transform: parseInteger(in: 1...1_000_000_000, "a number of messages"))
    var retain = 1_000_000

    @Option(
        help: ArgumentHelp("How many octets (default: 1073741824).", valueName: "octets"),
        transform: parseInteger(in: 1 << 20...1 << 44, "a number of octets"))
    var retainOctets = 1 << 30

    @Option(
        help: ArgumentHelp("How long (default: as long as there is room).", valueName: "duration"),
        transform: parseDuration)
    var retainFor: Duration?

    @Option(
        help: ArgumentHelp("Directory that remembers items and which were sent, across restarts.", valueName: "dir"))
    var state: String?

    @OptionGroup var configuration: ConfigurationOptions
    @OptionGroup var common: CommonOptions

    func validate() throws {
        var problems = distributedLog.problems + feedProblems(feed)
        if distributedLog.log == nil { problems.append("nowhere to append to; give --log nats://HOST,HOST/STREAM") }
        if wholeFeed, feed.count > 1 {
            problems.append("--whole-feed appends one feed; leave it out, or have a log for each --feed")
        }
        if lease < .seconds(1) { problems.append("--lease is at least 1s") }
        try refuse(problems)
    }

    func run() throws {
        guard let place = distributedLog.place else { return }
        var options = PollOptions(feeds: feed, log: place)
        options.pollInterval = poll
        options.lease = lease
        options.wholeFeed = wholeFeed
        options.retention = Retention(objects: retain, octets: retainOctets, age: retainFor)
        options.stateDirectory = state
        options.json = common.json
        options.io = common.io
        throw ExitCode(try runPoll(options, log: common.makeLogger("poll")))
    }
}

/// What is wrong with feeds, each of which is to be there once.
func feedProblems(_ feeds: [String]) -> [String] {
    var problems: [String] = []
    var known: Set<String> = []
    for feed in feeds {
        if feed.isEmpty { problems.append("--feed is empty; give a URL or a path") }
        if !known.insert(FeedLocation.identity(of: feed)).inserted {
            problems.append("--feed \(FeedLocation.shown(feed)) is given twice")
        }
        do throws(FeedLocationError) { if !feed.isEmpty { _ = try FeedLocation(feed) } } catch {
            problems.append("--feed: \(error)")
        }
    }
    return problems
}
