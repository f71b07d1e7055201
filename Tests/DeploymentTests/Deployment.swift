import Cryptography
import Feed
import Foundation
import TestSupport
import Testing
import Transport
import Wire

/// All deployment tests: one after the other, since each loads the machine and watches the clock.
@Suite(
    "Deployment", .serialized, .enabled(if: Ground.isSolid, "\(Ground.reason)"))
enum Deployment {}

/// One source, some receivers, each a process in a namespace of its own, and a feed file that grows.
final class DeploymentWorld {
    let network: Namespaces
    let io: IOBackendChoice
    let directory: TemporaryDirectory
    private(set) var source: Child
    private(set) var receivers: [Child] = []
    private let feed: SampleEntries
    private(set) var published = 0
    private let sourceOptions: [String]
    static let port: UInt16 = 4433

    /// How a receiver is started; its place is its number in the list plus one.
    struct Receiver {
        var path = "auto"
        var lossPercent = 0
        /// The group never reaches it.
        var isCut = false
    }

    init(
        _ receivers: [Receiver], family: Namespaces.Family = .ipv4, group: String? = nil, io: IOBackendChoice = .auto,
        sparePlaces: Int = 0, sourceOptions: [String] = []
    ) throws {
        self.io = io
        directory = try TemporaryDirectory()
        network = try Namespaces(places: receivers.count + 1 + sparePlaces, family: family, group: group)
        feed = try SampleEntries(file: directory.url.appending(path: "feed.atom"))
        try feed.publish(upTo: 0)
        self.sourceOptions = sourceOptions
        source = try Self.startSource(network, directory.url, io, sourceOptions)
        try waitForSource()
        for (index, receiver) in receivers.enumerated() {
            try network.filter(at: index + 1, lossPercent: receiver.lossPercent)
            if receiver.isCut { try network.setCut(true, at: index + 1) }
            self.receivers.append(try start(index, path: receiver.path))
        }
        for (index, receiver) in receivers.enumerated() {
            let child = self.receivers[index]
            let event = receiver.path == "unicast" || receiver.isCut ? "connected" : "listening"
            try waitUntil(seconds: 20, "\(child.name): \(event)\n\(child.logTail)\n\(source.logTail)") {
                child.told.count(event) > 0
            }
        }
    }

    private static func startSource(
        _ network: Namespaces, _ directory: URL, _ io: IOBackendChoice, _ options: [String]
    ) throws -> Child {
        try Child(
            "source",
            network.command(
                [
                    Ground.program, "source", "--feed", directory.appending(path: "feed.atom").path, "--poll", "50ms",
                    "--listen", "\(SocketAddress(network.address(0), port: port))", "--group", "\(network.group)",
                    "--interface", Namespaces.interface, "--write-certificate",
                    directory.appending(path: "source.pem").path, "--json", "--io", io.rawValue,
                ] + options, at: 0), log: directory.appending(path: "source.log"))
    }

    private func waitForSource() throws {
        try waitUntil(seconds: 15, "the source to listen\n\(source.logTail)") { source.told.count("listening") > 0 }
    }

    private func start(_ index: Int, path: String) throws -> Child {
        let name = "receiver-\(index + 1)"
        let trust =
            sourceOptions.contains("--state")
            ? ["--insecure"] : ["--trust", directory.url.appending(path: "source.pem").path]
        return try Child(
            name,
            network.command(
                [
                    Ground.program, "receive", "\(SocketAddress(network.address(0), port: Self.port))", "--path", path,
                    "--interface", Namespaces.interface, "--output", output(index).path, "--json", "--io", io.rawValue,
                ] + trust, at: index + 1), log: directory.url.appending(path: "\(name).log"))
    }

    func output(_ index: Int) -> URL { directory.url.appending(path: "receiver-\(index + 1)") }

    // MARK: What happens

    /// Adds items to the feed one by one, and does what `then` says after each.
    func publish(_ count: Int, every pause: Duration, then: (Int) throws -> Void = { _ in }) throws {
        var next = ContinuousClock.now
        for _ in 0..<count {
            published += 1
            try feed.publish(upTo: published)
            try then(published)
            next += pause
            let left = (next - ContinuousClock.now) / .seconds(1)
            if left > 0 { Thread.sleep(forTimeInterval: left) }
        }
    }

    /// Kills the source as a power cut would and starts another one in its place.
    func replaceSource() throws {
        try source.end(SIGKILL)
        source = try Self.startSource(network, directory.url, io, sourceOptions)
        try waitForSource()
    }

