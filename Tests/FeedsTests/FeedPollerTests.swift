import Feed
import Foundation
import Synchronization
import Testing

@testable import Feeds

/// One poller with everything it said.
private final class Polled: Sendable {
    let poller: FeedPoller
    let log = LogLines()
    private let items: Mutex<[PublishedItem]>

    init(_ location: String, state: FeedState? = nil, limit: Int = 1 << 20, timeout: Duration = .seconds(30)) throws {
        let delivered = Delivered()
        var configuration = FeedPoller.Configuration(location: try FeedLocation(location))
        configuration.bodyLimit = limit
        configuration.timeout = timeout
        items = Mutex([])
        let state = state ?? FeedState(feed: location, history: 100)
        poller = FeedPoller(configuration, state: state, logger: log.logger) { items, _ in delivered.add(items) }
        self.delivered = delivered
    }

    private let delivered: Delivered

    private final class Delivered: Sendable {
        let items = Mutex<[PublishedItem]>([])
        func add(_ more: [PublishedItem]) { items.withLock { $0 += more } }
    }

    var ids: [String] { delivered.items.withLock { $0.map(\.item.id) } }
    var kinds: [FeedChange.Kind] { delivered.items.withLock { $0.map(\.kind) } }

    deinit { poller.stop() }
}

@Suite struct FeedLocationTests {
    @Test func whatFeedMayName() throws {
        #expect(try FeedLocation("https://example.org/new.atom") == .web(URL(string: "https://example.org/new.atom")!))
        #expect(try FeedLocation("feed.atom") == .file(path: "feed.atom"))
        #expect(try FeedLocation("/tmp/a:b") == .file(path: "/tmp/a:b"))
        #expect(try FeedLocation("file:///tmp/a%20b") == .file(path: "/tmp/a b"))
        #expect(try FeedLocation("file://localhost/tmp/a") == .file(path: "/tmp/a"))
    }

    @Test(arguments: ["", "ftp://example.org/x", "http://", "https:///x", "file://elsewhere/x", "file:relative"])
    func whatItMayNot(_ text: String) {
        #expect(throws: FeedLocationError.self) { try FeedLocation(text) }
    }
}

@Suite struct PollScheduleTests {
    @Test func failuresBackOffAndSuccessReturns() {
        var schedule = PollSchedule(interval: .seconds(5))
        var random = SystemRandomNumberGenerator()
        var pauses: [Duration] = []
        for _ in 0..<30 { pauses.append(schedule.failed(retryAfter: nil, random: &random)) }
        for (index, pause) in pauses.enumerated() {
            let expected = min(5 * pow(2, Double(index)), 300)
            let seconds = pause / .seconds(1)
            #expect(seconds >= expected * 0.79 && seconds <= min(expected * 1.21, 300), "failure \(index): \(pause)")
        }
        #expect(Set(pauses.suffix(20)).count > 1, "no jitter")
        #expect(schedule.succeeded() == .seconds(5))
        #expect(schedule.failed(retryAfter: nil, random: &random) <= .seconds(6))
    }

    @Test func retryAfterIsHonouredWithinAnHour() throws {
        var schedule = PollSchedule(interval: .seconds(5))
        var random = SystemRandomNumberGenerator()
        #expect(schedule.failed(retryAfter: .seconds(1000), random: &random) == .seconds(1000))
        #expect(schedule.failed(retryAfter: .seconds(100_000), random: &random) == .seconds(3600))
        #expect(schedule.failed(retryAfter: .zero, random: &random) > .seconds(1))
        let now = try #require(Timestamp.rfc3339("2025-09-05T09:49:57Z"))
        #expect(PollSchedule.retryAfter("120", now: now) == .seconds(120))
        #expect(PollSchedule.retryAfter("Fri, 05 Sep 2025 09:50:57 GMT", now: now) == .seconds(60))
        #expect(PollSchedule.retryAfter("Fri, 05 Sep 2020 09:50:57 GMT", now: now) == .zero)
        #expect(PollSchedule.retryAfter("-1", now: now) == nil)
        #expect(PollSchedule.retryAfter("soon", now: now) == nil)
        #expect(PollSchedule.retryAfter(nil, now: now) == nil)
    }

