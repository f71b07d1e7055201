/// The whole way from octets to a document for libFuzzer: `fuzz` beside this file builds and runs it. Whatever goes in, there are
/// items or an error, and what is made of an item is read again as the same item.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFeed(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    if let feed = try? FeedParser.parse(bytes, base: "http://h.example/f") {
        for item in feed.items {
            do {
                let again = try FeedParser.parseEntry(item.document)
                guard again.id == item.id, again.document == item.document else {
                    fatalError("\(item.id) reads back as \(again.id)")
                }
            } catch {
                fatalError("\(item.id) does not read back: \(error)")
            }
        }
    }
    _ = try? FeedParser.parseItems(bytes)
    return 0
}
