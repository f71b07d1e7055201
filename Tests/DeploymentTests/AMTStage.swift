import Foundation
import Wire

// The stage of the AMT tests: a source, a relay, and receivers in networks that carry no multicast.
//
//     source ── (multicast router) ── relay ──┬── receiver 1
//                                             ├── receiver 2      one link each, unicast routed, multicast not
//                                             └── …
//
// Every place is a namespace that lives as long as a `cat` of this process's; the kernel tidies up.

/// What the tests here need.
enum AMTGround {
    /// Why they cannot run on this machine; nil when they can, or must.
    static let obstacle: String? = {
        if ProcessInfo.processInfo.environment["FLEXICAST_REQUIRE_ALL"] == "1" { return nil }
        for tool in ["ip", "nsenter", "unshare", "setpriv"] where path(of: tool) == nil {
            return "\(tool) is not installed"
        }
        guard geteuid() == 0 else { return "network namespaces need root" }
        guard (try? AMTPlace("probe")) != nil else { return "network namespaces cannot be made here" }
        return FileManager.default.isExecutableFile(atPath: program) ? nil : "\(program) is not built"
    }()

    static var reason: String { obstacle ?? "" }

    static func path(of tool: String) -> String? {
        ["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"].map { $0 + tool }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// The program built with these tests.
    static let program =
        ProcessInfo.processInfo.environment["FLEXICAST_BINARY"]
        ?? URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "flexicast").path
}

struct AMTFailure: Error, CustomStringConvertible {
    var description: String
}

/// A network namespace.
final class AMTPlace {
    let name: String
    private let process = Process()
    private let input = Pipe()

    init(_ name: String) throws {
        self.name = name
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: AMTGround.path(of: "unshare") ?? "unshare")
        process.arguments = ["-n", "/bin/sh", "-c", "echo ready; exec cat"]
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        guard !output.fileHandleForReading.availableData.isEmpty else {
            throw AMTFailure(description: "no namespace for \(name)")
        }
        try shell("ip link set lo up")
    }

    deinit {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    var identifier: Int32 { process.processIdentifier }
    var prefix: [String] { ["-t", "\(identifier)", "-n", "--"] }

    /// Runs a line of shell here.
    @discardableResult
    func shell(_ line: String) throws -> String {
        let run = Process()
        let output = Pipe()
        run.executableURL = URL(fileURLWithPath: AMTGround.path(of: "nsenter") ?? "nsenter")
        run.arguments = prefix + ["/bin/sh", "-c", line]
        run.standardOutput = output
        run.standardError = output
        try run.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        run.waitUntilExit()
        guard run.terminationStatus == 0 else { throw AMTFailure(description: "\(name): \(line): \(text)") }
        return text
    }

    /// Runs a line of shell here that ends by itself.
    func begin(_ line: String) throws {
        let run = Process()
        run.executableURL = URL(fileURLWithPath: AMTGround.path(of: "nsenter") ?? "nsenter")
        run.arguments = prefix + ["/bin/sh", "-c", line]
        run.standardOutput = FileHandle.nullDevice
        run.standardError = FileHandle.nullDevice
        try run.run()
    }

    /// How many packets the counter of a table has counted.
    func counted(_ counter: String, in table: String) throws -> Int {
        let words = try shell("nft list counter inet \(table) \(counter)").split(whereSeparator: \.isWhitespace)
        return words.firstIndex(of: "packets").flatMap { Int(words[$0 + 1]) } ?? 0
    }
}

/// A line of JSON from one of the commands.
struct AMTLine: Decodable {
    var event: String
    var id: String?
    var sha256: String?
    var via: String?
    var path: String?
    var bytes_flow: Int?
    var bytes_unicast: Int?
    var bytes_repair: Int?
    var bytes_control: Int?
    var bytes_amt: Int?
    var packets: Int?
    var packets_out: Int?
    var endpoints: Int?
    var channels: Int?
    var members: Int?
    var channel: String?
    var packets_in: Int?
    var too_large_told: Int?
    var expired: Int?
}

/// One command at a place; killed when the value goes.
final class AMTChild {
    let name: String
    private let process = Process()
    private let output: URL
    private let errors: URL