    @Test func aLongIntervalIsNotShortenedByFailures() {
        var schedule = PollSchedule(interval: .seconds(900))
        var random = SystemRandomNumberGenerator()
        #expect(schedule.failed(retryAfter: nil, random: &random) >= .seconds(720))
    }
}

@Suite struct FilePollTests {
    @Test func aFileIsReadAgainOnlyWhenItChanged() throws {
        let scratch = try Scratch()
        let polled = try Polled("file://" + scratch.file("feed"))
        try scratch.write(Documents.feed([Documents.entry("a:1")]), to: "feed")
        polled.poller.poll()
        polled.poller.poll()
        try scratch.write(Documents.feed([Documents.entry("a:2", 2), Documents.entry("a:1")]), to: "feed")
        polled.poller.poll()
        polled.poller.poll()
        #expect(polled.ids == ["a:1", "a:2"])
        #expect(polled.poller.counters.polls == 4)
        #expect(polled.poller.counters.notModified == 2)
        #expect(polled.poller.counters.documents == 2)
        #expect(polled.poller.counters.newItems == 2)
    }

    @Test func theSampleFeedGrows() throws {
        let scratch = try Scratch()
        let file = SampleFeedFile(path: scratch.file("sample"))
        let polled = try Polled(file.path)
        for count in [3, 4, 4, 10] {
            try file.publish(upTo: count)
            polled.poller.poll()
        }
        #expect(polled.ids == (0..<10).map(SampleFeed.id))
        #expect(polled.poller.counters.identical == 1)
    }

    @Test func failuresAreSaidOnceAndPollingGoesOn() throws {
        let scratch = try Scratch()
        let polled = try Polled(scratch.file("feed"), limit: 5000)
        #expect(polled.poller.poll() > .seconds(1))
        polled.poller.poll()
        try scratch.write("<feed xmlns='http://www.w3.org/2005/Atom'><entry><id>a:1</id>", to: "feed")
        polled.poller.poll()
        polled.poller.poll()
        try scratch.write(String(repeating: " ", count: 5001), to: "feed")
        polled.poller.poll()
        try scratch.write(Documents.feed([Documents.entry("a:1"), "<entry/>"]), to: "feed")
        #expect(polled.poller.poll() == .seconds(5))
        #expect(polled.ids == ["a:1"])
        let lines = polled.log.visible
        #expect(lines.count == 5, "\(lines)")
        #expect(lines[0].contains("there is no file"))
        #expect(lines[1].contains("cut off"))
        #expect(lines[2].contains("5001 bytes, more than the limit of 5000"))
        #expect(lines[3].contains("1 of 2 items are left out"))
        #expect(lines[4].contains("can be read again"))
        #expect(polled.poller.counters.failures == [.file: 3, .document: 2])
        #expect(polled.poller.counters.unusableItems == 1)
    }

    @Test(.timeLimit(.minutes(5))) func aPipeOrDirectoryDoesNotHoldItUp() throws {
        let scratch = try Scratch()
        let make = Process()
        make.executableURL = URL(filePath: "/usr/bin/env")
        make.arguments = ["mkfifo", scratch.file("pipe")]
        try make.run()
        make.waitUntilExit()
        for name in ["pipe", "."] {
            let polled = try Polled(scratch.file(name))
            polled.poller.poll()
            #expect(polled.log.visible.first?.contains("not a regular file") == true, "\(polled.log.all)")
        }
    }

    /// The thread delivers by itself, and `stop` ends it while it waits for the next poll.
    @Test(.timeLimit(.minutes(5))) func theThreadPollsAndStops() throws {
        let scratch = try Scratch()
        try scratch.write(Documents.feed([Documents.entry("a:1")]), to: "feed")
        let delivered = DispatchSemaphore(value: 0)
        let configuration = FeedPoller.Configuration(
            location: .file(path: scratch.file("feed")), interval: .seconds(3600))
        let poller = FeedPoller(
            configuration, state: FeedState(feed: "f", history: 1), logger: LogLines().logger
        ) { items, _ in if items.map(\.item.id) == ["a:1"] { delivered.signal() } }
        poller.start()
        delivered.wait()
        poller.stop()
        poller.waitUntilStopped()
        #expect(poller.counters.polls == 1)
    }
}

