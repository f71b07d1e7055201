import Foundation
import Testing

@testable import Feed

/// What each format says comes through, as readers show it.
@Suite struct FormatTests {
    private static let rdf = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"

    private func items(_ text: String, base: String? = nil) throws -> [FeedItem] {
        try FeedParser.parse(Array(text.utf8), base: base).items
    }

    private func written(_ item: FeedItem?) throws -> String {
        String(decoding: try #require(item).document, as: UTF8.self)
    }

    private func rss(_ item: String, channel: String = "", root: String = "version='2.0'") -> String {
        "<rss \(root)><channel><title>F</title><link>http://site.example/</link>\(channel)<item><guid>urn:g:1</guid>"
            + "<title>T</title>\(item)</item></channel></rss>"
    }

    /// Roots that are RSS, each with one item.
    @Test(arguments: [
        "<rss version='0.91'><channel><title>F</title><item><title>T</title><link>http://x.example/a</link></item></channel></rss>",
        "<rss version='0.92'><channel><item><description>d</description><link>http://x.example/a</link></item></channel></rss>",
        "<rss xmlns='http://backend.userland.com/rss2'><channel><item><link>http://x.example/a</link></item></channel></rss>",
        "<RSS><channel><item><link>http://x.example/a</link></item></channel></RSS>",
        "<rdf:RDF \(rdf) xmlns='http://purl.org/rss/1.0/'><channel rdf:about='http://x.example/'><title>F</title></channel>"
            + "<item rdf:about='http://x.example/a'><title>T</title><link>http://x.example/a</link></item></rdf:RDF>",
        "<rdf:RDF \(rdf) xmlns='http://my.netscape.com/rdf/simple/0.9/'><channel><title>F</title></channel>"
            + "<item><title>T</title><link>http://x.example/a</link></item></rdf:RDF>",
        "<rdf:RDF \(rdf) xmlns='http://purl.org/rss/1.0/'><item rdf:about='http://x.example/a'><title>T</title></item></rdf:RDF>",
    ])
    func rootsOfRSS(_ text: String) throws {
        let feed = try FeedParser.parse(Array(text.utf8))
        #expect(feed.items.map(\.id) == ["http://x.example/a"])
        #expect(feed.format == .rss && feed.fault == nil)
    }

    /// What an item has, and what its entry has for it.
    static let kept: [(item: String, entry: String)] = [
        (
            "<atom:link xmlns:atom='http://www.w3.org/2005/Atom' rel='enclosure' href='http://x.example/a.mp3'/>",
            "<atom:link xmlns:atom=\"http://www.w3.org/2005/Atom\" href=\"http://x.example/a.mp3\" rel=\"enclosure\"/>"
        ),
        (
            "<source url='http://o.example/'>Orig</source>",
            "<link href=\"http://o.example/\" rel=\"via\" title=\"Orig\"/>"
        ),
        (
            "<enclosure url='u:1' length='1' type='a/b'/><enclosure url='u:2'/>",
            "<link href=\"u:1\" length=\"1\" rel=\"enclosure\" type=\"a/b\"/><link href=\"u:2\" rel=\"enclosure\"/>"
        ),
        (
            "<dc:creator xmlns:dc='http://purl.org/dc/elements/1.1/'>A</dc:creator>"
                + "<dc:creator xmlns:dc='http://purl.org/dc/elements/1.1/'>B</dc:creator>",
            "<author><name>A</name></author><author><name>B</name></author>"
        ),
        ("<author>Jo (jo@x.example)</author>", "<author><name>Jo</name><email>jo@x.example</email></author>"),
        ("<author>jo@x.example (Jo)</author>", "<author><name>Jo</name><email>jo@x.example</email></author>"),
        ("<author>Jo &lt;jo@x.example></author>", "<author><name>Jo</name><email>jo@x.example</email></author>"),
        ("<author>Jo (the elder)</author>", "<author><name>Jo (the elder)</name></author>"),
        (
            "<content:encoded xmlns:content='http://purl.org/rss/1.0/modules/content/'>&lt;b>x&lt;/b></content:encoded>"
                + "<description>s</description>",
            "<summary type=\"html\">s</summary><content type=\"html\">&lt;b&gt;x&lt;/b&gt;</content>"
        ),
        (
            "<x:body xmlns:x='http://www.w3.org/1999/xhtml'><x:p class='c'>a &amp; b<x:br/></x:p></x:body>",
            "<content type=\"html\">&lt;p class=\"c\"&gt;a &amp;amp; b&lt;br /&gt;&lt;/p&gt;</content>"
        ),
        (
            "<description>a <b>bold</b> &lt; c</description>",
            "<content type=\"html\">a &lt;b&gt;bold&lt;/b&gt; &amp;lt; c</content>"
        ),
        ("<m:r xmlns:m='urn:m'><m:s>5</m:s></m:r>", "<m:r xmlns:m=\"urn:m\"><m:s>5</m:s></m:r>"),
        ("<pubDate>2024-05-06T07:08:09Z</pubDate>", "<updated>2024-05-06T07:08:09Z</updated>"),
        (
            "<a:updated xmlns:a='http://www.w3.org/2005/Atom'>2024-05-06T07:08:09Z</a:updated>",
            "<updated>2024-05-06T07:08:09Z</updated>"
        ),
    ]

    @Test(arguments: kept.indices) func whatAnItemHasIsKept(_ index: Int) throws {
        let item = try #require(try items(rss(Self.kept[index].item)).first)
        let text = try written(item)
        #expect(text.contains(Self.kept[index].entry), "\(text)")
        #expect(try FeedParser.parseEntry(item.document) == item)
    }

    @Test func languagesAndBasesAreThoseInForce() throws {
        let root = "xml:base='http://b.example/' xml:lang='de' version='2.0'"
        #expect(
            try written(items(rss("", root: root)).first).contains("xml:base=\"http://b.example/\" xml:lang=\"de\""))
        let own = rss("", root: root).replacing("<item>", with: "<item xml:base='in/' xml:lang='fr'>")
        #expect(try written(items(own).first).contains("xml:base=\"http://b.example/in/\" xml:lang=\"fr\""))
    }

