import Cryptography
import Feed
import Foundation
import Logging
import Synchronization
import Testing

@testable import Feeds

/// A URL's user information reaches the feed's server and nobody else, and its query nobody but servers.
@Suite struct FeedSecretTests {
    private static let user = "us3r"
    private static let password = "s3cret/\u{e9}"
    private static let userInformation = "us3r:s3cret%2F%C3%A9@"
    private static let query = "?token=t0ken"
    /// Neither as written nor as it goes to the server.
    private static let secrets = ["us3r", "s3cret", "t0ken", Data("us3r:s3cret/\u{e9}".utf8).base64EncodedString()]

    /// Items that need a base, an RSS item whose id is a relative link, and a feed without id and title of its own.
    private static let documents = [
        "<feed xmlns=\"http://www.w3.org/2005/Atom\"><entry><id>a:1</id><title>x</title><link href=\"page\"/>"
            + "<updated>2025-01-01T00:00:00Z</updated></entry></feed>",
        "<feed xmlns=\"http://www.w3.org/2005/Atom\" xml:base=\"sub/\"><entry xml:base=\"?x\"><id>a:1</id><title>x</title>"
            + "<link href=\"\"/><updated>2025-01-01T00:00:00Z</updated></entry></feed>",
        "<rss><channel><title/><item><link>/three</link><description>&lt;a href='x'></description></item>"
            + "<item><guid>urn:x:1</guid><x xmlns=\"urn:x\" href=\"page\"/></item></channel></rss>",
    ]

    /// Runs polls of one location and returns all that could be seen of it outside of the process.
    private func everything(
        of location: String, _ scratch: Scratch, polls: Int = 2, timeout: Duration = .seconds(30)
    ) throws -> (items: Int, seen: [String]) {
        let log = LogLines()
        let seen = Mutex<[String]>([])
        let count = Mutex(0)
        var configuration = FeedPoller.Configuration(location: try FeedLocation(location))
        configuration.timeout = timeout
        configuration.bodyLimit = 1 << 20
        let state = try FeedState(directory: scratch.file("state"), feed: location, history: 10, logger: log.logger)
        let place = configuration.location
        let poller = FeedPoller(configuration, state: state, logger: log.logger) { items, feed in
            count.withLock { $0 += items.count }
            for asWholeFeed in [false, true] {
                let publications = [
                    Publication(items.map(\.item), of: feed, at: place, asWholeFeed: asWholeFeed),
                    Publication(items.map(\.item), of: nil, at: place, asWholeFeed: asWholeFeed),
                ]
                for publication in publications {
                    #expect(!publication.documents.isEmpty)
                    seen.withLock { seen in
                        seen += publication.documents.map { String(decoding: $0.bytes, as: UTF8.self) }
                        seen += publication.events.flatMap { ["\($0)", $0.json, $0.text ?? ""] }
                    }
                }
            }
        }
        for _ in 0..<polls { poller.poll() }
        poller.start()
        poller.stop()
        poller.waitUntilStopped()
        var all = seen.withLock { $0 } + log.all + ["\(place)", String(reflecting: configuration)]
        dump(place, to: &all[all.count - 1])
        for name in try FileManager.default.contentsOfDirectory(atPath: scratch.file("state")) {
            all.append(String(decoding: try scratch.read("state/\(name)"), as: UTF8.self))
        }
        return (count.withLock { $0 }, all)
    }