    /// Starts a receiver again with its old directory.
    func restart(_ index: Int, path: String = "auto") throws { receivers[index] = try start(index, path: path) }

    /// Waits until every item is in every receiver's directory.
    func settle(seconds: Double = 30) throws {
        let expected = Set((0..<published).map { fileName(SampleFeed.id(of: $0)) })
        for index in receivers.indices {
            var missing = expected
            try waitUntil(
                seconds: seconds,
                """
                \(missing.count) of \(published) items at \(receivers[index].name)
                \(receivers[index].logTail)
                \(source.logTail)
                """
            ) {
                missing = expected.subtracting(try files(index))
                return missing.isEmpty
            }
        }
        // Longer than any repair takes: what comes twice would come now.
        Thread.sleep(forTimeInterval: 0.7)
    }

    /// Names of the items that a receiver has stored.
    func files(_ index: Int) throws -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: output(index).path)) ?? []).filter {
            $0.hasSuffix(".xml") && !$0.hasPrefix(".")
        }
    }

    /// Ends the receivers, then the source, whose last counts so cover everything.
    func stop() throws {
        for child in receivers + [source] {
            let status = try child.end()
            #expect(status == 0, "\(child.name)\n\(child.logTail)")
            #expect(child.told.strange.isEmpty, "\(child.name)")
        }
    }

    /// What the feed says each item is, apart from the feed around it, by the name of its file.
    func contents() throws -> [String: [UInt8]] {
        let items = try SampleEntries.items.get().suffix(published)
        return Dictionary(items.map { (fileName($0.id), $0.ownContent) }) { first, _ in first }
    }

    /// Checks that a receiver has every item, each as the feed and as the source had it, and told of each once.
    func verify(_ index: Int, told previous: Told = Told()) throws {
        let contents = try contents()
        let receiver = receivers[index]
        let files = try files(index)
        #expect(Set(files) == Set(contents.keys), "\(receiver.name): the items")
        try verifyFiles(index, contents)
        let told = receiver.told
        #expect(told.itemLines == told.items.count, "\(receiver.name): items told twice")
        #expect(Set(told.items.keys).isDisjoint(with: previous.items.keys), "\(receiver.name): told again")
        #expect(told.items.count + previous.items.count <= published, "\(receiver.name): items nobody published")
    }

    /// Whole files, equal to the feed's items, and nothing else under an item's name.
    func verifyFiles(_ index: Int, _ contents: [String: [UInt8]]) throws {
        for name in try files(index) {
            let bytes = try Array(Data(contentsOf: output(index).appending(path: name)))
            let item = try? FeedParser.parseEntry(bytes)
            #expect(item?.ownContent == contents[name], "\(receivers[index].name): \(name)")
        }
    }
}

/// The sample feed as a file that grows, cut from one document: to write all the mails anew for every item costs more than
/// to send them.
struct SampleEntries {
    let file: URL
    private let head: Data
    /// Newest first.
    private let entries: [Data]
    /// Items in the document. The source must look before so many new ones have come.
    private static let window = 40

    static let count = 400
    private static let document = Data(SampleFeed.document(upTo: count, window: count))
    /// All there are, newest first.
    static let items = Result { try FeedParser.parse(Array(document)).items }

    init(file: URL) throws {
        self.file = file
        let document = Self.document
        var starts: [Data.Index] = []
        var from = document.startIndex
        while let found = document.range(of: Data("<entry>".utf8), in: from..<document.endIndex) {
            starts.append(found.lowerBound)
            from = found.upperBound
        }
        guard starts.count == Self.count, let end = document.range(of: Data("</feed>".utf8), options: .backwards) else {
            throw Failure(description: "the sample feed has \(starts.count) entries")
        }
        head = document[..<starts[0]]
        entries = zip(starts, starts.dropFirst() + [end.lowerBound]).map { document[$0..<$1] }
    }

    /// Replaces the file: a reader sees the document before or after, never half of it.
    func publish(upTo count: Int) throws {
        var document = head
        let newest = Self.count - count
        for entry in entries[newest..<min(newest + Self.window, Self.count)] { document += entry }
        document += Data("</feed>\n".utf8)
        try document.write(to: file, options: .atomic)
    }
}

/// `<sha256 of atom:id>.xml`.
func fileName(_ id: String) -> String { "\(SHA256Digest(of: Array(id.utf8))).xml" }

/// Numbers worth keeping, in the test's output.
func note(_ text: String) { print("    deployment: \(text)") }
