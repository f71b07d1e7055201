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
        #expect(feed.items.map(\.id) == AtomWriter.newestFirst(items).map(\.id))
        #expect(feed.items.first?.id == "urn:uuid:1")
        let expected = AtomWriter.newestFirst(items).map { String(decoding: $0.ownContent, as: UTF8.self) }
        #expect(feed.items.map { String(decoding: $0.ownContent, as: UTF8.self) } == expected)
    }
}
