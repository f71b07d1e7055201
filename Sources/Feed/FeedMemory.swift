import FoundationEssentials

/// An item that must be sent, and why.
public struct FeedChange: Sendable, Equatable {
    /// Why an item must be sent.
    public enum Kind: String, Sendable, Codable {
        /// Its id was unknown.
        case new
        /// Its `updated` or its content differs from the version last seen.
        case edited
    }
    /// Why it must be sent.
    public var kind: Kind
    /// The item, in the version that is new.
    public var item: FeedItem

    /// An item to be sent, for this reason.
    public init(kind: Kind, item: FeedItem) {
        self.kind = kind
        self.item = item
    }
}

/// What a source remembers of a feed, so that each version of an item is sent once. A pure value: a copy is a
/// transaction that can be thrown away.
///
/// A version is new when its id is unknown, and edited when what is the item's own differs from every version that is
/// remembered of it. Caches in front of a feed answer with different ages, so a version that comes back is not an edit.
/// Nor are counters (of comments, of votes), and what the item has from the feed around it. No rule looks at a date, since
/// publishers' clocks go back.
public struct FeedMemory: Sendable, Equatable, Codable {
    /// Ids beyond this number are forgotten, the longest unseen first.
    public let capacity: Int
    /// An id seen in one of this many last documents is never forgotten.
    public let documents: Int
    /// Documents taken in so far.
    public private(set) var documentCount = 0
    /// Items that came twice in one document.
    public private(set) var duplicates = 0
    /// Items that came back in an earlier version.
    public private(set) var stale = 0
    /// Whether the last document had edits that wait, because their items had too many in this hour.
    public var holdsBack: Bool { heldBack ?? 0 > 0 }
    private var heldBack: Int?
    /// Ids given up for `capacity`.
    public private(set) var forgotten = 0
    private var known: [String: Version] = [:]

    /// Edits of one item that are sent in an hour; the one in force then follows when the hour is over.
    public static let editsPerHour = 6
    /// Earlier versions of an item that are told when they come back.
    static let versions = 8

    private struct Version: Sendable, Equatable, Codable {
        var updated: String
        var digest: Data
        /// What an earlier release wrote in place of `earlier`.
        var previous: Data?
        /// Digests of the versions before, the latest last.
        var earlier: [Data]?
        var seen: Int
        /// When the hour began in which edits are counted.
        var hour: Duration?
        var edits: Int?

        func had(_ found: Data) -> Bool { previous == found || earlier?.contains(found) == true }

        /// Whether one more edit may go out.
        mutating func mayEdit(at now: Duration) -> Bool {
            // A clock that starts anew with the machine begins a new hour.
            if hour.map({ now < $0 || now - $0 >= .seconds(3600) }) ?? true { (hour, edits) = (now, 0) }
            return edits ?? 0 < FeedMemory.editsPerHour
        }

        mutating func edit(_ found: Data, _ updated: String) {
            earlier = Array(((earlier ?? previous.map { [$0] } ?? []) + [digest]).suffix(FeedMemory.versions))
            previous = nil
            digest = found
            self.updated = updated
            edits = (edits ?? 0) + 1
        }
    }

    /// - Parameters:
    ///   - capacity: ids to remember.
    ///   - documents: how many last documents are exempt from forgetting. Memory is bounded by the greater of
    ///     `capacity` and `documents` times `FeedLimits.items`.
    public init(capacity: Int = 8192, documents: Int = 16) {
        self.capacity = capacity
        self.documents = documents
    }

    /// Ids that are remembered.
    public var count: Int { known.count }

    /// Whether an item with this id was seen, and is not forgotten.
    public func knows(_ id: String) -> Bool { known[id] != nil }

    /// The item will count as new when it is seen again: what was recorded of it is lost.
    public mutating func forget(_ id: String) { known[id] = nil }

    /// Takes in what a poll brought.
    ///
    /// - Parameters:
    ///   - now: of any clock that goes forward while the machine runs, for the limit of edits.
    ///   - digest: a collision-resistant hash; it is given each item's own content.
    /// - Returns: what must be sent, oldest first.
    public mutating func absorb(
        _ document: FeedDocument, at now: Duration = .zero, digest: ([UInt8]) -> [UInt8]
    ) -> [FeedChange] {
        documentCount += 1
        heldBack = 0
        var changes: [FeedChange] = []
        // Feeds are written newest first, so of items with equal dates the last in the document is the oldest.
        for item in oneVersionEach(document.items).reversed() {
            let found = Data(digest(OwnContent.of(item, in: document)))
            guard var version = known[item.id] else {
                known[item.id] = Version(updated: item.updated, digest: found, seen: documentCount)
                changes.append(FeedChange(kind: .new, item: item))
                continue
            }
            version.seen = documentCount
            if version.digest == found {
                // Nothing new.
            } else if version.had(found) {
                stale += 1
            } else if version.mayEdit(at: now) {
                version.edit(found, item.updated)
                changes.append(FeedChange(kind: .edited, item: item))
            } else {
                heldBack = (heldBack ?? 0) + 1
            }
            known[item.id] = version
        }
        forget()
        return inOrder(changes)
    }

    /// By date, if all have one: else the order of the document is the only one there is.
    private func inOrder(_ changes: [FeedChange]) -> [FeedChange] {
        let dates = changes.map { $0.item.date ?? .distantPast }
        // An item of RSS without a date has the beginning of Unix time.
        guard dates.allSatisfy({ $0 > Date(timeIntervalSince1970: 0) }) else { return changes }
        return changes.indices.sorted { (dates[$0], $0) < (dates[$1], $1) }.map { changes[$0] }
    }

    /// Of several versions with one id the latest; the first of those with equal dates (RFC 4287 section 4.1.1).
    private mutating func oneVersionEach(_ items: [FeedItem]) -> [FeedItem] {
        var place: [String: Int] = [:]
        var out: [FeedItem] = []
        for item in items {
            if let at = place[item.id] {
                duplicates += 1
                if (item.date ?? .distantPast) > (out[at].date ?? .distantPast) { out[at] = item }
            } else {
                place[item.id] = out.count
                out.append(item)
            }
        }
        return out
    }

    private mutating func forget() {
        guard known.count > capacity else { return }
        let candidates = known.filter { $0.value.seen <= documentCount - documents }
            .sorted { ($0.value.seen, $0.key) < ($1.value.seen, $1.key) }
        for (id, _) in candidates.prefix(known.count - capacity) {
            known[id] = nil
            forgotten += 1
        }
    }
}