    init(
        _ name: String, at place: AMTPlace, in directory: URL, _ arguments: [String], isPrivileged: Bool = true
    ) throws {
        self.name = name
        let number = (try? FileManager.default.contentsOfDirectory(atPath: directory.path).count) ?? 0
        output = directory.appending(path: "\(name)-\(number).json")
        errors = directory.appending(path: "\(name)-\(number).log")
        for file in [output, errors] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
        process.executableURL = URL(fileURLWithPath: AMTGround.path(of: "nsenter") ?? "nsenter")
        // Without capabilities root is nobody special.
        let stripped = isPrivileged ? [] : ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
        process.arguments = place.prefix + stripped + [AMTGround.program] + arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        try process.run()
    }

    deinit { if process.isRunning { _ = kill(process.processIdentifier, SIGKILL) } }

    var lines: [AMTLine] {
        let text = (try? String(contentsOf: output, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").compactMap { try? JSONDecoder().decode(AMTLine.self, from: Data($0.utf8)) }
    }

    /// The digest of each item told of, by its id; nil when one was told of twice.
    var items: [String: String] {
        var items: [String: String] = [:]
        for line in lines where line.event == "item" { items[line.id ?? ""] = line.sha256 }
        return items
    }

    var log: String { (try? String(contentsOf: errors, encoding: .utf8)) ?? "" }
    var tail: String { "\(name):\n" + log.split(separator: "\n").suffix(10).joined(separator: "\n") }

    func has(_ event: String) -> Bool { lines.contains { $0.event == event } }

    func end(_ signal: Int32) throws -> Int32 {
        if process.isRunning { _ = kill(process.processIdentifier, signal) }
        try amtWait(15, "\(name) to end") { !process.isRunning }
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}

func amtWait(_ seconds: Double, _ what: @autoclosure () -> String, _ condition: () throws -> Bool) throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        guard ContinuousClock.now < end else {
            throw AMTFailure(description: "waited \(seconds) seconds in vain for \(what())")
        }
        Thread.sleep(forTimeInterval: 0.05)
    }
}

/// Source, relay and receivers, and a feed that grows.
final class AMTStage {
    let directory: URL
    let sourcePlace: AMTPlace
    let relayPlace: AMTPlace
    let receiverPlaces: [AMTPlace]
    private var routerPlace: AMTPlace?
    private(set) var routing: AMTChild?
    private(set) var published = 0

    /// - Parameter isRouted: a router with the kernel's multicast routing between source and relay, IPv4 only.
    init(receivers: Int, isRouted: Bool = false) throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "amt-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        sourcePlace = try AMTPlace("source")
        relayPlace = try AMTPlace("relay")
        receiverPlaces = try (0..<receivers).map { try AMTPlace("receiver-\($0 + 1)") }
        if isRouted { try buildRouter() } else { try link(sourcePlace, "src0", number: 0) }
        for (index, place) in receiverPlaces.enumerated() { try link(place, "rcv\(index + 1)", number: index + 1) }
        try relayPlace.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    }

    deinit {
        try? FileManager.default.removeItem(at: directory)
    }

    /// source (10.74.0.2) ── 10.74.0.1 router 10.74.200.1 ── relay (10.74.200.2). What the relay asks for is forwarded.
    private func buildRouter() throws {
        let router = try AMTPlace("router")
        routerPlace = router
        try router.shell(
            """
            ip link add src0 type veth peer name eth0 netns \(sourcePlace.identifier) && \
            ip link add net0 type veth peer name src0 netns \(relayPlace.identifier) && \
            ip addr add 10.74.0.1/24 dev src0 && ip addr add 10.74.200.1/24 dev net0 && \
            ip link set src0 up && ip link set net0 up && echo 1 > /proc/sys/net/ipv4/ip_forward && \
            ip route add 10.74.0.0/16 via 10.74.200.2
            """)
        try sourcePlace.shell(
            "ip addr add 10.74.0.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.74.0.1")
        try relayPlace.shell(
            "ip addr add 10.74.200.2/24 dev src0 && ip link set src0 up && ip route add 10.74.0.0/24 via 10.74.200.1")
        let routing = try AMTChild(
            "router", at: router, in: directory, ["router", "--upstream", "src0", "--downstream", "net0", "--json"])
        self.routing = routing
        try amtWait(20, "the router to listen\n\(routing.tail)") { routing.has("listening") }
    }

