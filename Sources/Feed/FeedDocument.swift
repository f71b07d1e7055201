import FoundationEssentials

/// What one poll of a feed says.
public struct FeedDocument: Sendable, Equatable {
    /// The formats that are read.
    enum Format: Sendable, Equatable {
        /// RFC 4287.
        case atom
        /// RSS 0.9x, 1.0 and 2.0.
        case rss
        /// JSON Feed 1.1.
        case json
    }

    /// What it was written in.
    var format: Format
    /// Of the feed, as plain text; empty when it has none.
    public var title: String
    /// `atom:id`, or for RSS the channel's own address; empty when the feed has none.
    public var id: String
    /// When the feed says it last changed, verbatim; empty when it does not say.
    public var updated: String
    /// The page or address the feed stands for; empty when it does not say.
    public var link: String
    /// In document order, which is usually newest first.
    public var items: [FeedItem]
    /// One reason for each item that cannot be used (no id, too large). The others are not held up by it.
    public var unusable: [String]
    /// What is wrong with the document that was read in spite of it, with its line and column; nil when nothing is.
    public var fault: String?
}

/// One item of a feed, with everything a receiver needs to show it without the feed around it.
public struct FeedItem: Sendable, Equatable {
    /// `atom:id` without surrounding white space: what makes two versions the same item (RFC 4287 section 4.2.6).
    public var id: String
    /// The title as plain text.
    public var title: String
    /// `atom:updated` as written, without surrounding white space.
    public var updated: String
    /// The same as a date; nil when it is not an RFC 3339 date.
    public var date: Date?
    /// A standalone Atom entry document in UTF-8 (RFC 4287 section 2), which parses to this same item.
    public var document: [UInt8]
    /// Where `document` has its `atom:source`; empty when it has none.
    public var sourceRange: Range<Int>

    /// Nothing is checked: a `document` made elsewhere must parse to the same item.
    public init(id: String, title: String, updated: String, date: Date?, document: [UInt8], sourceRange: Range<Int>) {
        self.id = id
        self.title = title
        self.updated = updated
        self.date = date
        self.document = document
        self.sourceRange = sourceRange
    }

    /// `document` without its `atom:source`: what tells whether the item was edited. The feed it comes from may change
    /// its title or its date without any item changing.
    public var ownContent: [UInt8] {
        sourceRange.isEmpty
            ? document : Array(document[..<sourceRange.lowerBound] + document[sourceRange.upperBound...])
    }
}

/// Named limits of what a feed may ask of us.
public enum FeedLimits {
    /// Octets of a whole feed document.
    public static let documentBytes = 64 << 20
    /// Octets of one item's entry document.
    public static let itemBytes = 16 << 20
    /// Items in one feed document.
    public static let items = 200_000
    /// Octets of an item's id.
    public static let idBytes = 4096
    /// Namespace declarations in scope at one place.
    public static let namespaces = 500
    /// Elements within each other.
    public static let depth = 200
}

enum Namespace {
    static let atom = "http://www.w3.org/2005/Atom"
    static let xhtml = "http://www.w3.org/1999/xhtml"
    static let xml = "http://www.w3.org/XML/1998/namespace"
    static let content = "http://purl.org/rss/1.0/modules/content/"
    static let dublinCore = "http://purl.org/dc/elements/1.1/"
    static let dublinTerms = "http://purl.org/dc/terms/"
    static let rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
}