    @Test func nobodyIsInvented() throws {
        #expect(try !written(items(rss("")).first).contains("<author>"))
        let editor = "<managingEditor>ed@x.example (Ed)</managingEditor>"
        #expect(try written(items(rss("", channel: editor)).first).contains("<author><name>Ed</name>"))
        let both = try written(items(rss("<author>Jo</author>", channel: editor)).first)
        #expect(both.contains("<name>Jo</name>") && !both.contains("Ed"))
    }

    @Test func twoItemsWithOneLinkAreTwo() throws {
        func feed(_ titles: [String]) -> String {
            let items = titles.map { "<item><title>\($0)</title><link>http://x.example/</link></item>" }
            return "<rss><channel>\(items.joined())</channel></rss>"
        }
        let first = try items(feed(["a"])).map(\.id)
        let both = try items(feed(["b", "a"])).map(\.id)
        #expect(Set(both).count == 2)
        #expect(both.last == first.first, "what was there before keeps its id")
    }

    @Test func itemsOutsideOfTheChannelAreReadAndTold() throws {
        let text = "<rss><channel><title>F</title></channel><item><title>T</title><link>u:1</link></item></rss>"
        let feed = try FeedParser.parse(Array(text.utf8))
        #expect(feed.items.map(\.title) == ["T"])
        #expect(feed.fault == "1 item stands outside of the channel")
    }

    @Test func manyItemsAreRead() throws {
        let many = (0..<10_500).map { "<item><link>u:\($0)</link></item>" }.joined()
        #expect(try items("<rss><channel>\(many)</channel></rss>").count == 10_500)
    }

    @Test func anAtomEntryWithoutAnIdHasItsLink() throws {
        let entry =
            "<entry><title>A</title><link rel='self' href='s'/><link href='a'/><updated>2024-01-01T00:00:00Z</updated></entry>"
        let feed = Samples.feed(entry)
        let item = try #require(try FeedParser.parse(feed, base: "http://x.example/feed").items.first)
        #expect(item.id == "http://x.example/a")
        #expect(try FeedParser.parseEntry(item.document) == item)
        let untitled = try items("<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>x y</title></entry></feed>")
        #expect(untitled.map(\.id) == ["urn:x-atom-title:x%20y"])
    }

    @Test func atomOfBefore() throws {
        let text =
            "<feed version='0.3' xmlns='http://purl.org/atom/ns#'><title>F</title><entry><id>urn:e</id>"
            + "<title mode='escaped' type='text/html'>a &amp;amp; b</title><issued>2003-12-31T10:14:55Z</issued>"
            + "<modified>2004-01-01T10:14:55Z</modified><content mode='escaped' type='text/html'>&lt;p>x&lt;/p></content>"
            + "<summary>plain</summary></entry></feed>"
        let item = try #require(try items(text).first)
        #expect(item.title == "a & b" && item.updated == "2004-01-01T10:14:55Z")
        let entry = try written(item)
        #expect(entry.contains("<entry xmlns=\"http://www.w3.org/2005/Atom\">") && !entry.contains("purl.org"))
        #expect(entry.contains("<content type=\"html\">&lt;p&gt;x&lt;/p&gt;</content>"))
        #expect(entry.contains("<published>2003-12-31T10:14:55Z</published>"))
        #expect(entry.contains("<summary type=\"text\">plain</summary>"))
        #expect(try FeedParser.parseEntry(item.document) == item)
    }

    @Test func jsonFeeds() throws {
        let text = """
            {"version": "https://jsonfeed.org/version/1.1", "title": "F", "home_page_url": "https://x.example/",
             "feed_url": "https://x.example/feed.json", "authors": [{"name": "Jo"}], "language": "en", "_own": {"a": [1]},
             "items": [
              {"id": "https://x.example/1", "url": "https://x.example/1", "title": "One", "content_html": "<p>x</p>",
               "summary": "s", "date_published": "2024-05-06T07:08:09+02:00", "tags": ["t"],
               "attachments": [{"url": "https://x.example/a.mp3", "mime_type": "audio/mpeg", "size_in_bytes": 12}]},
              {"id": 2, "content_text": "a < b", "authors": [{"name": "Al"}]}]}
            """
        let feed = try FeedParser.parse(Array(text.utf8))
        #expect(feed.format == .json && feed.title == "F" && feed.id == "https://x.example/feed.json")
        #expect(feed.items.map(\.id) == ["https://x.example/1", "urn:x-rss-guid:2"])
        #expect(feed.items[0].updated == "2024-05-06T05:08:09Z")
        let first = try written(feed.items[0])
        #expect(
            first.contains("<content type=\"html\">&lt;p&gt;x&lt;/p&gt;</content>") && first.contains("<name>Jo</name>")
        )
        #expect(first.contains("length=\"12\" rel=\"enclosure\" type=\"audio/mpeg\""))
        let second = try written(feed.items[1])
        #expect(second.contains("<content type=\"text\">a &lt; b</content>") && second.contains("<name>Al</name>"))
        for bad in [
            "{", "{}", "{\"version\": \"x\", \"items\": []}", "{\"version\": 1}",
            String(repeating: "{\"a\":", count: 9999),
        ] {
            #expect(throws: FeedError.self) { try FeedParser.parse(Array(bad.utf8)) }
        }
    }
}
