/// Makes items of an Atom feed, or the one item of an entry document (RFC 4287 section 4.1).
///
/// An entry is recorded as it passes and completed when the feed has ended: only then is everything known that the
/// entry takes from the feed, since a feed's own elements may stand after its entries.
final class AtomReader: DocumentReader {
    private let root: ElementStart
    private let retrieved: String?
    private let isEntryDocument: Bool
    private var entries: [RecordedEntry] = []
    private var entry: RecordedEntry?
    private var metadata: [FragmentRecorder] = []
    private var fragment: FragmentRecorder?
    private var captured: Capture?
    private var feed = FeedDocument(format: .atom, title: "", id: "", updated: "", link: "", items: [], unusable: [])

    /// The text of one child element, collected until it ends.
    private struct Capture {
        var name: String
        var type: String
        var text = ""

        var plain: String { (type == "html" ? text.withoutMarkup : text).oneLine }
    }

    private struct RecordedEntry {
        var root: ElementStart
        var body = FragmentRecorder()
        var id = ""
        var title: String?
        var updated: String?
        var published: String?
        var source: Range<Int>?
        var link = ""
    }

    /// What an entry takes from its feed (RFC 4287 section 4.2.11), in this order. The feed's `updated` is not taken:
    /// with it, every item would change whenever a new one appears.
    private static let inherited: Set<String> = ["id", "title", "author", "contributor", "rights", "category", "link"]

    init(root: ElementStart, scope: NamespaceScope, retrieved: String?) {
        self.root = root
        self.retrieved = retrieved
        isEntryDocument = root.local == "entry"
        if isEntryDocument { beginEntry(root, scope: scope) }
    }

    private var entryDepth: Int { isEntryDocument ? 0 : 1 }

    private func beginEntry(_ element: ElementStart, scope: NamespaceScope) {
        var recorded = RecordedEntry(root: element)
        recorded.body.note(element, scope: scope)
        entry = recorded
    }

    func start(_ element: ElementStart, scope: NamespaceScope, depth: Int) throws(FeedError) {
        if entry != nil {
            if depth == entryDepth + 1, element.uri == Namespace.atom {
                capture(element, of: ["id", "title", "updated", "published"])
                let relation = element.attributes["rel"] ?? "alternate"
                if element.local == "link", entry?.link.isEmpty == true, relation == "alternate" {
                    entry?.link = element.attributes["href"] ?? ""
                }
                if element.local == "source" {
                    let start = bodyCount
                    entry?.source = start..<start
                }
            }
            entry?.body.start(element, scope: scope)
        } else if depth == 1, element.isAtom("entry") {
            guard entries.count < FeedLimits.items else { throw .tooManyItems(limit: FeedLimits.items) }
            beginEntry(element, scope: scope)
        } else if depth == 1, element.uri == Namespace.atom {
            capture(element, of: ["id", "title", "updated"])
            let relation = element.attributes["rel"] ?? "alternate"
            if element.local == "link", feed.link.isEmpty, relation == "alternate" {
                feed.link = element.attributes["href"] ?? ""
            }
            if Self.inherited.contains(element.local), element.local != "link" || relation == "self" {
                fragment = FragmentRecorder()
                fragment?.start(element, scope: scope)
            }
        } else {
            fragment?.start(element, scope: scope)
        }
    }

    /// The octets of the body, with the pending start tag closed.
    private var bodyCount: Int {
        entry?.body.text("")
        return entry?.body.bytes.count ?? 0
    }

    private func capture(_ element: ElementStart, of names: Set<String>) {
        guard captured == nil, names.contains(element.local) else { return }
        captured = Capture(name: element.local, type: element.attributes["type"] ?? "text")
    }

    func text(_ text: String) {
        captured?.text += text
        if entry != nil { entry?.body.text(text) } else { fragment?.text(text) }
    }

    func comment(_ text: String) {
        if entry != nil { entry?.body.comment(text) } else { fragment?.comment(text) }
    }

    func instruction(_ target: String, _ data: String?) {
        if entry != nil { entry?.body.instruction(target, data) } else { fragment?.instruction(target, data) }
    }

    func end(_ element: ElementStart, depth: Int) throws(FeedError) {
        if entry != nil {
            if depth == entryDepth { return endEntry() }
            entry?.body.end(element)
            guard depth == entryDepth + 1 else { return }
            if element.isAtom("source"), let start = entry?.source?.lowerBound {
                let end = bodyCount
                entry?.source = start..<end
            }
            if let captured { note(captured) }
            captured = nil
        } else {
            fragment?.end(element)
            guard depth == 1 else { return }
            if let captured { noteFeed(captured) }
            captured = nil
            if let fragment { metadata.append(fragment) }
            fragment = nil
        }
    }

    private func note(_ captured: Capture) {
        switch captured.name {
        case "id" where entry?.id.isEmpty == true: entry?.id = captured.text.trimmed
        case "title" where entry?.title == nil: entry?.title = captured.plain
        case "updated" where entry?.updated == nil: entry?.updated = captured.text.trimmed
        case "published" where entry?.published == nil: entry?.published = captured.text.trimmed
        default: break
        }
    }

    private func noteFeed(_ captured: Capture) {
        switch captured.name {
        case "id": feed.id = captured.text.trimmed
        case "title": feed.title = captured.plain
        case "updated": feed.updated = captured.text.trimmed
        default: break
        }
    }

    private func endEntry() {
        if let entry { entries.append(entry) }
        entry = nil
    }

    // MARK: - Completing the entries

