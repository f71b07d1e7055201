import FoundationEssentials

/// Makes Atom entries of the items of an RSS 2.0 channel.
///
/// | RSS | Atom |
/// |---|---|
/// | guid, else link, else title | id (an address stays as it is, other text becomes a URN) |
/// | title | title |
/// | link, else a guid that is a permanent link | link rel="alternate" |
/// | pubDate, else dc:date | updated and published; 1970 when there is none, so that it never changes by itself |
/// | content:encoded, else description | content type="html" (the description becomes the summary beside it) |
/// | author, else dc:creator, else the channel's title | author |
/// | category, enclosure, comments | category, link rel="enclosure", link rel="replies" |
/// | elements of other namespaces | kept |
final class RSSReader: DocumentReader {
    private let retrieved: String?
    private var feed = FeedDocument(format: .rss, title: "", id: "", updated: "", link: "", items: [], unusable: [])
    private var channel = Fields()
    private var items: [Fields] = []
    private var item: Fields?
    private var text: String?
    private var fieldKey = ""
    private var fieldAttributes: [String: String] = [:]
    private var extensionFragment: FragmentRecorder?
    private var inChannel = false

    private struct Fields {
        struct Field {
            var text: String
            var attributes: [String: String]
        }
        /// By local name, with a namespace letter for the few modules that are understood.
        var values: [String: [Field]] = [:]
        var extensions: [FragmentRecorder] = []

        subscript(_ key: String) -> String? {
            values[key]?.lazy.map { $0.text.trimmed }.first { !$0.isEmpty }
        }
    }

    init(retrieved: String?) { self.retrieved = retrieved }

    /// The vocabulary of RSS, which some feeds put into a namespace of its own.
    private static let ownNamespaces: Set<String> = [
        "", "http://backend.userland.com/rss2", "http://blogs.law.harvard.edu/tech/rss",
    ]

    private static func key(_ element: ElementStart) -> String? {
        switch element.uri {
        case _ where ownNamespaces.contains(element.uri): element.local
        case Namespace.content where element.local == "encoded": "content:encoded"
        case Namespace.dublinCore where element.local == "creator" || element.local == "date": "dc:" + element.local
        case Namespace.atom: "atom:" + element.local
        default: nil
        }
    }

    func start(_ element: ElementStart, scope: NamespaceScope, depth: Int) throws(FeedError) {
        if extensionFragment != nil {
            extensionFragment?.start(element, scope: scope)
            return
        }
        let key = Self.key(element)
        switch depth {
        case 1: inChannel = key == "channel"
        case 2 where inChannel && key == "item":
            guard items.count < FeedLimits.items else { throw .tooManyItems(limit: FeedLimits.items) }
            item = Fields()
        case 2 where inChannel, 3 where item != nil:
            if let key {
                text = ""
                fieldKey = key
                fieldAttributes = element.attributes
            } else if item != nil {
                extensionFragment = FragmentRecorder()
                extensionFragment?.start(element, scope: scope)
            }
        default: break
        }
    }

    func text(_ more: String) {
        if extensionFragment != nil { extensionFragment?.text(more) } else { text?.append(more) }
    }

    func comment(_ text: String) { extensionFragment?.comment(text) }
    func instruction(_ target: String, _ data: String?) { extensionFragment?.instruction(target, data) }

    func end(_ element: ElementStart, depth: Int) throws(FeedError) {
        let fieldDepth = item == nil ? 2 : 3
        if extensionFragment != nil { extensionFragment?.end(element) }
        if depth == fieldDepth {
            if let fragment = extensionFragment {
                item?.extensions.append(fragment)
                extensionFragment = nil
            } else if let text {
                let field = Fields.Field(text: text, attributes: fieldAttributes)
                if item != nil {
                    item?.values[fieldKey, default: []].append(field)
                } else {
                    channel.values[fieldKey, default: []].append(field)
                }
                self.text = nil
            }
        } else if depth == 2, let done = item {
            items.append(done)
            item = nil
        }
    }

    // MARK: - Making entries

    func finish() throws(FeedError) -> FeedDocument {
        let selfLink = channel.values["atom:link"]?.first { $0.attributes["rel"] == "self" }?.attributes["href"]
        feed.title = (channel["title"] ?? "").oneLine
        feed.link = channel["link"] ?? ""
        feed.id = selfLink ?? feed.link
        feed.updated = channel["lastBuildDate"] ?? channel["pubDate"] ?? ""
        for item in items {
            do throws(FeedError) { feed.items.append(try entry(item)) } catch {
                feed.unusable.append(error.description)
            }
        }
        return feed
    }

