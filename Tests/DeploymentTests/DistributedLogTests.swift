import Foundation
import TestSupport
import Testing
import Wire

/// A log in NATS JetStream: one fills it, sources send what is in it.
@Suite(
    "A distributed log",
    .enabled(
        if: Ground.obstacle(needing: NATSServers.tools) == nil, "\(Ground.obstacle(needing: NATSServers.tools) ?? "")"))
struct DistributedLogTests {
    @Test(
        "A source sends what others append, by the log's numbers; what is lost or no object is told, and the rest is whole"
    )
    func oneServer() throws {
        let stage = try LogStage(servers: 1, heads: 1, receivers: 1)
        let plain = PlainAppender(network: stage.network, place: 0, server: stage.network.address(0))
        // The source waits for a log that is not there yet, and says so.
        let head = try stage.startHead(0)
        try head.awaitEvent("log")
        #expect(head.told.events.first { $0.event == "log" }?.state == "missing")
        let poller = try stage.startPoller(0)
        try head.awaitEvent("listening")
        try stage.feed.publish(upTo: 3)
        let receiver = try stage.startReceiver(0)
        try waitUntil(seconds: 20, "3 items\n\(receiver.logTail)\n\(head.logTail)\n\(poller.logTail)") {
            receiver.tell { $0.items.count == 3 }
        }
        // Another program, with an object of two parts, one whose second part never comes, and a message that is none.
        let subject = "flexicast.news"
        let entry =
            "<entry xmlns=\"http://www.w3.org/2005/Atom\"><id>urn:a</id><title>a</title><updated>2026-01-01T00:00:00Z</updated></entry>"
        try plain.request(subject, "half", headers: ["Flexicast-Part": "1/2"])
        try plain.request(subject, "none", headers: ["Flexicast-Part": "many"])
        try plain.request(
            subject, String(entry.prefix(40)), headers: ["Flexicast-Part": "1/2", "Flexicast-Name": "urn:a"])
        let answer = try plain.request(subject, String(entry.dropFirst(40)), headers: ["Flexicast-Part": "2/2"])
        #expect(answer.contains("\"seq\":7") || answer.contains("\"seq\": 7"), "\(answer)")
        try waitUntil(seconds: 10, "the item of two parts\n\(receiver.logTail)\n\(head.logTail)") {
            receiver.tell { $0.items["urn:a"] == "\(SHA256DigestOf(entry))" }
        }
        #expect(head.log.contains("message 5"))

        // A purge while the source does not look, and what comes afterwards.
        head.signal(SIGSTOP)
        try plain.request(subject, "gone")
        try plain.request("$JS.API.STREAM.PURGE.news", "")
        try stage.feed.publish(upTo: 4)
        Thread.sleep(forTimeInterval: 0.5)
        head.signal(SIGCONT)
        try waitUntil(seconds: 20, "the item after the purge\n\(receiver.logTail)\n\(head.logTail)") {
            receiver.tell { $0.items.count == 5 }
        }
        // A newcomer has what the source keeps, and a source that begins has what the log keeps.
        let second = try stage.startReceiver(1, "second")
        try waitUntil(seconds: 10, "all items at a newcomer\n\(second.logTail)") { second.tell { $0.items.count == 5 } }
        #expect(second.told.items == receiver.told.items)
        #expect(receiver.told.itemLines == 5)
        #expect(try poller.end() == 0)
        #expect(try head.end() == 0)
    }
}

