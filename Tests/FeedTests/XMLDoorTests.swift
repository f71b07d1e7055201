import Foundation
import Testing

@testable import Feed

/// What libxml2 gets and what comes of it.
@Suite struct XMLDoorTests {
    private func error(_ text: String) -> FeedError? {
        do throws(FeedError) {
            _ = try FeedParser.parse(Array(text.utf8), strict: true)
            return nil
        } catch { return error }
    }

    private func item(_ content: String) -> String {
        "<item><guid isPermaLink=\"false\">g1</guid><title>T1</title>\(content)</item>"
    }

    private func channel(_ items: String) -> String {
        "<rss version=\"2.0\"><channel><title>F</title><link>http://site.example/</link>\(items)</channel></rss>"
    }

    /// One fault each. Items or a clear error, and never the end of the process.
    @Test func feedsWithOneFault() throws {
        let second = "<item><guid isPermaLink=\"false\">g2</guid><title>T2</title></item>"
        let readable: [(String, Int)] = [
            (
                channel(
                    item(
                        "<atom:link xmlns:atom=\"http://www.w3.org/2005/Atom\" rel=\"enclosure\" "
                            + "href=\"http://x.example/a.mp3\"/><source url=\"http://o.example/\">Orig</source>")), 1
            ),
            (channel(item("<pubDate>2024-05-06T07:08:09Z</pubDate>")), 1),
            (channel(item("<?instruction?><?instruction data?>")), 1), (channel(item("") + second), 2),
        ]
        for (text, count) in readable {
            #expect(try FeedParser.parse(Array(text.utf8)).items.count == count, "\(text)")
        }
        let refused: [(String, String)] = [
            (channel(item("<description>D&D, but</description>") + second), "&amp;"),
            (channel(item("<description>a&nbsp;b</description>") + second), "entity that is not defined"),
            (channel(item("<description>a\u{1}b</description>") + second), "character"),
            (channel(item("<itunes:author>x</itunes:author>") + second), "prefix"),
            ("\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>" + channel(item("")), "declaration"),
            (channel(item("<a:b:c xmlns:a=\"urn:a\"/>")), "more than one ':'"),
            (channel(item("<a:b xmlns:a=\"urn:a\" xmlns:c=\"urn:a\" a:d=\"\" c:d=\"\"/>")), "twice"),
            (channel(item("<!-- a -- b -->")), "'--'"),
        ]
        for (text, words) in refused {
            let found = error(text)?.description
            #expect(found?.contains(words) == true && found?.contains("XML error") == false, "\(found ?? text)")
        }
    }

