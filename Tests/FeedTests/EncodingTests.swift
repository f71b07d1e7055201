import Foundation
import Testing

@testable import Feed

/// How text is written in Unicode's encodings, each order of octets on its own.
enum Written: String, CaseIterable {
    case utf16LE, utf16BE, utf32LE, utf32BE

    func octets(_ text: String, mark: Bool = false) -> [UInt8] {
        let text = mark ? "\u{FEFF}" + text : text
        switch self {
        case .utf16LE: return text.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
        case .utf16BE: return text.utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
        case .utf32LE: return text.unicodeScalars.flatMap { scalar in (0..<4).map { Self.octet(scalar, $0) } }
        case .utf32BE:
            return text.unicodeScalars.flatMap { scalar in (0..<4).reversed().map { Self.octet(scalar, $0) } }
        }
    }

    private static func octet(_ scalar: Unicode.Scalar, _ index: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: scalar.value >> UInt32(8 * index))
    }

    var name: String { rawValue.hasPrefix("utf16") ? "UTF-16" : "UTF-32" }
}

/// XML 1.0 section 4.3.3 and appendix F; RFC 7303 section 3.
@Suite struct EncodingTests {
    private func error(_ bytes: [UInt8], charset: String? = nil) -> FeedError? {
        do throws(FeedError) {
            _ = try FeedParser.parse(bytes, charset: charset, strict: true)
            return nil
        } catch { return error }
    }

    private func declaration(_ encoding: String?) -> String {
        encoding.map { "<?xml version=\"1.0\" encoding=\"\($0)\"?>\n" } ?? ""
    }

    private func feed(_ title: String) -> String {
        "<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>\(title)</title></feed>"
    }

    private static let declared: [String?] = [
        nil, "utf-16", "UTF-16LE", "utf-16be", "utf-32", "UTF-32LE", "utf-32be", "ucs-4", "UTF-8", "iso-8859-1",
        "x-none",
    ]

    /// Whatever the declaration says: what is read through it cannot be what it says, if that is anything else.
    @Test(arguments: Written.allCases, declared)
    func everyOrderOfOctets(_ written: Written, _ declared: String?) throws {
        let title = "d\u{e9}j\u{e0} \u{4e2d} \u{1F600}"
        for mark in [false, true] {
            for head in [declaration(declared), declaration(declared) + "<!-- \u{e9} -->", "\n"] {
                let bytes = written.octets(head + feed(title), mark: mark)
                #expect(try FeedParser.parse(bytes).title == title, "mark: \(mark), \(head)")
            }
            let entry =
                "<entry xmlns=\"http://www.w3.org/2005/Atom\"><id>a:1</id><title>\(title)</title>"
                + "<updated>2025-01-01T00:00:00Z</updated></entry>"
            let bytes = written.octets(declaration(declared) + entry, mark: mark)
            let plain = try FeedParser.parseEntry(Array(entry.utf8))
            #expect(try FeedParser.parseEntry(bytes) == plain)
            #expect(try FeedParser.parseItems(bytes).map(\.item) == [plain])
        }
    }

    /// A document of 1000 octets, most of them a comment's, took the parser's life where it named UTF-32.
    @Test(arguments: Written.allCases, [nil, "utf-32", "utf-16"])
    func sizesAroundTheParsersBuffers(_ written: Written, _ declared: String?) {
        for mark in [false, true] {
            for size in Array(230...260) + [1000, 1024, 4096, 16384] {
                let head = declaration(declared) + "<!--"
                let filler = String(repeating: "x", count: max(0, size - head.utf8.count - 8))
                let bytes = written.octets("\(head)\(filler)--><a/>", mark: mark)
                #expect(error(bytes) == .wrongRoot("a"), "\(size)")
            }
        }
    }

    @Test(arguments: Written.allCases) func whatIsNotPossible(_ written: Written) {
        let bytes = written.octets("<rss></rss>")
        for short in 1..<(written.name == "UTF-16" ? 2 : 4) {
            let cut = Array(bytes.dropLast(short))
            #expect(error(cut) == .invalidEncoding(written.name, offset: cut.count - 1))
        }
        let head = written.octets("<rss>")
        let lone: [UInt8] =
            switch written {
            case .utf16LE: [0, 0xDC]
            case .utf16BE: [0xDC, 0]
            case .utf32LE: [0, 0xDC, 0, 0]
            case .utf32BE: [0, 0, 0xDC, 0]
            }
        #expect(error(head + lone + written.octets("</rss>")) == .invalidEncoding(written.name, offset: head.count))
        guard written.name == "UTF-32" else { return }
        let large: [UInt8] = written == .utf32LE ? [0, 0, 0x11, 0] : [0, 0x11, 0, 0]
        #expect(error(head + large) == .invalidEncoding("UTF-32", offset: head.count))
    }

    /// What is readable octet by octet is not written in four or two octets, and unknown names are told.
    @Test func namesThatCannotBe() {
        for name in ["utf-32", "UTF-32LE", "utf-32be"] {
            #expect(error(Array((declaration(name) + "<rss/>").utf8)) == .invalidEncoding("UTF-32", offset: 0))
        }
        for name in ["ebcdic-cp-us", "utf-7", "x", "../../tmp/evil", "UTF-8//TRANSLIT", "windows-1251//IGNORE"] {
            let found = error(Array((declaration(name) + "<rss/>").utf8))
            #expect(found == .unknownEncoding(name))
            #expect(found?.description.contains("'\(name)'") == true)
        }
    }

