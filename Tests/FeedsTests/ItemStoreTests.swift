import Cryptography
import Feed
import Foundation
import Reactor
import Synchronization
import TestSupport
import Testing

@testable import Feeds

@Suite struct ItemStoreTests {
    private func open(_ scratch: Scratch, newest: Int = 100, log: LogLines = LogLines()) throws -> ItemStore {
        try ItemStore(directory: scratch.file("out"), newest: newest, logger: log.logger)
    }

    private func names(_ scratch: Scratch) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: scratch.file("out")).sorted()
    }

    private func feed(_ scratch: Scratch) throws -> [FeedItem] {
        try FeedParser.parse(scratch.read("out/feed.atom")).items
    }

    private func name(_ id: String) -> String { "\(SHA256Digest(of: Array(id.utf8))).xml" }

    @Test func itemsAreFilesNamedByTheDigestOfTheirID() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        let document = try Documents.item("urn:x:1")
        let stored = try store.store(document)
        #expect(stored.outcome == .new)
        #expect(stored.id == "urn:x:1")
        #expect(stored.title == "Item urn:x:1")
        #expect(stored.updated == "2025-01-01T00:00:00Z")
        #expect(stored.bytes == document.count)
        #expect(stored.sha256 == SHA256Digest(of: document))
        // printf urn:x:1 | sha256sum
        #expect(stored.file == "8a526707155a68753be392ab5791e0eb40c04b1e55033dd9d1333e877b1fb31d.xml")
        #expect(try scratch.read("out/" + stored.file) == document)
        store.close()
        #expect(try names(scratch) == [stored.file, "feed.atom"].sorted())
        #expect(try feed(scratch).map(\.document) == [document])
    }

    @Test func anItemReceivedAgainIsKnown() throws {
        let scratch = try Scratch()
        let first = try open(scratch)
        #expect(try first.store(try Documents.item("a:1")).outcome == .new)
        #expect(try first.store(try Documents.item("a:1")).outcome == .known)
        first.close()
        let store = try open(scratch)
        #expect(try store.store(try Documents.item("a:1")).outcome == .known)
        #expect(try store.store(try Documents.item("a:1", 2)).outcome == .edited)
        #expect(try store.store(try Documents.item("a:1", 1)).outcome == .outdated)
        #expect(try store.store(try Documents.item("a:1", 2, text: "y")).outcome == .edited)
        #expect(store.counters.known == 1)
        #expect(store.counters.edited == 2)
        #expect(store.counters.outdated == 1)
        store.close()
        let last = try Documents.item("a:1", 2, text: "y")
        #expect(try scratch.read("out/" + name("a:1")) == last)
        #expect(try feed(scratch).map(\.document) == [last])
    }

    /// Streams of one connection may end in any order; the later one is the later version, even with an older date.
    @Test func theLaterStreamOfAConnectionWins() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        func outcome(_ day: Int, _ session: UInt64, _ position: UInt64) throws -> StoredItem.Outcome {
            try store.store(Documents.item("a:1", day), order: ItemOrder(session: session, position: position)).outcome
        }
        #expect(try outcome(5, 1, 7) == .new)
        #expect(try outcome(9, 1, 3) == .outdated)
        #expect(try outcome(4, 1, 11) == .edited)
        #expect(try outcome(3, 2, 99) == .outdated)
        #expect(try outcome(6, 2, 3) == .edited)
        store.close()
    }

    @Test func feedHoldsTheNewestItems() throws {
        let scratch = try Scratch()
        let store = try open(scratch, newest: 3)
        for day in [4, 9, 1, 7, 2, 8] { _ = try store.store(try Documents.item("a:\(day)", day)) }
        store.flush()
        // Whatever their dates say: the last that came.
        #expect(try feed(scratch).map(\.id) == ["a:8", "a:2", "a:7"])
        store.close()
        // A restart makes the same one of the items' files.
        let found = try scratch.read("out/feed.atom")
        try scratch.write("<feed", to: "out/feed.atom")
        let again = try open(scratch, newest: 3)
        again.close()
        #expect(try scratch.read("out/feed.atom") == found)
    }

    /// Streams end in any order; the source's is in force.
    @Test func feedHasTheOrderOfTheSource() throws {
        let scratch = try Scratch()
        let store = try open(scratch, newest: 3)
        for position in [1, 4, 2, 5, 3] as [UInt64] {
            let order = ItemOrder(session: 1, position: position)
            _ = try store.store(try Documents.item("a:\(position)"), order: order)
        }
        store.close()
        #expect(try feed(scratch).map(\.id) == ["a:5", "a:4", "a:3"])
    }

    /// Items written while the clock was an hour ahead are not the newest for an hour.
    @Test func theClockMayGoBack() throws {
        let scratch = try Scratch()
        let first = try open(scratch, newest: 2)
        for number in 1...2 { _ = try first.store(try Documents.item("a:\(number)")) }
        first.close()
        for number in 1...2 {
            let date = Date(timeIntervalSinceNow: 3600 + Double(number))
            try FileManager.default.setAttributes(
                [.modificationDate: date], ofItemAtPath: scratch.file("out/\(name("a:\(number)"))"))
        }
        let second = try open(scratch, newest: 2)
        for number in 3...4 { _ = try second.store(try Documents.item("a:\(number)")) }
        second.close()
        #expect(try feed(scratch).map(\.id) == ["a:4", "a:3"])
        let third = try open(scratch, newest: 2)
        third.close()
        #expect(try feed(scratch).map(\.id) == ["a:4", "a:3"])
    }

    @Test func aRestartTidiesUp() throws {
        let scratch = try Scratch()
        let first = try open(scratch)
        for day in 1...5 { _ = try first.store(try Documents.item("a:\(day)", day)) }
        first.close()
        let before = try scratch.read("out/feed.atom")
        try scratch.write("<entry", to: "out/\(DurableDirectory.temporaryPrefix)\(name("a:6"))")
        try scratch.write("mine", to: "out/notes.txt")
        try scratch.write("broken", to: "out/\(name("a:7"))")
        try FileManager.default.removeItem(atPath: scratch.file("out/feed.atom"))
        let log = LogLines()
        let store = try open(scratch, log: log)
        #expect(try !names(scratch).contains { $0.hasPrefix(DurableDirectory.temporaryPrefix) })
        #expect(try names(scratch).contains("notes.txt"))
        #expect(try scratch.read("out/feed.atom") == before)
        #expect(log.visible.count == 2, "\(log.visible)")
        // What was broken is replaced by what comes.
        #expect(try store.store(try Documents.item("a:7")).outcome == .edited)
        store.close()
        let unchanged = try open(scratch)
        #expect(unchanged.counters.feedsWritten == 0)
        unchanged.close()
    }

    /// With its place noted, a store looks at no file at the start but those that `feed.atom` needs.
    @Test func aStartLooksAtFewFiles() throws {
        let scratch = try Scratch()
        let first = try open(scratch, newest: 3)
        for day in 1...9 { _ = try first.store(try Documents.item("a:\(day)", day)) }
        first.flush()
        first.note(position: [1, 10, 3])
        first.close()
        let before = try scratch.read("out/feed.atom")
        // Would be told of if it were looked at.
        try scratch.write("broken", to: "out/\(name("a:10"))")
        var log = LogLines()
        var store = try open(scratch, newest: 3, log: log)
        #expect(store.position == [1, 10, 3] && log.visible.isEmpty)
        #expect(store.counters.feedsWritten == 0)
        store.close()
        #expect(try scratch.read("out/feed.atom") == before)
        // Without a feed that can be read all of them are.
        try scratch.write("<feed", to: "out/feed.atom")
        log = LogLines()
        store = try open(scratch, newest: 3, log: log)
        store.close()
        #expect(log.visible.count == 1 && store.position == [1, 10, 3])
        #expect(try scratch.read("out/feed.atom") == before)
        // As it is with the place that an earlier version has noted.
        try scratch.write("\u{1}\n\u{3}", to: "out/position")
        log = LogLines()
        store = try open(scratch, newest: 3, log: log)
        store.close()
        #expect(log.visible.count == 1 && store.position == [1, 10, 3])
    }

    /// Killed at any moment: what is on disk and not in `feed.atom` gets there, because it is noted or because it comes again.
    @Test(arguments: [true, false]) func whatTheFeedLacksIsFound(isNoted: Bool) throws {
        let scratch = try Scratch()
        let first = try open(scratch, newest: 3)
        for day in 1...5 { _ = try first.store(try Documents.item("a:\(day)", day)) }
        first.flush()
        first.note(position: [1])
        first.close()
        let late = try Documents.item("a:6", 6)
        try scratch.write(String(decoding: late, as: UTF8.self), to: "out/\(name("a:6"))")
        // The files before may be a little ahead of the clock, as each is later than the one before it.
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: 1)], ofItemAtPath: scratch.file("out/\(name("a:6"))"))
        let directory = try DurableDirectory(path: scratch.file("out"))
        try StoredPlace(position: [2], unlisted: isNoted ? [name("a:6"), "../../etc/passwd"] : []).write(to: directory)
        directory.unlock()
        let store = try open(scratch, newest: 3)
        if !isNoted { #expect(try store.store(late).outcome == .known) }
        #expect(try store.store(try Documents.item("a:1", 1)).outcome == .known)
        store.flush()
        #expect(try feed(scratch).map(\.id) == ["a:6", "a:5", "a:4"])
        store.close()
    }

    @Test func whatIsNoItemIsRefused() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        for document in ["", "<entry", "<!DOCTYPE html>", "<rss/>"] {
            let error = #expect(throws: ItemStoreError.self) { try store.store(Array(document.utf8)) }
            #expect(error?.description.hasPrefix("what came is no item") == true)
        }
        let large = [UInt8](repeating: 0x20, count: FeedLimits.itemBytes + 1)
        let error = #expect(throws: ItemStoreError.self) { try store.store(large) }
        #expect(error?.description.contains("larger than the limit") == true)
        #expect(store.counters.failed == 5)
        store.close()
        #expect(try names(scratch).allSatisfy { !$0.hasSuffix(".xml") })
    }

    @Test func hostileIDsStayInTheDirectory() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        for id in ["../../escape", "/etc/passwd", "a\u{e9}\u{1F600}", ".", "CON"] {
            let stored = try store.store(try Documents.item(id))
            #expect(stored.file == name(id))
            #expect(try names(scratch).contains(stored.file))
        }
        store.close()
        #expect(try scratch.names() == ["out"])
    }

    @Test func errorsNameTheFileAndTheCause() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        let obstacle = scratch.file("out/\(DurableDirectory.temporaryPrefix)\(name("a:1"))")
        try FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: false)
        let error = #expect(throws: ItemStoreError.self) { try store.store(try Documents.item("a:1")) }
        #expect(error?.description == "cannot write \(scratch.file("out"))/\(name("a:1")): Is a directory")
        #expect(try store.store(try Documents.item("a:2")).outcome == .new)
        try FileManager.default.removeItem(atPath: obstacle)
        // It was not taken for known.
        #expect(try store.store(try Documents.item("a:1")).outcome == .new)
        store.close()

        try scratch.write("x", to: "file")
        for path in ["file", "file/below", "/proc/nowhere"] {
            let whole = path.hasPrefix("/") ? path : scratch.file(path)
            #expect(throws: FileError.self, "\(path)") { try ItemStore(directory: whole, logger: LogLines().logger) }
        }
    }

    /// A file system of 64 kB: the item that does not fit leaves nothing behind, and the smaller next one is stored.
    @Test func aFullDisk() throws {
        let scratch = try Scratch()
        try FileManager.default.createDirectory(atPath: scratch.file("out"), withIntermediateDirectories: true)
        let mount = Process()
        mount.executableURL = URL(filePath: "/usr/bin/env")
        mount.arguments = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", scratch.file("out")]
        mount.standardError = FileHandle.nullDevice
        try mount.run()
        mount.waitUntilExit()
        guard mount.terminationStatus == 0 else { return }  // needs root; the errors' path is tested above as well
        defer {
            let umount = Process()
            umount.executableURL = URL(filePath: "/usr/bin/env")
            umount.arguments = ["umount", "-l", scratch.file("out")]
            try? umount.run()
            umount.waitUntilExit()
        }
        let log = LogLines()
        let store = try open(scratch, log: log)
        let large = try Documents.item("a:1", text: String(repeating: "x", count: 100_000))
        let error = #expect(throws: ItemStoreError.self) { try store.store(large) }
        #expect(error?.description.hasSuffix("No space left on device") == true)
        #expect(try names(scratch) == [])
        #expect(try store.store(try Documents.item("a:2", text: String(repeating: "x", count: 40_000))).outcome == .new)
        store.flush()
        #expect(log.visible.count == 1, "\(log.visible)")
        #expect(try names(scratch) == [name("a:2")])
        store.close()
    }

    /// What stands in the way of an item's temporary file; without it the item can be written.
    private func obstacle(_ scratch: Scratch, _ id: String) -> String {
        scratch.file("out/" + DurableDirectory.temporaryPrefix + name(id))
    }

    /// An item that the disk refuses holds nobody up and is stored as soon as it can be.
    @Test(.timeLimit(.minutes(1))) func whatTheDiskRefusesIsTriedAgain() throws {
        let scratch = try Scratch()
        let log = LogLines()
        let store = try open(scratch, log: log)
        try FileManager.default.createDirectory(atPath: obstacle(scratch, "a:1"), withIntermediateDirectories: true)
        let done = Mutex<[String]>([])
        let isStored = DispatchSemaphore(value: 0)
        for (id, day) in [("a:1", 1), ("a:2", 1), ("a:1", 2)] {
            store.submit(try Documents.item(id, day), order: ItemOrder(session: 1, position: UInt64(day))) { result in
                let outcome = (try? result.get().outcome.rawValue) ?? "failed"
                done.withLock { $0.append("\(id) \(day) \(outcome)") }
                if id == "a:1" { isStored.signal() }
            }
        }
        store.flush()
        #expect(done.withLock { $0 } == ["a:2 1 new"])
        #expect(log.visible.count == 1, "\(log.visible)")
        try FileManager.default.removeItem(atPath: obstacle(scratch, "a:1"))
        isStored.wait()
        isStored.wait()
        #expect(done.withLock { $0 } == ["a:2 1 new", "a:1 1 new", "a:1 2 edited"])
        store.close()
        #expect(try scratch.read("out/" + name("a:1")) == Documents.item("a:1", 2))
    }

    /// At the end, and when too much of it waits, the disk's refusal is final.
    @Test func whatTheDiskGoesOnRefusingFails() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        let large = String(repeating: "x", count: 3 << 20)
        for number in 1...6 {
            try FileManager.default.createDirectory(
                atPath: obstacle(scratch, "a:\(number)"), withIntermediateDirectories: true)
        }
        let failed = Mutex<[Int]>([])
        for number in 1...6 {
            store.submit(try Documents.item("a:\(number)", text: large)) { result in
                if case .failure(.file) = result { failed.withLock { $0.append(number) } }
            }
        }
        store.flush()
        #expect(failed.withLock { $0 } == [6])
        store.close()
        #expect(failed.withLock { $0 } == [6, 1, 2, 3, 4, 5])
    }

    @Test func twoProcessesCannotShareADirectory() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        let error = #expect(throws: FileError.self) { try open(scratch) }
        #expect(error?.description.contains("another process") == true)
        store.close()
        try open(scratch).close()
    }

    /// 200 items at once: all are stored in order, and `feed.atom` is written a few times only.
    @Test(.timeLimit(.minutes(5))) func submittedItemsAreStoredInOrder() throws {
        let scratch = try Scratch()
        let store = try open(scratch)
        let done = Mutex<[String]>([])
        let expected = (0..<200).map { "a:\($0)" }
        for id in expected {
            store.submit(try Documents.item(id)) { result in
                guard case .success(let stored) = result, stored.outcome == .new else { return }
                done.withLock { $0.append(stored.id) }
            }
        }
        store.submit([]) { result in
            if case .failure = result { done.withLock { $0.append("refused") } }
        }
        store.flush()
        #expect(done.withLock { $0 } == expected + ["refused"])
        #expect(try feed(scratch).count == 100)
        #expect(store.counters.feedsWritten <= 20)
        store.close()
    }

    /// A child is killed while it stores: every file is a whole item, and going on gives the rest.
    @Test(.timeLimit(.minutes(5)), arguments: [0, 5, 23, 40])
    func killedWhileStoring(_ killAt: Int) async throws {
        let scratch = try Scratch()
        let path = scratch.file("out")
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, killAt = killAt as Int] in
            let store = try ItemStore(directory: path, logger: LogLines().logger)
            let items = try FeedParser.parse(SampleFeed.document(upTo: 50)).items
            for round in 0..<1000 {
                for (index, item) in items.enumerated() {
                    if round == 0, index == killAt { killSoon() }
                    store.submit(item.document) { _ in }
                }
                store.flush()
            }
        }
        let items = try FeedParser.parse(SampleFeed.document(upTo: 50)).items
        let expected = Dictionary(uniqueKeysWithValues: items.map { (name($0.id), $0.document) })
        var whole = 0
        for file in try names(scratch) where !file.hasPrefix(DurableDirectory.temporaryPrefix) {
            let bytes = try scratch.read("out/" + file)
            if file == "feed.atom" {
                _ = try FeedParser.parse(bytes)
            } else {
                #expect(bytes == expected[file])
                whole += 1
            }
        }
        let store = try open(scratch)
        #expect(try !names(scratch).contains { $0.hasPrefix(DurableDirectory.temporaryPrefix) })
        for item in items { _ = try store.store(item.document) }
        #expect(store.counters.known == whole)
        #expect(store.counters.new == 50 - whole)
        store.close()
        #expect(try Set(feed(scratch).map(\.document)) == Set(items.map(\.document)))
    }

    /// Debian's newsboat is an ordinary reader: it lists the items of `feed.atom`.
    @Test(.enabled(if: Machine.has("newsboat"), "newsboat is not installed"))
    func newsboatReadsTheFeed() throws {
        let scratch = try Scratch()
        let store = try open(scratch, newest: 20)
        for item in try FeedParser.parse(SampleFeed.document(upTo: 30)).items { _ = try store.store(item.document) }
        store.close()
        try scratch.write("file://\(scratch.file("out/feed.atom"))\n", to: "urls")
        func newsboat(_ arguments: String...) throws -> String {
            let process = Process()
            process.executableURL = URL(filePath: "/usr/bin/newsboat")
            process.arguments =
                ["-u", scratch.file("urls"), "-c", scratch.file("cache"), "-C", "/dev/null"] + arguments
            var environment = ProcessInfo.processInfo.environment
            environment["HOME"] = scratch.path
            process.environment = environment
            let output = Pipe()
            process.standardOutput = output
            try process.run()
            let data = try output.fileHandleForReading.readToEnd() ?? Data()
            process.waitUntilExit()
            return String(decoding: data, as: UTF8.self)
        }
        #expect(try newsboat("-x", "reload", "print-unread").contains("20 unread"))
    }
}
