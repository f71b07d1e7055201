/// An element's start tag with its names resolved.
struct ElementStart {
    var prefix: String
    var local: String
    var uri: String
    /// By qualified name, without namespace declarations.
    var attributes: [String: String]
    /// The namespace declarations on this element, by prefix; "" is the default namespace.
    var declarations: [String: String]

    var qualified: String { prefix.isEmpty ? local : "\(prefix):\(local)" }

    func isAtom(_ name: String) -> Bool { local == name && uri == Namespace.atom }
}

/// Which prefix stands for which namespace at one place of a document (Namespaces in XML 1.0).
struct NamespaceScope {
    private var bindings: [(prefix: String, uri: String)] = [("xml", Namespace.xml)]

    mutating func push(_ declarations: [String: String]) {
        for (prefix, uri) in declarations { bindings.append((prefix, uri)) }
    }

    var count: Int { bindings.count }

    mutating func pop(_ count: Int) { bindings.removeLast(count) }

    /// "" for no namespace; nil for a prefix that nobody declared.
    func lookup(_ prefix: String) -> String? {
        bindings.last { $0.prefix == prefix }?.uri ?? (prefix.isEmpty ? "" : nil)
    }
}

/// Writes the XML of a part of a document as the parser reports it, such that the part means the same outside of the
/// document: every character of text is kept, and the namespaces it takes from outside are noted in `needed`.
///
/// The spelling is always the same (attributes sorted, double quotes, few escapes), so that equal content has equal
/// octets, and writing what was read from our own writing gives the same octets again.
struct FragmentRecorder {
    private(set) var bytes: [UInt8] = []
    /// Prefixes used but not declared inside, with the namespace each stands for.
    private(set) var needed: [String: String] = [:]
    /// An attribute `href` or `src` is relative, so the fragment needs a base.
    private(set) var hasRelativeReference = false
    /// The fragment outgrew `FeedLimits.itemBytes`; nothing more is kept.
    private(set) var overflowed = false
    private var declared: [[String: String]] = []
    private var startTagIsOpen = false
    private let limit: Int

    init(unlimited: Bool = false) { limit = unlimited ? .max : FeedLimits.itemBytes }

    mutating func start(_ element: ElementStart, scope: NamespaceScope) {
        closeStartTag()
        declared.append(element.declarations)
        put("<")
        put(element.qualified)
        note(element, scope: scope)
        for (prefix, uri) in element.declarations.sorted(by: { $0.key < $1.key }) {
            put(prefix.isEmpty ? " xmlns=\"" : " xmlns:\(prefix)=\"")
            putEscaped(uri, attribute: true)
            put("\"")
        }
        for (name, value) in element.attributes.sorted(by: { $0.key < $1.key }) { attribute(name, value) }
        startTagIsOpen = true
    }

    mutating func end(_ element: ElementStart) {
        declared.removeLast()
        if startTagIsOpen {
            startTagIsOpen = false
            // Readers that take XHTML for HTML would see <pre/> as a start tag only.
            let isVoid = element.uri != Namespace.xhtml || Self.voidElements.contains(element.local)
            put(isVoid ? "/>" : "></\(element.qualified)>")
        } else {
            put("</\(element.qualified)>")
        }
    }

    mutating func text(_ text: String) {
        closeStartTag()
        putEscaped(text, attribute: false)
    }

    mutating func comment(_ text: String) {
        closeStartTag()
        put("<!--\(text)-->")
    }

    mutating func instruction(_ target: String, _ data: String?) {
        closeStartTag()
        put(data.map { "<?\(target) \($0)?>" } ?? "<?\(target)?>")
    }

    /// Notes the namespaces that an element's own names take from outside.
    mutating func note(_ element: ElementStart, scope: NamespaceScope) {
        use(element.prefix, scope: scope)
        for (name, value) in element.attributes {
            if let colon = name.firstIndex(of: ":") { use(String(name[..<colon]), scope: scope) }
            if name == "href" || name == "src", Reference.isRelative(value) { hasRelativeReference = true }
        }
    }

    mutating func attribute(_ name: String, _ value: String) {
        put(" \(name)=\"")
        putEscaped(value, attribute: true)
        put("\"")
    }

    mutating func element(_ name: String, _ attributes: [(String, String)] = [], _ content: String? = nil) {
        closeStartTag()
        put("<\(name)")
        for (key, value) in attributes.sorted(by: { $0.0 < $1.0 }) { attribute(key, value) }
        if let content, !content.isEmpty {
            put(">")
            putEscaped(content, attribute: false)
            put("</\(name)>")
        } else {
            put("/>")
        }
    }

    mutating func raw(_ more: some Collection<UInt8>) {
        closeStartTag()
        guard bytes.count + more.count <= limit else {
            overflowed = true
            return
        }
        bytes.append(contentsOf: more)
    }

    private mutating func use(_ prefix: String, scope: NamespaceScope) {
        guard prefix != "xml", !declared.contains(where: { $0[prefix] != nil }) else { return }
        if let uri = scope.lookup(prefix), !uri.isEmpty { needed[prefix] = uri }
    }

    private mutating func closeStartTag() {
        guard startTagIsOpen else { return }
        startTagIsOpen = false
        put(">")
    }

    private mutating func put(_ text: String) {
        guard !overflowed, bytes.count + text.utf8.count <= limit else {
            overflowed = true
            return
        }
        bytes.append(contentsOf: text.utf8)
    }

    private mutating func putEscaped(_ text: String, attribute: Bool) {
        guard !overflowed, bytes.count + text.utf8.count <= limit else {
            overflowed = true
            return
        }
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): bytes.append(contentsOf: "&amp;".utf8)
            case UInt8(ascii: "<"): bytes.append(contentsOf: "&lt;".utf8)
            case UInt8(ascii: ">"): bytes.append(contentsOf: "&gt;".utf8)
            // A parser would make these a line feed or a space (XML 1.0 sections 2.11 and 3.3.3).
            case 13: bytes.append(contentsOf: "&#13;".utf8)
            case 10 where attribute: bytes.append(contentsOf: "&#10;".utf8)
            case 9 where attribute: bytes.append(contentsOf: "&#9;".utf8)
            case UInt8(ascii: "\"") where attribute: bytes.append(contentsOf: "&quot;".utf8)
            default: bytes.append(byte)
            }
        }
    }

    private static let voidElements: Set<String> = [
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    ]
}
