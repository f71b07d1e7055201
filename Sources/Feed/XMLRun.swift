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

/// One document on its way through the XML parser: resolves names, enforces the limits and stops at the first error.
struct XMLRun {
    typealias ReaderForRoot = (ElementStart, NamespaceScope) throws(FeedError) -> any DocumentReader

    /// Octets that the parser gets at a time. Given more than 10 MB at once it would refuse them; what it still does after
    /// an error of ours is bounded by this.
    static let chunk = 16 << 10

    private let readerForRoot: ReaderForRoot
    private var reader: (any DocumentReader)?
    private var scope = NamespaceScope()
    private var open: [ElementStart] = []
    private var rootName: String?
    private var isOldAtom = false

    /// - Parameters:
    ///   - bytes: the document in any encoding that `TextEncoding` reads.
    ///   - limit: octets that the document may have.
    ///   - charset: the encoding that the protocol named which brought the document; nil when it named none.
    ///   - chunk: octets that the parser gets at a time; the result does not depend on it.
    ///   - readerForRoot: gets the root element and says who reads the rest.
    static func parse(
        _ bytes: [UInt8], limit: Int, charset: String? = nil, chunk: Int = chunk,
        readerForRoot: @escaping ReaderForRoot
    ) throws(FeedError) -> FeedDocument {
        guard bytes.count <= limit else { throw .tooLarge(bytes: bytes.count, limit: limit) }
        return try parse(text: TextEncoding.decode(bytes, charset: charset), chunk: chunk, readerForRoot: readerForRoot)
    }

    /// As above, of what is decoded.
    static func parse(
        text: [UInt8], chunk: Int = chunk, readerForRoot: @escaping ReaderForRoot
    ) throws(FeedError) -> FeedDocument {
        let text = try MarkupGuard.checked(text)
        var run = XMLRun(readerForRoot: readerForRoot)
        return try run.parse(text, chunk: chunk)
    }

    private init(readerForRoot: @escaping ReaderForRoot) { self.readerForRoot = readerForRoot }

    private mutating func parse(_ text: [UInt8], chunk: Int) throws(FeedError) -> FeedDocument {
        var parser = try XMLDoor()
        var at = 0
        var isLast = false
        while !isLast {
            isLast = at == text.count
            let end = min(at + chunk, text.count)
            let (events, fault) = parser.push(text[at..<end], isLast: isLast)
            // At the end the parser makes an element of a tag that is cut off, before it complains.
            if isLast, let fault { throw describe(fault, in: text) }
            for event in XMLEvents(events) { try take(event) }
            if let fault { throw describe(fault, in: text) }
            at = end
        }
        guard let reader, open.isEmpty else { throw .truncated(line: lineCount(text)) }
        return try reader.finish()
    }

    // MARK: - Events

    private mutating func take(_ event: XMLEvent) throws(FeedError) {
        switch event {
        case .start(let tag): try start(tag)
        case .end:
            guard let element = open.popLast() else { return }
            try reader?.end(element, depth: open.count)
            scope.pop(element.declarations.count)
        case .text(let text): if !open.isEmpty { reader?.text(text) }
        case .comment(let text): if !open.isEmpty { reader?.comment(text) }
        case .instruction(let target, let data): if !open.isEmpty { reader?.instruction(target, data) }
        }
    }

    private mutating func start(_ tag: XMLStart) throws(FeedError) {
        func malformed(_ reason: String) -> FeedError {
            .malformed(line: tag.line, column: tag.column, reason: reason)
        }
        guard open.count < FeedLimits.depth else {
            throw malformed("elements are nested deeper than \(FeedLimits.depth)")
        }
        var element = ElementStart(
            prefix: "", local: tag.name, uri: "", attributes: tag.attributes, declarations: tag.declarations)
        if let colon = tag.name.firstIndex(of: ":") {
            element.prefix = String(tag.name[..<colon])
            element.local = String(tag.name[tag.name.index(after: colon)...])
        }
        element.moveOldAtom()
        scope.push(element.declarations)
        guard scope.count <= FeedLimits.namespaces else {
            throw malformed("more than \(FeedLimits.namespaces) namespaces are in scope")
        }
        guard let uri = scope.lookup(element.prefix),
            element.attributes.keys.allSatisfy({ key in
                key.firstIndex(of: ":").map { scope.lookup(String(key[..<$0])) != nil } ?? true
            })
        else { throw malformed(Self.reason(201)) }
        element.uri = uri
        if open.isEmpty { isOldAtom = tag.declarations.values.contains(ElementStart.oldAtom) && element.isAtom("feed") }
        if isOldAtom { element.renameOldAtom() }
        open.append(element)
        if let reader {
            try reader.start(element, scope: scope, depth: open.count - 1)
        } else {
            rootName = tag.name
            reader = try readerForRoot(element, scope)
        }
    }

    // MARK: - Errors

    private func describe(_ fault: XMLDoor.Fault, in text: [UInt8]) -> FeedError {
        switch fault.code {
        case XMLDoor.Fault.documentType: return .documentType
        case XMLDoor.Fault.noMemory: return XMLDoor.noMemory
        default: break
        }
        let lines = lineCount(text)
        let rootHasEnded = rootName != nil && open.isEmpty
        let isElsewhere = [9, 26, 42, 62, 201].contains(fault.code)
        if !isElsewhere, !rootHasEnded, fault.line >= lines - 1, !endsWithRoot(text) { return .truncated(line: lines) }
        return .malformed(line: fault.line, column: fault.column, reason: Self.reason(fault.code))
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
        case 42, 203: "the same attribute twice on one element"
        case 62: "']]>' in text"
        case 64: "the XML declaration does not stand at the very beginning"
        case 65, 68: "a name is expected"
        case 73: "'>' is missing at the end of a tag"
        case 76, 77: "an end tag does not match its start tag"
        case 80: "'--' in a comment"
        case 201: "a namespace prefix is not declared"
        case 202: "a name with more than one ':'"
        default: "XML error \(code)"
        }
    }
}