@Suite struct WebPollTests {
    /// One server for all tests; its document stays as it is.
    private static let shared = Result {
        let scratch = try Scratch()
        try scratch.write(Documents.feed([Documents.entry("a:1")]), to: "feed")
        return (scratch, try HostileServer(document: scratch.file("feed")))
    }

    private let server: HostileServer

    init() throws { server = try Self.shared.get().1 }

    @Test func unchangedFeedsAreAskedForWithTheirValidators() throws {
        let scratch = try Scratch()
        try scratch.write(Documents.feed([Documents.entry("a:1")]), to: "feed")
        let server = try HostileServer(document: scratch.file("feed"))
        let polled = try Polled(server.url("/feed"))
        polled.poller.poll()
        polled.poller.poll()
        try scratch.write(
            Documents.feed([Documents.entry("a:1", 2, text: "y"), Documents.entry("a:2", 1)]), to: "feed")
        polled.poller.poll()
        #expect(polled.ids == ["a:1", "a:2", "a:1"])
        #expect(polled.kinds == [.new, .new, .edited])
        #expect(polled.poller.counters.notModified == 1)
        #expect(polled.poller.counters.documents == 2)
        let requests = try server.requests("/feed")
        #expect(requests.count == 3)
        #expect(requests[0] == "-|-|flexicast")
        #expect(requests[1].hasPrefix("W/\""))
        #expect(requests[1].hasSuffix("\"|Fri, 05 Sep 2025 09:49:57 GMT|flexicast"))
        #expect(requests[2] == requests[1])
        #expect(polled.log.visible == [])
    }

    @Test func withoutValidatorsEqualDocumentsAreNotReadAgain() throws {
        let polled = try Polled(server.url("/plain"))
        polled.poller.poll()
        polled.poller.poll()
        #expect(polled.ids == ["a:1"])
        #expect(polled.poller.counters.identical == 1)
    }

    @Test func aRestartAsksWithTheSavedValidators() throws {
        let scratch = try Scratch()
        let location = server.url("/feed?restart")
        func state() throws -> FeedState {
            try FeedState(directory: scratch.file("state"), feed: location, history: 10, logger: LogLines().logger)
        }
        do {
            let polled = try Polled(location, state: state())
            polled.poller.poll()
            #expect(polled.ids == ["a:1"])
        }
        // The first poller's directory is free once its last reference is gone.
        let restored = try state()
        #expect(restored.history.map(\.item.id) == ["a:1"])
        let polled = try Polled(location, state: restored)
        polled.poller.poll()
        #expect(polled.ids == [])
        #expect(polled.poller.counters.notModified == 1)
        #expect(try server.requests("/feed?restart").map { $0.hasPrefix("W/") } == [false, true])
    }

    /// A certificate that nobody vouches for is refused.
    @Test(.timeLimit(.minutes(5))) func certificatesAreChecked() throws {
        let scratch = try Scratch()
        try scratch.write(Documents.feed([Documents.entry("a:1")]), to: "feed")
        let make = Process()
        make.executableURL = URL(filePath: "/usr/bin/env")
        make.arguments =
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
            + ["-keyout", scratch.file("key"), "-out", scratch.file("certificate")]
        make.standardError = FileHandle.nullDevice
        try make.run()
        make.waitUntilExit()
        let server = try HostileServer(
            document: scratch.file("feed"), certificate: scratch.file("certificate"), key: scratch.file("key"))
        let location = server.url("/feed").replacing("127.0.0.1", with: "localhost")
        let stranger = try Polled(location)
        stranger.poller.poll()
        #expect(stranger.poller.counters.failures == [.unreachable: 1], "\(stranger.log.all)")
        #expect(stranger.ids == [])
        #expect(stranger.log.visible.first?.contains("certificate") == true, "\(stranger.log.all)")
        // The variable that everything else with OpenSSL obeys.
        unsafe setenv("SSL_CERT_FILE", scratch.file("certificate"), 1)
        defer { unsafe unsetenv("SSL_CERT_FILE") }
        let friend = try Polled(location)
        friend.poller.poll()
        #expect(friend.ids == ["a:1"], "\(friend.log.all)")
        let otherName = try Polled(server.url("/feed"))
        otherName.poller.poll()
        #expect(otherName.poller.counters.failures == [.unreachable: 1], "\(otherName.log.all)")
        unsafe setenv("SSL_CERT_FILE", scratch.file("missing"), 1)
        let nobody = try Polled(location)
        nobody.poller.poll()
        #expect(nobody.poller.counters.failures == [.unreachable: 1], "\(nobody.log.all)")
    }

