import Feed
import Foundation
import Reactor
import Testing

@testable import Feeds

@Suite struct FeedStateTests {
    private func document(_ entries: String...) throws -> FeedDocument {
        try FeedParser.parse(Array(Documents.feed(entries).utf8))
    }

    private func open(_ scratch: Scratch, history: Int = 10, feed: String = "f", log: LogLines = LogLines()) throws
        -> FeedState
    {
        try FeedState(directory: scratch.file("state"), feed: feed, history: history, logger: log.logger)
    }

    @Test func aRestartLosesNothingAndSendsNothingTwice() throws {
        let scratch = try Scratch()
        let validators = FeedValidators(etag: "W/\"1\"", lastModified: "yesterday")
        do {
            var state = try open(scratch)
            let (items, failure) = state.absorb(
                try document(Documents.entry("a:2", 2), Documents.entry("a:1")), validators: validators)
            #expect(failure == nil)
            #expect(items.map(\.sequence) == [1, 2])
            #expect(items.map(\.item.id) == ["a:1", "a:2"])
        }
        var state = try open(scratch)
        #expect(state.validators == validators)
        #expect(state.history.map(\.item.id) == ["a:1", "a:2"])
        #expect(try state.history[1].item.document == Documents.item("a:2", 2))
        let (items, _) = state.absorb(
            try document(Documents.entry("a:3", 3), Documents.entry("a:2", 2, text: "y"), Documents.entry("a:1")),
            validators: validators)
        #expect(items.map(\.item.id) == ["a:2", "a:3"])
        #expect(items.map(\.kind) == [.edited, .new])
        #expect(items.map(\.sequence) == [3, 4])
        #expect(state.history.map(\.sequence) == [1, 3, 4])
        #expect(state.history == (try open(scratch.reopened(state: &state)).history))
    }

