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
/// A version is new when its id is unknown, and edited when its `updated` or its own content differs from the version
/// last seen. Caches in front of a feed answer with different ages, so the version before the last is also known: when
/// it shows up again with its older date it is not an edit.
public struct FeedMemory: Sendable, Equatable, Codable {
    /// Ids beyond this number are forgotten, the longest unseen first.
    public let capacity: Int
    /// An id seen in one of this many last documents is never forgotten.
    public let documents: Int
    /// Documents taken in so far.
    public private(set) var documentCount = 0
    /// Items that came twice in one document.
    public private(set) var duplicates = 0
    /// Items that came back in the version before their last.
    public private(set) var stale = 0
    /// Ids given up for `capacity`.
    public private(set) var forgotten = 0
    private var known: [String: Version] = [:]

    private struct Version: Sendable, Equatable, Codable {
        var updated: String
        var digest: Data
        var previous: Data?
        var seen: Int
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
    /// `digest`: a collision-resistant hash; it is given each item's own content.
    /// - Returns: what must be sent, oldest first.
    public mutating func absorb(_ document: FeedDocument, digest: ([UInt8]) -> [UInt8]) -> [FeedChange] {
        documentCount += 1
        var changes: [FeedChange] = []
        // Feeds are written newest first, so of items with equal dates the last in the document is the oldest.
        for item in oneVersionEach(document.items).reversed() {
            let found = Data(digest(item.ownContent))
            guard var version = known[item.id] else {
                known[item.id] = Version(updated: item.updated, digest: found, seen: documentCount)
                changes.append(FeedChange(kind: .new, item: item))
                continue
            }
            version.seen = documentCount
            if version.digest != found || version.updated != item.updated {
                if version.previous == found, isOlder(item, than: version) {
                    stale += 1
                } else {
                    version.previous = version.digest
                    version.digest = found
                    version.updated = item.updated
                    changes.append(FeedChange(kind: .edited, item: item))
                }
            }
            known[item.id] = version
        }
        forget()
        return changes.enumerated().sorted {
            let a = $0.element.item.date ?? .distantPast
            let b = $1.element.item.date ?? .distantPast
            return a == b ? $0.offset < $1.offset : a < b
        }.map(\.element)
    }

    private func isOlder(_ item: FeedItem, than version: Version) -> Bool {
        guard let date = item.date, let known = Timestamp.rfc3339(version.updated) else { return false }
        return date < known
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
