/// What of an item tells whether it was edited: not what comes from the feed around it, and no counter of what others do.
enum OwnContent {
    /// Namespaces that hold nothing but counts of comments and the like.
    private static let counters = ["http://purl.org/rss/1.0/modules/slash/", "http://purl.org/syndication/thread/1.0"]

    /// `item.ownContent` without `atom:source`, base and language of the feed, an author that is the channel, and counters.
    static func of(_ item: FeedItem, in document: FeedDocument) -> [UInt8] {
        var content = item.ownContent
        guard document.format == .rss else { return withoutCounters(content) }
        var channel = FragmentRecorder()
        channel.element("name", [], document.title.isEmpty ? "unknown" : document.title)
        let author = Array("<author>".utf8) + channel.bytes + Array("</author>".utf8)
        if let range = content.firstRange(of: author) { content.removeSubrange(range) }
        content = withoutCounters(content)
        // The entry's own start tag holds the channel's link and language.
        for name in [" xml:base=\"", " xml:lang=\""] {
            guard let start = content.firstRange(of: Array("<entry".utf8)),
                let end = content[start.upperBound...].firstIndex(of: UInt8(ascii: ">")),
                let attribute = content[start.upperBound..<end].firstRange(of: Array(name.utf8)),
                let close = content[attribute.upperBound..<end].firstIndex(of: UInt8(ascii: "\""))
            else { continue }
            content.removeSubrange(attribute.lowerBound...close)
        }
        return content
    }

    /// `FragmentRecorder` spells every declaration and tag in one way, which is what is searched for here.
    private static func withoutCounters(_ content: [UInt8]) -> [UInt8] {
        var content = content
        for namespace in counters {
            guard let place = content.firstRange(of: Array("=\"\(namespace)\"".utf8)),
                let space = content[..<place.lowerBound].lastIndex(of: UInt8(ascii: " "))
            else { continue }
            let declaration = String(decoding: content[content.index(after: space)..<place.lowerBound], as: UTF8.self)
            guard declaration.hasPrefix("xmlns:") else { continue }
            content.removeSubrange(space..<place.upperBound)
            let prefix = String(declaration.dropFirst("xmlns:".count))
            removeElements(of: prefix, from: &content)
            removeAttributes(of: prefix, from: &content)
        }
        return content
    }

    private static func removeElements(of prefix: String, from content: inout [UInt8]) {
        let opening = Array("<\(prefix):".utf8)
        let closing = Array("</\(prefix):".utf8)
        var kept: [UInt8] = []
        var rest = content[...]
        while let start = rest.firstRange(of: opening), let end = rest[start.upperBound...].firstIndex(of: 0x3E) {
            kept += rest[..<start.lowerBound]
            rest = rest[(end + 1)...]
            if content[end - 1] != UInt8(ascii: "/"), let close = rest.firstRange(of: closing),
                let last = rest[close.upperBound...].firstIndex(of: 0x3E)
            {
                rest = rest[(last + 1)...]
            }
        }
        content = kept + rest
    }

    private static func removeAttributes(of prefix: String, from content: inout [UInt8]) {
        let name = Array(" \(prefix):".utf8)
        var kept: [UInt8] = []
        var rest = content[...]
        while let start = rest.firstRange(of: name) {
            kept += rest[..<start.lowerBound]
            rest = rest[start.upperBound...]
            // Not an attribute but text that looks like one: kept, but for its beginning, which is the same each time.
            guard let equals = rest.firstIndex(of: UInt8(ascii: "=")), rest.startIndex < equals,
                rest[rest.startIndex..<equals].allSatisfy({ (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) }),
                rest[equals...].dropFirst().first == UInt8(ascii: "\""),
                let close = rest[(equals + 2)...].firstIndex(of: UInt8(ascii: "\""))
            else { continue }
            rest = rest[(close + 1)...]
        }
        content = kept + rest
    }
}