    /// RFC 5891: servers and resolvers know such a name in ASCII.
    @Test func aHostNameMayHaveAnyLetters() throws {
        let polled = try Polled(server.url("/plain").replacing("127.0.0.1", with: "m\u{fc}ller.localhost"))
        polled.poller.poll()
        #expect(polled.ids == ["a:1"], "\(polled.log.all)")
        #expect(try server.authorizations().contains("xn--mller-kva.localhost -"))
    }

    @Test func gzip() throws {
        let polled = try Polled(server.url("/gzip"))
        polled.poller.poll()
        #expect(polled.ids == ["a:1"], "\(polled.log.all)")
    }

    @Test func redirects() throws {
        for path in ["/chain/1", "/chain/5", "/moved"] {
            let polled = try Polled(server.url(path))
            polled.poller.poll()
            #expect(polled.ids == ["a:1"], "\(path): \(polled.log.all)")
            #expect(polled.log.visible.count == (path == "/moved" ? 1 : 0))
            if path == "/moved" {
                #expect(polled.log.visible.first?.contains("moved for good: use --feed \(server.url("/feed"))") == true)
                polled.poller.poll()
                #expect(polled.poller.counters.notModified == 1, "the validators got lost on the way")
                #expect(polled.log.visible.count == 1, "said once")
            }
        }
    }

    /// RFC 9110 sections 15.4.5 and 8.8.3: what the last answer says is what to ask with.
    @Test(arguments: ["/304", "/tags"]) func aNewETagIsTaken(_ path: String) throws {
        let polled = try Polled(server.url(path))
        for _ in 0..<3 { polled.poller.poll() }
        #expect(polled.ids == ["a:1"], "\(polled.log.all)")
        let tags = try server.requests(path).map { $0.prefix { $0 != "|" } }
        #expect(tags.count == 3 && Set(tags).count == 3, "\(tags)")
    }

    @Test func whereAFeedHasMovedIsRememberedOverARestart() throws {
        let scratch = try Scratch()
        let location = server.url("/moved/below")
        let relative =
            "<feed xmlns=\"http://www.w3.org/2005/Atom\"><id>urn:f</id><title/><entry><id>a:7</id><title/>"
            + "<updated>2025-01-01T00:00:00Z</updated><link href=\"page\"/></entry></feed>"
        try scratch.write(relative, to: "feed")
        let server = try HostileServer(document: scratch.file("feed"))
        let place = location.replacing(self.server.base, with: server.base)
        for _ in 0..<2 {
            let state = try FeedState(
                directory: scratch.file("state"), feed: place, history: 10, logger: LogLines().logger)
            if let item = state.history.first?.item {
                // Links mean something from where the document came in the end.
                #expect(String(decoding: item.document, as: UTF8.self).contains("\(server.base)/plain/below/feed"))
            }
            let polled = try Polled(place, state: state)
            polled.poller.poll()
            polled.poller.poll()
        }
        #expect(try server.requests("/moved/below").count == 1)
        #expect(try server.requests("/plain/below/feed").count == 4)
    }

    @Test func aFeedThatIsGoneIsNotAskedForAgain() throws {
        let polled = try Polled(server.url("/gone"))
        #expect(polled.poller.poll() == FeedPoller.pauseWhenGone)
        #expect(polled.poller.counters.failing == .gone)
        #expect(polled.log.visible.first?.contains("410") == true, "\(polled.log.all)")
    }

