/// Reads RSS in all its versions: 0.9x and 2.0, and the two that are RDF, 0.90 and 1.0, which have their items beside the
/// channel. `ItemFields` says what becomes of an item.
final class RSSReader: DocumentReader {
    private let retrieved: String?
    private let root: ElementStart
    private var channel = ItemFields()
    private var items: [ItemFields] = []
    private var item: ItemFields?
    private var field: OpenField?
    private var extensionFragment: FragmentRecorder?
    private var inChannel = false
    private var outside = 0

    /// An element of the channel or an item whose content is collected.
    private struct OpenField {
        var key: String
        var attributes: [String: String]
        var text = ""
        /// The same as HTML, which counts when there are elements within.
        var markup = ""
        var hasMarkup = false
        /// As it is written, for an element that is kept so.
        var fragment: FragmentRecorder?
    }

    init(root: ElementStart, retrieved: String?) {
        self.root = root
        self.retrieved = retrieved
    }

    /// The vocabulary of RSS, which some feeds put into a namespace of its own.
    static let ownNamespaces: Set<String> = [
        "", "http://backend.userland.com/rss", "http://backend.userland.com/rss2",
        "http://blogs.law.harvard.edu/tech/rss",
        "http://backend.userland.com/rss091", "http://backend.userland.com/rss092",
        "http://backend.userland.com/rss2/", "http://purl.org/rss/1.0/", "http://purl.org/net/rss1.1#",
        "http://my.netscape.com/rdf/simple/0.9/", "http://my.netscape.com/publish/formats/rss-0.91.dtd",
        "http://channel.netscape.com/rdf/simple/0.9/",
    ]

    static func isRoot(_ root: ElementStart) -> Bool {
        if root.uri == Namespace.rdf, root.local == "RDF" { return true }
        return root.local.lowercased() == "rss" && ownNamespaces.contains(root.uri)
    }

    private static func key(_ element: ElementStart) -> String? {
        switch element.uri {
        case _ where ownNamespaces.contains(element.uri): element.local
        case Namespace.content where element.local == "encoded": "content:encoded"
        case Namespace.xhtml where element.local == "body" || element.local == "div": "xhtml:body"
        case Namespace.dublinCore
        where ["creator", "date", "title", "description", "subject"].contains(element.local): "dc:" + element.local
        case Namespace.dublinTerms where ["issued", "created", "modified"].contains(element.local): "dc:date"
        case Namespace.atom: "atom:" + element.local
        default: nil
        }
    }

    func start(_ element: ElementStart, scope: NamespaceScope, depth: Int) throws(FeedError) {
        if extensionFragment != nil {
            extensionFragment?.start(element, scope: scope)
            return
        }
        if field != nil {
            field?.hasMarkup = true
            field?.markup += HTML.startTag(element)
            field?.fragment?.start(element, scope: scope)
            return
        }
        let key = Self.key(element)
        switch depth {
        case 1 where key == "channel":
            inChannel = true
            channel.attributes.merge(element.attributes) { $1 }
        case 1 where key == "item", 2 where inChannel && key == "item":
            guard items.count < FeedLimits.items else { throw .tooManyItems(limit: FeedLimits.items) }
            if depth == 1, root.local != "RDF" { outside += 1 }
            item = ItemFields(attributes: element.attributes)
        default:
            guard depth == fieldDepth, item != nil || inChannel else { return }
            if let key {
                field = OpenField(key: key, attributes: element.attributes)
                guard item != nil, element.uri == Namespace.atom else { return }
                field?.fragment = FragmentRecorder()
                field?.fragment?.start(element, scope: scope)
            } else if item != nil {
                extensionFragment = FragmentRecorder()
                extensionFragment?.start(element, scope: scope)
            }
        }
    }

    /// How deep the elements of what is open are.
    private var fieldDepth: Int { item != nil ? itemDepth + 1 : 2 }
    private var itemDepth: Int { inChannel ? 2 : 1 }

    func text(_ more: String) {
        if extensionFragment != nil {
            extensionFragment?.text(more)
        } else if field != nil {
            field?.text += more
            field?.markup += HTML.escaped(more)
            field?.fragment?.text(more)
        }
    }

    func comment(_ text: String) { extensionFragment?.comment(text) }
    func instruction(_ target: String, _ data: String?) { extensionFragment?.instruction(target, data) }

    func end(_ element: ElementStart, depth: Int) throws(FeedError) {
        if extensionFragment != nil { extensionFragment?.end(element) }
        field?.fragment?.end(element)
        if depth == fieldDepth {
            if let fragment = extensionFragment {
                item?.extensions.append(fragment)
                extensionFragment = nil
            } else if let done = field {
                note(done)
                field = nil
            }
        } else if field != nil, extensionFragment == nil {
            field?.markup += HTML.endTag(element)
        } else if let done = item, depth == itemDepth {
            items.append(done)
            item = nil
        } else if depth == 1 {
            inChannel = false
        }
    }

    private func note(_ field: OpenField) {
        let text = field.hasMarkup ? field.markup : field.text
        let value = ItemFields.Field(
            text: text, attributes: field.attributes, fragment: field.fragment,
            isMarkup: field.hasMarkup || field.key == "xhtml:body")
        if item != nil {
            item?.values[field.key, default: []].append(value)
        } else {
            channel.values[field.key, default: []].append(value)
        }
    }

    func finish() throws(FeedError) -> FeedDocument {
        for (name, value) in root.attributes where name.hasPrefix("xml:") && channel.attributes[name] == nil {
            channel.attributes[name] = value
        }
        var document = EntryComposer(channel: channel, retrieved: retrieved).document(items, format: .rss)
        if outside > 0 {
            document.fault = "\(outside) \(outside == 1 ? "item stands" : "items stand") outside of the channel"
        }
        return document
    }
}

/// Writes the elements within an RSS element as the HTML that they are meant to be.
enum HTML {
    private static let void: Set<String> = [
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    ]

    private static func name(_ element: ElementStart) -> String {
        element.uri == Namespace.xhtml ? element.local : element.qualified
    }

    static func startTag(_ element: ElementStart) -> String {
        let attributes = element.attributes.sorted { $0.key < $1.key }
            .map { " \($0.key)=\"\(escaped($0.value).replacing("\"", with: "&quot;"))\"" }
        return "<\(name(element))\(attributes.joined())\(void.contains(name(element)) ? " />" : ">")"
    }

    static func endTag(_ element: ElementStart) -> String {
        void.contains(name(element)) ? "" : "</\(name(element))>"
    }

    static func escaped(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 == 0x26 || $0 == 0x3C || $0 == 0x3E }) else { return text }
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}
