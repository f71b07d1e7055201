import CYAML

/// A piece of a YAML document, and where it is.
///
/// This is the one file of this room with unsafe code: it reads libyaml's events through the door in CShims/yaml.
package struct YAMLNode: Equatable, Sendable {
    package enum Content: Equatable, Sendable {
        case scalar(String, isPlain: Bool)
        case sequence([YAMLNode])
        /// In the document's order; a key may be there twice.
        case mapping([Entry])
    }

    package struct Entry: Equatable, Sendable {
        package var key: YAMLNode
        package var value: YAMLNode
    }

    package var content: Content
    /// From 1.
    package var line: Int

    /// Nothing was written, or `null` or `~`.
    package var isNull: Bool {
        guard case .scalar(let text, isPlain: true) = content else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(text)
    }

    /// What a document may hold at the most: pieces, and pieces within pieces.
    package static let mostNodes = 100_000
    package static let deepest = 32

    /// Reads one document; nil when there is nothing in it.
    /// - Throws: what is wrong, and where.
    package static func read(_ text: [UInt8]) throws(PlanProblem) -> YAMLNode? {
        do {
            return try unsafe text.withUnsafeBufferPointer { text in
                guard let yaml = unsafe fc_yaml_open(text.baseAddress, text.count) else {
                    throw PlanProblem(line: 1, "there is no memory to read it")
                }
                defer { unsafe fc_yaml_close(yaml) }
                var reader = unsafe YAMLReader(yaml: yaml)
                return try unsafe reader.document()
            }
        } catch let problem as PlanProblem {
            throw problem
        } catch { throw PlanProblem(line: 1, "\(error)") }
    }
}

/// Makes a tree of what the parser says, one event after the other.
@unsafe private struct YAMLReader {
    let yaml: OpaquePointer
    private var count = 0

    init(yaml: OpaquePointer) { unsafe self.yaml = unsafe yaml }

    private struct Event {
        var kind: Int
        var line: Int
        var isPlain: Bool
        var text: String
    }

    private func next() throws -> Event {
        let event = unsafe fc_yaml_next(yaml)
        let octets = unsafe UnsafeBufferPointer(start: event.text, count: event.count)
        let text = unsafe String(decoding: octets, as: UTF8.self)
        let read = unsafe Event(kind: Int(event.kind), line: Int(event.line), isPlain: event.is_plain, text: text)
        guard read.kind != FC_YAML_FAULT else { throw PlanProblem(line: read.line, "this is no YAML: \(text)") }
        return read
    }

    mutating func document() throws -> YAMLNode? {
        guard case let start = try unsafe next(), start.kind != FC_YAML_END else { return nil }
        let node = try unsafe node(try unsafe next(), depth: 0)
        let end = try unsafe next()
        guard end.kind == FC_YAML_END else {
            throw PlanProblem(line: end.line, "a second document begins; a plan is one")
        }
        return node
    }

    private mutating func node(_ event: Event, depth: Int) throws -> YAMLNode {
        unsafe count += 1
        guard unsafe count <= YAMLNode.mostNodes else {
            throw PlanProblem(line: event.line, "there are more than \(YAMLNode.mostNodes) pieces")
        }
        guard depth <= YAMLNode.deepest else {
            throw PlanProblem(line: event.line, "it is nested more than \(YAMLNode.deepest) deep")
        }
        switch event.kind {
        case FC_YAML_SCALAR:
            return YAMLNode(content: .scalar(event.text, isPlain: event.isPlain), line: event.line)
        case FC_YAML_SEQUENCE:
            var nodes: [YAMLNode] = []
            while case let part = try unsafe next(), part.kind != FC_YAML_CLOSE {
                nodes.append(try unsafe node(part, depth: depth + 1))
            }
            return YAMLNode(content: .sequence(nodes), line: event.line)
        case FC_YAML_MAPPING:
            var entries: [YAMLNode.Entry] = []
            while case let part = try unsafe next(), part.kind != FC_YAML_CLOSE {
                let key = try unsafe node(part, depth: depth + 1)
                entries.append(YAMLNode.Entry(key: key, value: try unsafe node(try unsafe next(), depth: depth + 1)))
            }
            return YAMLNode(content: .mapping(entries), line: event.line)
        default:
            throw PlanProblem(line: event.line, "aliases (*name) are not read; write it out")
        }
    }
}