    @Test(arguments: [
        "<rss>\0</rss>", "<rss a='\0'/>", "<rss><!--\0--></rss>", "<rss/>\0", "<rss><![CDATA[\0]]></rss>",
    ])
    func noNULGetsThrough(_ text: String) {
        for bytes in [Array(text.utf8)] + Written.allCases.map({ $0.octets(text, mark: true) }) {
            #expect(error(bytes)?.description.contains("NUL") == true)
        }
    }

    /// Python's codecs are the truth.
    @Test(arguments: [
        ("windows-1251", "cp1251", "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{2116}"),
        ("windows-1250", "cp1250", "\u{17e}lu\u{165}"), ("ISO-8859-2", "iso8859-2", "\u{17e}lu\u{165}"),
        ("iso-8859-5", "iso8859-5", "\u{43f}\u{440}"), ("iso-8859-7", "iso8859-7", "\u{3b1}\u{3b2}"),
        ("iso-8859-15", "iso8859-15", "\u{20ac}"), ("windows-1254", "cp1254", "\u{131}\u{15f}"),
        ("windows-874", "cp874", "\u{e01}\u{e02}"), ("ibm866", "cp866", "\u{43f}\u{440}"),
        ("Shift_JIS", "cp932", "\u{65e5}\u{672c}\u{2460}"), ("EUC-JP", "euc_jp", "\u{65e5}\u{672c}"),
        ("ISO-2022-JP", "iso2022_jp", "\u{65e5}\u{672c}"), ("GB2312", "gb2312", "\u{4e2d}\u{6587}"),
        ("gb2312", "gbk", "\u{9555}"), ("gbk", "gbk", "\u{4e2d}\u{9555}"), ("gb18030", "gb18030", "\u{1F600}"),
        ("Big5", "big5", "\u{4e2d}\u{6587}"), ("euc-kr", "cp949", "\u{d55c}\u{ae00}"),
    ])
    func legacyEncodings(_ label: String, _ codec: String, _ title: String) throws {
        let script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read().decode().encode('\(codec)'))"
        let text = declaration(label) + feed("<![CDATA[\(title)]]>")
        let bytes = try Python.bytes(script, input: Array(text.utf8))
        #expect(bytes != Array(text.utf8))
        #expect(try FeedParser.parse(bytes).title == title)
        let mute = Array(bytes.dropFirst(declaration(label).utf8.count))
        #expect(try FeedParser.parse(mute, charset: label).title == title)
    }

    /// One letter is lost, not the feed.
    @Test func octetsWithoutAMeaning() throws {
        let cases: [(String, [UInt8], String)] = [
            ("windows-1251", [0xEF, 0x98, 0xF0], "\u{43f}\u{FFFD}\u{440}"),
            ("shift_jis", [0x41, 0xFF, 0x42], "A\u{FFFD}B"),
            ("gb2312", [0x41, 0xFF, 0xD6, 0xD0], "A\u{FFFD}\u{4e2d}"), ("euc-kr", [0x41, 0xFF], "A\u{FFFD}"),
            ("big5", [0x41, 0xA4], "A\u{FFFD}"),
        ]
        for (label, octets, title) in cases {
            let parts = feed("#").split(separator: "#").map { Array($0.utf8) }
            let bytes = Array(declaration(label).utf8) + parts[0] + octets + parts[1]
            #expect(try FeedParser.parse(bytes).title == title, "\(label)")
        }
        // The text ends within a character; and more than one buffer full of such octets.
        #expect(TextEncoding.convert([0x41, 0xA4], from: "BIG5-HKSCS") == Array("A\u{FFFD}".utf8))
        let many = TextEncoding.convert([UInt8](repeating: 0xFF, count: 10_000), from: "GB18030")
        #expect(many == Array(String(repeating: "\u{FFFD}", count: 10_000).utf8))
        #expect(TextEncoding.convert([], from: "CP1251") == [])
        #expect(TextEncoding.convert([0x41], from: "no-such-encoding") == nil)
    }

    /// Mark, then what the server says, then the declaration.
    @Test func whoIsBelieved() throws {
        let title = "d\u{e9}"
        let utf8 = Array((declaration("iso-8859-1") + feed(title)).utf8)
        #expect(try FeedParser.parse(utf8, charset: "UTF-8").title == title)
        #expect(try FeedParser.parse(utf8).title == "d\u{c3}\u{a9}")
        #expect(try FeedParser.parse([0xEF, 0xBB, 0xBF] + utf8, charset: "iso-8859-1").title == title)
        for written in Written.allCases {
            for mark in [false, true] {
                #expect(try FeedParser.parse(written.octets(feed(title), mark: mark), charset: "utf-8").title == title)
            }
        }
        // What the server says is impossible or means nothing to us.
        for charset in ["utf-16", "utf-32", "x-none", ""] {
            #expect(try FeedParser.parse(utf8, charset: charset).title == "d\u{c3}\u{a9}")
        }
    }
}
