import FoundationEssentials
import System
import Wire

extension Plan {
    /// Reads a plan's file.
    /// - Throws: everything that is wrong in it.
    package static func read(file: String) throws(PlanError) -> Plan {
        try Plan(YAMLNode.text(of: file), file: file)
    }

    /// - Parameter file: what messages call it.
    /// - Throws: everything that is wrong in it.
    package init(_ text: [UInt8], file: String) throws(PlanError) {
        let root = try YAMLNode(planOf: text, file: file)
        var reader = PlanReader()
        guard let plan = reader.plan(root, text: String(decoding: text, as: UTF8.self)), reader.problems.all.isEmpty
        else {
            let problems = reader.problems.all.sorted { ($0.line ?? 0) < ($1.line ?? 0) }
            throw PlanError(file: file, problems: problems)
        }
        self = plan
    }
}

extension YAMLNode {
    /// The octets of a plan's file.
    package static func text(of file: String) throws(PlanError) -> [UInt8] {
        do throws(SystemError) {
            return try saying("read it") { try Array(Data(contentsOf: URL(filePath: file))) }
        } catch { throw PlanError(file: file, problems: [PlanProblem(line: nil, error.description)]) }
    }

    /// What is in a plan, which is one document of some length.
    /// - Parameter file: what messages call it.
    package init(planOf text: [UInt8], file: String) throws(PlanError) {
        do throws(PlanProblem) {
            guard text.count <= Plan.longestFile else {
                throw PlanProblem(line: nil, "it has more than \(Plan.longestFile) octets")
            }
            guard let node = try YAMLNode.read(text) else { throw PlanProblem(line: 1, "there is nothing in it") }
            self = node
        } catch { throw PlanError(file: file, problems: [error]) }
    }
}

/// Makes a plan of a document. What is wrong is gathered, and something else taken for it.
private struct PlanReader {
    var problems = PlanProblems()
    private var hostNames: Set<String> = []

    mutating func plan(_ root: YAMLNode, text: String) -> Plan? {
        let fields = PlanFields(root, .plan, name: "a plan", &problems)
        for key in ["hosts", "source", "receivers"] { fields.require(key, &problems) }
        let hosts = hosts(fields)
        hostNames = Set(hosts.map(\.name))
        var source: Plan.Source?
        if let node = fields.node("source") { source = self.source(node) }
        var relay: Plan.Relay?
        if let node = fields.node("relay") { relay = self.relay(node) }
        let receivers = receivers(fields.list("receivers", &problems), hasRelay: fields.node("relay") != nil)
        if fields.node("receivers") != nil, receivers.isEmpty {
            problems.add(fields.line(of: "receivers"), "there is no receiver")
        }
        let needGroup = receivers.contains { $0.path == .multicast || $0.path == .amt }
        if needGroup, let source, source.group == nil {
            problems.add(fields.line(of: "source"), "source needs group: there are receivers by multicast or amt")
        }
        let content = content(fields.node("send"))
        var duration = fields.duration("duration", &problems)
        if duration == nil {
            switch content {
            case .samples(let items, let interval, _): duration = interval * items + .seconds(30)
            case .feed: fields.require("duration", &problems)
            }
        }
        let roles = Set(
            receivers.map(\.name) + [Plan.sourceName] + (relay == nil ? [] : [Plan.relayName]))
        var faults: [Plan.Fault] = []
        for node in fields.list("faults", &problems) {
            if let fault = fault(node, roles: roles) { faults.append(fault) }
        }
        guard let source else { return nil }
        return Plan(
            name: fields.text("name", &problems) ?? "campaign", duration: duration ?? .seconds(60),
            settle: fields.duration("settle", &problems) ?? .seconds(20), hosts: hosts, source: source, relay: relay,
            receivers: receivers, content: content, faults: faults, text: text)
    }

    // MARK: hosts

