import Foundation
import Testing

@testable import Feed

@Suite struct FeedMemoryTests {
    /// The test's digest is the content itself, so equal digests mean equal contents.
    private let same: ([UInt8]) -> [UInt8] = { $0 }

    private func document(_ entries: [(id: String, updated: Int, text: String)], title: String = "F") throws
        -> FeedDocument
    {
        let content = entries.map {
            "<entry><id>\($0.id)</id><title/><updated>\(Timestamp.text(Date(timeIntervalSince1970: Double($0.updated))))"
                + "</updated><content>\($0.text)</content></entry>"
        }
        return try FeedParser.parse(
            Array(
                "<feed xmlns=\"http://www.w3.org/2005/Atom\"><id>urn:f</id><title>\(title)</title>\(content.joined())</feed>"
                    .utf8))
    }

    @Test func newItemsComeOldestFirstAndOnce() throws {
        var memory = FeedMemory()
        let first = try document([("a:3", 30, "x"), ("a:2", 20, "x"), ("a:1", 20, "x")])
        #expect(memory.absorb(first, digest: same).map(\.item.id) == ["a:1", "a:2", "a:3"])
        #expect(memory.absorb(first, digest: same) == [])
        let second = try document([("a:4", 5, "x"), ("a:3", 30, "x")])
        let changes = memory.absorb(second, digest: same)
        #expect(changes.map(\.item.id) == ["a:4"])
        #expect(changes.map(\.kind) == [.new])
        #expect(memory.documentCount == 3)
    }

    @Test func editedItemsAreSentAgain() throws {
        var memory = FeedMemory()
        _ = memory.absorb(try document([("a:1", 10, "x")]), digest: same)
        let dated = memory.absorb(try document([("a:1", 11, "x")]), digest: same)
        #expect(dated.map(\.kind) == [.edited])
        let quiet = memory.absorb(try document([("a:1", 11, "y")]), digest: same)
        #expect(quiet.map(\.kind) == [.edited])
        #expect(memory.absorb(try document([("a:1", 11, "y")]), digest: same) == [])
    }

    @Test func aNewTitleOfTheFeedEditsNothing() throws {
        var memory = FeedMemory()
        _ = memory.absorb(try document([("a:1", 10, "x")], title: "before"), digest: same)
        #expect(memory.absorb(try document([("a:1", 10, "x")], title: "after"), digest: same) == [])
    }

    /// Two caches of different age answer in turn; a correction back to an earlier text with a new date is an edit.
    @Test func anOlderCacheIsNoEdit() throws {
        var memory = FeedMemory()
        let old = try document([("a:1", 10, "x")])
        let new = try document([("a:1", 20, "y")])
        _ = memory.absorb(old, digest: same)
        #expect(memory.absorb(new, digest: same).count == 1)
        for _ in 0..<3 {
            #expect(memory.absorb(old, digest: same) == [])
            #expect(memory.absorb(new, digest: same) == [])
        }
        #expect(memory.stale == 3)
        #expect(memory.absorb(try document([("a:1", 30, "x")]), digest: same).map(\.kind) == [.edited])
    }

    /// Two caches that answer in turn, with texts of one date.
    @Test func aTextThatComesBackIsNoNews() throws {
        var memory = FeedMemory()
        let old = try document([("a:1", 10, "old")])
        let new = try document([("a:1", 10, "new")])
        let sent = (0..<10).map { memory.absorb($0 % 2 == 0 ? old : new, digest: same).count }
        #expect(sent == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
        // With a third between them.
        #expect(memory.absorb(try document([("a:1", 10, "third")]), digest: same).count == 1)
        #expect(memory.absorb(old, digest: same) == [])
        #expect(memory.absorb(new, digest: same) == [])
    }

