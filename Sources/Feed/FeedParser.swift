/// Reads feeds in Atom 1.0 (RFC 4287) and 0.3, RSS 0.9x, 1.0 and 2.0, and JSON Feed 1.1.
///
/// The XML itself is read by libxml2. What reaches it is valid UTF-8 of bounded size without a document type declaration,
/// so there is no entity to expand and nothing to fetch. What comes from a feed, from a source over the network and from
/// a disk all goes through this door.
public enum FeedParser {
    /// Reads a feed.
    ///
    /// - Parameters:
    ///   - bytes: the document as fetched.
    ///   - base: the address it came from. It becomes the `xml:base` of items that have relative links and no base, without
    ///     its user information and query, which are nothing for those who get the items.
    ///   - charset: the encoding that the answer to the request named. It counts for more than what the document says of
    ///     itself (RFC 7303 section 3.2).
    ///   - strict: refuse what is not well-formed XML in the encoding that it names. Without this its good items are read,
    ///     and the document's `fault` tells what is wrong.
    /// - Throws: why it is no feed that we can use.
    public static func parse(
        _ bytes: [UInt8], base: String? = nil, charset: String? = nil, strict: Bool = false
    ) throws(FeedError) -> FeedDocument {
        do throws(FeedError) {
            return try parse(bytes, base: base, charset: charset, chunk: XMLRun.chunk)
        } catch {
            guard !strict, !JSONFeed.isLikely(bytes), let fault = error.recoverable(in: bytes) else { throw error }
            let repaired: (text: [UInt8], isCutOff: Bool)
            do throws(FeedError) {
                let found = TextEncoding.recover(bytes, charset: charset)
                guard !found.contains(0) else { throw fault }
                repaired = try MarkupRepair.repaired(found)
            } catch { throw fault }
            do throws(FeedError) {
                var document = try parse(
                    text: repaired.text, base: base.map(PublicAddress.published), chunk: XMLRun.chunk)
                // A document that breaks off before its first item has nothing to show.
                if repaired.isCutOff, document.items.isEmpty { throw fault }
                document.fault = fault.description
                return document
            } catch {
                switch error {
                case .malformed, .truncated, .empty: throw fault
                default: throw error
                }
            }
        }
    }

    /// As above, with the octets that the XML parser gets at a time.
    static func parse(
        _ bytes: [UInt8], base: String? = nil, charset: String? = nil, chunk: Int
    ) throws(FeedError) -> FeedDocument {
        let limit = FeedLimits.documentBytes
        guard bytes.count <= limit else { throw .tooLarge(bytes: bytes.count, limit: limit) }
        let text = try TextEncoding.decode(bytes, charset: charset)
        if JSONFeed.isLikely(text) {
            return try JSONFeed.document(text, retrieved: base.map(PublicAddress.published))
        }
        return try parse(text: text, base: base.map(PublicAddress.published), chunk: chunk)
    }

    private static func parse(text: [UInt8], base: String?, chunk: Int) throws(FeedError) -> FeedDocument {
        try XMLRun.parse(text: text, chunk: chunk) { (root, scope) throws(FeedError) in
            if root.isAtom("feed") { return AtomReader(root: root, scope: scope, retrieved: base) }
            if RSSReader.isRoot(root) { return RSSReader(root: root, retrieved: base) }
            if root.local.lowercased() == "html" { throw .webPage }
            throw .wrongRoot(root.local)
        }
    }

    /// Reads one item from a standalone entry document (RFC 4287 section 2), as `FeedItem.document` holds it.
    public static func parseEntry(_ bytes: [UInt8]) throws(FeedError) -> FeedItem {
        let document = try XMLRun.parse(bytes, limit: FeedLimits.itemBytes) { (root, scope) throws(FeedError) in
            guard root.isAtom("entry") else { throw .wrongRoot(root.local) }
            return AtomReader(root: root, scope: scope, retrieved: nil)
        }
        return try only(document)
    }

    /// Reads what a source sends in one piece: a standalone entry document, or a whole Atom feed.
    /// - Returns: each item and its own document, which for an entry is `bytes` as it stands.
    public static func parseItems(_ bytes: [UInt8]) throws(FeedError) -> [(item: FeedItem, document: [UInt8])] {
        var isFeed = false
        let document = try XMLRun.parse(bytes, limit: FeedLimits.itemBytes) { (root, scope) throws(FeedError) in
            isFeed = root.isAtom("feed")
            guard isFeed || root.isAtom("entry") else { throw .wrongRoot(root.local) }
            return AtomReader(root: root, scope: scope, retrieved: nil)
        }
        return isFeed ? document.items.map { ($0, $0.document) } : [(try only(document), bytes)]
    }

    private static func only(_ document: FeedDocument) throws(FeedError) -> FeedItem {
        guard let item = document.items.first else {
            throw .unusableItem(document.unusable.first ?? "it is no entry")
        }
        return item
    }
}
