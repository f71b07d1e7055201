import Feed
import Foundation

/// Reads feeds, one file each argument names, and writes what their items come to: a line of JSON for each file.
struct Dump: Encodable {
    struct Item: Encodable {
        var id: String
        var title: String
        var date: Double?
        var document: String
    }
    var file: String
    var error: String?
    var fault: String?
    var title: String?
    var items: [Item] = []
}

let encoder = JSONEncoder()
let files =
    CommandLine.arguments.dropFirst() == ["-"]
    ? Array(AnyIterator { readLine() }) : Array(CommandLine.arguments.dropFirst())
for file in files {
    var dump = Dump(file: file)
    do {
        let bytes = [UInt8](try Data(contentsOf: URL(filePath: file)))
        // As if fetched from here: relative addresses need a base.
        let feed = try FeedParser.parse(bytes, base: "http://127.0.0.1:8097/")
        dump.title = feed.title
        dump.fault = feed.fault
        dump.items = feed.items.map { item in
            Dump.Item(
                id: item.id, title: item.title, date: item.date?.timeIntervalSince1970,
                document: String(decoding: item.document, as: UTF8.self))
        }
    } catch {
        dump.error = "\(error)"
    }
    FileHandle.standardOutput.write(try encoder.encode(dump) + [10])
}
