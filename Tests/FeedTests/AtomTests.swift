import Foundation
import Testing

@testable import Feed

@Suite struct AtomTests {
    @Test func readsAFeedAsMailListsWriteIt() throws {
        let feed = try FeedParser.parse(Samples.mailList)
        #expect(feed.format == .atom)
        #expect(feed.title == "Sample list")
        #expect(feed.id == "mailto:list@example.org")
        #expect(feed.updated == "2025-09-05T09:49:57Z")
        #expect(feed.link == "https://lists.example.org/sample/")
        #expect(feed.items.map(\.id) == ["urn:uuid:1", "urn:uuid:2"])
        #expect(feed.items.map(\.title) == ["Re: [PATCH 1/2] a < b", "\u{2713} done & dusted"])
        #expect(feed.items[0].updated == "2025-09-05T09:49:57Z")
        #expect(feed.items[0].date == Date(timeIntervalSince1970: 1_757_065_797))
        #expect(feed.unusable == [])
    }

    /// Each entry document, read by Python's parser, has the same elements, attributes and text as the entry in the
    /// feed, read by Python's parser.
    @Test func entryDocumentsMeanWhatTheFeedMeant() throws {
        for sample in [Samples.mailList, Samples.prefixed, SampleFeed.document(upTo: 40)] {
            let feed = try FeedParser.parse(sample)
            let expected = try Python.run(Samples.dumpEntries, input: sample)
            let documents = Array(feed.items.map(\.document).joined(separator: [0]))
            #expect(!feed.items.isEmpty)
            #expect(try Python.run(Samples.dumpEntries, input: documents) == expected)
        }
    }

    @Test func entryDocumentsReadBackAsTheSameItem() throws {
        for sample in [Samples.mailList, Samples.prefixed, Samples.rss, SampleFeed.document(upTo: 30)] {
            for item in try FeedParser.parse(sample).items {
                let again = try FeedParser.parseEntry(item.document)
                #expect(
                    String(decoding: again.document, as: UTF8.self) == String(decoding: item.document, as: UTF8.self))
                let isEqual = again == item
                #expect(isEqual, "\(item.id)")
            }
        }
    }

    @Test func whiteSpaceInContentStays() throws {
        let item = try #require(try FeedParser.parse(Samples.mailList).items.first)
        let text = String(decoding: item.document, as: UTF8.self)
        #expect(text.contains("  two\n\n\tthree &#13;\n</span>four\u{e9}</pre>"))
        #expect(text.contains("title=\"one&#10;two &quot;three&quot;\""))
        #expect(text.contains("<b></b><br/>"))
    }

    @Test func whatTheFeedSaysForAllEntriesComesAlong() throws {
        let item = try #require(try FeedParser.parse(Samples.prefixed).items.first)
        let text = String(decoding: item.document, as: UTF8.self)
        #expect(text.contains("<a:entry xmlns:a=\"http://www.w3.org/2005/Atom\""))
        #expect(text.contains("xml:base=\"https://example.org/blog/2025/\""))
        #expect(text.contains("xml:lang=\"de\""))
        #expect(!text.contains("xmlns:unused"))
        let source = String(decoding: item.document[item.sourceRange], as: UTF8.self)
        #expect(source.hasPrefix("<a:source"))
        #expect(source.contains("<a:author><a:name>Feed author</a:name></a:author>"))
        #expect(source.contains("<a:rights>CC0</a:rights>"))
        #expect(!source.contains("updated"))
        #expect(!item.ownContent.contains(Array("Feed author".utf8)))
    }

    @Test func anEntryWithItsOwnSourceKeepsIt() throws {
        let feed = Samples.feed(
            "<entry><id>a:1</id><title/><updated>2025-01-01T00:00:00Z</updated>"
                + "<source><id>a:0</id><updated>2025-02-02T00:00:00Z</updated></source></entry>")
        let item = try #require(try FeedParser.parse(feed).items.first)
        #expect(item.id == "a:1")
        #expect(item.updated == "2025-01-01T00:00:00Z")
        let source = String(decoding: item.document[item.sourceRange], as: UTF8.self)
        #expect(source == "<source><id>a:0</id><updated>2025-02-02T00:00:00Z</updated></source>")
    }

    @Test func relativeLinksGetABase() throws {
        let entry = "<entry><id>a:1</id><title/><updated>2025-01-01T00:00:00Z</updated><link href=\"LINK\"/></entry>"
        func base(_ link: String, feed attributes: String = "") throws -> Bool {
            let bytes = Samples.feed(entry.replacing("LINK", with: link), attributes: attributes)
            let item = try #require(try FeedParser.parse(bytes, base: "https://example.org/feeds/new").items.first)
            return String(decoding: item.document, as: UTF8.self).contains("xml:base=\"https://example.org/feeds/")
        }
        #expect(try base("page"))
        #expect(try base("https://example.net/page", feed: " xml:base=\"sub/\""))
        #expect(try !base("https://example.net/page"))
        #expect(try !base("page", feed: " xml:base=\"https://example.net/\""))
    }

    @Test func anUnusableEntryDoesNotHoldUpTheOthers() throws {
        let feed = try FeedParser.parse(
            Samples.feed(
                "<entry/><entry><id>  a:2\n</id></entry>"
                    + "<entry><id>\(String(repeating: "x", count: FeedLimits.idBytes + 1))</id></entry>"))
        #expect(feed.items.map(\.id) == ["a:2"])
        #expect(feed.items.map(\.updated) == ["1970-01-01T00:00:00Z"])
        #expect(feed.unusable.count == 2)
        #expect(feed.unusable.first?.contains("atom:id") == true)
        #expect(try FeedParser.parseEntry(feed.items[0].document) == feed.items[0])
    }

    @Test func aLargeItemIsRefusedAndTheNextTaken() throws {
        let large = String(repeating: "x", count: FeedLimits.itemBytes)
        let feed = try FeedParser.parse(
            Samples.feed(
                "<entry><id>a:1</id><content>\(large)</content></entry><entry><id>a:2</id><title/></entry>"))
        #expect(feed.items.map(\.id) == ["a:2"])
        #expect(feed.unusable.first?.contains("larger than") == true)
    }

    @Test(arguments: ["us-ascii", "utf-8", "iso-8859-1", "windows-1252", "utf-16", "utf-16-le", "utf-16-be"])
    func encodings(_ name: String) throws {
        let title = name == "us-ascii" ? "plain" : "d\u{e9}j\u{e0} \u{df}" + (name.hasPrefix("win") ? "\u{20ac}" : "")
        let declared = name.hasPrefix("utf-16") ? "utf-16" : name
        let text =
            "<?xml version=\"1.0\" encoding=\"\(declared)\"?><feed xmlns=\"http://www.w3.org/2005/Atom\">"
            + "<title>\(title)</title></feed>"
        let script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read().decode().encode('\(name)'))"
        let bytes = try Python.bytes(script, input: Array(text.utf8))
        #expect(try FeedParser.parse(bytes).title == title)
    }
}
