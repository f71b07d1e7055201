import Foundation
import FoundationXML

/// Reads Atom 1.0 (RFC 4287) and RSS 2.0 documents.
///
/// The XML itself is read by Foundation's parser (libxml2). What reaches it is valid UTF-8 of bounded size without a
/// document type declaration, so there is no entity to expand and nothing to fetch.
public enum FeedParser {
    /// Reads a feed.
    ///
    /// - Parameters:
    ///   - bytes: the document as fetched.
    ///   - base: the address it came from. It becomes the `xml:base` of items that have relative links and no base.
    public static func parse(_ bytes: [UInt8], base: String? = nil) throws(FeedError) -> FeedDocument {
        let run = XMLRun { (root, scope) throws(FeedError) in
            if root.isAtom("feed") { return AtomReader(root: root, scope: scope, retrieved: base) }
            if root.uri.isEmpty, root.local == "rss" { return RSSReader(retrieved: base) }
            if root.local.lowercased() == "html" { throw .webPage }
            throw .wrongRoot(root.local)
        }
        return try run.parse(bytes, limit: FeedLimits.documentBytes)
    }

    /// Reads one item from a standalone entry document (RFC 4287 section 2), as `FeedItem.document` holds it.
    public static func parseEntry(_ bytes: [UInt8]) throws(FeedError) -> FeedItem {
        let run = XMLRun { (root, scope) throws(FeedError) in
            guard root.isAtom("entry") else { throw .wrongRoot(root.local) }
            return AtomReader(root: root, scope: scope, retrieved: nil)
        }
        return try only(run.parse(bytes, limit: FeedLimits.itemBytes))
    }

    /// Reads what a source sends in one piece: a standalone entry document, or a whole Atom feed.
    /// - Returns: each item and its own document, which for an entry is `bytes` as it stands.
    public static func parseItems(_ bytes: [UInt8]) throws(FeedError) -> [(item: FeedItem, document: [UInt8])] {
        var isFeed = false
        let run = XMLRun { (root, scope) throws(FeedError) in
            isFeed = root.isAtom("feed")
            guard isFeed || root.isAtom("entry") else { throw .wrongRoot(root.local) }
            return AtomReader(root: root, scope: scope, retrieved: nil)
        }
        let document = try run.parse(bytes, limit: FeedLimits.itemBytes)
        return isFeed ? document.items.map { ($0, $0.document) } : [(try only(document), bytes)]
    }

    private static func only(_ document: FeedDocument) throws(FeedError) -> FeedItem {
        guard let item = document.items.first else {
            throw .unusableItem(document.unusable.first ?? "it is no entry")
        }
        return item
    }
}

/// Makes a feed of the events of one document.
protocol DocumentReader: AnyObject {
    /// `depth` is 1 for the root's children; the root itself was given to the initialiser.
    func start(_ element: ElementStart, scope: NamespaceScope, depth: Int) throws(FeedError)
    func text(_ text: String)
    func comment(_ text: String)
    func instruction(_ target: String, _ data: String?)
    /// `depth` as in `start`; 0 for the root.
    func end(_ element: ElementStart, depth: Int) throws(FeedError)
    func finish() throws(FeedError) -> FeedDocument
}

/// One run of Foundation's parser: resolves names, enforces the limits and stops at the first error.
private final class XMLRun: NSObject, XMLParserDelegate {
    typealias ReaderForRoot = (ElementStart, NamespaceScope) throws(FeedError) -> any DocumentReader

    private let readerForRoot: ReaderForRoot
    private var reader: (any DocumentReader)?
    private var scope = NamespaceScope()
    private var open: [ElementStart] = []
    private var failure: FeedError?
    private var xmlError: (code: Int, line: Int, column: Int)?
    private var rootName: String?

    init(readerForRoot: @escaping ReaderForRoot) { self.readerForRoot = readerForRoot }

    func parse(_ bytes: [UInt8], limit: Int) throws(FeedError) -> FeedDocument {
        guard bytes.count <= limit else { throw .tooLarge(bytes: bytes.count, limit: limit) }
        let text = try TextEncoding.decode(bytes)
        guard let first = text.first(where: { $0 > 0x20 }) else { throw .empty }
        guard first == UInt8(ascii: "<") else {
            throw .malformed(line: 1, column: 1, reason: "this is not XML: it does not begin with '<'")
        }
        try refuseDocumentType(text)
        try MarkupGuard.check(text)

        // Given at once, libxml2 would refuse a document of more than 10 MB; as a stream it is read in pieces.
        let parser = XMLParser(stream: InputStream(data: Data(text)))
        parser.shouldProcessNamespaces = false  // we resolve names, since we must write them again
        parser.shouldResolveExternalEntities = false
        parser.delegate = self
        _ = parser.parse()
        if let failure { throw failure }
        if let xmlError { throw describe(xmlError, in: text) }
        guard let reader, open.isEmpty else { throw .truncated(line: lineCount(text)) }
        return try reader.finish()
    }

    // MARK: - Errors

    /// Looks at what comes before the root element (XML 1.0 section 2.8).
    private func refuseDocumentType(_ text: [UInt8]) throws(FeedError) {
        var rest = text[...]
        while true {
            rest = rest.drop { $0 <= 0x20 }
            if rest.starts(with: "<!--".utf8) {
                guard let end = rest.firstRange(of: Array("-->".utf8)) else { return }
                rest = rest[end.upperBound...]
            } else if rest.starts(with: "<?".utf8) {
                guard let end = rest.firstRange(of: Array("?>".utf8)) else { return }
                rest = rest[end.upperBound...]
            } else if rest.starts(with: "<!".utf8) {
                let head = String(decoding: rest.prefix(200), as: UTF8.self).lowercased()
                throw head.split(whereSeparator: \.isWhitespace).dropFirst().first?.hasPrefix("html") == true
                    ? .webPage : .documentType
            } else {
                if String(decoding: rest.prefix(5), as: UTF8.self).lowercased() == "<html" { throw .webPage }
                return
            }
        }
    }

