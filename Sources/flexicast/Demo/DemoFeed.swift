import Cryptography
import Feed
import Foundation

/// The feed file the demo's source polls. It grows by one sample item at a time.
struct DemoFeed {
    let file: URL
    /// How many items the file has when it is full grown.
    let count: Int
    private(set) var published = 0

    init(file: URL, count: Int) throws {
        self.file = file
        self.count = count
        try write()
    }

    var isComplete: Bool { published >= count }

    /// Adds an item. The file is replaced at once: a reader sees the old feed or the new one.
    mutating func grow() throws {
        published += 1
        try write()
    }

    private func write() throws {
        try Data(SampleFeed.document(upTo: published)).write(to: file, options: .atomic)
    }

    /// What the feed says each item is, apart from the feed around it, by the name of its file.
    func contents() throws -> [String: [UInt8]] {
        // The file holds the newest items only.
        let items = try FeedParser.parse(SampleFeed.document(upTo: published, window: published)).items
        return Dictionary(items.map { (itemFileName($0.id), $0.ownContent) }) { first, _ in first }
    }
}

/// `<sha256 of atom:id>.xml`.
func itemFileName(_ id: String) -> String { "\(SHA256Digest(of: Array(id.utf8))).xml" }