    func finish() throws(FeedError) -> FeedDocument {
        if isEntryDocument, let entry {
            entries.append(entry)
            self.entry = nil
        }
        entries.reverse()
        while let next = entries.popLast() {  // each one's octets are freed before the next item is made
            do throws(FeedError) {
                feed.items.append(try complete(next))
            } catch {
                feed.unusable.append(error.description)
            }
        }
        return feed
    }

    private func complete(_ recorded: RecordedEntry) throws(FeedError) -> FeedItem {
        var entry = recorded
        var id = entry.id
        if id.isEmpty, !isEntryDocument, let own = substitute(for: entry) {
            id = own
            entry.body.element((entry.root.prefix.isEmpty ? "" : entry.root.prefix + ":") + "id", [], id)
        }
        guard !id.isEmpty else { throw .unusableItem("an entry has no atom:id (title \"\(entry.title ?? "")\")") }
        guard id.utf8.count <= FeedLimits.idBytes else {
            throw .unusableItem("its atom:id is longer than \(FeedLimits.idBytes) bytes")
        }
        let prefix = entry.root.prefix.isEmpty ? "" : entry.root.prefix + ":"
        // RFC 4287 section 4.1.2 demands both; a feed that omits them still gets through.
        if entry.title == nil { entry.body.element(prefix + "title") }
        let updated = entry.updated ?? entry.published ?? "1970-01-01T00:00:00Z"
        if entry.updated == nil { entry.body.element(prefix + "updated", [], updated) }

        var head = FragmentRecorder()
        head.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<\(entry.root.qualified)".utf8)
        var namespaces = entry.body.needed
        namespaces[entry.root.prefix] = Namespace.atom
        for (name, uri) in namespaces.sorted(by: { $0.key < $1.key }) {
            head.attribute(name.isEmpty ? "xmlns" : "xmlns:\(name)", uri)
        }
        let attributes = inheritedAttributes(of: entry)
        for (name, value) in attributes.sorted(by: { $0.key < $1.key }) { head.attribute(name, value) }
        head.raw(">".utf8)

        let offset = head.bytes.count
        var source = entry.source.map { $0.lowerBound + offset..<$0.upperBound + offset }
        head.raw(entry.body.bytes)
        if source == nil, !isEntryDocument {
            let start = head.bytes.count
            head.raw(sourceElement(prefix: entry.root.prefix, namespaces: namespaces, attributes: attributes))
            source = start..<head.bytes.count
        }
        head.raw("</\(entry.root.qualified)>\n".utf8)
        guard !entry.body.overflowed, !head.overflowed else {
            throw .unusableItem("the item \(id) is larger than \(FeedLimits.itemBytes) bytes")
        }
        return FeedItem(
            id: id, title: entry.title ?? "", updated: updated, date: Timestamp.any(updated), document: head.bytes,
            sourceRange: source ?? 0..<0)
    }

    /// The id of an entry without one: its link, by which readers know it, else what it says first.
    private func substitute(for entry: RecordedEntry) -> String? {
        if !entry.link.isEmpty {
            return Reference.resolve(entry.link, against: inheritedAttributes(of: entry)["xml:base"] ?? retrieved)
        }
        if let title = entry.title, !title.isEmpty { return "urn:x-atom-title:" + Reference.encoded(title) }
        let start = String(decoding: entry.body.bytes.prefix(400), as: UTF8.self).trimmed
        return start.isEmpty ? nil : "urn:x-atom-text:" + Reference.encoded(start)
    }

    /// The entry's own attributes, with `xml:base`, `xml:lang` and `xml:space` as they are in force.
    private func inheritedAttributes(of entry: RecordedEntry) -> [String: String] {
        var attributes = entry.root.attributes
        guard !isEntryDocument else { return attributes }
        for name in ["xml:lang", "xml:space"] where attributes[name] == nil { attributes[name] = root.attributes[name] }
        var base = root.attributes["xml:base"]
        if let own = attributes["xml:base"] { base = Reference.resolve(own, against: base) }
        if let found = base, !Reference.hasScheme(found) { base = Reference.resolve(found, against: retrieved) }
        attributes["xml:base"] = base ?? (entry.body.hasRelativeReference ? retrieved : nil)
        return attributes
    }

    /// The feed's own elements as `atom:source`, empty when there are none or they cannot be said in this entry.
    private func sourceElement(
        prefix: String, namespaces: [String: String], attributes: [String: String]
    ) -> [UInt8] {
        guard !metadata.isEmpty else { return [] }
        let name = prefix.isEmpty ? "source" : "\(prefix):source"
        var missing: [String: String] = [:]
        for fragment in metadata { missing.merge(fragment.needed) { first, _ in first } }
        // The entry gives the prefix it names itself with another meaning than the feed does.
        if let meaning = missing[prefix], meaning != Namespace.atom { return [] }
        for (prefix, uri) in namespaces where missing[prefix] == uri { missing[prefix] = nil }
        var out = FragmentRecorder()
        out.raw("<\(name)".utf8)
        for (prefix, uri) in missing.sorted(by: { $0.key < $1.key }) {
            out.attribute(prefix.isEmpty ? "xmlns" : "xmlns:\(prefix)", uri)
        }
        let base = root.attributes["xml:base"].map { Reference.resolve($0, against: retrieved) }
        if let base, base != attributes["xml:base"] { out.attribute("xml:base", base) }
        if let language = root.attributes["xml:lang"], language != attributes["xml:lang"] {
            out.attribute("xml:lang", language)
        }
        out.raw(">".utf8)
        for fragment in metadata { out.raw(fragment.bytes) }
        out.raw("</\(name)>".utf8)
        return out.bytes
    }
}