extension DistributedLogTests {
    @Test("Receivers of a source that is gone go on at another where they were; that of one that ends at once")
    func failOver() throws {
        let stage = try LogStage(servers: 1, heads: 2, receivers: 4)
        let poller = try stage.startPoller(0)
        var heads = try (0..<2).map { try stage.startHead($0) }
        for head in heads { try head.awaitEvent("listening") }
        let receivers = try (0..<4).map { try stage.startReceiver($0, nil, $0 % 2 == 0 ? ["--path", "unicast"] : []) }
        for receiver in receivers { try receiver.awaitEvent("connected") }
        var published = 0
        func publish(_ count: Int) throws {
            for _ in 0..<count {
                published += 1
                try stage.feed.publish(upTo: published)
                Thread.sleep(forTimeInterval: 0.06)
            }
        }
        // Less than an attempt at a source that is dead takes until it is given up.
        func settle(_ what: String) throws {
            for receiver in receivers {
                try waitUntil(seconds: 9, "\(what): \(published) items\n\(receiver.logTail)\n\(poller.logTail)") {
                    receiver.tell { $0.items.count } == published
                }
            }
        }
        try publish(20)
        try settle("before")
        // Killed, then ended in order: the other head has all receivers each time.
        for (index, signal) in [(0, SIGKILL), (1, SIGTERM)] {
            try heads[index].end(signal)
            try publish(20)
            try settle("without head \(index)")
            heads[index] = try stage.startHead(index)
            try heads[index].awaitEvent("listening")
        }
        for receiver in receivers {
            let told = receiver.told
            #expect(told.itemLines == published, "\(receiver.name): items told twice")
            #expect(told.count("gap") == 0)
            #expect(told.items == receivers[0].told.items)
            // In the same epoch, whichever head it is.
            #expect(told.events.filter { $0.event == "position" }.dropFirst().allSatisfy { $0.answer == "taken" })
            #expect(try receiver.end() == 0)
        }
    }
}

extension DistributedLogTests {
    @Test(
        "TLS and who we are come from files; what is wrong with them is told, tried again, and mended without a restart"
    )
    func credentials() throws {
        let stage = try LogStage(servers: 1, heads: 1, receivers: 1) { directory, address in
            try shell([
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "1",
                "-keyout", directory.appending(path: "key.pem").path, "-out", directory.appending(path: "ca.pem").path,
                "-subj", "/CN=\(address)", "-addext", "subjectAltName=IP:\(address)",
            ])
            return """
                authorization { user: head, password: "open: sesame" }
                tls { cert_file: "\(directory.path)/ca.pem", key_file: "\(directory.path)/key.pem" }
                """
        }
        let login = stage.directory.url.appending(path: "login")
        func write(_ text: String) throws { try text.write(to: login, atomically: true, encoding: .utf8) }
        let options = [
            "--log-ca", stage.directory.url.appending(path: "ca.pem").path, "--log-credentials", login.path,
        ]
        func state(_ child: Child) -> String? { child.told.events.last { $0.event == "log" }?.state }
        try write("head:wrong\n")
        let poller = try stage.startPoller(0, options)
        let head = try stage.startHead(0, options)
        for child in [poller, head] {
            try waitUntil(seconds: 10, "\(child.name) to be refused\n\(child.logTail)") { state(child) == "refused" }
            #expect(!child.log.contains("wrong\n") && !child.log.contains("sesame"))
        }
        // Without TLS, and with authorities that are not the server's.
        let plain = try stage.startPoller(0, ["--log-credentials", login.path])
        try waitUntil(seconds: 10, "one without TLS\n\(plain.logTail)") { state(plain) != nil }
        #expect(state(plain) != "polling")
        try plain.end(SIGKILL)
        try write("head:open: sesame\n")
        try stage.feed.publish(upTo: 2)
        let receiver = try stage.startReceiver(0)
        try waitUntil(seconds: 30, "2 items\n\(poller.logTail)\n\(head.logTail)\n\(receiver.logTail)") {
            receiver.tell { $0.items.count == 2 }
        }
        #expect(state(poller) == "polling" && state(head) == "following")
        #expect(try poller.end() == 0)
    }

    @Test("A log without room; one that is deleted and made anew, and what receivers notice of it")
    func otherLog() throws {
        let stage = try LogStage(servers: 1, heads: 1, receivers: 1)
        let plain = PlainAppender(network: stage.network, place: 0, server: stage.network.address(0))
        func state(_ child: Child) -> String? { child.told.events.last { $0.event == "log" }?.state }
        let large = try stage.startPoller(0, ["--retain-octets", "8589934592"])
        try waitUntil(seconds: 10, "no room\n\(large.logTail)") { state(large) == "full" }
        #expect(try large.end() == 0)
        let poller = try stage.startPoller(0)
        try stage.feed.publish(upTo: 3)
        var head = try stage.startHead(0)
        let receiver = try stage.startReceiver(0)
        try waitUntil(seconds: 20, "3 items\n\(receiver.logTail)\n\(head.logTail)") {
            receiver.tell { $0.items.count == 3 }
        }
        #expect(try poller.end() == 0)
        try plain.request("$JS.API.STREAM.DELETE.news", "")
        try waitUntil(seconds: 10, "the deletion to be seen\n\(head.logTail)") { state(head) == "missing" }
        #expect(head.isRunning)
        let again = try stage.startPoller(0)
        try waitUntil(seconds: 20, "the head to end\n\(head.logTail)") { !head.isRunning }
        #expect(try head.end() == 1)
        #expect(head.told.events.contains { $0.event == "log" && $0.state == "replaced" })
        // In another epoch everything is sent again, and the receiver knows it by its octets.
        head = try stage.startHead(0)
        try head.awaitEvent("listening")
        try waitUntil(seconds: 10, "the receiver to be back\n\(receiver.logTail)") {
            receiver.told.events.last { $0.event == "position" }?.answer == "otherEpoch"
        }
        try stage.feed.publish(upTo: 4)
        try waitUntil(seconds: 20, "the fourth item\n\(receiver.logTail)\n\(again.logTail)") {
            receiver.tell { $0.items.count == 4 }
        }
        #expect(receiver.told.itemLines == 4)
    }

