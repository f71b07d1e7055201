import FoundationEssentials

/// What an item says, by the names of RSS; also what a channel says of itself.
struct ItemFields {
    struct Field {
        var text: String
        var attributes: [String: String] = [:]
        /// As it is written, for an element that is kept so.
        var fragment: FragmentRecorder?
        /// It is HTML for certain.
        var isMarkup = false
    }

    /// By local name, with a prefix for the few modules that are understood.
    var values: [String: [Field]] = [:]
    var extensions: [FragmentRecorder] = []
    /// Of the item's own element.
    var attributes: [String: String] = [:]

    subscript(_ key: String) -> String? {
        values[key]?.lazy.map { $0.text.trimmed }.first { !$0.isEmpty }
    }

    mutating func set(_ key: String, _ text: String?, _ attributes: [String: String] = [:]) {
        if let text { values[key, default: []].append(Field(text: text, attributes: attributes)) }
    }
}

/// Makes Atom entries of items that other formats have.
///
/// | RSS | Atom |
/// |---|---|
/// | guid, else atom:id, else link, else rdf:about, else title | id (an address stays as it is, other text becomes a URN) |
/// | title, else dc:title | title |
/// | link, else a guid that is a permanent link | link rel="alternate" |
/// | pubDate, else dc:date, else atom:published or atom:updated | updated and published; 1970 when there is none, so that it never changes by itself |
/// | content:encoded, else xhtml:body, fullitem or body, else description | content type="html" (the description becomes the summary beside it) |
/// | author, every dc:creator; the channel's author when the item has none | author |
/// | category, dc:subject, enclosure, comments, source | category, link rel="enclosure", link rel="replies", source |
/// | Atom's elements, elements of other namespaces | kept |
struct EntryComposer {
    let channel: ItemFields
    let retrieved: String?
    private var feed: FeedDocument

    init(channel: ItemFields, retrieved: String?) {
        self.channel = channel
        self.retrieved = retrieved
        feed = FeedDocument(format: .rss, title: "", id: "", updated: "", link: "", items: [], unusable: [])
        let selfLink = channel.values["atom:link"]?.first { $0.attributes["rel"] == "self" }?.attributes["href"]
        feed.title = (channel["title"] ?? channel["dc:title"] ?? "").oneLine
        feed.link = channel["link"] ?? ""
        feed.id = selfLink ?? feed.link
        feed.updated = channel["lastBuildDate"] ?? channel["pubDate"] ?? channel["dc:date"] ?? ""
    }

    /// The items' entries, in their order.
    func document(_ items: [ItemFields], format: FeedDocument.Format) -> FeedDocument {
        var document = feed
        document.format = format
        let ids = ids(of: items)
        for (item, id) in zip(items, ids) {
            do throws(FeedError) { document.items.append(try entry(item, id: id)) } catch {
                document.unusable.append(error.description)
            }
        }
        return document
    }

    // MARK: - Who is who

    private func ids(of items: [ItemFields]) -> [String?] {
        var out: [String?] = []
        var owners: Set<String> = []
        // Of several with one link and no guid the oldest, which is the last, has the link alone: it had it first.
        for item in items.reversed() {
            var id = id(item)
            if item["guid"] == nil, let link = id, !owners.insert(link).inserted {
                let parts = [link, item["title"] ?? "", item["pubDate"] ?? item["dc:date"] ?? ""]
                let own = "urn:x-rss-item:" + parts.map(Reference.encoded).joined(separator: ":")
                // What differs in nothing that we know is the same.
                if own.utf8.count <= FeedLimits.idBytes { id = own }
            }
            out.append(id)
        }
        return out.reversed()
    }

    private func id(_ item: ItemFields) -> String? {
        if let guid = item["guid"] {
            return Reference.hasScheme(guid) ? guid : "urn:x-rss-guid:" + Reference.encoded(guid)
        }
        if let id = item["atom:id"], Reference.hasScheme(id) { return id }
        if let link = link(item) { return Reference.resolve(link, against: base(item)) }
        if let about = item.attributes.first(where: { $0.key.hasSuffix(":about") })?.value, Reference.hasScheme(about) {
            return about
        }
        if let title = item["title"] { return "urn:x-rss-title:" + Reference.encoded(title) }
        let text = item["description"] ?? item["content:encoded"] ?? everything(item)
        return text.isEmpty ? nil : "urn:x-rss-text:" + Reference.encoded(String(text.prefix(200)))
    }