    /// What is around an item, and what others do with it, is not the item's own.
    @Test func countersAndTheChannelEditNothing() throws {
        func rss(_ title: String, _ link: String, _ language: String, _ comments: Int, _ text: String) throws
            -> FeedDocument
        {
            try FeedParser.parse(
                Array(
                    """
                    <rss version="2.0" xmlns:slash="http://purl.org/rss/1.0/modules/slash/" \
                    xmlns:thr="http://purl.org/syndication/thread/1.0"><channel><title>\(title)</title><link>\(link)</link>\
                    <language>\(language)</language><item><guid>urn:x:1</guid><title>T</title>\
                    <description>\(text)</description><slash:comments>\(comments)</slash:comments>\
                    <slash:hit_parade/><thr:total>\(comments)</thr:total></item></channel></rss>
                    """.utf8))
        }
        var memory = FeedMemory()
        #expect(memory.absorb(try rss("F", "http://a.example/", "en", 1, "x"), digest: same).count == 1)
        #expect(memory.absorb(try rss("F", "http://a.example/", "en", 2, "x"), digest: same) == [])
        #expect(memory.absorb(try rss("F &amp; G", "http://a.example/", "en", 2, "x"), digest: same) == [])
        #expect(memory.absorb(try rss("F", "http://b.example/", "de", 2, "x"), digest: same) == [])
        #expect(memory.absorb(try rss("F", "http://b.example/", "de", 2, "y"), digest: same).count == 1)
        func atom(_ count: Int, _ text: String) throws -> FeedDocument {
            try FeedParser.parse(
                Array(
                    """
                    <feed xmlns="http://www.w3.org/2005/Atom" xmlns:t="http://purl.org/syndication/thread/1.0"><id>f</id>\
                    <title>F</title><entry><id>a:2</id><title/><updated>2025-01-01T00:00:00Z</updated>\
                    <link rel="replies" href="http://a.example/c" t:count="\(count)" t:updated="2025-01-0\(count)T00:00:00Z"/>\
                    <content>\(text)</content></entry></feed>
                    """.utf8))
        }
        #expect(memory.absorb(try atom(1, "x"), digest: same).count == 1)
        #expect(memory.absorb(try atom(2, "x"), digest: same) == [])
        #expect(memory.absorb(try atom(2, "y"), digest: same).count == 1)
    }

    @Test func anItemThatNeverRestsIsSentSoOftenInAnHour() throws {
        var memory = FeedMemory()
        var sent = 0
        for poll in 0..<100 {
            sent +=
                memory.absorb(
                    try document([("a:1", poll, "\(poll)")]), at: .seconds(1000 + poll), digest: same
                ).count
        }
        #expect(sent == 1 + FeedMemory.editsPerHour)
        #expect(memory.holdsBack)
        let last = try document([("a:1", 99, "99")])
        #expect(memory.absorb(last, at: .seconds(5000), digest: same).map(\.kind) == [.edited])
        #expect(!memory.holdsBack)
        // The machine was started anew, and its clock with it.
        #expect(memory.absorb(try document([("a:1", 5, "5 again")]), at: .zero, digest: same).count == 1)
    }

    /// Where some have no date, the document's order is the only one that there is.
    @Test func undatedItemsStandWhereTheDocumentHasThem() throws {
        var memory = FeedMemory()
        let items = [
            "<guid>a:4</guid>", "<guid>a:3</guid><pubDate>Fri, 05 Sep 2025 09:49:57 GMT</pubDate>", "<guid>a:9</guid>",
        ]
        .map { "<item>\($0)</item>" }.joined()
        let document = try FeedParser.parse(Array("<rss><channel><title>F</title>\(items)</channel></rss>".utf8))
        #expect(memory.absorb(document, digest: same).map(\.item.id) == ["a:9", "a:3", "a:4"])
    }