    private func expectNoSecrets(_ seen: [String], _ comment: Comment) {
        for text in seen {
            for secret in Self.secrets { #expect(!text.contains(secret), "\(comment): \(secret) in \(text)") }
        }
    }

    @Test(arguments: documents) func nothingSecretGoesOut(_ document: String) throws {
        let scratch = try Scratch()
        try scratch.write(document, to: "feed")
        let server = try HostileServer(document: scratch.file("feed"))
        let location = server.url("/private/feed" + Self.query).replacing("//", with: "//" + Self.userInformation)
        let (items, seen) = try everything(of: location, scratch)
        #expect(items > 0, "\(seen)")
        expectNoSecrets(seen, "feed")
        #expect(seen.contains { $0.contains(server.url("/private/")) }, "the address is of use")
        let expected = "127.0.0.1 Basic " + Data("\(Self.user):\(Self.password)".utf8).base64EncodedString()
        let authorizations = try server.authorizations()
        #expect(!authorizations.isEmpty)
        #expect(authorizations.allSatisfy { $0 == expected }, "\(authorizations)")
        #expect(!(try server.requests("/private/feed" + Self.query)).isEmpty, "the query is sent")
    }

    @Test(arguments: ["moved", "eve", "loop", "ftp", "html", "404", "slow", "big"])
    func nothingSecretIsLogged(_ path: String) throws {
        let scratch = try Scratch()
        try scratch.write(Self.documents[0], to: "feed")
        let server = try HostileServer(document: scratch.file("feed"))
        let location = server.url("/private/\(path)" + Self.query).replacing("//", with: "//" + Self.userInformation)
        let timeout: Duration = path == "slow" ? .milliseconds(200) : .seconds(30)
        let (items, seen) = try everything(of: location, scratch, polls: 1, timeout: timeout)
        #expect(items == (["moved", "eve"].contains(path) ? 1 : 0), "\(seen)")
        #expect(seen.contains { $0.contains(server.url("/private/\(path)?…")) })
        expectNoSecrets(seen, "\(path)")
    }

    @Test func nobodyThere() throws {
        let (_, seen) = try everything(of: "http://\(Self.userInformation)127.0.0.1:1/feed\(Self.query)", Scratch())
        expectNoSecrets(seen, "nobody")
    }

    /// Where the feed's server sends us, another host or port, gets no credentials.
    @Test func redirectsTakeNoCredentialsAlong() throws {
        let scratch = try Scratch()
        try scratch.write(Self.documents[0], to: "feed")
        let server = try HostileServer(document: scratch.file("feed"))
        let location = server.url("/private/away").replacing("//", with: "//" + Self.userInformation)
        let (items, seen) = try everything(of: location, scratch, polls: 1)
        #expect(items == 1, "\(seen)")
        expectNoSecrets(seen, "away")
        let authorizations = try server.authorizations()
        #expect(authorizations.contains("localhost -"))
        #expect(
            authorizations.allSatisfy { $0.hasPrefix("127.0.0.1 Basic ") || $0 == "localhost -" }, "\(authorizations)")
    }

