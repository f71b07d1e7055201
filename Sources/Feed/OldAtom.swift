/// Atom 0.3, read as the Atom 1.0 that says the same.
extension ElementStart {
    static let oldAtom = "http://purl.org/atom/ns#"

    /// Puts what is in the namespace of Atom 0.3 into that of Atom 1.0. To be called before its declarations are in scope.
    mutating func moveOldAtom() {
        for (prefix, uri) in declarations where uri == Self.oldAtom { declarations[prefix] = Namespace.atom }
    }

    /// Gives an element of Atom 0.3, which is in the namespace of Atom 1.0 by now, the name and the type that it has there.
    mutating func renameOldAtom() {
        guard uri == Namespace.atom else { return }
        local = Self.names[local] ?? local
        guard ["title", "subtitle", "summary", "content", "rights"].contains(local) else { return }
        let type = attributes["type"]?.lowercased() ?? "text/plain"
        let isInline = (attributes.removeValue(forKey: "mode") ?? "xml") == "xml"
        switch type {
        case "text/html", "application/xhtml+xml", "html", "xhtml": attributes["type"] = isInline ? "xhtml" : "html"
        case "text/plain", "text": attributes["type"] = "text"
        default: break
        }
    }

    private static let names = [
        "modified": "updated", "issued": "published", "tagline": "subtitle", "copyright": "rights", "url": "uri",
    ]
}
