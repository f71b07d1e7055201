import Foundation
import Testing

@testable import Feed

/// Documents with a fault are read in spite of it, the fault is told, and who is strict refuses them.
@Suite struct RecoveryTests {
    private static let second = "<item><guid isPermaLink=\"false\">g2</guid><title>T2</title></item>"

    private static func channel(_ first: String) -> String {
        "<rss version=\"2.0\"><channel><title>F</title><link>http://site.example/</link>\n<item>"
            + "<guid isPermaLink=\"false\">g1</guid><title>T1</title>\(first)</item>\(second)</channel></rss>"
    }

    private static func described(_ text: String) -> String { channel("<description>\(text)</description>") }

    /// The document, what the fault says, and what the first item has.
    static let faults: [(document: String, fault: String, content: String)] = [
        (described("D&D, but"), "line 2", "D&amp;D, but"), (described("AT&T x"), "line 2", "AT&amp;T x"),
        (described("a&nbsp;b"), "line 2", "a\u{A0}b"), (described("a&bogus;b"), "line 2", "a&amp;bogus;b"),
        (described("a\u{1}b"), "line 2", "ab"), (described("a&#1;b"), "line 2", "ab"),
        (described("a < b"), "line 2", "a &lt; b"), (described("a ]]> b"), "line 2", "a ]]&gt; b"),
        (described("a\u{FFFF}b"), "line 2", "ab"), (described("a\u{2FBE}b &"), "line 2", "a\u{2FBE}b &amp;"),
        (channel("<itunes:author>x</itunes:author>"), "prefix", "<itunes:author>x</itunes:author>"),
        (channel("<o:r>x</o:r>"), "prefix", "<o:r>x</o:r>"),
        ("\n<?xml version=\"1.0\"?>" + described("x"), "line 2", ">x<"),
        ("Notice: y\n<?xml version=\"1.0\" encoding=\"utf-8\"?>" + described("\u{E9}"), "line 1", ">\u{E9}<"),
        (described("x") + "\nmore", "line 3", ">x<"), (described("x") + "<rss/>", "line 2", ">x<"),
        (channel("<description>x"), "line 2", ">x<"),
        (
            channel("<enclosure url=http://h.example/a.mp3 type='a' type='b'/>"), "quoted",
            "href=\"http://h.example/a.mp3\""
        ),
        (channel("<enclosure url='http://h.example/?a=1&b=2'/>"), "line 2", "?a=1&amp;b=2"),
        (described("<![CDATA[<p>&nbsp;]]>&"), "line 2", "&lt;p&gt;&amp;nbsp;"),
    ]

    @Test(arguments: faults.indices) func theGoodItemsAreRead(_ index: Int) throws {
        let (text, words, content) = Self.faults[index]
        let feed = try FeedParser.parse(Array(text.utf8))
        #expect(feed.items.map(\.title) == ["T1", "T2"], "\(text)")
        let document = String(decoding: try #require(feed.items.first).document, as: UTF8.self)
        #expect(document.contains(content), "\(document)")
        #expect(
            feed.fault?.contains(words) == true && feed.fault?.contains("column") == true, "\(feed.fault ?? "none")")
        #expect(throws: FeedError.self) { try FeedParser.parse(Array(text.utf8), strict: true) }
    }

    @Test func documentsWithoutAFaultTellNone() throws {
        for sample in [Samples.mailList, Samples.prefixed, Samples.rss] {
            #expect(try FeedParser.parse(sample).fault == nil)
        }
    }

    @Test func oneBadOctetIsOneCharacter() throws {
        let parts = Self.described("caf\u{E9} #").split(separator: "#").map { Array($0.utf8) }
        let feed = try FeedParser.parse(parts[0] + [0xFF] + parts[1])
        #expect(String(decoding: feed.items[0].document, as: UTF8.self).contains("caf\u{E9} \u{FFFD}<"))
        #expect(feed.fault?.contains("line 2, column") == true)
        // Nothing of it is UTF-8, so it is what old programs write.
        let old = Self.described("caf#").split(separator: "#").map { Array($0.utf8) }
        let windows = try FeedParser.parse(old[0] + [0xE9, 0x85] + old[1])
        #expect(String(decoding: windows.items[0].document, as: UTF8.self).contains("caf\u{E9}\u{2026}<"))
    }

    /// Whatever is cut off, an item is there as it is in the whole document or not at all.
    @Test func anUnfinishedItemIsLeftOut() throws {
        for sample in [Samples.mailList, Samples.rss, Samples.prefixed] {
            let whole = try FeedParser.parse(sample)
            var last = sample.count
            while sample[last - 1] <= 0x20 { last -= 1 }
            for count in stride(from: 1, to: last, by: 3) {
                guard let feed = try? FeedParser.parse(Array(sample[..<count])) else { continue }
                #expect(feed.fault != nil)
                #expect(feed.items.map(\.id) == whole.items.prefix(feed.items.count).map(\.id), "\(count)")
                #expect(feed.items.map(\.title) == whole.items.prefix(feed.items.count).map(\.title), "\(count)")
            }
        }
    }

