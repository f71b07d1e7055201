import Cryptography
import Dispatch
import Feed
import FoundationEssentials
import Logging
import Reactor
import Synchronization
import System

/// A receiver's directory: every item whole in a file of its own, and the newest of them as a feed.
///
/// An item's file is `<sha256 of atom:id>.xml`. It is written under a temporary name, made durable and renamed, so it
/// is whole or absent whenever the process is killed. `feed.atom` follows: it is replaced as a whole after each burst
/// of items. The newest are those that came last: each file's modification time is later than those of the files before it,
/// whatever the clock of the machine or of a publisher does. What `feed.atom` lacks at the start is named in `position`
/// (`StoredPlace`); without the two, all files are looked at.
///
/// A store has a thread, which ends with `close`.
package final class ItemStore: Sendable {
    package struct Counters: Sendable, Equatable {
        package var new = 0
        package var edited = 0
        package var known = 0
        package var outdated = 0
        /// Attempts that failed.
        package var failed = 0
        /// Times that `feed.atom` was written.
        package var feedsWritten = 0
    }

    /// Octets of submitted items that wait for the disk; then `submit` blocks.
    package static let queueBytes = 64 << 20
    /// Octets of items that the disk refused and that are tried again; those beyond fail at once.
    package static let refusedBytes = 16 << 20
    /// Octets of all items in `feed.atom`; older ones give way.
    package static let feedBytes = 32 << 20
    /// Ids whose version is remembered without looking at the disk.
    static let rememberedIDs = 16384

    private struct Version {
        var date: Date?
        var digest: SHA256Digest
        var order: ItemOrder?
    }

    private struct Arrival: Sendable {
        var item: FeedItem
        var order: ItemOrder?

        /// Whether the source sent this one before the other, as far as that is known.
        func isBefore(_ other: ItemOrder?) -> Bool {
            guard let order, let other, order.session == other.session else { return true }
            return order.position < other.position
        }
    }

    private struct Job: Sendable {
        var document: [UInt8]
        var order: ItemOrder?
        var completion: @Sendable (Result<StoredItem, ItemStoreError>) -> Void
    }

    private struct Shelf {
        var versions: [String: Version] = [:]
        /// The last that came first.
        var newest: [Arrival] = []
        /// Modification time of the file written last, in nanoseconds since 1970.
        var lastModified: Int64 = 0
        var feedIsStale = false
        var feedFailed = false
        var counters = Counters()
    }

    /// What the disk refused, oldest first. Only the store's thread has it.
    private struct Refused {
        /// The pause before the next attempt; it doubles while the disk takes nothing.
        static let shortestPause = Duration.milliseconds(500)
        static let longestPause = Duration.seconds(30)

        var jobs: [Job] = []
        var bytes = 0
        var due: ContinuousClock.Instant?
        var pause = shortestPause
    }

    private struct Queue {
        var jobs: [Job] = []
        var bytes = 0
        var isBusy = false
        var isClosed = false
        /// Where the receiver is, when all before it is on disk.
        var position: [UInt8]?
    }

    private let directory: DurableDirectory
    private let newestCount: Int
    private let writer: AtomWriter
    private let logger: Logger
    private let shelf = Mutex(Shelf())
    private let queue = Mutex(Queue())
    private let condition = Condition()
    private let ended = DispatchSemaphore(value: 0)

    static let feedName = "feed.atom"
    /// What `note(position:)` was told last before the process that had the directory ended.
    package let position: [UInt8]?

    /// Opens the directory, making it when it is missing, and tidies up what a killed process left.
    ///
    /// - Parameter newest: how many items `feed.atom` holds.
    /// - Throws: when the directory cannot be used, or another process uses it.
    package init(directory path: String, newest: Int = 100, logger: Logger) throws(FileError) {
        directory = try openDirectory(path)
        newestCount = max(1, newest)
        self.logger = logger
        let place = try StoredPlace.read(directory)
        position = place?.position
        let absolute = URL(filePath: path).standardizedFileURL.path()
        writer = AtomWriter(id: Self.identifier(of: absolute), title: "Flexicast: " + absolute)
        let stock = try Self.takeStock(directory, place, newest: newestCount, logger: logger)
        shelf.withLock { shelf in
            shelf.newest = stock.newest.map { Arrival(item: $0) }
            shelf.lastModified = stock.lastModified
            shelf.feedIsStale = stock.feedIsStale
            writeFeed(&shelf)
        }
        startThread("items") { [self] in run() }
    }

    /// A feed's id must stay the same for good (RFC 4287 section 4.2.6): a UUID of version 8 made of the path.
    private static func identifier(of path: String) -> String {
        var digits = Array(SHA256Digest(of: Array(path.utf8)).description.prefix(32))
        digits[12] = "8"
        digits[16] = "8"
        let parts = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }
        return "urn:uuid:" + parts.joined(separator: "-")
    }

    package var counters: Counters { shelf.withLock { $0.counters } }

    static func fileName(of id: String) -> String { "\(SHA256Digest(of: Array(id.utf8))).xml" }

    /// How many of the first items `feed.atom` has room for.
    static func fitting(_ items: some Sequence<FeedItem>, count: Int) -> Int {
        var bytes = 0
        return items.lazy.prefix(count).prefix { item in
            bytes += item.document.count
            return bytes <= feedBytes
        }.count
    }

    /// Puts an item where the source sent it, which is usually the front.
    private func arrange(_ item: FeedItem, _ order: ItemOrder?, _ shelf: inout Shelf) {
        shelf.newest.removeAll { $0.item.id == item.id }
        let place = shelf.newest.firstIndex { $0.isBefore(order) } ?? shelf.newest.endIndex
        insert(Arrival(item: item, order: order), at: place, &shelf)
    }

    /// Puts an item that is on disk where its file's time has it, if it is among the newest.
    private func arrangeByTime(_ item: FeedItem, _ order: ItemOrder?, _ shelf: inout Shelf) throws(ItemStoreError) {
        func modified(_ id: String) throws(ItemStoreError) -> Int64 {
            do throws(FileError) { return try directory.status(of: Self.fileName(of: id))?.modified ?? 0 } catch {
                throw .file(error)
            }
        }
        let own = try modified(item.id)
        var place = shelf.newest.endIndex
        while place > 0, try modified(shelf.newest[place - 1].item.id) < own { place -= 1 }
        insert(Arrival(item: item, order: order), at: place, &shelf)
        if place < shelf.newest.count { shelf.feedIsStale = true }
    }

    /// Those that `feed.atom` has no room for go.
    private func insert(_ arrival: Arrival, at place: Int, _ shelf: inout Shelf) {
        shelf.newest.insert(arrival, at: place)
        let room = Self.fitting(shelf.newest.map(\.item), count: newestCount)
        shelf.newest.removeLast(shelf.newest.count - room)
    }

    /// The least that a file's modification time is after the one before it, in nanoseconds: file systems count coarsely.
    private static let modificationStep: Int64 = 1_000_000

    /// The file that was just written is the last one by its modification time too, if the clock went back.
    private func keepOrder(of name: String, _ shelf: inout Shelf) throws(FileError) {
        guard let status = try directory.status(of: name) else { return }
        guard status.modified <= shelf.lastModified else {
            shelf.lastModified = status.modified
            return
        }
        shelf.lastModified += Self.modificationStep
        let date = Date(timeIntervalSince1970: Double(shelf.lastModified) / 1e9)
        let path = "\(directory.path)/\(name)"
        do throws(SystemError) {
            try saying("set the time of \(path)") {
                try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: path)
            }
        } catch { throw FileError("set the time", path, reason: error.reason) }
    }

    // MARK: - Storing

    /// Stores an item and waits until it is on disk. `feed.atom` follows at the next `flush`, `submit` or `close`.
    ///
    /// - Parameters:
    ///   - document: a standalone entry document.
    ///   - order: tells which of two versions is the later one. Without it, and between sessions, `atom:updated` does.
    package func store(_ document: [UInt8], order: ItemOrder? = nil) throws(ItemStoreError) -> StoredItem {
        guard let result = storeEach(document, order: order).first else { throw .notAnItem(.empty) }
        return try result.get()
    }

    /// As `store`, with each item of a whole feed. A document that cannot be read is one failure.
    func storeEach(_ document: [UInt8], order: ItemOrder? = nil) -> [Result<StoredItem, ItemStoreError>] {
        do throws(ItemStoreError) {
            return try items(of: document).map { part in
                Result { () throws(ItemStoreError) in try store(part.item, part.document, order) }
            }
        } catch {
            shelf.withLock { $0.counters.failed += 1 }
            return [.failure(error)]
        }
    }

    private func items(of document: [UInt8]) throws(ItemStoreError) -> [(item: FeedItem, document: [UInt8])] {
        guard document.count <= FeedLimits.itemBytes else { throw .tooLarge(bytes: document.count) }
        do throws(FeedError) { return try FeedParser.parseItems(document) } catch { throw .notAnItem(error) }
    }

    private func store(
        _ item: FeedItem, _ document: [UInt8], _ order: ItemOrder?
    ) throws(ItemStoreError) -> StoredItem {
        try shelf.withLock { (shelf) throws(ItemStoreError) in
            do throws(ItemStoreError) {
                let stored = try place(item, document, order, &shelf)
                switch stored.outcome {
                case .new: shelf.counters.new += 1
                case .edited: shelf.counters.edited += 1
                case .known: shelf.counters.known += 1
                case .outdated: shelf.counters.outdated += 1
                }
                return stored
            } catch {
                shelf.counters.failed += 1
                throw error
            }
        }
    }

    private func place(
        _ item: FeedItem, _ document: [UInt8], _ order: ItemOrder?, _ shelf: inout Shelf
    ) throws(ItemStoreError) -> StoredItem {
        let name = Self.fileName(of: item.id)
        let digest = SHA256Digest(of: document)
        var stored = StoredItem(
            outcome: .new, id: item.id, title: item.title, updated: item.updated, bytes: document.count, sha256: digest,
            file: name)
        if let version = try version(of: name, shelf) {
            if version.digest == digest {
                stored.outcome = .known
            } else {
                stored.outcome = Self.isLater(item, order, than: version) ? .edited : .outdated
            }
        }
        if stored.outcome == .new || stored.outcome == .edited {
            do throws(FileError) {
                try directory.write(document, as: name)
                try keepOrder(of: name, &shelf)
            } catch { throw .file(error) }
            arrange(item, order, &shelf)
            shelf.feedIsStale = true
        } else if stored.outcome == .known, !shelf.newest.contains(where: { $0.item.id == item.id }) {
            // It may have been stored as a process ended that had not noted it yet; or it is old, and comes again.
            try arrangeByTime(item, order, &shelf)
        }
        if stored.outcome != .outdated {
            if shelf.versions.count >= Self.rememberedIDs { shelf.versions.removeAll(keepingCapacity: true) }
            shelf.versions[name] = Version(date: item.date, digest: digest, order: order)
        }
        return stored
    }

    /// The version that is there, from memory or from disk.
    private func version(of name: String, _ shelf: borrowing Shelf) throws(ItemStoreError) -> Version? {
        if let version = shelf.versions[name] { return version }
        let found: [UInt8]?
        do throws(FileError) {
            found = try directory.read(name, limit: FeedLimits.itemBytes)
        } catch { throw .file(error) }
        guard let found else { return nil }
        let date = (try? FeedParser.parseEntry(found))?.date
        return Version(date: date, digest: SHA256Digest(of: found), order: nil)
    }

    private static func isLater(_ item: FeedItem, _ order: ItemOrder?, than version: Version) -> Bool {
        if let order, let known = version.order, order.session == known.session {
            return order.position > known.position
        }
        guard let date = item.date, let known = version.date else { return true }
        return date >= known
    }

    /// Replaces `feed.atom` when items have come since it was written.
    private func writeFeed(_ shelf: inout Shelf) {
        guard shelf.feedIsStale else { return }
        do throws(FileError) {
            try directory.write(writer.document(shelf.newest.map(\.item)), as: Self.feedName)
            shelf.feedIsStale = false
            shelf.feedFailed = false
            shelf.counters.feedsWritten += 1
        } catch {
            if !shelf.feedFailed { logger.error("\(error)") }
            shelf.feedFailed = true
        }
    }

    // MARK: - The writing thread

    /// Stores an item, or each item of a whole feed, on the store's own thread. What the disk refuses is tried again until
    /// `close`, without holding up what comes after it.
    ///
    /// - Parameter completion: called on that thread, for each item, when it is on disk, or is not wanted, or has failed for
    ///   good.
    package func submit(
        _ document: [UInt8], order: ItemOrder? = nil,
        completion: @escaping @Sendable (Result<StoredItem, ItemStoreError>) -> Void
    ) {
        condition.lock()
        while queue.withLock({ $0.bytes > 0 && $0.bytes + document.count > Self.queueBytes }) { condition.wait() }
        queue.withLock { queue in
            queue.jobs.append(Job(document: document, order: order, completion: completion))
            queue.bytes += document.count
        }
        condition.broadcast()
        condition.unlock()
    }

    /// Has `position` written to the disk right after all that was submitted before, and not as long as the disk
    /// refuses any of it: whoever starts next goes on from there.
    package func note(position: [UInt8]) {
        condition.lock()
        queue.withLock { $0.position = position }
        condition.broadcast()
        condition.unlock()
    }

    /// The shortest time between two writings of `feed.atom` while items keep coming.
    static let feedPause = Duration.milliseconds(500)

    private func run() {
        // The wall clock may go back.
        let clock = ContinuousClock()
        var feedDue: ContinuousClock.Instant?
        var lastFeed = clock.now - Self.feedPause
        var refused = Refused()
        var position: [UInt8]?
        while true {
            condition.lock()
            while queue.withLock({ $0.jobs.isEmpty && !$0.isClosed && $0.position == nil }) {
                guard let due = [feedDue, refused.due].compactMap({ $0 }).min() else {
                    condition.wait()
                    continue
                }
                if !condition.wait(for: max(.zero, due - clock.now)) { break }
            }
            let (jobs, noted, isClosed) = queue.withLock { queue in
                defer {
                    queue.jobs = []
                    queue.position = nil
                }
                queue.isBusy = true
                return (queue.jobs, queue.position, queue.isClosed)
            }
            position = noted ?? position
            condition.unlock()
            for job in jobs { take(job, &refused) }
            if isClosed || refused.due.map({ $0 <= clock.now }) ?? false { tryAgain(&refused, isLast: isClosed) }
            let now = clock.now
            let due = lastFeed + Self.feedPause
            let (isStale, unlisted) = shelf.withLock { shelf in
                if now >= due || isClosed { writeFeed(&shelf) }
                return (shelf.feedIsStale, shelf.feedIsStale ? shelf.newest.map { Self.fileName(of: $0.item.id) } : [])
            }
            // At once, so that who is killed is sent next to nothing again; where the disk refuses it, not all the time.
            if noted != nil || now >= due || isClosed, let bytes = position, refused.jobs.isEmpty {
                do throws(FileError) {
                    try StoredPlace(position: bytes, unlisted: unlisted).write(to: directory)
                    position = nil
                } catch { logger.error("the position in the source's log is not stored: \(error)") }
            }
            if now >= due { lastFeed = now }
            feedDue =
                isStale || position != nil && refused.jobs.isEmpty ? lastFeed + Self.feedPause : nil
            condition.lock()
            queue.withLock { $0.isBusy = false }
            condition.broadcast()
            condition.unlock()
            if isClosed {
                ended.signal()
                return
            }
        }
    }

    private func take(_ job: Job, _ refused: inout Refused) {
        let mayWait = refused.bytes + job.document.count <= Self.refusedBytes
        if let error = finish(job, unlessRefused: mayWait) {
            if refused.jobs.isEmpty { logger.warning("\(error); this item and others like it are tried again") }
            refused.jobs.append(job)
            refused.bytes += job.document.count
            refused.due = refused.due ?? .now + refused.pause
        }
        condition.lock()
        queue.withLock { $0.bytes -= job.document.count }
        condition.broadcast()
        condition.unlock()
    }

    /// - Parameter isLast: what is refused now has failed.
    private func tryAgain(_ refused: inout Refused, isLast: Bool) {
        let before = refused.jobs.count
        refused.jobs = refused.jobs.filter { finish($0, unlessRefused: !isLast) != nil }
        refused.bytes = refused.jobs.reduce(0) { $0 + $1.document.count }
        refused.pause =
            refused.jobs.count < before ? Refused.shortestPause : min(refused.pause * 2, Refused.longestPause)
        refused.due = refused.jobs.isEmpty ? nil : .now + refused.pause
    }

    /// Stores the job's items and says what became of them; with `unlessRefused` not of those that the disk refused: its
    /// failure is returned instead.
    private func finish(_ job: Job, unlessRefused: Bool) -> FileError? {
        var refusal: FileError?
        for result in storeEach(job.document, order: job.order) {
            if unlessRefused, case .failure(.file(let error)) = result {
                refusal = error
            } else {
                job.completion(result)
            }
        }
        return refusal
    }

    /// Waits until everything submitted is on disk, or was refused by it, and `feed.atom` is up to date. Not to be called from
    /// a completion.
    package func flush() {
        condition.lock()
        while queue.withLock({ !$0.jobs.isEmpty || $0.isBusy }) { condition.wait() }
        condition.unlock()
        shelf.withLock { writeFeed(&$0) }
    }

    /// As `flush`, tries what was refused for the last time, and ends the thread. Nothing may be stored afterwards.
    package func close() {
        flush()
        condition.lock()
        let wasClosed = queue.withLock { queue in
            defer { queue.isClosed = true }
            return queue.isClosed
        }
        condition.broadcast()
        condition.unlock()
        guard !wasClosed else { return }
        ended.wait()
        directory.unlock()
    }
}