    private func everything(_ item: ItemFields) -> String {
        let fields = item.values.sorted { $0.key < $1.key }.flatMap(\.value)
        let texts = fields.flatMap { field in
            [field.text.oneLine] + field.attributes.sorted { $0.key < $1.key }.map(\.value)
        }
        let kept = item.extensions.map { String(decoding: $0.bytes.prefix(200), as: UTF8.self) }
        return (texts + kept).filter { !$0.isEmpty }.joined(separator: " ")
    }

    private func link(_ item: ItemFields) -> String? {
        item["link"]
            ?? item.values["atom:link"]?.first { ($0.attributes["rel"] ?? "alternate") == "alternate" }?
            .attributes["href"]
    }

    /// What relative addresses in an item are relative to: HTML in an item may be so to the channel's page.
    private func base(_ item: ItemFields) -> String? {
        let outer = channel.attributes["xml:base"] ?? channel["link"]
        let whole = outer.map { Reference.resolve($0, against: retrieved) } ?? retrieved
        return item.attributes["xml:base"].map { Reference.resolve($0, against: whole) } ?? whole
    }

    // MARK: - Writing

    private func entry(_ item: ItemFields, id: String?) throws(FeedError) -> FeedItem {
        guard let id else { throw .unusableItem("an item has nothing in it") }
        guard id.utf8.count <= FeedLimits.idBytes else {
            throw .unusableItem("its guid is longer than \(FeedLimits.idBytes) bytes")
        }
        let dates = ["pubDate", "dc:date", "atom:published", "atom:updated"]
        let published = dates.lazy.compactMap { item[$0].flatMap(Timestamp.any) }.first
        let date = published ?? Date(timeIntervalSince1970: 0)
        let updated = Timestamp.text(date)
        let title = item["title"] ?? item["dc:title"] ?? ""
        let fragments = keptFragments(item)

        var namespaces = ["": Namespace.atom]
        // One prefix stands for one namespace in an entry; what is left out needs none declared.
        let kept = fragments.filter { fragment in
            guard fragment.needed.allSatisfy({ namespaces[$0.key] ?? $0.value == $0.value }) else { return false }
            namespaces.merge(fragment.needed) { first, _ in first }
            return true
        }
        var out = FragmentRecorder()
        out.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<entry".utf8)
        for (prefix, uri) in namespaces.sorted(by: { $0.key < $1.key }) {
            out.attribute(prefix.isEmpty ? "xmlns" : "xmlns:\(prefix)", uri)
        }
        if let base = base(item), Reference.hasScheme(base) { out.attribute("xml:base", base) }
        let language = item.attributes["xml:lang"] ?? channel.attributes["xml:lang"] ?? channel["language"]
        if let language { out.attribute("xml:lang", language) }
        out.raw(">".utf8)
        out.element("id", [], id)
        let titleIsHTML = title.contains("&") || title.contains("<")
        out.element("title", titleIsHTML ? [("type", "html")] : [], title)
        out.element("updated", [], updated)
        if published != nil { out.element("published", [], updated) }
        authors(of: item, into: &out)
        links(of: item, id: id, into: &out)
        let categories = (item.values["category"] ?? []) + (item.values["dc:subject"] ?? [])
        for category in categories where !category.text.trimmed.isEmpty {
            var attributes = [("term", category.text.trimmed)]
            if let domain = category.attributes["domain"], Reference.hasScheme(domain) {
                attributes.append(("scheme", domain))
            }
            out.element("category", attributes)
        }
        let description = item["description"] ?? item["dc:description"]
        let full = item["content:encoded"] ?? item["xhtml:body"] ?? item["fullitem"] ?? item["body"]
        if full != nil || item["content:text"] != nil, let description {
            out.element("summary", [("type", "html")], description)
        }
        if let text = item["content:text"], full == nil {
            out.element("content", [("type", "text")], text)
        } else if let html = full ?? description {
            out.element("content", [("type", "html")], html)
        }
        for fragment in kept { out.raw(fragment.bytes) }
        let start = out.bytes.count
        source(into: &out)
        let range = start..<out.bytes.count
        out.raw("</entry>\n".utf8)
        guard !out.overflowed, !item.extensions.contains(where: { $0.overflowed }) else {
            throw .unusableItem("the item \(id) is larger than \(FeedLimits.itemBytes) bytes")
        }
        return FeedItem(
            id: id, title: (titleIsHTML ? title.withoutMarkup : title).oneLine, updated: updated, date: date,
            document: out.bytes, sourceRange: range.isEmpty ? 0..<0 : range)
    }

