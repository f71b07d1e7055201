import Foundation
import TestSupport
import Testing

@testable import Feeds

/// What `flexicast feed check` says of feeds.
@Suite struct FeedCheckTests {
    private func check(_ document: String, strict: Bool = false) throws -> FeedCheck {
        let directory = try TemporaryDirectory()
        let file = directory.url.appending(path: "feed.xml")
        try Data(document.utf8).write(to: file)
        return try FeedCheck(file.path, strict: strict)
    }

    private static func feed(_ items: String) -> String {
        "<rss version=\"2.0\"><channel><title>News</title><link>http://x.example/</link>\(items)</channel></rss>"
    }

    @Test func aGoodFeedIsSentWhole() throws {
        let check = try check(
            Self.feed(
                """
                <item><guid>http://x.example/2</guid><title>Two</title><pubDate>Tue, 02 Jan 2024 00:00:00 GMT</pubDate></item>
                <item><guid>http://x.example/1</guid><title>One</title><pubDate>Mon, 01 Jan 2024 00:00:00 GMT</pubDate></item>
                """))
        #expect(check.isGood && check.title == "News")
        #expect(check.items.map(\.title) == ["One", "Two"], "the oldest first")
        #expect(check.text.contains("2 items would be sent of \"News\""))
        let json = try #require(try JSONSerialization.jsonObject(with: Data(check.json.utf8)) as? [String: Any])
        #expect(
            (json["items"] as? [[String: Any]])?.map { $0["id"] as? String } == [
                "http://x.example/1", "http://x.example/2",
            ])
        #expect(json["failure"] == nil && json["fault"] == nil)
    }

    @Test func whatIsLeftOutIsToldWithReasons() throws {
        let check = try check(
            Self.feed(
                "<item><guid>http://x.example/1</guid><title>One</title></item><item></item>"
                    + "<item><guid>http://x.example/1</guid><title>Again</title></item>"))
        #expect(!check.isGood && check.failure == nil && check.items.count == 1)
        #expect(check.leftOut.count == 2, "\(check.leftOut)")
        #expect(check.text.contains("left out: "))
    }

    @Test func aFaultHasItsPlaceAndStrictRefuses() throws {
        let text = Self.feed("<item><guid>http://x.example/1</guid><title>A & B</title></item>")
        let lenient = try check(text)
        #expect(lenient.items.map(\.title) == ["A & B"] && lenient.fault?.contains("line 1") == true)
        let strict = try check(text, strict: true)
        #expect(strict.failure != nil && strict.items.isEmpty)
        #expect(strict.text.contains("cannot be read"))
    }

    @Test func nothingSecretIsShown() throws {
        let check = try FeedCheck("http://user:hunter2@127.0.0.1:1/feed?token=abc", timeout: .seconds(2))
        #expect(check.failure != nil)
        for text in [check.text, check.json] {
            #expect(!text.contains("hunter2") && !text.contains("abc") && text.contains("127.0.0.1"))
        }
    }

    @Test func whatIsNoFeedIsSaid() throws {
        #expect(try check("<html><body>no</body></html>").failure != nil)
        #expect(try FeedCheck("/nowhere/at/all.xml").failure?.contains("/nowhere/at/all.xml") == true)
        #expect(throws: FeedLocationError.self) { try FeedCheck("gopher://x.example/") }
    }
}

/// `NAME=URL`.
@Suite struct FeedNameTests {
    @Test(arguments: [
        ("news=https://x.example/f?a=b", "news", "https://x.example/f?a=b"), ("a.b_c-1=/f.xml", "a.b_c-1", "/f.xml"),
        ("https://x.example/f?a=b", nil, "https://x.example/f?a=b"), ("./a=b.xml", nil, "./a=b.xml"),
        ("=x", nil, "=x"), ("näme=x", nil, "näme=x"), (String(repeating: "n", count: 65) + "=x", nil, nil),
    ])
    func namesAndLocations(text: String, name: String?, location: String?) throws {
        let parts = FeedLocation.parts(of: text)
        #expect(parts.name == name && parts.location == location ?? text)
    }

    @Test func aNameIsNoPartOfTheIdentity() {
        #expect(
            FeedLocation.identity(of: "n=https://u:p@x.example/f") == FeedLocation.identity(of: "https://x.example/f"))
        #expect(FeedLocation.shown("n=https://u:p@x.example/f?t=s").hasPrefix("n=https://"))
        #expect(!FeedLocation.shown("n=https://u:p@x.example/f?t=s").contains("u:p"))
    }
}
