/// Why a document is not a feed we can use. The description is one sentence for a log line: it names the cause and,
/// where it helps, the place.
public enum FeedError: Error, Equatable, Sendable, CustomStringConvertible {
    /// No octets, or nothing but white space.
    case empty
    /// More octets than `limit`.
    case tooLarge(bytes: Int, limit: Int)
    /// The document declares a character encoding that we do not read.
    case unknownEncoding(String)
    /// The octet at `offset` is not possible in the encoding that the document declares.
    case invalidEncoding(String, offset: Int)
    /// A document type declaration: feeds need none, and it is the door for entity bombs and external entities.
    case documentType
    /// A web page, where a feed was expected: often an error page or a login.
    case webPage
    /// Well-formed XML with another root element than a feed has.
    case wrongRoot(String)
    /// The document ends before its root element does.
    case truncated(line: Int)
    /// Not well-formed XML.
    case malformed(line: Int, column: Int, reason: String)
    /// More than `limit` items.
    case tooManyItems(limit: Int)
    /// An entry document that is no usable item.
    case unusableItem(String)

    public var description: String {
        switch self {
        case .empty: "the document is empty"
        case .tooLarge(let bytes, let limit): "the document has \(bytes) bytes, more than the limit of \(limit)"
        case .unknownEncoding(let name):
            "the document is encoded in '\(name)'; UTF-8, UTF-16, UTF-32, US-ASCII, ISO-8859, Windows and East Asian "
                + "encodings are read"
        case .invalidEncoding(let name, let offset): "the byte at offset \(offset) is not valid \(name)"
        case .documentType: "the document has a DOCTYPE, which a feed must not use"
        case .webPage: "this is a web page (HTML), not an Atom or RSS feed"
        case .wrongRoot(let name): "the root element is <\(name)>; an Atom <feed>, an <rss> or an <rdf:RDF> is expected"
        case .truncated(let line): "the document is cut off at line \(line)"
        case .malformed(let line, let column, let reason):
            "the XML is malformed at line \(line), column \(column): \(reason)"
        case .tooManyItems(let limit): "the feed has more than \(limit) items"
        case .unusableItem(let reason): "the entry cannot be used: \(reason)"
        }
    }
}

extension FeedError {
    /// The fault as it is told when the document is read in spite of it; nil when it must not be.
    func recoverable(in bytes: [UInt8]) -> FeedError? {
        switch self {
        case .malformed, .truncated, .unknownEncoding: return self
        case .invalidEncoding(let name, let offset):
            let before = bytes.prefix(offset)
            let column = offset - (before.lastIndex(of: 10) ?? -1)
            return .malformed(
                line: 1 + before.lazy.filter { $0 == 10 }.count, column: column,
                reason: "the byte at offset \(offset) is not valid \(name)")
        default: return nil
        }
    }
}
