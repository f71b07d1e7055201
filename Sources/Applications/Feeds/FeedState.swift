import Cryptography
import Feed
import FoundationEssentials
import Logging
import Reactor
import System

/// An item as it goes out, with its place in the order of all items of this source.
package struct PublishedItem: Sendable, Equatable {
    /// Rises by one with each item, also over restarts.
    package var sequence: UInt64
    package var kind: FeedChange.Kind
    package var item: FeedItem
}

/// What a source knows about its feed, kept in a directory so that a restart neither loses an item nor sends one twice.
///
/// An item counts as sent from the moment it is recorded: its document is on disk then, and whoever starts next gives
/// it to receivers as part of the history. `state` names everything else; it is replaced as a whole after the items'
/// files are in place, and begins with its own digest, so that a damaged one is noticed.
package struct FeedState: Sendable {
    /// Octets of all documents in the history; older ones give way.
    package static let historyBytes = 64 << 20
    /// Octets of the `state` file.
    static let fileBytes = 256 << 20

    /// The newest items, oldest first; an edited item replaces its older version.
    package private(set) var history: [PublishedItem] = []
    package private(set) var memory: FeedMemory
    package private(set) var validators = FeedValidators()
    /// Something is not on disk yet, because writing failed.
    package private(set) var isUnsaved = false
    /// Where the feed has moved for good (RFC 9110 section 15.4.2).
    package private(set) var moved: URL?
    private var nextSequence: UInt64 = 1
    private let historyLimit: Int
    private let feed: String
    private let directory: DurableDirectory?
    private var stored: Set<UInt64> = []

    private static let stateName = "state"
    private static let heading = "flexicast feed state 1 sha256="

    private struct Stored: Codable {
        struct Place: Codable {
            var sequence: UInt64
            var kind: FeedChange.Kind
            var id: String
        }
        /// `FeedLocation.identity`; an earlier version wrote the location itself.
        var feed: String
        var validators: FeedValidators
        /// Only what has no query, which may be a secret.
        var moved: String?
        var nextSequence: UInt64
        var history: [Place]
        var memory: FeedMemory
    }

    /// A state that is forgotten with the process.
    package init(feed: String, history: Int, memory: FeedMemory = FeedMemory()) {
        self.feed = FeedLocation.identity(of: feed)
        self.memory = memory
        historyLimit = max(0, history)
        directory = nil
    }

    /// Opens the state in a directory, which is made when it is missing.
    ///
    /// - Throws: when the directory cannot be used, or another process uses it. A damaged state is no error: it is put
    ///   aside as `state.bad` and a new one begun.
    package init(
        directory path: String, feed: String, history: Int, memory: FeedMemory = FeedMemory(), logger: Logger
    ) throws(FileError) {
        self.init(feed: feed, history: history, directory: try openDirectory(path), memory: memory)
        guard let directory else { return }
        do {
            if let text = try directory.read(Self.stateName, limit: Self.fileBytes) {
                restore(try Self.decode(text), from: directory, logger: logger)
            }
        } catch let error as FileError where error.code != 0 {
            throw error
        } catch {
            logger.error(
                "the state in \(path) is damaged (\(error)); it is put aside as state.bad and all items count as new")
            try directory.rename(Self.stateName, to: "state.bad")
            try directory.sync()
        }
        try removeLeftovers(directory)
    }

    private init(feed: String, history: Int, directory: DurableDirectory, memory: FeedMemory) {
        self.feed = FeedLocation.identity(of: feed)
        self.memory = memory
        historyLimit = max(0, history)
        self.directory = directory
    }

    // MARK: - Reading

    private struct Damage: Error, CustomStringConvertible {
        var description: String
    }

    private static func decode(_ text: [UInt8]) throws -> Stored {
        guard let end = text.firstIndex(of: 10), text.starts(with: heading.utf8) else {
            throw Damage(description: "it does not begin as a state does")
        }
        let body = Array(text[(end + 1)...])
        guard String(decoding: text[heading.utf8.count..<end], as: UTF8.self) == SHA256Digest(of: body).description
        else {
            throw Damage(description: "its digest is wrong")
        }
        return try JSONDecoder().decode(Stored.self, from: Data(body))
    }

    private mutating func restore(_ found: Stored, from directory: DurableDirectory, logger: Logger) {
        memory = found.memory
        nextSequence = found.nextSequence
        if FeedLocation.identity(of: found.feed) == feed || found.feed == feed {
            validators = found.validators
            moved = found.moved.flatMap { URL(string: $0) }
            isUnsaved = found.feed != feed
        } else {
            let other = PublicAddress.redacted(found.feed)
            logger.notice("the state in \(directory.path) is of another feed, \(other); its items stay known")
        }
        for place in found.history {
            do {
                let bytes = try directory.read(Self.name(place.sequence), limit: FeedLimits.itemBytes)
                guard let bytes else { throw Damage(description: "the file is missing") }
                let item = try FeedParser.parseEntry(bytes)
                history.append(PublishedItem(sequence: place.sequence, kind: place.kind, item: item))
                stored.insert(place.sequence)
            } catch {
                logger.error("item \(place.sequence) in \(directory.path) is lost: \(error)")
                // Late receivers cannot be given it, so it is taken from the feed once more.
                memory.forget(place.id)
                validators = FeedValidators()
            }
        }
        trim()
    }

    private static func name(_ sequence: UInt64) -> String { "item-\(sequence).xml" }

    /// Files of items that were never recorded, or no longer are.
    private mutating func removeLeftovers(_ directory: DurableDirectory) throws(FileError) {
        let names = Set(history.map { Self.name($0.sequence) })
        for name in try fileNames(in: directory.path) {
            let isItem = name.hasPrefix("item-") && name.hasSuffix(".xml") && !names.contains(name)
            if isItem || name.hasPrefix(DurableDirectory.temporaryPrefix) { try directory.remove(name) }
        }
    }

    // MARK: - Recording

    /// Takes in what a poll brought and records it.
    ///
    /// - Returns: what must go out, oldest first, and why it could not be saved. Unsaved items go out all the same: a
    ///   restart would send them once more, and receivers know them then.
    package mutating func absorb(
        _ document: FeedDocument, validators: FeedValidators
    ) -> (items: [PublishedItem], failure: FileError?) {
        let uptime = Duration.seconds(ProcessInfo.processInfo.systemUptime)
        let changes = memory.absorb(document, at: uptime) { SHA256Digest(of: $0).octets }
        // An edit that waits is found again only in a document that is read again.
        use(memory.holdsBack ? FeedValidators() : validators)
        let items = changes.map { change in
            defer { nextSequence += 1 }
            return PublishedItem(sequence: nextSequence, kind: change.kind, item: change.item)
        }
        guard !items.isEmpty else { return ([], save()) }
        let replaced = Set(items.map(\.item.id))
        history.removeAll { replaced.contains($0.item.id) }
        history.append(contentsOf: items)
        trim()
        isUnsaved = true
        return (items, save())
    }

    /// What to ask with next time.
    package mutating func use(_ validators: FeedValidators) {
        guard validators != self.validators else { return }
        self.validators = validators
        isUnsaved = true
    }

    /// Where to ask next time; nil: where the feed was said to be.
    package mutating func use(moved: URL?) {
        guard moved != self.moved else { return }
        self.moved = moved
        isUnsaved = true
    }

    private mutating func trim() {
        var bytes = history.reduce(0) { $0 + $1.item.document.count }
        var surplus = 0
        while history.count - surplus > historyLimit || bytes > Self.historyBytes {
            bytes -= history[surplus].item.document.count
            surplus += 1
        }
        history.removeFirst(surplus)
    }

    /// Brings what is unsaved to disk.
    package mutating func save() -> FileError? {
        guard isUnsaved else { return nil }
        guard let directory else {
            isUnsaved = false
            return nil
        }
        do throws(FileError) {
            for published in history where !stored.contains(published.sequence) {
                let name = Self.name(published.sequence)
                try directory.prepare(published.item.document, as: name)
                try directory.publish(name)
                stored.insert(published.sequence)
            }
            try directory.sync()
            try directory.write(try encoded(), as: Self.stateName)
            // Only now does no state name the older ones any more.
            let kept = Set(history.map(\.sequence))
            for sequence in stored.subtracting(kept) { try directory.remove(Self.name(sequence)) }
            stored.formIntersection(kept)
            isUnsaved = false
            return nil
        } catch { return error }
    }

    private func encoded() throws(FileError) -> [UInt8] {
        let content = Stored(
            feed: feed, validators: validators, moved: moved.flatMap { $0.query() == nil ? $0.absoluteString : nil },
            nextSequence: nextSequence,
            history: history.map { Stored.Place(sequence: $0.sequence, kind: $0.kind, id: $0.item.id) }, memory: memory)
        do {
            let body = Array(try JSONEncoder().encode(content))
            return Array("\(Self.heading)\(SHA256Digest(of: body))\n".utf8) + body
        } catch {
            throw FileError("write", Self.stateName, reason: "\(error)")
        }
    }
}

/// Makes the directory when it is missing and opens it.
func openDirectory(_ path: String) throws(FileError) -> DurableDirectory {
    if let status = try StoredFile.status(of: path) {
        // What is there may be a link to a directory, which opening it will tell.
        if status.isRegular { throw FileError("use", path, reason: "this is a file, not a directory") }
    } else {
        do throws(SystemError) {
            try makeDirectories(path)
        } catch { throw FileError("make the directory", path, reason: error.reason) }
    }
    return try DurableDirectory(path: path)
}

func fileNames(in path: String) throws(FileError) -> [String] {
    do throws(SystemError) {
        return try saying("list \(path)") { try FileManager.default.contentsOfDirectory(atPath: path) }
    } catch { throw FileError("list", path, reason: error.reason) }
}
