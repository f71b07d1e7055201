import Foundation
import Testing

@testable import Feed

/// What the network can answer instead of a feed: each gets its own words, none gets through.
@Suite struct HostileFeedTests {
    private func error(_ text: String) -> FeedError? { error(Array(text.utf8)) }

    private func error(_ bytes: [UInt8]) -> FeedError? {
        do throws(FeedError) {
            _ = try FeedParser.parse(bytes, strict: true)
            return nil
        } catch { return error }
    }

    @Test func emptyDocuments() {
        #expect(error("") == .empty)
        #expect(error(" \n\t") == .empty)
        #expect(error([0xEF, 0xBB, 0xBF]) == .empty)
    }

    @Test func otherDocuments() {
        #expect(error("<!DOCTYPE html><html><body>Sorry</body></html>") == .webPage)
        #expect(error("<!-- x --><!doctype HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"><HTML>") == .webPage)
        #expect(error("<html><br></html>") == .webPage)
        #expect(error("<?xml version='1.0'?><x:html xmlns:x='http://www.w3.org/1999/xhtml'/>") == .webPage)
        #expect(error("<opml/>") == .wrongRoot("opml"))
        #expect(error("<feed/>") == .wrongRoot("feed"))
        #expect(error("<r:RDF xmlns:r='urn:r'/>") == .wrongRoot("RDF"))
        guard case .malformed = error("{\"error\": 500}") else { return #expect(Bool(false), "JSON got through") }
    }

    @Test func entityBombs() {
        let laughs =
            "<!DOCTYPE feed [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]>"
            + "<feed xmlns='http://www.w3.org/2005/Atom'><title>&b;</title></feed>"
        #expect(error(laughs) == .documentType)
        #expect(error("<?xml version='1.0'?>\n<!--x-->\n<?y?>" + laughs) == .documentType)
        let utf16 = laughs.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
        #expect(error([0xFF, 0xFE] + utf16) == .documentType)
        // What it only names is passed over, and not fetched.
        let external = "<!DOCTYPE rss SYSTEM \"file:///etc/passwd\"><rss><channel/></rss>"
        #expect(error(external) == nil)
        // Not in the prolog the parser itself refuses it.
        guard case .malformed = error("<rss><!DOCTYPE rss [<!ENTITY a 'b'>]><channel>&a;</channel></rss>") else {
            return #expect(Bool(false), "a late DOCTYPE got through")
        }
    }

    /// Every prefix of a feed is an error, nearly all say that it is cut off, and none traps.
    @Test func truncatedDocuments() {
        for sample in [Samples.mailList, Samples.rss, Samples.prefixed] {
            var last = sample.count
            while sample[last - 1] <= 0x20 { last -= 1 }
            var clear = 0
            for count in 1..<last {
                guard let error = error(Array(sample[..<count])) else {
                    return #expect(Bool(false), "\(count) of \(last) octets got through")
                }
                if case .truncated = error { clear += 1 }
            }
            #expect(clear > last * 95 / 100, "\(clear) of \(last)")
        }
    }

    @Test func flippedBitsNeverTrap() {
        for at in Samples.mailList.indices {
            var bytes = Samples.mailList
            bytes[at] ^= UInt8(1) << (at % 8)
            _ = error(bytes)
        }
    }

    @Test func encodingsThatLie() {
        #expect(error("<?xml version='1.0' encoding='koi9'?><feed/>") == .unknownEncoding("koi9"))
        let start = "<?xml version='1.0' encoding='us-ascii'?><rss>"
        #expect(error(start + "\u{e9}</rss>") == .invalidEncoding("US-ASCII", offset: start.utf8.count))
        #expect(
            error(Array("<rss>ab".utf8) + [0xFF] + Array("xxxxxx</rss>".utf8)) == .invalidEncoding("UTF-8", offset: 7))
        #expect(error("<?xml version='1.0' encoding='utf-16'?><rss/>") == .invalidEncoding("UTF-16", offset: 0))
        // A high surrogate without its low one.
        let lone: [UInt8] = [0xFE, 0xFF, 0, 0x3C, 0xD8, 0x00, 0, 0x3E]
        #expect(error(lone) == .invalidEncoding("UTF-16", offset: 4))
    }