    /// Only as far as every step so far is for good (RFC 9110 section 15.4).
    @Test(arguments: [("/moved/twice", "/feed"), ("/moved/away", "/chain/1"), ("/away/moved", nil)])
    func whatHasMovedForGoodIsNamed(_ path: String, _ target: String?) throws {
        let polled = try Polled(server.url(path))
        polled.poller.poll()
        #expect(polled.ids == ["a:1"], "\(polled.log.all)")
        #expect(polled.log.visible.count == (target == nil ? 0 : 1))
        if let target {
            #expect(
                polled.log.visible.first?.hasSuffix("use --feed \(server.url(target))") == true, "\(polled.log.all)")
        }
    }

    /// Who redirects must not have us show credentials of its choice to another server.
    @Test func credentialsInARedirectAreNotSent() throws {
        let polled = try Polled(server.url("/eve"))
        polled.poller.poll()
        #expect(polled.ids == ["a:1"], "\(polled.log.all)")
        #expect(try server.authorizations().allSatisfy { $0.hasSuffix(" -") })
    }

    @Test(arguments: [
        ("text/xml", nil), ("text/xml; charset=utf-8", "utf-8"),
        ("text/xml;Charset = \"iso-8859-1\" ; x=y", "iso-8859-1"),
        ("text/xml; charset=", nil), ("text/xml; x=\"charset=a\"", nil), ("charset=a", nil), ("", nil), (";;=;", nil),
    ])
    func charsets(_ contentType: String, _ charset: String?) {
        #expect(WebFetcher.charset(of: contentType) == charset)
    }

    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            ("/loop", FeedFailure.Kind.redirect, "in a circle"), ("/chain/6", .redirect, "more than 5 times"),
            ("/tofile", .redirect, "not followed"), ("/500", .status, "500"), ("/404", .status, "404"),
            ("/500/endless", .status, "500"), ("/503", .status, "503"), ("/nowhere", .status, "302"),
            ("/html", .document, "web page"), ("/empty", .document, "empty"), ("/cut", .document, "cut off"),
            ("/huge", .tooLarge, "104857600 bytes"), ("/endless", .tooLarge, "more and more"),
            ("/bomb", .tooLarge, "more and more"), ("/short", .unreachable, ""), ("/garbage", .unreachable, ""),
            ("/gzip/cut", .document, "cut off"), ("/gzip/damaged", .unreachable, ""),
            ("/headers", .tooLarge, "more and more"),
            ("/refused/big", .status, "404"),
        ])
    func whatServersDo(_ path: String, _ kind: FeedFailure.Kind, _ words: String) throws {
        let polled = try Polled(server.url(path))
        let pause = polled.poller.poll()
        #expect(polled.poller.counters.failures == [kind: 1], "\(polled.log.all)")
        #expect(polled.log.visible.count == 1)
        let line = polled.log.visible.first ?? ""
        #expect(words.isEmpty || line.contains(words), "\(line)")
        #expect(line.contains(server.base))
        #expect(path != "/503" || pause == .seconds(1234))
        #expect(polled.ids == [])
    }

    @Test(.timeLimit(.minutes(5)), arguments: ["/slow", "/silent", "/drip"])
    func timeIsLimited(_ path: String) throws {
        let polled = try Polled(server.url(path), timeout: .milliseconds(200))
        polled.poller.poll()
        #expect(polled.poller.counters.failures == [.timedOut: 1], "\(polled.log.all)")
    }

    @Test func nobodyThere() throws {
        let polled = try Polled("http://127.0.0.1:1/feed")
        polled.poller.poll()
        #expect(polled.poller.counters.failures == [.unreachable: 1])
        #expect(polled.log.visible.count == 1)
    }

    @Test(.timeLimit(.minutes(5))) func stopBreaksARequestOff() throws {
        let polled = try Polled(server.url("/silent/stop"))
        let before = try server.requests("/silent/stop").count
        polled.poller.start()
        while try server.requests("/silent/stop").count == before {}
        polled.poller.stop()
        polled.poller.waitUntilStopped()
        #expect(polled.poller.counters.failures == [.stopped: 1])
        #expect(!polled.log.visible.contains { $0.hasPrefix("error") })
    }
}