    /// Nothing of a document type is expanded or fetched, whether it is passed over or refused.
    @Test(
        .timeLimit(.minutes(1)),
        arguments: [
            "<!DOCTYPE rss SYSTEM 'file:///etc/hostname'>", "<!DOCTYPE rss [<!ENTITY a 'secret'>]>",
            "<!DOCTYPE rss [<!ENTITY a SYSTEM 'file:///etc/hostname'>]>",
            "<!DOCTYPE rss [<!ATTLIST x b CDATA 'secret'>]>",
            "junk <!DOCTYPE rss [<!ENTITY a 'secret'>]>", "<!DOCTYPE rss><!DOCTYPE rss [<!ENTITY a 'secret'>]>",
        ])
    func noEntityIsExpanded(_ type: String) throws {
        let text = type + Self.described("&a;")
        guard let feed = try? FeedParser.parse(Array(text.utf8)) else { return }
        let item = String(decoding: try #require(feed.items.first).document, as: UTF8.self)
        #expect(item.contains("&amp;a;") && !item.contains("secret"), "\(item)")
    }

    @Test func theLimitsHoldInRepairToo() {
        func refused(_ text: String) -> Bool { (try? FeedParser.parse(Array(text.utf8))) == nil }
        #expect(refused("<rss>&" + String(repeating: "<a>", count: 50_000)))
        #expect(refused("<rss>&<channel>" + (0..<1000).map { "<p\($0):x/>" }.joined() + "</channel></rss>"))
        #expect(refused("<rss>&<channel " + (0..<1000).map { "a\($0)=1 " }.joined() + "/></rss>"))
    }

    /// A change of any one octet ends in items or an error.
    @Test func mutationsNeverTrap() {
        var state: UInt64 = 7
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        let samples = [Samples.mailList, Samples.rss, Samples.prefixed] + Self.faults.map { Array($0.document.utf8) }
        for sample in samples {
            for _ in 0..<50 {
                var bytes = sample
                for _ in 0..<(1 + next(4)) {
                    let at = next(bytes.count)
                    switch next(3) {
                    case 0: bytes[at] = UInt8(next(256))
                    case 1: bytes.remove(at: at)
                    default: bytes.insert(Array("<>&\"'/=:;[]!?-".utf8)[next(14)], at: at)
                    }
                }
                guard let feed = try? FeedParser.parse(bytes) else { continue }
                for item in feed.items { #expect(throws: Never.self) { try FeedParser.parseEntry(item.document) } }
            }
        }
    }
}

@Suite struct DateFormTests {
    /// Midnight, 5 September 2025, UTC.
    private static let day = 1_757_030_400.0

    static let forms: [(String, Double)] = [
        ("2025-09-05T09:49:57Z", day + 35397), ("2025-09-05 09:49:57", day + 35397),
        ("2025-09-05T09:49:57.5+0200", day + 28197.5), ("2025-09-05T09:49+02", day + 28140),
        ("20250905T094957Z", day + 35397), ("2025-09-05", day), ("20250905", day), ("2025-248", day),
        ("2025-09", day - 4 * 86400), ("2025", 1_735_689_600), ("2025-09-04T24:00:00Z", day),
        ("Fri Sep  5 09:49:57 2025", day + 35397), ("Fri Sep  5 09:49:57 CEST 2025", day + 28197),
        ("Fri Sep 05 09:49:57 +0200 2025", day + 28197), ("September 5, 2025", day),
        ("Sep 5, 2025 9:49 PM", day + 78540), ("September 5, 2025, 12:10 am EST", day + 600 + 18000),
        ("Fri, 05 Sep 2025 09:49:57 CET", day + 31797), ("Fri, 05 Sep 2025 09:49:57 MSK", day + 24597),
        ("5 September 2025", day), ("Fri, 5 Sep 25", day), ("Fri, 05 Sep 2025 09:49:57 GMT+2", day + 28197),
        ("Friday, 05-Sep-25 09:49:57 JST", day + 2997), ("  2025-09-05\n", day),
    ]

    @Test(arguments: forms.indices) func everyFormIsRead(_ index: Int) {
        let (text, seconds) = Self.forms[index]
        #expect(Timestamp.any(text)?.timeIntervalSince1970 == seconds, "\(text)")
    }

    @Test(arguments: [
        "", "yesterday", "2025-13-01", "20250931", "2025-367", "Sep", "Sep 5", "5", "12:00", "2025-09-05x",
    ])
    func otherTextIsNone(_ text: String) { #expect(Timestamp.any(text) == nil) }
}
