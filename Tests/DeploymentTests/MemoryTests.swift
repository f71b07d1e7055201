import Foundation
import TestSupport
import Testing
import Wire

extension Deployment {
    /// Memory over time. Thirty seconds by default; `FLEXICAST_MEMORY_SECONDS=600` for the whole truth.
    @Suite struct Memory {
        static let seconds =
            ProcessInfo.processInfo.environment["FLEXICAST_MEMORY_SECONDS"].flatMap { Double($0) } ?? 30
        /// Growth of resident memory that is no leak: the allocator's own wandering, in KiB.
        static let slack = 4096
        /// As many ids as a source remembers (`FeedMemory`): from the first poll on that memory is full, and grows no more.
        static let old = 8192
        /// What a new receiver is given of them.
        static let history = 10

        /// A thousand packets a second, and a receiver that stops acknowledging: it is evicted, in the end its
        /// connection is given up, and nobody else notices.
        @Test func isFlat() throws {
            let directory = try TemporaryDirectory()
            let network = try Namespaces(places: 4)
            let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), old: Self.old)
            let certificate = directory.url.appending(path: "source.pem")
            let address = SocketAddress(network.address(0), port: 4433)
            // Kept for seven seconds, so that a receiver which a busy machine holds up for one lacks nothing.
            let source = try Child(
                "source",
                network.command(
                    [
                        Ground.program, "source", "--feed", feed.file.path, "--poll", "50ms", "--listen", "\(address)",
                        "--group", "\(network.group)", "--interface", Namespaces.interface, "--write-certificate",
                        certificate.path, "--history", "\(Self.history)", "--retain-octets", "8388608", "--json",
                    ], at: 0), log: directory.url.appending(path: "source.log"))
            try waitUntil(seconds: 15, "the source") { source.tell { $0.count("listening") > 0 } }
            try waitUntil(seconds: 20, "the old items") { source.tell { $0.itemLines } == Self.old }
            let receivers = try (1...3).map { place in
                // No losses: a lossy member's fair share of the path may be less than this load, and the flow would lag.
                return try Child(
                    "receiver-\(place)",
                    network.command(
                        [
                            Ground.program, "receive", "\(address)", "--trust", certificate.path, "--interface",
                            Namespaces.interface, "--json",
                        ], at: place), log: directory.url.appending(path: "receiver-\(place).log"))
            }
            let stopped = receivers[2]
            let others = [receivers[0], receivers[1]]
            try waitUntil(seconds: 20, "all to listen") {
                receivers.allSatisfy { $0.tell { $0.count("listening") > 0 && $0.itemLines == Self.history } }
            }

            // The feed runs ahead of the source by one step only, so that no item is missed.
            var pace = Pace(itemsPerSecond: 100)
            func load(for duration: Double, each: () throws -> Void = {}) throws {
                let end = ContinuousClock.now + .seconds(duration)
                var look = ContinuousClock.now
                while ContinuousClock.now < end {
                    let known = source.tell { $0.itemLines } - Self.old
                    // Nor do the receivers fall far behind: how much may wait at the source is another test's matter.
                    let isNear = others.allSatisfy { $0.tell { $0.itemLines } > feed.published - 500 }
                    if known == feed.published, isNear {
                        let due = pace.due(limit: 40)
                        if due > 0 { try feed.publish(due) }
                    }
                    if ContinuousClock.now >= look {
                        look = ContinuousClock.now + .seconds(1)
                        try each()
                    }
                    Thread.sleep(forTimeInterval: 0.01)
                }
            }

            try load(for: 3)
            stopped.signal(SIGSTOP)
            defer { stopped.signal(SIGCONT) }
            var evicted = false
            var gone = false
            // Eviction takes the member timeout, giving the connection up its idle timeout.
            let stop = ContinuousClock.now
            while !gone {
                try load(for: 1)
                let log = source.log
                evicted = evicted || log.contains("receiver is back on unicast") && log.contains("silent")
                gone = log.contains("receiver gone")
                guard ContinuousClock.now < stop + .seconds(60) else { break }
            }
            #expect(evicted, "the stopped receiver is evicted\n\(source.logTail)")
            #expect(gone, "its connection is given up\n\(source.logTail)")
            // What is kept by octets or for a time needs time to fill.
            try load(for: min(200, Self.seconds / 3))