    private mutating func hosts(_ fields: PlanFields) -> [Plan.Host] {
        var usual = Plan.Host(name: "")
        if let defaults = fields.node("defaults") {
            let part = PlanFields(defaults, .host, name: "defaults", &problems)
            if part.node("ssh") != nil { problems.add(part.line(of: "ssh"), "each host has an ssh of its own") }
            take(part, &usual)
        }
        guard let node = fields.node("hosts") else { return [] }
        guard case .mapping(let entries) = node.content, !entries.isEmpty else {
            problems.add(node.line, "hosts must be names with, for each, ssh and what else there is to say")
            return []
        }
        if entries.count > Plan.mostReceivers {
            problems.add(node.line, "there are more than \(Plan.mostReceivers) hosts")
            return []
        }
        var seen: Set<String> = []
        var hosts: [Plan.Host] = []
        for entry in entries {
            guard case .scalar(let name, _) = entry.key.content, Self.isName(name) else {
                problems.add(entry.key.line, "a host's name is 1 to 40 letters, digits, hyphens, underscores and dots")
                continue
            }
            guard ![Plan.sourceName, Plan.relayName].contains(name) else {
                problems.add(entry.key.line, "a host is not called \(name), which is a role")
                continue
            }
            if !seen.insert(name).inserted { problems.add(entry.key.line, "host \(name) is there twice") }
            let part = PlanFields(entry.value, .host, name: "host \(name)", &problems)
            part.require("ssh", &problems)
            var host = usual
            host.name = name
            host.line = entry.key.line
            let destination = part.text("ssh", &problems)
            // What begins with a hyphen would be an option.
            if let destination, destination.hasPrefix("-") || destination.contains(" ") {
                problems.add(part.line(of: "ssh"), "ssh must be HOST or USER@HOST, or none for this machine")
            }
            host.destination = destination == "none" ? nil : destination
            take(part, &host)
            hosts.append(host)
        }
        return hosts
    }

    private mutating func take(_ part: PlanFields, _ host: inout Plan.Host) {
        host.port = part.integer("port", in: 1...65_535, &problems) ?? host.port
        host.identity = part.text("identity", &problems) ?? host.identity
        host.options = part.texts("options", &problems) ?? host.options
        host.program = part.text("program", &problems) ?? host.program
        host.image = part.text("image", &problems) ?? host.image
        if part.node("image") != nil, part.node("program") != nil {
            problems.add(part.line(of: "image"), "image and program exclude each other")
        }
    }

