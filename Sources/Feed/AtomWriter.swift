import FoundationEssentials

/// Writes an Atom feed document (RFC 4287 section 4.1.1) around entry documents.
public struct AtomWriter: Sendable {
    /// `atom:id` of the feed, an IRI.
    public var id: String
    /// `atom:title` of the feed, plain text.
    public var title: String

    /// - Parameters:
    ///   - id: an IRI (RFC 4287 section 4.2.6).
    ///   - title: plain text.
    public init(id: String, title: String) {
        self.id = id
        self.title = title
    }

    /// A feed of `items` in this order. Each item brings its own namespaces, language and base, so it stands in this
    /// feed as it stood in its own.
    public func document(_ items: [FeedItem]) -> [UInt8] {
        let newest = items.compactMap(\.date).max() ?? Date(timeIntervalSince1970: 0)
        var out = FragmentRecorder(unlimited: true)
        out.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feed xmlns=\"\(Namespace.atom)\">\n".utf8)
        out.element("id", [], id)
        out.element("title", [], title)
        out.element("updated", [], Timestamp.text(newest))
        // An entry without an author has the feed's (section 4.2.1); one of the two must exist.
        out.raw("<author><name>".utf8)
        out.text(title)
        out.raw("</name></author>\n".utf8)
        for item in items { out.raw(Self.withoutDeclaration(item.document)) }
        out.raw("</feed>\n".utf8)
        return out.bytes
    }

    /// `items` by date, newest first; those without a date last, and equal dates in the order given.
    public static func newestFirst(_ items: [FeedItem]) -> [FeedItem] {
        items.enumerated().sorted {
            let a = $0.element.date ?? .distantPast
            let b = $1.element.date ?? .distantPast
            return a == b ? $0.offset < $1.offset : a > b
        }.map(\.element)
    }

    /// An item's document as this module writes it, from the entry element on.
    private static func withoutDeclaration(_ document: [UInt8]) -> ArraySlice<UInt8> {
        guard document.starts(with: "<?xml".utf8), let end = document.firstRange(of: Array("?>\n".utf8)) else {
            return document[...]
        }
        return document[end.upperBound...]
    }
}