            let watched = [source] + others
            var samples: [[Int]] = watched.map { _ in [] }
            let begin = ContinuousClock.now
            let first = source.tell { $0.interval }
            try load(for: Self.seconds) {
                for (index, child) in watched.enumerated() { samples[index].append(child.residentMemory) }
            }
            let elapsed = (ContinuousClock.now - begin) / .seconds(1)
            let last = source.tell { $0.interval }
            let octets = (last?.bytes_flow ?? 0) - (first?.bytes_flow ?? 0)
            let packets = Double(octets) / 1200 / elapsed
            note("memory: \(Int(elapsed)) s at \(Int(packets)) packets/s of the flow, \(feed.published) items in all")
            for (index, child) in watched.enumerated() {
                let all = samples[index]
                let quarter = max(1, all.count / 4)
                let early = all.prefix(quarter).max() ?? 0
                let late = all.suffix(quarter).max() ?? 0
                note(
                    "memory: \(child.name) VmRSS \(all.first ?? 0) KiB at first, \(early) in the first quarter, \(late) in the last, \(all.max() ?? 0) at most"
                )
                #expect(early > 0)
                #expect(late <= early + Self.slack, "\(child.name) grows: \(all)")
            }

            // The others have everything and never left the flow.
            for child in others {
                try waitUntil(seconds: 30, "all items at \(child.name)\n\(child.logTail)") {
                    child.tell { $0.items.count } == Self.history + feed.published
                }
                let status = try child.end()
                #expect(status == 0)
                let told = child.told
                #expect(told.itemLines == Self.history + feed.published)
                #expect(told.summary?.fallbacks == 0, "\(child.logTail)")
            }
            #expect(source.tell { $0.itemLines } == Self.old + feed.published)
            try source.end()
            stopped.signal(SIGCONT)
            try stopped.end()
            // Far less is asked than what a free machine does: this one may be busy.
            #expect(packets > 300, "the load was real")
        }
    }
}

/// A feed of equal items, of about ten packets each unless it is told. The document holds only what came last.
final class LoadFeed {
    /// About two packets.
    static let smallItem = 2000
    let file: URL
    private(set) var published = 0
    private let text: String

    /// - Parameter old: entries without content that the feed holds until the first `publish`.
    init(file: URL, octets: Int = 12_000, old: Int = 0) throws {
        self.file = file
        let words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett"]
        let long = (0..<(octets / 5)).map { words[$0 * 7 % 10] }.joined(separator: " ")
        text = String(long.prefix(octets))
        try write(
            (0..<old).map {
                "<entry><id>urn:flexicast:old:\($0)</id><title/><updated>2025-01-01T00:00:00Z</updated></entry>"
            })
    }

    func publish(_ count: Int) throws {
        var entries: [String] = []
        for number in (published..<(published + count)).reversed() {
            let (minute, second) = ((number / 60) % 60, number % 60)
            let time = [number / 3600 % 24, minute, second].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
            entries.append(
                """
                <entry><id>urn:flexicast:load:\(number)</id><title>Item \(number)</title>
                <updated>2026-01-01T\(time)Z</updated><content>\(number) \(text)</content></entry>
                """)
        }
        try write(entries)
        published += count
    }

    private func write(_ entries: [String]) throws {
        let document = """
            <?xml version="1.0" encoding="utf-8"?>
            <feed xmlns="http://www.w3.org/2005/Atom"><id>urn:flexicast:load</id><title>Load</title>
            <updated>2026-01-01T00:00:00Z</updated><author><name>Load</name></author>
            \(entries.joined(separator: "\n"))
            </feed>

            """
        try Data(document.utf8).write(to: file, options: .atomic)
    }
}

/// So many a second, on average; what a pause has missed is made up for, within reason.
struct Pace {
    let itemsPerSecond: Double
    private var owed = 0.0
    private var last = ContinuousClock.now

    init(itemsPerSecond: Double) { self.itemsPerSecond = itemsPerSecond }

    mutating func due(limit: Int) -> Int {
        let now = ContinuousClock.now
        owed = min(owed + (now - last) / .seconds(1) * itemsPerSecond, Double(2 * limit))
        last = now
        let count = min(limit, Int(owed))
        owed -= Double(count)
        return count
    }
}
