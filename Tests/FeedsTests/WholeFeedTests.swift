import Cryptography
import Feed
import Testing

@testable import Feeds

/// A source that sends the whole feed with each change, and what receivers make of it.
@Suite struct WholeFeedTests {
    private func items(_ entries: String...) throws -> [FeedItem] {
        try FeedParser.parse(Array(Documents.feed(entries).utf8)).items
    }

    private func publication(_ items: [FeedItem], changed: Set<String>) -> Publication {
        Publication(wholeFeed: items, id: "urn:f", title: "F", changed: changed)
    }

    /// Each receiver has each item as if it had come alone: the octets that the source told of, under the item's name.
    @Test func receiversHaveTheItems() throws {
        let scratch = try Scratch()
        let store = try ItemStore(directory: scratch.file("out"), logger: LogLines().logger)
        let first = publication(
            try items(Documents.entry("a:2", 2), Documents.entry("a:1", 1)), changed: ["a:1", "a:2"])
        #expect(first.documents.count == 1 && first.items.map(\.id) == ["a:1", "a:2"])
        let stored = store.storeEach(first.documents[0].bytes).compactMap { try? $0.get() }
        #expect(stored.map(\.outcome) == [.new, .new])
        #expect(Set(stored.map(\.sha256)) == Set(first.items.map { SHA256Digest(of: $0.document) }))
        for item in stored { #expect(try SHA256Digest(of: scratch.read("out/" + item.file)) == item.sha256) }

        // One is edited, one is new, one is as it was.
        let second = publication(
            try items(Documents.entry("a:3", 3), Documents.entry("a:2", 4, text: "y"), Documents.entry("a:1", 1)),
            changed: ["a:2", "a:3"])
        #expect(Set(second.items.map(\.id)) == ["a:2", "a:3"])
        let outcomes = store.storeEach(second.documents[0].bytes).compactMap { try? $0.get() }
        #expect(
            Dictionary(outcomes.map { ($0.id, $0.outcome) }) { $1 } == ["a:1": .known, "a:2": .edited, "a:3": .new])
        // The feed before arrives late.
        #expect(
            Set(store.storeEach(first.documents[0].bytes).compactMap { try? $0.get().outcome }) == [.known, .outdated])
        store.close()
        #expect(try FeedParser.parse(scratch.read("out/feed.atom")).items.count == 3)
    }

    @Test func whatIsNoFeedIsOneFailure() throws {
        let scratch = try Scratch()
        let store = try ItemStore(directory: scratch.file("out"), logger: LogLines().logger)
        #expect(store.storeEach(Array("<feed xmlns=\"http://www.w3.org/2005/Atom\">".utf8)).count == 1)
        #expect(store.counters.failed == 1)
        #expect(throws: ItemStoreError.self) { try store.store(Array(Documents.feed([]).utf8)) }
        store.close()
    }

    /// More than a stream may carry: the oldest stay out.
    @Test func oldItemsGiveWay() throws {
        let text = String(repeating: "z", count: 6 << 20)
        let all = try items(
            Documents.entry("a:3", 3, text: text), Documents.entry("a:2", 2, text: text),
            Documents.entry("a:1", 1, text: text))
        let publication = publication(all, changed: ["a:1", "a:2", "a:3"])
        #expect(publication.items.map(\.id) == ["a:2", "a:3"])
        #expect(publication.documents[0].bytes.count <= FeedLimits.itemBytes)
    }

    @Test func eventsTellTheFeedAndThenItsNews() throws {
        let whole = publication(try items(Documents.entry("a:1", 1)), changed: ["a:1"]).events.map(\.json)
        #expect(whole.count == 2 && whole[0].hasPrefix(#"{"event":"feed","bytes":"#))
        #expect(whole[1].hasPrefix(#"{"event":"item","id":"a:1""#))
        #expect(Publication(items: try items(Documents.entry("a:1", 1))).events.count == 1)
    }
}