    private func id(_ item: Fields) -> String? {
        if let guid = item["guid"] {
            return Reference.hasScheme(guid) ? guid : "urn:x-rss-guid:" + Reference.encoded(guid)
        }
        if let link = item["link"] { return Reference.resolve(link, against: channel["link"] ?? retrieved) }
        if let title = item["title"] { return "urn:x-rss-title:" + Reference.encoded(title) }
        return item["description"].map { "urn:x-rss-text:" + Reference.encoded(String($0.prefix(200))) }
    }

    private func entry(_ item: Fields) throws(FeedError) -> FeedItem {
        guard let id = id(item) else {
            throw .unusableItem("an item has none of guid, link, title and description")
        }
        guard id.utf8.count <= FeedLimits.idBytes else {
            throw .unusableItem("its guid is longer than \(FeedLimits.idBytes) bytes")
        }
        let published = item["pubDate"].flatMap(Timestamp.any) ?? item["dc:date"].flatMap(Timestamp.any)
        let date = published ?? Date(timeIntervalSince1970: 0)
        let updated = Timestamp.text(date)
        let html = item["content:encoded"] ?? item["description"]
        let title = item["title"] ?? ""

        var namespaces = ["": Namespace.atom]
        for fragment in item.extensions { namespaces.merge(fragment.needed) { first, _ in first } }
        let kept = item.extensions.filter { $0.needed.allSatisfy { namespaces[$0.key] == $0.value } }
        var out = FragmentRecorder()
        out.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<entry".utf8)
        for (prefix, uri) in namespaces.sorted(by: { $0.key < $1.key }) {
            out.attribute(prefix.isEmpty ? "xmlns" : "xmlns:\(prefix)", uri)
        }
        // HTML in an item may be relative to the channel's page.
        if let base = channel["link"] ?? retrieved, Reference.hasScheme(base) { out.attribute("xml:base", base) }
        if let language = channel["language"] { out.attribute("xml:lang", language) }
        out.raw(">".utf8)
        out.element("id", [], id)
        let titleIsHTML = title.contains("&") || title.contains("<")
        out.element("title", titleIsHTML ? [("type", "html")] : [], title)
        out.element("updated", [], updated)
        if published != nil { out.element("published", [], updated) }
        author(of: item, into: &out)
        links(of: item, id: id, into: &out)
        for category in item.values["category"] ?? [] where !category.text.trimmed.isEmpty {
            var attributes = [("term", category.text.trimmed)]
            if let domain = category.attributes["domain"], Reference.hasScheme(domain) {
                attributes.append(("scheme", domain))
            }
            out.element("category", attributes)
        }
        if item["content:encoded"] != nil, let summary = item["description"] {
            out.element("summary", [("type", "html")], summary)
        }
        if let html { out.element("content", [("type", "html")], html) }
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

    /// RSS writes `address (name)`, Dublin Core a name.
    private func author(of item: Fields, into out: inout FragmentRecorder) {
        var name = item["dc:creator"] ?? item["author"] ?? channel["title"] ?? "unknown"
        var address: String?
        if let author = item["author"], let open = author.firstIndex(of: "("), author.hasSuffix(")") {
            address = String(author[..<open]).trimmed
            name = String(author[author.index(after: open)...].dropLast())
        } else if let author = item["author"], author.contains("@"), !author.contains(" ") {
            address = author
        }
        out.raw("<author>".utf8)
        out.element("name", [], name)
        if let address, address.contains("@") { out.element("email", [], address) }
        out.raw("</author>".utf8)
    }

    private func links(of item: Fields, id: String, into out: inout FragmentRecorder) {
        let isPermanent = item.values["guid"]?.first?.attributes["isPermaLink"] != "false"
        let permanent = isPermanent && (id.hasPrefix("http://") || id.hasPrefix("https://")) ? id : nil
        if let link = item["link"] ?? permanent { out.element("link", [("rel", "alternate"), ("href", link)]) }
        for enclosure in item.values["enclosure"] ?? [] {
            guard let address = enclosure.attributes["url"] else { continue }
            var attributes = [("rel", "enclosure"), ("href", address)]
            for name in ["type", "length"] { enclosure.attributes[name].map { attributes.append((name, $0)) } }
            out.element("link", attributes)
        }
        if let comments = item["comments"] { out.element("link", [("rel", "replies"), ("href", comments)]) }
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
