import Cryptography
import Feed
import Feeds
import FoundationEssentials
import Logging

/// The feed file the demo's source polls. It grows by one item at a time: samples, or what a real feed brings.
struct DemoFeed {
    let file: URL
    /// How many items the file has when it is full grown.
    let count: Int
    private(set) var published = 0
    /// What a real feed has brought and the file does not have yet, oldest first. Nil for samples.
    private var waiting: [FeedItem]?
    /// The newest items of a real feed that are in the file.
    private var shown: [FeedItem] = []
    private var followed: [String: [UInt8]] = [:]

    /// How many items the file holds at the most: it is polled far more often than so many come.
    private static let window = 100

    init(file: URL, count: Int, followsFeed: Bool) throws {
        self.file = file
        self.count = count
        waiting = followsFeed ? [] : nil
        try write()
    }

    var isComplete: Bool { published >= count }

    /// Whether there is an item to add.
    var canGrow: Bool { !isComplete && waiting?.isEmpty != true }

    /// Takes what a real feed has brought.
    mutating func add(_ items: [FeedItem]) { waiting?.append(contentsOf: items) }

    /// Adds an item. The file is replaced at once: a reader sees the old feed or the new one.
    mutating func grow() throws {
        if let item = waiting?.first {
            waiting?.removeFirst()
            shown.removeAll { $0.id == item.id }
            shown.insert(item, at: 0)
            if shown.count > Self.window { shown.removeLast() }
        }
        published += 1
        try write()
    }

    private mutating func write() throws {
        guard waiting != nil else {
            try SampleFeedFile(path: file.path).publish(upTo: published, window: Self.window)
            return
        }
        let writer = AtomWriter(id: "urn:flexicast:demo", title: "Demo")
        try Data(writer.document(shown)).write(to: file, options: .atomic)
        if let newest = shown.first, let item = try FeedParser.parse(writer.document([newest])).items.first {
            followed[itemFileName(item.id)] = item.ownContent
        }
    }

    /// What the feed says each item is, apart from the feed around it, by the name of its file.
    func contents() throws -> [String: [UInt8]] {
        guard waiting == nil else { return followed }
        // The file holds the newest items only.
        let items = try FeedParser.parse(SampleFeed.document(upTo: published, window: published)).items
        return Dictionary(items.map { (itemFileName($0.id), $0.ownContent) }) { first, _ in first }
    }
}

/// `<sha256 of atom:id>.xml`.
func itemFileName(_ id: String) -> String { "\(SHA256Digest(of: Array(id.utf8))).xml" }

/// Polls a real feed outside of the demo's namespaces, which have no way to the world.
func follow(_ feed: String, events: DemoEventQueue) throws -> FeedPoller {
    var logger = Logger(label: "feed") { _ in EventLogHandler(events: events) }
    logger.logLevel = .notice
    let poller = FeedPoller(
        FeedPoller.Configuration(location: try FeedLocation(feed)), state: FeedState(feed: feed, history: 0),
        logger: logger
    ) { items, _ in events.push(.items(items.map(\.item))) }
    poller.start()
    return poller
}

/// Shows what the poller has to say among the demo's own lines.
private struct EventLogHandler: LogHandler {
    let events: DemoEventQueue
    var logLevel: Logger.Level = .notice
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { events.push(.message(event.message.description)) }
}