    @Test(arguments: [
        "http://us3r:s3cret@", "https://us3r:s3cret@/x?t0ken", "https://us3r:s3cret/s3cret@h.example/x",
        "https://us3r:s3?cret@h.example/t?t0ken", "https:us3r:s3cret@h.example/x?token=t0ken",
        "ftp://us3r:s3cret@h.example/x?token=t0ken", "file://us3r:s3cret@elsewhere/x?token=t0ken",
        "https://us3r%3As3cret:x@h.example/", "https://us3r:s3cret%0D%0A@h.example/", "https://us3r:s3cret#@h/x",
    ])
    func refusalsSayNothing(_ text: String) {
        let error = #expect(throws: FeedLocationError.self) { try FeedLocation(text) }
        guard let error else { return }
        for text in ["\(error)", String(reflecting: error), error.text] {
            for secret in Self.secrets + ["s3", "cret"] { #expect(!text.contains(secret), "\(text)") }
        }
    }

    @Test func credentialsAreReadAndNotShown() throws {
        let cases: [(String, String?, String)] = [
            ("https://a:b@h.example/x", "Basic YTpi", "https://h.example/x"),
            ("https://a:b@h.example:8443/x?q=1@2#f", "Basic YTpi", "https://h.example:8443/x?…"),
            ("https://a@h.example/@x", "Basic YTo=", "https://h.example/@x"),
            ("https://:b@h.example", "Basic OmI=", "https://h.example"),
            ("https://@h.example/", nil, "https://h.example/"),
            ("https://a:b%40c%3Ad@h.example/", "Basic YTpiQGM6ZA==", "https://h.example/"),
            ("https://h.example/a@b?c", nil, "https://h.example/a@b?…"),
            ("https://a:b@[::1]:1/", "Basic YTpi", "https://[::1]:1/"),
        ]
        for (text, authorization, shown) in cases {
            let location = try FeedLocation(text)
            guard case .web(let url, let credentials) = location else { return #expect(Bool(false), "\(text)") }
            #expect(credentials?.authorization == authorization, "\(text)")
            #expect(url.user() == nil && url.password() == nil && url.fragment() == nil, "\(url)")
            #expect("\(location)" == shown)
            let credentialTexts = credentials.map { ["\($0)", String(reflecting: $0)] } ?? []
            #expect(credentialTexts.allSatisfy { $0 == "credentials" })
        }
    }

    @Test func theStateTellsFeedsApartWithoutTheirSecrets() throws {
        let base = "https://h.example/x"
        let same = ["https://us3r:s3cret@h.example/x?token=t0ken", "https://h.example/x?token=t0ken"].map(
            FeedLocation.identity)
        #expect(same[0] == same[1])
        #expect(FeedLocation.identity(of: base) == base)
        #expect(same[0] != base && same[0] != FeedLocation.identity(of: base + "?token=other"))
        #expect(FeedLocation.identity(of: "a/path") == "a/path")
        #expect(!same[0].contains("t0ken"))
    }

    /// What an earlier version wrote is understood, and replaced at the first chance.
    @Test func secretsInAnOldStateAreReplaced() throws {
        let scratch = try Scratch()
        let location = "https://us3r:s3cret@h.example/x?token=t0ken"
        let log = LogLines()
        func open(_ feed: String) throws -> FeedState {
            try FeedState(directory: scratch.file("state"), feed: feed, history: 10, logger: log.logger)
        }
        do {
            var state = try open(location)
            let document = try FeedParser.parse(Array(Documents.feed([Documents.entry("a:1")]).utf8))
            #expect(state.absorb(document, validators: FeedValidators(etag: "tag")).failure == nil)
        }
        let written = String(decoding: try scratch.read("state/state"), as: UTF8.self)
        expectNoSecrets([written], "state")
        let body = try #require(written.split(separator: "\n", maxSplits: 1).last).replacing(
            FeedLocation.identity(of: location).replacing("/", with: "\\/"), with: location.replacing("/", with: "\\/"))
        #expect(body.contains("s3cret"))
        let digest = SHA256Digest(of: Array(body.utf8))
        try scratch.write("flexicast feed state 1 sha256=\(digest)\n\(body)", to: "state/state")
        do {
            var state = try open(location)
            #expect(state.validators.etag == "tag", "\(log.all)")
            #expect(state.isUnsaved)
            #expect(state.save() == nil)
        }
        expectNoSecrets([String(decoding: try scratch.read("state/state"), as: UTF8.self)], "state")
        // Of another feed the old one is named, without its secrets.
        try scratch.write("flexicast feed state 1 sha256=\(digest)\n\(body)", to: "state/state")
        #expect(try open("https://h.example/y").validators.etag == nil)
        #expect(log.all.contains { $0.contains("of another feed, https://h.example/x?…") }, "\(log.all)")
        expectNoSecrets(log.all, "log")
    }

    /// RFC 7303 section 3.2: what the server says of the encoding counts for more than what the document says.
    @Test func theServersCharsetCounts() throws {
        let scratch = try Scratch()
        let declared = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>"
        try scratch.write(declared + Documents.feed([Documents.entry("a:1", text: "\u{43f}")]), to: "feed")
        let server = try HostileServer(document: scratch.file("feed"))
        for (charset, text) in [("utf-8", "\u{43f}"), ("us-ascii", "\u{d0}\u{bf}"), ("x-none", "\u{d0}\u{bf}")] {
            let found = Mutex("")
            let poller = FeedPoller(
                FeedPoller.Configuration(location: try FeedLocation(server.url("/charset/\(charset)"))),
                state: FeedState(feed: "f", history: 1), logger: LogLines().logger
            ) { items, _ in found.withLock { $0 = String(decoding: items[0].item.document, as: UTF8.self) } }
            poller.poll()
            #expect(found.withLock { $0 }.contains("<content>\(text)</content>"), "\(charset)")
        }
    }
}