    /// A link between a place and the relay's, with a subnet of its own.
    private func link(_ place: AMTPlace, _ name: String, number: Int) throws {
        try relayPlace.shell("ip link add \(name) type veth peer name eth0 netns \(place.identifier)")
        for (end, device, last) in [(relayPlace, name, 1), (place, "eth0", 2)] {
            try end.shell(
                """
                ip addr add 10.74.\(number).\(last)/24 dev \(device) && \
                ip addr add fd74:\(number)::\(last)/64 dev \(device) nodad && ip link set \(device) up
                """)
        }
        try place.shell("ip route add default via 10.74.\(number).1 && ip -6 route add default via fd74:\(number)::1")
    }

    /// The relay as a receiver's place reaches it.
    func relayAddress(for receiver: Int, isIPv4: Bool) -> String {
        isIPv4 ? "10.74.\(receiver + 1).1" : "fd74:\(receiver + 1)::1"
    }

    func startSource(isIPv4: Bool) throws -> AMTChild {
        try write(items: 0)
        let child = try AMTChild(
            "source", at: sourcePlace, in: directory,
            [
                "source", "--feed", directory.appending(path: "feed.atom").path, "--poll", "100ms", "--listen",
                isIPv4 ? "10.74.0.2:4433" : "[fd74::2]:4433", "--group",
                isIPv4 ? "232.74.0.1:5000" : "[ff3e::8000:74]:5000", "--interface", "eth0", "--ttl", "4",
                "--json",
            ])
        try amtWait(20, "the source to listen\n\(child.tail)") { child.has("listening") }
        return child
    }

    func startRelay(_ options: [String] = [], isPrivileged: Bool = true) throws -> AMTChild {
        let child = try AMTChild(
            "relay", at: relayPlace, in: directory,
            ["relay", "--upstream", "src0", "--drain", "1s", "--json"] + options,
            isPrivileged: isPrivileged)
        try amtWait(20, "the relay to listen\n\(child.tail)") { child.has("listening") }
        return child
    }

    func startReceiver(_ index: Int, path: String, isIPv4: Bool, relay: String?) throws -> AMTChild {
        try AMTChild(
            "receiver-\(index + 1)", at: receiverPlaces[index], in: directory,
            [
                "receive", isIPv4 ? "10.74.0.2:4433" : "[fd74::2]:4433", "--insecure", "--path", path, "--json",
            ] + (relay.map { ["--relay", $0] } ?? []))
    }

    // MARK: the feed

    /// Adds items one by one.
    func publish(_ count: Int, every pause: Double = 0.15) throws {
        for _ in 0..<count {
            published += 1
            try write(items: published)
            Thread.sleep(forTimeInterval: pause)
        }
    }

    private func write(items: Int) throws {
        let content = String(repeating: "What travels once serves many. ", count: 120)
        let entries = (0..<items).reversed().map { number in
            """
            <entry><id>urn:amt:\(number)</id><title>Item \(number)</title>\
            <updated>2026-01-01T00:00:00Z</updated><content type="text">\(content)\(number)</content></entry>
            """
        }
        let text = """
            <?xml version="1.0" encoding="utf-8"?>
            <feed xmlns="http://www.w3.org/2005/Atom"><id>urn:amt</id><title>AMT</title>
            <updated>2026-01-01T00:00:00Z</updated>\(entries.joined(separator: "\n"))</feed>
            """
        try Data(text.utf8).write(to: directory.appending(path: "feed.atom"), options: .atomic)
    }

    /// Waits until every receiver has told of every item of the source's, with the same digest.
    func settle(_ source: AMTChild, _ receivers: [AMTChild], seconds: Double = 40) throws {
        try amtWait(seconds, "\(published) items at the source") { source.items.count == published }
        let expected = source.items
        for receiver in receivers {
            try amtWait(
                seconds, "\(expected.count) items at \(receiver.tail), which has \(receiver.items.count)"
            ) { receiver.items == expected }
        }
    }
}