    @Test func historyIsBoundedAndFilesFollowIt() throws {
        let scratch = try Scratch()
        var state = try open(scratch, history: 3)
        for number in 1...9 {
            _ = state.absorb(try document(Documents.entry("a:\(number)", number)), validators: FeedValidators())
        }
        #expect(state.history.map(\.sequence) == [7, 8, 9])
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.file("state")).sorted()
        #expect(names == ["item-7.xml", "item-8.xml", "item-9.xml", "state"])
        state = FeedState(feed: "", history: 0)
        #expect(try open(scratch, history: 2).history.map(\.sequence) == [8, 9])
    }

    @Test(arguments: ["", "nonsense", "flexicast feed state 1 sha256=00\n{}", "flip", "cut"])
    func aDamagedStateIsPutAside(_ damage: String) throws {
        let scratch = try Scratch()
        do {
            var state = try open(scratch)
            _ = state.absorb(try document(Documents.entry("a:1")), validators: FeedValidators())
        }
        var bytes = try scratch.read("state/state")
        switch damage {
        case "flip": bytes[bytes.count / 2] ^= 1
        case "cut": bytes.removeLast(5)
        default: bytes = Array(damage.utf8)
        }
        try Data(bytes).write(to: URL(filePath: scratch.file("state/state")))
        let log = LogLines()
        do {
            var state = try open(scratch, log: log)
            #expect(state.history.isEmpty)
            #expect(log.visible.count == 1)
            #expect(log.visible.first?.contains("damaged") == true)
            #expect(try scratch.read("state/state.bad") == bytes)
            let (items, failure) = state.absorb(try document(Documents.entry("a:1")), validators: FeedValidators())
            #expect(items.map(\.kind) == [.new])
            #expect(failure == nil)
        }
        #expect(try open(scratch, log: log).history.count == 1)
        #expect(log.visible.count == 1)
    }

    /// An item whose file is gone cannot be given to late receivers, so it is taken from the feed once more.
    @Test func aLostItemIsSentAgain() throws {
        let scratch = try Scratch()
        let both = try document(Documents.entry("a:2", 2), Documents.entry("a:1"))
        do {
            var state = try open(scratch)
            _ = state.absorb(both, validators: FeedValidators(etag: "x"))
        }
        try scratch.write("<entry", to: "state/item-1.xml")
        let log = LogLines()
        var state = try open(scratch, log: log)
        #expect(log.visible.count == 1)
        #expect(state.history.map(\.sequence) == [2])
        #expect(state.validators == FeedValidators())
        #expect(state.absorb(both, validators: FeedValidators()).items.map(\.item.id) == ["a:1"])
    }

    @Test func anotherFeedKeepsTheItemsButNotTheValidators() throws {
        let scratch = try Scratch()
        do {
            var state = try open(scratch)
            _ = state.absorb(try document(Documents.entry("a:1")), validators: FeedValidators(etag: "x"))
        }
        let state = try open(scratch, feed: "other")
        #expect(state.validators == FeedValidators())
        #expect(state.history.count == 1)
    }

    @Test func twoProcessesCannotShareAState() throws {
        let scratch = try Scratch()
        let first = try open(scratch)
        #expect(throws: FileError.self) { try open(scratch) }
        #expect(first.history.isEmpty)
    }

    @Test func aFileInPlaceOfTheDirectoryIsRefused() throws {
        let scratch = try Scratch()
        try scratch.write("x", to: "state")
        let error = #expect(throws: FileError.self) { try open(scratch) }
        #expect(error?.description.contains("not a directory") == true)
    }

    /// What cannot be saved goes out all the same, and is saved when the disk takes it again.
    @Test func aFullDiskDelaysOnlyTheSaving() throws {
        let scratch = try Scratch()
        var state = try open(scratch)
        // A directory in the way of the temporary file: for root, who may write anywhere, as good as a full disk.
        let obstacle = scratch.file("state/\(DurableDirectory.temporaryPrefix)item-1.xml")
        try FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: false)
        let (items, failure) = state.absorb(try document(Documents.entry("a:1")), validators: FeedValidators())
        #expect(items.count == 1)
        #expect(failure?.description.contains("cannot write") == true)
        #expect(state.isUnsaved)
        try FileManager.default.removeItem(atPath: obstacle)
        #expect(state.save() == nil)
        #expect(!state.isUnsaved)
        state = FeedState(feed: "", history: 0)
        #expect(try open(scratch).history.map(\.item.id) == ["a:1"])
    }

    /// A child is killed while it records; whatever it had handed out is not handed out again, and nothing is lost.
    @Test(.timeLimit(.minutes(5)), arguments: [1, 4, 11])
    func killedWhileRecording(_ killAt: Int) async throws {
        let scratch = try Scratch()
        let path = scratch.path
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, killAt = killAt as Int] in
            var state = try FeedState(directory: path + "/state", feed: "f", history: 1000, logger: LogLines().logger)
            let sent = try FileHandle(forWritingTo: createdFile(path + "/sent"))
            for number in 0..<200 {
                if number == killAt { killSoon() }
                let document = try FeedParser.parse(SampleFeed.document(upTo: number + 1, window: 20))
                let (items, failure) = state.absorb(document, validators: FeedValidators())
                guard failure == nil else { exit(1) }
                try sent.write(contentsOf: Data(items.map { $0.item.id + "\n" }.joined().utf8))
            }
        }
        let sent = String(decoding: try scratch.read("sent"), as: UTF8.self).split(separator: "\n").map(String.init)
        let log = LogLines()
        var state = try open(scratch, history: 1000, log: log)
        #expect(log.visible == [])
        let recorded = state.history.map(\.item.id)
        #expect(Set(sent).isSubset(of: recorded))
        #expect(recorded.count - sent.count <= 1)
        let again = state.absorb(
            try FeedParser.parse(SampleFeed.document(upTo: 200, window: 200)), validators: FeedValidators()
        ).items.map(\.item.id)
        #expect(Set(again).isDisjoint(with: recorded))
        #expect(Set(again).union(recorded).count == 200)
    }
}

extension Scratch {
    /// Lets go of a state, whose directory is locked, so that it can be opened again.
    fileprivate func reopened(state: inout FeedState) -> Scratch {
        state = FeedState(feed: "", history: 0)
        return self
    }
}

/// Makes an empty file.
func createdFile(_ path: String) -> URL {
    _ = FileManager.default.createFile(atPath: path, contents: nil)
    return URL(filePath: path)
}

/// Kills this process from another thread, so that it may be anywhere when it dies.
func killSoon() { Thread { kill(getpid(), SIGKILL) }.start() }
