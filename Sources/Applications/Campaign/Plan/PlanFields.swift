import Operation
import Wire

/// The keys of a part of a plan, which docs/campaign.md lists under a heading of this name.
package enum PlanSection: String, CaseIterable, Sendable {
    case plan, host, source, relay, receivers, send, faults

    package var keys: [String] {
        switch self {
        case .plan:
            ["name", "duration", "settle", "hosts", "defaults", "source", "relay", "receivers", "send", "faults"]
        case .host: ["ssh", "port", "identity", "options", "program", "image"]
        case .source: ["host", "listen", "address", "group", "interface", "options"]
        case .relay: ["host", "listen", "address", "upstream", "options"]
        case .receivers: ["host", "hosts", "path", "count", "interface", "options"]
        case .send: ["items", "interval", "size", "feed"]
        case .faults: ["at", "cut", "kill", "stop", "for"]
        }
    }
}

/// What is wrong is gathered, so that all of it can be told at once.
package struct PlanProblems {
    package private(set) var all: [PlanProblem] = []
    /// More are not gathered.
    static let most = 100

    package init() {}

    package mutating func add(_ line: Int?, _ text: String) {
        if all.count < Self.most { all.append(PlanProblem(line: line, text)) }
    }
}

/// The values of a mapping, by key.
package struct PlanFields {
    package let line: Int
    private let name: String
    private var values: [String: YAMLNode] = [:]

    /// Reads a mapping whose keys are those of `section`; tells of others, and of those that are there twice.
    init(_ node: YAMLNode, _ section: PlanSection, name: String? = nil, _ problems: inout PlanProblems) {
        self.init(node, keys: section.keys, name: name ?? section.rawValue, &problems)
    }

    /// Reads a mapping of these keys; tells of others, and of those that are there twice.
    package init(_ node: YAMLNode, keys: [String], name: String, _ problems: inout PlanProblems) {
        line = node.line
        self.name = name
        guard case .mapping(let entries) = node.content else {
            problems.add(node.line, "\(self.name) must be keys with values; \(keys.joined(separator: ", "))")
            return
        }
        for entry in entries {
            guard case .scalar(let key, _) = entry.key.content, keys.contains(key) else {
                let key = if case .scalar(let key, _) = entry.key.content { "\"\(key)\"" } else { "a list" }
                problems.add(
                    entry.key.line,
                    "unknown key \(key) in \(self.name); there are \(keys.joined(separator: ", "))")
                continue
            }
            if values.updateValue(entry.value, forKey: key) != nil {
                problems.add(entry.key.line, "\(key) is there twice in \(self.name)")
            }
        }
    }

    /// What was written for a key; nil also for nothing.
    package func node(_ key: String) -> YAMLNode? { values[key].flatMap { $0.isNull ? nil : $0 } }

    package func line(of key: String) -> Int { values[key]?.line ?? line }

    /// Tells that a key must be there and is not.
    package func require(_ key: String, _ problems: inout PlanProblems) {
        if node(key) == nil { problems.add(line, "\(name) needs \(key)") }
    }

    /// The value of a key as `read` has it; nil when it is not there, or wrong, which is told.
    package func value<T>(
        _ key: String, _ expected: String, _ problems: inout PlanProblems, _ read: (String) throws -> T?
    ) -> T? {
        guard let node = node(key) else { return nil }
        if case .scalar(let text, _) = node.content {
            do {
                if let value = try read(text) { return value }
            } catch {
                problems.add(node.line, "\(key): \"\(text)\" is \(error)")
                return nil
            }
        }
        problems.add(node.line, "\(key) must be \(expected)")
        return nil
    }

    package func text(_ key: String, _ problems: inout PlanProblems) -> String? {
        value(key, "a text, without control characters", &problems) { text in
            text.isEmpty || text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7f } ? nil : text
        }
    }

    package func integer(_ key: String, in range: ClosedRange<Int>, _ problems: inout PlanProblems) -> Int? {
        value(key, "a number from \(range.lowerBound) to \(range.upperBound)", &problems) { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    package func duration(_ key: String, _ problems: inout PlanProblems) -> Duration? {
        value(key, "a duration such as 250ms, 5s or 2m", &problems) { try readDuration($0) }
    }

    func address(_ key: String, _ problems: inout PlanProblems) -> SocketAddress? {
        value(key, "an address and a port, such as 192.0.2.1:4433 or [2001:db8::1]:4433", &problems) {
            SocketAddress($0)
        }
    }

    /// A list of texts, or one text alone.
    func texts(_ key: String, _ problems: inout PlanProblems) -> [String]? {
        guard let node = node(key) else { return nil }
        if case .scalar(let text, _) = node.content { return [text] }
        if case .sequence(let nodes) = node.content {
            let texts = nodes.compactMap { node in
                if case .scalar(let text, _) = node.content { text } else { nil }
            }
            if texts.count == nodes.count { return texts }
        }
        problems.add(node.line, "\(key) must be a list of texts")
        return nil
    }

    /// The parts of a list.
    package func list(_ key: String, _ problems: inout PlanProblems) -> [YAMLNode] {
        guard let node = node(key) else { return [] }
        if case .sequence(let nodes) = node.content { return nodes }
        problems.add(node.line, "\(key) must be a list, each part after a hyphen")
        return []
    }
}