    @Test func oneVersionOfADuplicateCounts() throws {
        var memory = FeedMemory()
        let twice = try document([("a:1", 10, "old"), ("a:1", 20, "new"), ("a:1", 20, "other")])
        let changes = memory.absorb(twice, digest: same)
        #expect(changes.map { String(decoding: $0.item.document, as: UTF8.self).contains(">new<") } == [true])
        #expect(memory.duplicates == 2)
        #expect(memory.absorb(twice, digest: same) == [])
    }

    @Test func memoryIsBoundedAndForgetsWhatIsLongGone() throws {
        var memory = FeedMemory(capacity: 10, documents: 3)
        for number in 0..<50 {
            let entries = (number..<number + 4).reversed().map { (id: "a:\($0)", updated: $0, text: "x") }
            let changes = memory.absorb(try document(entries), digest: same)
            #expect(changes.count == (number == 0 ? 4 : 1))
            #expect(memory.count <= 10)
        }
        #expect(memory.forgotten == 53 - 10)
        #expect(!memory.knows("a:0"))
        // One document larger than the capacity: nothing in it may be forgotten, or it would be sent at each poll.
        let large = try document((0..<30).map { (id: "b:\($0)", updated: 1, text: "x") })
        #expect(memory.absorb(large, digest: same).count == 30)
        #expect(memory.absorb(large, digest: same) == [])
        #expect(memory.count <= 30 + 10)
    }

    @Test func survivesBeingStored() throws {
        var memory = FeedMemory(capacity: 7, documents: 3)
        let items = try document([("a:1", 10, "x"), ("a:2", 20, "\u{e9}")])
        _ = memory.absorb(items, digest: same)
        var again = try JSONDecoder().decode(FeedMemory.self, from: JSONEncoder().encode(memory))
        #expect(again == memory)
        #expect(again.absorb(items, digest: same) == [])
        #expect(again.capacity == 7)
    }
}

@Suite struct SampleFeedTests {
    @Test func growsByOneItemAndNeverChanges() throws {
        var memory = FeedMemory()
        for count in 1...25 {
            let document = SampleFeed.document(upTo: count)
            #expect(document == SampleFeed.document(upTo: count))
            let changes = memory.absorb(try FeedParser.parse(document)) { $0 }
            #expect(changes.map(\.item.id) == [SampleFeed.id(of: count - 1)])
        }
    }

    @Test func hasTheSizesOfAMailingList() throws {
        let items = try FeedParser.parse(SampleFeed.document(upTo: 300, window: 300)).items
        #expect(Set(items.map(\.id)).count == 300)
        let sizes = items.map(\.document.count).sorted()
        #expect(sizes.allSatisfy { (500...80_000).contains($0) }, "\(sizes.first ?? 0)...\(sizes.last ?? 0)")
        #expect((2000...5000).contains(sizes[150]))
        #expect(sizes.count { $0 > 50_000 } == 12)
        #expect(items.allSatisfy { $0.date != nil && !$0.title.isEmpty })
        #expect(try FeedParser.parse(SampleFeed.document(upTo: 300)).items.count == 100)
        #expect(try FeedParser.parse(SampleFeed.document(upTo: 0)).items.isEmpty)
    }
}

@Suite struct AtomWriterTests {
    @Test func writesWhatItReads() throws {
        let items =
            try FeedParser.parse(Samples.mailList).items + FeedParser.parse(Samples.prefixed).items
            + FeedParser.parse(Samples.rss).items
        let bytes = AtomWriter(id: "urn:x:feed", title: "All & <more>").document(items)
        let feed = try FeedParser.parse(bytes)
        #expect(feed.title == "All & <more>")
        #expect(feed.id == "urn:x:feed")
        #expect(feed.updated == "2025-09-05T09:49:57Z")
        #expect(feed.items.map(\.id) == items.map(\.id))
        #expect(AtomWriter.newestFirst(items).first?.id == "urn:uuid:1")
        let expected = items.map { String(decoding: $0.ownContent, as: UTF8.self) }
        #expect(feed.items.map { String(decoding: $0.ownContent, as: UTF8.self) } == expected)
    }
}
