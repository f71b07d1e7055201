import Cryptography
import Feed
import FoundationEssentials
import Logging
import Reactor
import System

/// The feeds of a source, each with a poller and a memory of its own. They may come and go while it runs.
final class SourceFeeds {
    private struct Feed {
        /// As `--feed` says it, with its name if it has one.
        var name: String
        var poller: FeedPoller
    }

    private var feeds: [Feed] = []
    /// Those that were taken out and may still be in the middle of a poll.
    private var leaving: [Feed] = []
    /// Of feeds that are gone.
    private var past = FeedCounters()
    private var hasStarted = false
    private var interval: Duration
    private let directory: String?
    private let isWhole: Bool
    private let isStrict: Bool
    private let log: Logger
    private let send: @Sendable (Publication) -> Bool

    /// Items that are recorded as sent beside the log, which may lag behind when the process is killed.
    private static let recordedItems = 100

    /// - Parameter send: gets what a poll brought, on the poller's thread; false when it cannot be taken.
    init(_ options: SourceOptions, log: Logger, send: @escaping @Sendable (Publication) -> Bool) {
        directory = options.stateDirectory
        interval = options.pollInterval
        isWhole = options.wholeFeed
        isStrict = options.strict
        self.log = log
        self.send = send
    }

    /// What is known of all feeds together.
    var counters: FeedCounters { feeds.reduce(past) { $0 + $1.poller.counters } }

    /// What is known of each that is followed, by where it is.
    var standing: [(name: String, counters: FeedCounters)] {
        feeds.map { (FeedLocation.shown($0.name), $0.poller.counters) }
    }

    /// Takes in feeds that are not there yet.
    ///
    /// - Returns: what an earlier run recorded as sent of them, and may not have published.
    /// - Throws: what is wrong with the first that cannot be followed; those before it are there then.
    func add(_ names: [String]) throws -> [Publication.Document] {
        var recorded: [Publication.Document] = []
        for name in names where !feeds.contains(where: { $0.name == name }) {
            // Its memory is free only when it has ended.
            let identity = FeedLocation.identity(of: name)
            for feed in leaving where FeedLocation.identity(of: feed.name) == identity { forget(feed) }
            let location = try FeedLocation(name)
            let state = try state(of: name, among: names)
            let label = FeedLocation.parts(of: name).name
            let publication: @Sendable ([FeedItem], FeedDocument?) -> Publication = { [isWhole] changed, feed in
                Publication(changed, of: feed, at: location, name: label, asWholeFeed: isWhole)
            }
            if !state.history.isEmpty { recorded += publication(state.history.map(\.item), nil).documents }
            var configuration = FeedPoller.Configuration(location: location, interval: interval)
            configuration.isStrict = isStrict
            let poller = FeedPoller(configuration, state: state, logger: log) { [log, send] items, feed in
                // The poller hands over a feed at a time: this takes a source that has not had a turn for 65 536 polls, or that stops.
                guard send(publication(items.map(\.item), feed)) else {
                    log.error("items were not sent: too much waits", metadata: ["items": "\(items.count)"])
                    return
                }
            }
            feeds.append(Feed(name: name, poller: poller))
            if hasStarted { poller.start() }
        }
        return recorded
    }

    /// Lets go of all feeds but these. What they have brought is sent, and what is known of them stays on disk.
    func keep(only names: [String]) {
        let gone = feeds.filter { !names.contains($0.name) }
        feeds.removeAll { !names.contains($0.name) }
        for feed in gone { feed.poller.stop() }
        leaving += gone
    }

    /// Polls so often from now on.
    func poll(every interval: Duration) {
        self.interval = interval
        for feed in feeds { feed.poller.poll(every: interval) }
    }

    func start() {
        hasStarted = true
        for feed in feeds { feed.poller.start() }
    }

    func stop() { for feed in feeds { feed.poller.stop() } }

    /// After `stop`.
    func waitUntilStopped() {
        for feed in feeds + leaving { forget(feed) }
        feeds = []
    }

    private func forget(_ feed: Feed) {
        if hasStarted { feed.poller.waitUntilStopped() }
        var counters = feed.poller.counters
        // How it is does not matter any more.
        (counters.lastPoll, counters.lastSuccess, counters.failing) = (nil, nil, nil)
        past = past + counters
        leaving.removeAll { $0.poller === feed.poller }
    }

    // MARK: Memory

    /// Each feed's memory has a directory in `feeds`, named by a digest of where the feed is.
    private func state(of name: String, among names: [String]) throws -> FeedState {
        guard let directory else { return FeedState(feed: name, history: 0) }
        let path = Self.directory(of: name, in: directory)
        if !FileManager.default.fileExists(atPath: path), names.count == 1, !hasStarted {
            try Self.takeOver(in: directory, by: path)
        }
        return try FeedState(directory: path, feed: name, history: Self.recordedItems, logger: log)
    }

    static func directory(of name: String, in directory: String) -> String {
        "\(directory)/feeds/\(SHA256Digest(of: Array(FeedLocation.identity(of: name).utf8)))"
    }

    /// The only feed of a source is at another place than it was: its items stay known.
    private static func takeOver(in directory: String, by path: String) throws {
        let feeds = directory + "/feeds"
        guard let found = try? FileManager.default.contentsOfDirectory(atPath: feeds), found.count == 1 else { return }
        try saying("rename \(feeds)/\(found[0])") {
            try FileManager.default.moveItem(atPath: "\(feeds)/\(found[0])", toPath: path)
        }
    }
}

extension FeedCounters {
    static func + (a: FeedCounters, b: FeedCounters) -> FeedCounters {
        var sum = a
        sum.polls += b.polls
        sum.notModified += b.notModified
        sum.identical += b.identical
        sum.documents += b.documents
        sum.bytes += b.bytes
        sum.newItems += b.newItems
        sum.editedItems += b.editedItems
        sum.unusableItems += b.unusableItems
        sum.failures.merge(b.failures, uniquingKeysWith: +)
        sum.saveFailures += b.saveFailures
        // Of several feeds the one that has been well least lately.
        sum.lastPoll = [a.lastPoll, b.lastPoll].compactMap(\.self).max()
        sum.lastSuccess = [a.lastSuccess, b.lastSuccess].compactMap(\.self).min()
        sum.failing = a.failing ?? b.failing
        return sum
    }
}