    /// Octets 0xE0… of windows-1251, as a feed has them.
    @Test func aFeedInWindows1251() throws {
        let parts = channel(item("<description>#</description>")).split(separator: "#").map { Array($0.utf8) }
        let head = Array("<?xml version=\"1.0\" encoding=\"windows-1251\"?>".utf8)
        let feed = try FeedParser.parse(head + parts[0] + [0xCF, 0xF0, 0xE8, 0xE2, 0xE5, 0xF2] + parts[1])
        let text = String(decoding: try #require(feed.items.first).document, as: UTF8.self)
        #expect(text.contains("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}"))
    }

    /// An instruction without data has no data, which another parser took for an address.
    @Test func instructionsWithAndWithoutData() throws {
        let feed = try FeedParser.parse(
            Samples.feed("<entry><id>a:1</id><content type=\"xhtml\"><?one?><?two  more ?></content></entry>"))
        let text = String(decoding: try #require(feed.items.first).document, as: UTF8.self)
        #expect(text.contains("<?one?><?two more ?></content>"))
        #expect(error("<?one?><rss><?one?></rss><?one?>") == nil)
    }

    @Test(arguments: [1, 2, 3, 5, 64, 1000, 100_000]) func chunksOfAnySize(_ chunk: Int) throws {
        let odd = Samples.feed(
            "<entry><id>a:\u{1F600}</id><title>&amp;<![CDATA[&]]>\u{4e2d}</title><link href=\"?a=1&amp;b=&#38;&quot;\"/>"
                + "<content type=\"xhtml\"><div xmlns=\"http://www.w3.org/1999/xhtml\"><![CDATA[]]></div><p xmlns=\"\"/>"
                + "<!-- \u{e9} --><?one?></content></entry>")
        for sample in [Samples.mailList, Samples.prefixed, Samples.rss, odd, SampleFeed.document(upTo: 20)] {
            #expect(try FeedParser.parse(sample, chunk: chunk) == FeedParser.parse(sample))
        }
        let broken = [
            "<rss><a></b></rss>", "<rss>&nbsp;</rss>", "<rss a='1' a='2'/>", "<rss><b", "<rss/><rss/>", "<feed/>",
            "<rss>\u{1}</rss>", "<rss><a:b/></rss>", "<rss><!--", "<rss",
        ]
        for text in broken {
            func kind(_ chunk: Int) -> String? {
                do throws(FeedError) {
                    _ = try FeedParser.parse(Array(text.utf8), chunk: chunk)
                    return nil
                } catch {
                    if case .malformed(_, _, let reason) = error { return reason }
                    return error.description
                }
            }
            #expect(kind(chunk) != nil)
            #expect(kind(chunk) == kind(1 << 20), "\(text)")
        }
    }

    @Test func valuesComeAsTheyAre() throws {
        var door = try XMLDoor()
        let text =
            "<a b='&amp;&#38;&amp;amp;&lt;&#x26;#38;&quot;' xmlns='' xmlns:c='urn:c' c:d=''>x&amp;<![CDATA[&]]>y</a>"
        let events = Array(XMLEvents(door.push(Array(text.utf8)[...], isLast: true).events))
        guard case .start(let tag) = events.first else { return #expect(Bool(false), "no start") }
        #expect(tag.name == "a")
        #expect(tag.attributes == ["b": "&&&amp;<&#38;\"", "c:d": ""])
        #expect(tag.declarations == ["": "", "c": "urn:c"])
        guard events.count == 3, case .text(let inner) = events[1], case .end = events[2] else {
            return #expect(Bool(false), "\(events)")
        }
        #expect(inner == "x&&y")
    }

    /// What the other side of the door writes is read with its bounds checked.
    @Test func cutEventsNeverTrap() throws {
        var door = try XMLDoor()
        let (octets, _) = door.push(Samples.mailList[...], isLast: true)
        let whole = Array(XMLEvents(octets)).count
        for count in octets.indices { #expect(Array(XMLEvents(Array(octets[..<count]))).count <= whole) }
    }

    // MARK: - Entities

    private static let types = [
        "<!DOCTYPE r [<!ENTITY a SYSTEM 'file:///etc/hostname'>]>", "<!DOCTYPE r SYSTEM 'file:///etc/hostname'>",
        "<!DOCTYPE r [<!ENTITY % a SYSTEM 'file:///etc/hostname'>%a;]>", "<!DOCTYPE r [<!ENTITY a 'secret'>]>",
        "<!DOCTYPE r [<!ATTLIST r b CDATA 'secret'>]>", "<!DOCTYPE r>",
        "<!DOCTYPE r [<!ENTITY a 'haha'>"
            + (0..<30).map { "<!ENTITY \($0 == 29 ? "z" : "a\($0)") '&a;&a;&a;'>" }.joined() + "]>",
    ]

    /// The parser alone, without those who look before it: nothing declared, nothing expanded, nothing fetched.
    @Test(.timeLimit(.minutes(1)), arguments: types) func theParserRefusesADocumentType(_ type: String) throws {
        for chunk in [1, 7, 100_000] {
            let text = Array((type + "<r>&a;&z;</r>").utf8)
            var door = try XMLDoor()
            var at = 0
            var fault: XMLDoor.Fault?
            var events: [XMLEvent] = []
            while at < text.count, fault == nil {
                let end = min(at + chunk, text.count)
                let (octets, found) = door.push(text[at..<end], isLast: end == text.count)
                events += Array(XMLEvents(octets))
                fault = found
                at = end
            }
            #expect(fault?.code == XMLDoor.Fault.documentType)
            #expect(events.isEmpty)
        }
    }

    /// A comment that begins as if it ended hid what follows it.
    @Test(arguments: types) func aHiddenDocumentTypeIsRefused(_ type: String) {
        for start in ["", "<!--><rss-->", "<!-- --><!--->--><?x?>\n"] {
            let found = error(start + type + "<rss>&a;</rss>")
            if type.contains("[") {
                #expect(found == .documentType)
            } else {
                #expect(found?.description.contains("entity") == true)
            }
        }
    }

    @Test(.timeLimit(.minutes(1))) func undefinedEntitiesEndIt() {
        #expect(
            error("<rss>" + String(repeating: "&a;", count: 1_000_000) + "</rss>")?.description.contains("entity")
                == true)
    }

    // MARK: - Size

    @Test(.timeLimit(.minutes(1))) func tagsAreBounded() {
        let long = String(repeating: "x", count: MarkupGuard.tagBytes)
        let wide = String(repeating: " ", count: MarkupGuard.tagBytes)
        for text in ["<rss><\(long)/></rss>", "<rss \(wide)/>", "<rss></rss\(wide)>", "<rss a='' \(long)=''/>"] {
            #expect(error(text)?.description.contains("\(MarkupGuard.tagBytes) bytes") == true, "\(text.prefix(20))")
        }
        #expect(error("<rss a='\(long)\(wide)'><!-- \(long) --><![CDATA[\(wide)\(long)]]></rss>") == nil)
    }

    /// Within what looks like a comment's end the count of attributes went astray.
    @Test(.timeLimit(.minutes(1)), arguments: ["<!--> <x y='-->", "<!---> <x y='-->"])
    func aHiddenTagIsCounted(_ comment: String) {
        let attributes = (0..<100_000).map { "a\($0)=''" }.joined(separator: " ")
        let found = error("<rss>\(comment)<channel \(attributes)/></rss>")?.description
        #expect(found?.contains("256 attributes") == true, "\(found ?? "got through")")
    }
}