    /// What goes into the entry as it is written. Atom's elements that the entry has already, or of which it may have one
    /// only, are not among them (RFC 4287 section 4.1.2).
    private func keptFragments(_ item: ItemFields) -> [FragmentRecorder] {
        let own: Set<String> = [
            "atom:id", "atom:title", "atom:updated", "atom:published", "atom:source", "atom:content",
        ]
        let hasSummary = item.values["description"] != nil
        let atom = item.values.filter { key, _ in
            key.hasPrefix("atom:") && !own.contains(key) && !(key == "atom:summary" && hasSummary)
        }
        return item.extensions
            + atom.sorted { $0.key < $1.key }.flatMap { key, fields in
                let isSingle = key == "atom:summary" || key == "atom:rights"
                return (isSingle ? fields.prefix(1) : fields[...]).compactMap(\.fragment)
            }
    }

    /// RSS writes `address (name)` or `name (address)` or `name <address>`, Dublin Core a name.
    private func authors(of item: ItemFields, into out: inout FragmentRecorder) {
        let found = authors(item)
        // RFC 4287 section 4.2.1: one is taken from the feed when the entry has none.
        for author in found.isEmpty && item.values["atom:author"] == nil ? authors(channel) : found {
            out.raw("<author>".utf8)
            out.element("name", [], author.name)
            if let address = author.address { out.element("email", [], address) }
            out.raw("</author>".utf8)
        }
    }

    private struct Author: Hashable {
        var name: String
        var address: String?
    }

    private func authors(_ item: ItemFields) -> [Author] {
        let fields = ["author", "managingEditor", "dc:creator"].flatMap { item.values[$0] ?? [] }
        var seen: Set<Author> = []
        return fields.compactMap { author($0.text.oneLine) }.filter { seen.insert($0).inserted }
    }

    private func author(_ text: String) -> Author? {
        guard !text.isEmpty else { return nil }
        for (opening, closing) in [("(", ")"), ("<", ">")] as [(Character, String)] {
            guard let open = text.firstIndex(of: opening), text.hasSuffix(closing) else { continue }
            let before = String(text[..<open]).trimmed
            let inside = String(text[text.index(after: open)...].dropLast()).trimmed
            if inside.contains("@"), !inside.contains(" ") {
                return Author(name: before.isEmpty ? inside : before, address: inside)
            }
            if before.contains("@"), !before.contains(" ") {
                return Author(name: inside.isEmpty ? before : inside, address: before)
            }
        }
        let isAddress = text.contains("@") && !text.contains(" ")
        return Author(name: text, address: isAddress ? text : nil)
    }

    private func links(of item: ItemFields, id: String, into out: inout FragmentRecorder) {
        let isPermanent = item.values["guid"]?.first?.attributes["isPermaLink"] != "false"
        let guid = item["guid"] ?? ""
        let permanent = isPermanent && (guid.hasPrefix("http://") || guid.hasPrefix("https://")) ? guid : nil
        if let link = item["link"] ?? (link(item) == nil ? permanent : nil) {
            out.element("link", [("rel", "alternate"), ("href", link)])
        }
        for enclosure in item.values["enclosure"] ?? [] {
            guard let address = enclosure.attributes["url"] else { continue }
            var attributes = [("rel", "enclosure"), ("href", address)]
            for name in ["type", "length"] { enclosure.attributes[name].map { attributes.append((name, $0)) } }
            out.element("link", attributes)
        }
        if let comments = item["comments"] { out.element("link", [("rel", "replies"), ("href", comments)]) }
        // Where it was first (RSS 2.0 "source"); the entry's own source is the feed that it came with.
        for source in item.values["source"] ?? [] {
            guard let address = source.attributes["url"] else { continue }
            var attributes = [("rel", "via"), ("href", address)]
            if !source.text.trimmed.isEmpty { attributes.append(("title", source.text.oneLine)) }
            out.element("link", attributes)
        }
    }

    private func source(into out: inout FragmentRecorder) {
        guard !feed.id.isEmpty || !feed.title.isEmpty else { return }
        out.raw("<source>".utf8)
        if Reference.hasScheme(feed.id) { out.element("id", [], feed.id) }
        if !feed.title.isEmpty { out.element("title", [], feed.title) }
        if !feed.link.isEmpty { out.element("link", [("rel", "alternate"), ("href", feed.link)]) }
        out.raw("</source>".utf8)
    }
}