    @Test func limits() throws {
        let large = [UInt8](repeating: 0x20, count: FeedLimits.documentBytes + 1)
        #expect(error(large) == .tooLarge(bytes: large.count, limit: FeedLimits.documentBytes))
        let deep = String(repeating: "<a>", count: FeedLimits.depth + 1)
        guard case .malformed(_, _, let reason) = error("<rss>" + deep) else {
            return #expect(Bool(false), "no limit of depth")
        }
        #expect(reason.contains("nested deeper"))
        let many = String(repeating: "<item/>", count: FeedLimits.items + 1)
        #expect(error("<rss><channel>\(many)</channel></rss>") == .tooManyItems(limit: FeedLimits.items))
        let entries = String(repeating: "<entry/>", count: FeedLimits.items + 1)
        #expect(error(Samples.feed(entries)) == .tooManyItems(limit: FeedLimits.items))
    }

    /// Each would take an unguarded parser hours.
    @Test(.timeLimit(.minutes(5))) func quadraticDocuments() {
        func reason(_ text: String) -> String? {
            guard case .malformed(_, _, let reason) = error(text) else { return nil }
            return reason
        }
        let attributes = (0..<300_000).map { "a\($0)=''" }.joined(separator: " ")
        #expect(reason("<rss \(attributes)/>")?.contains("256 attributes") == true)
        let declarations = (0..<200).map { "xmlns:n\($0)='u'" }.joined(separator: " ")
        let nested = String(repeating: "<x \(declarations)>", count: 3)
        #expect(reason("<rss>\(nested)")?.contains("500 namespaces") == true)
        // What looks like attributes but is none is let through.
        let equals = String(repeating: "a='b' ", count: 300)
        for harmless in [
            "<!-- <x \(equals)> -->", "<![CDATA[<x \(equals)]]>", "<?x <x \(equals)?>", "&lt;x \(equals)>",
        ] {
            #expect(error("<rss a=\"\(equals)\"><channel>\(harmless)</channel></rss>") == nil, "\(harmless.prefix(9))")
        }
        let data = String(repeating: "=", count: 3_000_000)
        #expect(error("<rss><channel a='\(data)'/></rss>") == nil)
    }

    @Test(arguments: [
        ("<rss>&nbsp;</rss>", "entity"), ("<rss><a:b/></rss>", "prefix"), ("<rss a:b='c'/>", "prefix"),
        ("<rss a='1' a='2'/>", "twice"), ("<rss>\u{1}</rss>", "character"), ("<rss><a></b></rss>", "end tag"),
        ("<rss a=1/>", "quoted"), ("<rss/><rss/>", "ended"),
    ])
    func malformedDocuments(_ text: String, _ words: String) {
        #expect(error(text)?.description.contains(words) == true, "\(error(text)?.description ?? "got through")")
    }

    @Test func entryDocuments() {
        func entryError(_ text: String) -> FeedError? {
            do throws(FeedError) {
                _ = try FeedParser.parseEntry(Array(text.utf8))
                return nil
            } catch { return error }
        }
        let atom = "xmlns='http://www.w3.org/2005/Atom'"
        #expect(entryError("<feed \(atom)/>") == .wrongRoot("feed"))
        #expect(entryError("<entry/>") == .wrongRoot("entry"))
        guard case .unusableItem = entryError("<entry \(atom)/>") else { return #expect(Bool(false), "no id needed") }
        #expect(entryError("<entry \(atom)><id>a:b</id>") == .truncated(line: 1))
        #expect(entryError("<entry \(atom)><id>a:b</id></entry>") == nil)
    }

    @Test func everyErrorIsOneSentence() {
        let all: [FeedError] = [
            .empty, .tooLarge(bytes: 1, limit: 1), .unknownEncoding("x"), .invalidEncoding("x", offset: 1),
            .documentType, .webPage, .wrongRoot("x"), .truncated(line: 1), .tooManyItems(limit: 1),
            .malformed(line: 1, column: 1, reason: "x"), .unusableItem("x"),
        ]
        #expect(Set(all.map(\.description)).count == all.count)
        #expect(all.allSatisfy { !$0.description.contains("\n") })
    }
}
