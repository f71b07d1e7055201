import Cryptography
import Feed
import Objects

/// What a source sends after a poll.
struct Publication: Sendable {
    /// What goes out, in this order.
    var documents: [Document]
    /// What is new or edited, as every receiver must end up with it.
    var items: [FeedItem]
    /// Whether `documents` are whole feeds.
    var isWholeFeed = false

    /// An object of the source's log.
    struct Document: Sendable {
        /// An item's `atom:id`, after the feed's name and a slash if it has one: receivers choose by how a name begins.
        var name: String
        var mediaType: String
        var bytes: [UInt8]

        init(_ item: FeedItem, of feed: String? = nil) {
            let start = feed.map { $0 + "/" } ?? ""
            // An id too long for a name is as good as none: it is in the item.
            name = start + (start.utf8.count + item.id.utf8.count <= ObjectLimits.nameOctets ? item.id : "")
            mediaType = "application/atom+xml;type=entry"
            bytes = item.document
        }

        init(wholeFeed bytes: [UInt8]) {
            name = ""
            mediaType = "application/atom+xml;type=feed"
            self.bytes = bytes
        }
    }

    /// Each item as a document of its own.
    init(items: [FeedItem], of feed: String? = nil) {
        self.items = items
        documents = items.map { Document($0, of: feed) }
    }

    /// What is new or edited, or the whole feed that has it.
    ///
    /// - Parameters:
    ///   - feed: nil when only its items are known, after a restart.
    ///   - location: stands for an id and a title that are not known, without what may be secret in it.
    ///   - name: the feed's, by which receivers choose, if it has one.
    init(
        _ changed: [FeedItem], of feed: FeedDocument?, at location: FeedLocation, name: String? = nil, asWholeFeed: Bool
    ) {
        guard asWholeFeed else {
            self.init(items: changed, of: name)
            return
        }
        self.init(
            wholeFeed: feed?.items ?? changed, id: feed.flatMap { $0.id.isEmpty ? nil : $0.id } ?? location.published,
            title: feed?.title ?? location.published, changed: Set(changed.map(\.id)))
        if let name { documents[0].name = name + "/" }
    }

    /// The whole feed as one Atom document, as plain polling would have brought it to every reader.
    ///
    /// Items that would make it longer than `FeedLimits.itemBytes` are left out, the oldest first.
    init(wholeFeed items: [FeedItem], id: String, title: String, changed: Set<String>) {
        var octets = 4096
        let newest = AtomWriter.newestFirst(items).prefix { item in
            octets += item.document.count
            return octets <= FeedLimits.itemBytes
        }
        let document = AtomWriter(id: id, title: title).document(Array(newest))
        documents = [Document(wholeFeed: document)]
        isWholeFeed = true
        // Receivers read the items from it, so it is what they read that counts.
        let sent = (try? FeedParser.parseItems(document)) ?? []
        self.items = sent.map(\.item).filter { changed.contains($0.id) }.reversed()
    }
}

extension Publication {
    /// What is told of it, in order.
    var events: [SourceEvent] {
        (isWholeFeed
            ? documents.map { SourceEvent.feed(bytes: $0.bytes.count, sha256: "\(SHA256Digest(of: $0.bytes))") } : [])
            + items.map { item in
                SourceEvent.item(
                    id: item.id, title: item.title, updated: item.updated, bytes: item.document.count,
                    sha256: "\(SHA256Digest(of: item.document))")
            }
    }
}