    private func describe(_ error: (code: Int, line: Int, column: Int), in text: [UInt8]) -> FeedError {
        let lines = lineCount(text)
        let rootHasEnded = rootName != nil && open.isEmpty
        if !rootHasEnded, error.line >= lines - 1, !endsWithRoot(text) { return .truncated(line: lines) }
        return .malformed(line: error.line, column: error.column, reason: Self.reason(error.code))
    }

    private func endsWithRoot(_ text: [UInt8]) -> Bool {
        guard let rootName else {
            // The first tag, or a comment before it, has begun and not ended.
            return text.lastIndex(of: UInt8(ascii: "<")).map { text[$0...].contains(UInt8(ascii: ">")) } ?? true
        }
        let end = String(decoding: text.suffix(rootName.utf8.count + 256), as: UTF8.self).trimmed
        return end.hasSuffix("-->") || end.hasSuffix("?>")
            || end.filter({ !$0.isWhitespace }).hasSuffix("</\(rootName)>")
    }

    private func lineCount(_ text: [UInt8]) -> Int { 1 + text.lazy.filter { $0 == 10 }.count }

    /// libxml2's `xmlParserErrors`.
    private static func reason(_ code: Int) -> String {
        switch code {
        case 1: "one attribute, comment or CDATA section is larger than 10 MB"
        case 4, 5: "something stands where the document should have ended"
        case 6, 7, 8, 9: "a character that XML does not allow"
        case 22, 23, 24, 25, 26, 27: "an entity that is not defined, or '&' not written as &amp;"
        case 38: "'<' in an attribute's value"
        case 39, 40, 41: "an attribute without a quoted value"
        case 42: "the same attribute twice on one element"
        case 62: "']]>' in text"
        case 65, 68: "a name is expected"
        case 73: "'>' is missing at the end of a tag"
        case 76, 77: "an end tag does not match its start tag"
        case 201: "a namespace prefix is not declared"
        default: "XML error \(code)"
        }
    }

    private func fail(_ error: FeedError, _ parser: XMLParser) {
        if failure == nil, xmlError == nil { failure = error }
        parser.abortParsing()
    }

    private var stopped: Bool { failure != nil || xmlError != nil }

    // MARK: - Events

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
        attributes all: [String: String]
    ) {
        guard !stopped else { return }
        guard open.count < FeedLimits.depth else {
            return fail(
                .malformed(
                    line: parser.lineNumber, column: parser.columnNumber,
                    reason: "elements are nested deeper than \(FeedLimits.depth)"), parser)
        }
        var element = ElementStart(prefix: "", local: name, uri: "", attributes: [:], declarations: [:])
        for (key, value) in all {
            if key == "xmlns" {
                element.declarations[""] = value
            } else if key.hasPrefix("xmlns:") {
                element.declarations[String(key.dropFirst(6))] = value
            } else {
                element.attributes[key] = value
            }
        }
        if let colon = name.firstIndex(of: ":") {
            element.prefix = String(name[..<colon])
            element.local = String(name[name.index(after: colon)...])
        }
        scope.push(element.declarations)
        guard scope.count <= FeedLimits.namespaces else {
            return fail(
                .malformed(
                    line: parser.lineNumber, column: parser.columnNumber,
                    reason: "more than \(FeedLimits.namespaces) namespaces are in scope"), parser)
        }
        guard let uri = scope.lookup(element.prefix),
            element.attributes.keys.allSatisfy({ key in
                key.firstIndex(of: ":").map { scope.lookup(String(key[..<$0])) != nil } ?? true
            })
        else {
            return fail(
                .malformed(line: parser.lineNumber, column: parser.columnNumber, reason: Self.reason(201)), parser)
        }
        element.uri = uri
        open.append(element)
        do throws(FeedError) {
            if let reader {
                try reader.start(element, scope: scope, depth: open.count - 1)
            } else {
                rootName = name
                reader = try readerForRoot(element, scope)
            }
        } catch { fail(error, parser) }
    }

    func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) {
        guard !stopped, let element = open.popLast() else { return }
        do throws(FeedError) { try reader?.end(element, depth: open.count) } catch { fail(error, parser) }
        scope.pop(element.declarations.count)
    }

    func parser(_ parser: XMLParser, foundCharacters text: String) {
        if !stopped, !open.isEmpty { reader?.text(text) }
    }

    func parser(_ parser: XMLParser, foundCDATA block: Data) {
        if !stopped { reader?.text(String(decoding: block, as: UTF8.self)) }
    }

    func parser(_ parser: XMLParser, foundComment text: String) {
        if !stopped, !open.isEmpty { reader?.comment(text) }
    }

    func parser(_ parser: XMLParser, foundProcessingInstructionWithTarget target: String, data: String?) {
        if !stopped, !open.isEmpty { reader?.instruction(target, data) }
    }

    func parser(_ parser: XMLParser, parseErrorOccurred error: any Error) {
        guard !stopped else { return }
        xmlError = ((error as NSError).code, parser.lineNumber, parser.columnNumber)
        parser.abortParsing()
    }
}
