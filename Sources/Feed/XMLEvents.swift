import CShims

/// What an XML parser saw, in the order of the document.
enum XMLEvent {
    case start(XMLStart)
    /// The element ends that began last and has not ended.
    case end
    case text(String)
    case comment(String)
    case instruction(target: String, data: String?)
}

/// A start tag, its names as written.
struct XMLStart {
    /// With its prefix.
    var name: String
    /// By prefix; "" is the default namespace.
    var declarations: [String: String] = [:]
    /// By name with prefix, without namespace declarations.
    var attributes: [String: String] = [:]
    /// Where the parser was, from 1.
    var line: Int
    var column: Int
}

/// Reads the octets in which CShims hands over events; `xml.h` there says how they are written.
struct XMLEvents: Sequence, IteratorProtocol {
    private let octets: [UInt8]
    private var at = 0

    init(_ octets: [UInt8]) { self.octets = octets }

    mutating func next() -> XMLEvent? {
        guard let kind = octet() else { return nil }
        switch Int(kind) {
        case FC_XML_START: return start().map(XMLEvent.start)
        case FC_XML_END: return .end
        case FC_XML_TEXT: return string().map(XMLEvent.text)
        case FC_XML_COMMENT: return string().map(XMLEvent.comment)
        case FC_XML_INSTRUCTION:
            guard let target = string(), let hasData = number() else { return nil }
            guard hasData != 0 else { return .instruction(target: target, data: nil) }
            return string().map { .instruction(target: target, data: $0) }
        default: return nil
        }
    }

    private mutating func start() -> XMLStart? {
        guard let line = number(), let column = number(), let name = string() else { return nil }
        var start = XMLStart(name: name, line: line, column: column)
        guard let declarations = pairs(), let attributes = pairs() else { return nil }
        start.declarations = declarations
        start.attributes = attributes
        return start
    }

    private mutating func pairs() -> [String: String]? {
        guard let count = number() else { return nil }
        var pairs: [String: String] = [:]
        for _ in 0..<count {
            guard let key = string(), let value = string() else { return nil }
            pairs[key] = value
        }
        return pairs
    }

    private mutating func string() -> String? {
        guard let count = number(), count <= octets.count - at else { return nil }
        defer { at += count }
        return String(decoding: octets[at..<at + count], as: UTF8.self)
    }

    private mutating func number() -> Int? {
        guard octets.count - at >= 4 else { return nil }
        defer { at += 4 }
        return Int(octets[at]) | Int(octets[at + 1]) << 8 | Int(octets[at + 2]) << 16 | Int(octets[at + 3]) << 24
    }

    private mutating func octet() -> UInt8? {
        guard at < octets.count else { return nil }
        defer { at += 1 }
        return octets[at]
    }
}
