import Foundation
import Testing

@testable import Feed

@Suite struct RSSTests {
    @Test func itemsBecomeEntries() throws {
        let feed = try FeedParser.parse(Samples.rss)
        #expect(feed.format == .rss)
        #expect(feed.title == "Channel & Co")
        #expect(feed.link == "https://example.org/")
        #expect(feed.id == "https://example.org/feed.xml")
        #expect(
            feed.items.map(\.id) == [
                "https://example.org/?p=1", "urn:x-rss-guid:id%20two%2F2", "https://example.org/three",
                "urn:x-rss-title:Only%20a%20title",
            ])
        #expect(feed.items.map(\.title) == ["One", "T<wo & half", "", "Only a title"])
        #expect(
            feed.items.map(\.updated) == [
                "2025-09-05T09:49:57Z", "2025-09-04T13:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z",
            ])
        #expect(feed.unusable.count == 1)
    }

    /// Python reads the entries; RFC 4287 section 4.1.2 says what an entry must have.
    @Test func entriesAreValidAtom() throws {
        let script = """
            import sys, xml.etree.ElementTree as E
            A = '{http://www.w3.org/2005/Atom}'
            for document in sys.stdin.buffer.read().split(b'\\0'):
                e = E.fromstring(document)
                assert e.tag == A + 'entry'
                for name in ('id', 'title', 'updated'): assert len(e.findall(A + name)) == 1, name
                assert ':' in e.find(A + 'id').text
                assert e.find(A + 'content') is not None or e.find(A + 'link') is not None or e.find(A + 'title').text
                for l in e.findall(A + 'link'): assert l.get('href')
                print([(c.tag.split('}')[1], sorted(c.attrib.items()), c.text or '') for c in e if not len(c)])
            """
        let items = try FeedParser.parse(Samples.rss).items
        let out = try Python.run(script, input: Array(items.map(\.document).joined(separator: [0])))
        let lines = out.split(separator: "\n")
        #expect(lines.count == 4)
        let first = try #require(lines.first)
        #expect(first.contains("('content', [('type', 'html')], '<p>long &amp; <b>bold</b></p>')"))
        #expect(first.contains("('summary', [('type', 'html')], 'short')"))
        #expect(first.contains("('category', [('scheme', 'https://example.org/tags'), ('term', 'News')], '')"))
        #expect(first.contains("('href', 'https://example.org/1.mp3'), ('length', '12'), ('rel', 'enclosure')"))
        #expect(first.contains("('published', [], '2025-09-05T09:49:57Z')"))
        #expect(lines[1].contains("('title', [('type', 'html')], 'T&lt;wo &amp; half')"))
        #expect(!lines[1].contains("alternate"))
        #expect(lines[2].contains("'https://example.org/") || lines[2].contains("'/three'"))
    }

    @Test func namesAndForeignElementsAreKept() throws {
        let items = try FeedParser.parse(Samples.rss).items
        let first = String(decoding: items[0].document, as: UTF8.self)
        #expect(first.contains("<m:rating m:by=\"me\"><m:stars>5</m:stars></m:rating>"))
        #expect(!first.contains("<author>"))
        let second = String(decoding: items[1].document, as: UTF8.self)
        #expect(second.contains("<author><name>Jo Doe</name><email>jo@example.org</email></author>"))
        #expect(second.contains("xml:lang=\"en\""))
        #expect(String(decoding: items[0].ownContent, as: UTF8.self).contains("<source>") == false)
    }
}

@Suite struct TimestampTests {
    /// Python's own readers of both formats agree.
    @Test func datesAgreeWithPython() throws {
        let atom = [
            "2025-09-05T09:49:57Z", "2025-09-05T09:49:57.25Z", "2024-02-29T23:59:59+05:30", "1969-12-31T23:00:00-01:00",
            "2000-03-01T00:00:00Z", "1900-03-01T00:00:00Z", "2100-12-31T12:00:00-11:45",
        ]
        let mail = [
            "Fri, 05 Sep 2025 09:49:57 +0200", "5 Sep 2025 09:49 GMT", "Thu, 29 Feb 2024 00:00:00 -0730",
            "Sat, 1 Jan 00 00:00:00 EST", "Mon, 13 Sep 1999 08:00:01 PDT",
        ]
        let script = """
            import sys, datetime, email.utils
            for line in sys.stdin:
                line = line.strip()
                if line[4] == '-': print(datetime.datetime.fromisoformat(line.replace('Z', '+00:00')).timestamp())
                else: print(email.utils.parsedate_to_datetime(line).timestamp())
            """
        let expected = try Python.run(script, input: Array((atom + mail).joined(separator: "\n").utf8))
            .split(separator: "\n").map { Double($0) }
        #expect(
            expected == atom.map { Timestamp.rfc3339($0)?.timeIntervalSince1970 }
                + mail.map { Timestamp.rfc822($0)?.timeIntervalSince1970 })
        for text in atom where text.count == 20 && text.hasSuffix("Z") {
            #expect(Timestamp.rfc3339(text).map(Timestamp.text) == text)
        }
    }

    @Test(arguments: [
        "", "2025", "2025-13-01T00:00:00Z", "2025-02-29T00:00:00Z", "2025-01-01T24:00:00Z", "2025-01-01T00:00:00",
        "2025-01-01T00:00:00+0100", "2025-01-01 00:00:00Z", "2025-01-01T00:00:00.Z", "2025-01-01T00:00:00Zx",
    ])
    func otherTextIsNoDate(_ text: String) { #expect(Timestamp.rfc3339(text) == nil) }

    @Test(arguments: [
        "", "Fri,", "Fri, 32 Sep 2025 00:00 GMT", "05 Foo 2025 00:00 GMT", "05 Sep 2025", "99999999999999999999",
    ])
    func otherTextIsNoMailDate(_ text: String) { #expect(Timestamp.rfc822(text) == nil) }
}