    @Test("A log that no server answers for is told and tried; a head ends at once when it is asked to")
    func nobody() throws {
        let directory = try TemporaryDirectory()
        let place = try Place()
        for log in ["nats://no.such.host.invalid/news", "nats://127.0.0.1:1/news"] {
            let child = try Child(
                "head",
                place.command([Ground.program, "source", "--log", log, "--listen", "127.0.0.1:0", "--json"]),
                log: directory.url.appending(path: "head.log"))
            try child.awaitEvent("log")
            #expect(child.told.events.last?.state == "unreachable", "\(child.logTail)")
            #expect(child.told.count("listening") == 0)
            #expect(try child.end(SIGINT) == 0)
        }
    }
}

private func SHA256DigestOf(_ text: String) -> String {
    String(fileName(text).dropLast(4))
}

/// Places of a distributed log: first its servers, then sources, then a receiver's each. The poller runs beside the first server.
final class LogStage {
    let network: Namespaces
    let directory: TemporaryDirectory
    let feed: SampleEntries
    let servers: NATSServers
    private let serverCount: Int
    private let headCount: Int
    static let port: UInt16 = 4433

    /// `options`: of the servers, from the directory for files and the first one's address.
    init(
        servers: Int, heads: Int, receivers: Int, options: (URL, IPAddress) throws -> String = { _, _ in "" }
    ) throws {
        (serverCount, headCount) = (servers, heads)
        directory = try TemporaryDirectory()
        network = try Namespaces(places: servers + heads + receivers + 2)
        feed = try SampleEntries(file: directory.url.appending(path: "feed.atom"))
        try feed.publish(upTo: 0)
        self.servers = try NATSServers(
            network, at: Array(0..<servers), in: directory.url, options: options(directory.url, network.address(0)))
    }

    func place(ofHead index: Int) -> Int { serverCount + index }
    func place(ofReceiver index: Int) -> Int { serverCount + headCount + index }
    func address(ofHead index: Int) -> SocketAddress {
        SocketAddress(network.address(place(ofHead: index)), port: Self.port)
    }

    func startHead(_ index: Int, _ options: [String] = []) throws -> Child {
        try Child(
            "head-\(index)",
            network.command(
                [
                    Ground.program, "source", "--log", servers.log("news"), "--listen", "\(address(ofHead: index))",
                    "--group", "232.77.0.\(index + 1):4477", "--interface", Namespaces.interface, "--json",
                ] + options, at: place(ofHead: index)), log: directory.url.appending(path: "head-\(index).log"))
    }

    func startPoller(_ index: Int, _ options: [String] = []) throws -> Child {
        try Child(
            "poller-\(index)",
            network.command(
                [
                    Ground.program, "poll", "--feed", directory.url.appending(path: "feed.atom").path, "--poll", "50ms",
                    "--log", servers.log("news"), "--json", "--retain-octets", "67108864",
                ] + options, at: index), log: directory.url.appending(path: "poller-\(index).log"))
    }

    func startReceiver(_ index: Int, _ name: String? = nil, _ options: [String] = []) throws -> Child {
        let name = name ?? "receiver-\(index)"
        let heads = (0..<headCount).map { "\(address(ofHead: $0))" }.joined(separator: ",")
        return try Child(
            name,
            network.command(
                [Ground.program, "receive", heads, "--insecure", "--interface", Namespaces.interface, "--json"]
                    + options,
                at: place(ofReceiver: index)), log: directory.url.appending(path: "\(name).log"))
    }
}
