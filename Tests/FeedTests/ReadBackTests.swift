import Feed
import Foundation
import Testing

/// What is made of an item is the same item when it is read again, whatever the feed was.
@Suite struct ReadBackTests {
    @Test func itemsOfTheCorpusReadBackAsTheyAre() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../feeds/corpus")
        var items = 0
        for file in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil) {
            guard let feed = try? FeedParser.parse(Array(Data(contentsOf: file)), base: "http://h.example/f") else {
                continue
            }
            for item in feed.items {
                items += 1
                let again = try FeedParser.parseEntry(item.document)
                #expect(again.id == item.id, "\(file.lastPathComponent)")
                #expect(
                    String(decoding: again.document, as: UTF8.self) == String(decoding: item.document, as: UTF8.self),
                    "\(file.lastPathComponent)")
            }
        }
        #expect(items > 50)
    }
}
