import Cryptography
import Feed
import Reactor

/// Why an item was not stored.
package enum ItemStoreError: Error, Sendable, CustomStringConvertible {
    case tooLarge(bytes: Int)
    case notAnItem(FeedError)
    case file(FileError)

    package var description: String {
        switch self {
        case .tooLarge(let bytes): "an item of \(bytes) bytes is larger than the limit of \(FeedLimits.itemBytes)"
        case .notAnItem(let error): "what came is no item: \(error)"
        case .file(let error): error.description
        }
    }
}

/// Where an item stands in what one connection brought: the later of two versions of an item is the one whose stream
/// the source opened later, whichever arrives first.
package struct ItemOrder: Sendable, Equatable {
    /// Counts the connections of this process.
    package var session: UInt64
    /// Rises in the order in which the source sent.
    package var position: UInt64

    package init(session: UInt64, position: UInt64) {
        self.session = session
        self.position = position
    }
}

/// An item that the store has dealt with.
package struct StoredItem: Sendable {
    package enum Outcome: String, Sendable {
        case new
        /// It replaced an older version.
        case edited
        /// It was there already, octet for octet.
        case known
        /// A newer version is there; this one was not kept.
        case outdated
    }

    package var outcome: Outcome
    package var id: String
    package var title: String
    package var updated: String
    package var bytes: Int
    /// Of the document's octets.
    package var sha256: SHA256Digest
    /// Its file's name within the directory.
    package var file: String
}