    /// Names are parts of file names, and are read by people.
    private static func isName(_ text: String) -> Bool {
        (1...40).contains(text.utf8.count) && text.first != "." && text.first != "-"
            && text.utf8.allSatisfy { octet in
                switch octet {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    private mutating func host(_ fields: PlanFields, _ key: String) -> String? {
        guard let name = fields.text(key, &problems) else { return nil }
        if !hostNames.contains(name) { problems.add(fields.line(of: key), "there is no host \(name)") }
        return name
    }

    // MARK: roles

    /// Where others find what listens on `listen`.
    private mutating func address(_ fields: PlanFields, _ listen: SocketAddress?) -> SocketAddress? {
        if let address = fields.address("address", &problems) { return address }
        if fields.node("address") == nil, let listen, listen.address.isUnspecified {
            problems.add(
                fields.line(of: "listen"),
                "\(listen) is every address of the host: address must say which one others use")
        }
        return listen
    }

    private mutating func source(_ node: YAMLNode) -> Plan.Source? {
        let fields = PlanFields(node, .source, &problems)
        for key in ["host", "listen"] { fields.require(key, &problems) }
        let name = host(fields, "host")
        let listen = fields.address("listen", &problems)
        let address = address(fields, listen)
        let group = fields.address("group", &problems)
        if let group, !group.address.isMulticast || group.port == 0 {
            problems.add(fields.line(of: "group"), "\(group) is no multicast group with a port")
        }
        let interface = fields.text("interface", &problems)
        let options = fields.texts("options", &problems) ?? []
        guard let name, let listen, let address else { return nil }
        return Plan.Source(
            host: name, listen: listen, address: address, group: group, interface: interface, options: options)
    }

    private mutating func relay(_ node: YAMLNode) -> Plan.Relay? {
        let fields = PlanFields(node, .relay, &problems)
        for key in ["host", "listen"] { fields.require(key, &problems) }
        let name = host(fields, "host")
        let listen = fields.address("listen", &problems)
        let address = address(fields, listen)
        let upstream = fields.text("upstream", &problems)
        let options = fields.texts("options", &problems) ?? []
        guard let name, let listen, let address else { return nil }
        return Plan.Relay(host: name, listen: listen, address: address, upstream: upstream, options: options)
    }

    private mutating func receivers(_ nodes: [YAMLNode], hasRelay: Bool) -> [Plan.Receiver] {
        var receivers: [Plan.Receiver] = []
        for node in nodes {
            let fields = PlanFields(node, .receivers, name: "a receiver", &problems)
            let names = fields.node("hosts") == nil ? host(fields, "host").map { name in [name] } : hosts(of: fields)
            if fields.node("host") == nil, fields.node("hosts") == nil {
                problems.add(fields.line, "a receiver needs host, or hosts")
            }
            let path =
                fields.value("path", "auto, multicast, amt or unicast", &problems) { ReceiverPath(rawValue: $0) }
                ?? .auto
            if path == .amt, !hasRelay { problems.add(fields.line(of: "path"), "path amt needs a relay in the plan") }
            let count = fields.integer("count", in: 1...Plan.mostReceivers, &problems) ?? 1
            let interface = fields.text("interface", &problems)
            let options = fields.texts("options", &problems) ?? []
            guard receivers.count + (names?.count ?? 0) * count <= Plan.mostReceivers else {
                problems.add(fields.line, "there are more than \(Plan.mostReceivers) receivers")
                break
            }
            for host in names ?? [] {
                for _ in 0..<count {
                    receivers.append(
                        Plan.Receiver(name: "", host: host, path: path, interface: interface, options: options))
                }
            }
        }
        return named(receivers)
    }

    private mutating func hosts(of fields: PlanFields) -> [String]? {
        if fields.node("host") != nil {
            problems.add(fields.line(of: "host"), "host and hosts exclude each other")
        }
        guard let names = fields.texts("hosts", &problems) else { return nil }
        for name in names where !hostNames.contains(name) {
            problems.add(fields.line(of: "hosts"), "there is no host \(name)")
        }
        return names
    }

    /// A receiver that is alone on its host is called as it; several have numbers.
    private func named(_ receivers: [Plan.Receiver]) -> [Plan.Receiver] {
        var counts: [String: Int] = [:]
        for receiver in receivers { counts[receiver.host, default: 0] += 1 }
        var numbers: [String: Int] = [:]
        return receivers.map { receiver in
            var receiver = receiver
            receiver.name = receiver.host
            if counts[receiver.host, default: 0] > 1 {
                let number = numbers[receiver.host, default: 0] + 1
                numbers[receiver.host] = number
                receiver.name += "-\(number)"
            }
            return receiver
        }
    }

    // MARK: what happens

    private mutating func content(_ node: YAMLNode?) -> Plan.Content {
        let usual = Plan.Content.samples(items: 60, interval: .milliseconds(500), size: nil)
        guard let node else { return usual }
        let fields = PlanFields(node, .send, &problems)
        let items = fields.integer("items", in: 1...100_000, &problems) ?? 60
        let interval = fields.duration("interval", &problems) ?? .milliseconds(500)
        let size = fields.integer("size", in: 100...1_000_000, &problems)
        if let interval = fields.node("interval"), case .scalar(let text, _) = interval.content, text == "0" {
            problems.add(interval.line, "interval must be above zero")
        }
        guard let feed = fields.text("feed", &problems) else {
            return .samples(items: items, interval: interval, size: size)
        }
        for key in ["items", "interval", "size"] where fields.node(key) != nil {
            problems.add(fields.line(of: key), "\(key) is of the sample feed; with feed there is none")
        }
        return .feed(feed)
    }

    private mutating func fault(_ node: YAMLNode, roles: Set<String>) -> Plan.Fault? {
        let fields = PlanFields(node, .faults, name: "a fault", &problems)
        fields.require("at", &problems)
        let kinds = ["cut", "kill", "stop"].filter { fields.node($0) != nil }
        guard kinds.count == 1 else {
            problems.add(fields.line, "a fault is one of cut, kill and stop; here are \(kinds.count)")
            return nil
        }
        let at = fields.duration("at", &problems) ?? .zero
        let lasting = fields.duration("for", &problems)
        let kind: Plan.Fault.Kind
        if kinds == ["cut"] {
            guard let name = host(fields, "cut") else { return nil }
            kind = .cut(host: name)
        } else {
            guard let role = fields.text(kinds[0], &problems) else { return nil }
            guard roles.contains(role) else {
                problems.add(
                    fields.line(of: kinds[0]),
                    "there is no role \(role); roles are source, relay and the receivers' names")
                return nil
            }
            kind = kinds == ["kill"] ? .kill(role: role) : .stop(role: role)
        }
        return Plan.Fault(kind: kind, at: at, lasting: lasting)
    }
}
