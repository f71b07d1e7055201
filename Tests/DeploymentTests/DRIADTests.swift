import Foundation
import Testing

// Relays found by the records that a real name server publishes: BIND, relays and a gateway in a namespace of their own.
//
//     gateway ── AMTRELAY of 5.0.77.10.in-addr.arpa? ──> named 10.9.0.53
//             ── Relay Discovery ──> relays 10.9.0.1, 10.9.0.2, [fd09::1]

private enum DRIADGround {
    static func path(of tool: String) -> String? {
        ["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"].map { $0 + tool }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// Why the tests cannot run on this machine; nil when they can, or must.
    static let obstacle: String? = {
        if ProcessInfo.processInfo.environment["FLEXICAST_REQUIRE_ALL"] == "1" { return nil }
        for tool in ["ip", "nsenter", "unshare", "named"] where path(of: tool) == nil {
            return "\(tool) is not installed"
        }
        guard geteuid() == 0 else { return "network namespaces need root" }
        return FileManager.default.isExecutableFile(atPath: program) ? nil : "\(program) is not built"
    }()

    /// The program built with these tests.
    static let program =
        ProcessInfo.processInfo.environment["FLEXICAST_BINARY"]
        ?? URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        .appending(path: "flexicast").path
}

private struct DRIADFailure: Error, CustomStringConvertible {
    var description: String
}

/// A namespace with all addresses of the stage, a name server, and what a test starts there. Gone with the value.
private final class DRIADStage {
    static let zones = [
        "77.10.in-addr.arpa": """
        5.0      AMTRELAY 10 0 1 10.9.0.1
        ; The preferred one is dead, and so is its name.
        6.0      AMTRELAY 1 0 1 10.9.0.99
                 AMTRELAY 2 0 3 gone.relays.test.
                 AMTRELAY 20 0 3 live.relays.test.
        7.0      CNAME by-alias.relays.test.
        8.0      AMTRELAY 0 0 0 .
                 AMTRELAY 9 0 1 10.9.0.1
        9.0      AMTRELAY 1 1 2 fd09::1
        ; Nobody listens there: D says that no discovery is needed, and nothing comes of it.
        10.0     AMTRELAY 1 1 1 10.9.0.99
                 AMTRELAY 2 0 1 10.9.0.2
        11.0     AMTRELAY 1 0 1 10.9.0.2

        """
            // More than a datagram takes.
            + (0..<40).map { "         AMTRELAY 200 0 3 relay-\($0).\(String(repeating: "x", count: 40)).relays.test." }
            .joined(separator: "\n"),
        "78.10.in-addr.arpa": "@ DNAME subtree.relays.test.",
        "0.0.0.0.0.0.0.0.0.7.7.d.f.ip6.arpa": """
        5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 AMTRELAY 10 0 1 10.9.0.2
        """,
        "relays.test": """
        live         A 10.9.0.2
        by-alias     AMTRELAY 10 0 3 live.relays.test.
        5.0.subtree  AMTRELAY 10 0 1 10.9.0.1
        _amt._udp.lab      PTR our._amt._udp.lab
        our._amt._udp.lab  SRV 0 0 2300 lab-relay
        lab-relay    A 10.9.0.2
        """,
    ]

    private let directory: URL
    private let holder = Process()
    private let input = Pipe()
    private var children: [Process] = []

    init() throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "flexicast-driad-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let output = Pipe()
        holder.executableURL = URL(fileURLWithPath: DRIADGround.path(of: "unshare") ?? "unshare")
        holder.arguments = ["-n", "/bin/sh", "-c", "echo ready; exec cat"]
        holder.standardInput = input
        holder.standardOutput = output
        try holder.run()
        guard !output.fileHandleForReading.availableData.isEmpty else {
            throw DRIADFailure(description: "no namespace")
        }
        let setup = try start(
            "setup",
            [
                "/bin/sh", "-ec",
                """
                ip link set lo up
                ip link add eth0 type veth peer name eth1
                ip link set eth0 up; ip link set eth1 up
                for i in 1 2 53; do ip addr add 10.9.0.$i/16 dev eth0; done
                ip addr add fd09::1/64 dev eth0 nodad
                """,
            ])
        setup.waitUntilExit()
        guard setup.terminationStatus == 0 else { throw DRIADFailure(description: try log("setup")) }
        try startNameServer()
    }

    private func startNameServer() throws {
        var configuration = """
            options {
                directory "\(directory.path)";
                listen-on port 5300 { 10.9.0.53; };
                listen-on-v6 { none; };
                pid-file none;
                session-keyfile none;
                recursion no;
                dnssec-validation no;
            };
            controls { };

            """
        for (name, records) in Self.zones {
            configuration += "zone \"\(name)\" { type primary; file \"\(name).zone\"; };\n"
            let zone = """
                $TTL 60
                @ SOA ns.relays.test. root.relays.test. 1 3600 600 86400 60
                @ NS ns.relays.test.
                \(name == "relays.test" ? "ns A 10.9.0.53" : "")
                \(records)

                """
            // A record begins its line; what continues one is indented.
            try Data(zone.utf8).write(to: directory.appending(path: "\(name).zone"))
        }
        try Data(configuration.utf8).write(to: directory.appending(path: "named.conf"))
        try start("named", [DRIADGround.path(of: "named") ?? "named", "-g", "-c", directory.path + "/named.conf"])
        try wait("named to run") { try log("named").contains("running") }
    }

    deinit {
        for child in children where child.isRunning { _ = kill(child.processIdentifier, SIGKILL) }
        try? input.fileHandleForWriting.close()
        holder.waitUntilExit()
        try? FileManager.default.removeItem(at: directory)
    }

    @discardableResult
    func start(_ name: String, _ command: [String]) throws -> Process {
        let process = Process()
        let log = directory.appending(path: "\(name).log")
        let output = directory.appending(path: "\(name).out")
        for file in [log, output] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
        process.executableURL = URL(fileURLWithPath: DRIADGround.path(of: "nsenter") ?? "nsenter")
        process.arguments = ["-t", "\(holder.processIdentifier)", "-n", "--"] + command
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: log)
        try process.run()
        children.append(process)
        return process
    }

    func log(_ name: String) throws -> String {
        try String(contentsOf: directory.appending(path: "\(name).log"), encoding: .utf8)
    }

    func startRelay(_ name: String, _ address: String) throws -> Process {
        let process = try start(
            name, [DRIADGround.program, "relay", "--listen", address, "--upstream", "eth0", "--json", "--drain", "1s"])
        try wait("\(name) to listen") { try events(name).contains { $0.event == "listening" } }
        return process
    }

    func startGateway(_ name: String, _ channel: String, _ more: [String] = [], timeout: String = "30s") throws
        -> Process
    {
        try start(
            name,
            [
                DRIADGround.program, "gateway", "--relay", "auto", "--dns", "10.9.0.53:5300", "--dns-domain",
                "nowhere.test", "--group", channel, "--json", "--timeout", timeout, "--log-level", "debug",
            ] + more)
    }

    struct Line: Decodable {
        var event: String
        var relay: String?
    }

    func events(_ name: String) throws -> [Line] {
        try String(contentsOf: directory.appending(path: "\(name).out"), encoding: .utf8).split(separator: "\n")
            .compactMap { try? JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
    }

    func joined(_ name: String) throws -> [String] {
        try events(name).filter { $0.event == "joined" }.compactMap(\.relay)
    }

    func wait(_ what: String, for limit: Double = 30, until isDone: () throws -> Bool) throws {
        let end = Date(timeIntervalSinceNow: limit)
        while try !isDone() {
            guard Date() < end else {
                let logs = try FileManager.default.contentsOfDirectory(atPath: directory.path)
                    .filter { $0.hasSuffix(".log") && $0 != "named.log" }
                    .map { try "\($0):\n" + log(String($0.dropLast(4))) }
                throw DRIADFailure(description: "waited for \(what)\n" + logs.joined(separator: "\n"))
            }
            Thread.sleep(forTimeInterval: 0.05)
        }
    }
}

@Suite(
    "Relays by the records of a real name server",
    .serialized, .enabled(if: DRIADGround.obstacle == nil, "\(DRIADGround.obstacle ?? "")"))
struct DRIADTests {
    @Test("A gateway joins at the relay that the source's records lead to")
    func records() throws {
        let stage = try DRIADStage()
        _ = try stage.startRelay("relay1", "10.9.0.1")
        _ = try stage.startRelay("relay2", "10.9.0.2")
        _ = try stage.startRelay("relay6", "fd09::1")
        let cases = [
            ("address", "10.77.0.5@232.1.1.1", "10.9.0.1:2268"),
            ("dead-first", "10.77.0.6@232.1.1.1", "10.9.0.2:2268"),
            ("cname", "10.77.0.7@232.1.1.1", "10.9.0.2:2268"),
            ("dname", "10.78.0.5@232.1.1.1", "10.9.0.1:2268"),
            ("over-ipv6", "10.77.0.9@232.1.1.1", "[fd09::1]:2268"),
            ("ipv6-source", "fd77::5@ff3e::8000:1", "10.9.0.2:2268"),
            ("by-request", "10.77.0.10@232.1.1.1", "10.9.0.2:2268"),
            ("over-tcp", "10.77.0.11@232.1.1.1", "10.9.0.2:2268"),
        ]
        for (name, channel, _) in cases { _ = try stage.startGateway(name, channel) }
        _ = try stage.startGateway("none", "10.77.0.8@232.1.1.1", timeout: "5s")
        _ = try stage.startGateway("unknown", "10.77.0.200@232.1.1.1", timeout: "5s")
        for (name, _, relay) in cases {
            try stage.wait("\(name) to join") { try stage.joined(name).isEmpty == false }
            #expect(try stage.joined(name).first == relay, "\(name)")
        }
        for name in ["none", "unknown"] {
            try stage.wait("\(name) to end") { try stage.events(name).contains { $0.event == "summary" } }
            #expect(try stage.joined(name).isEmpty, "\(name)")
        }
    }

    @Test("The local network's relay, found by DNS-SD on a port of its own, comes before the source's")
    func serviceDiscovery() throws {
        let stage = try DRIADStage()
        _ = try stage.startRelay("relay1", "10.9.0.1")
        _ = try stage.startRelay("lab", "10.9.0.2:2300")
        _ = try stage.startGateway("gateway", "10.77.0.5@232.1.1.1", ["--dns-domain", "lab.relays.test"])
        try stage.wait("the gateway to join") { try !stage.joined("gateway").isEmpty }
        #expect(try stage.joined("gateway").first == "10.9.0.2:2300")
        _ = try stage.startGateway(
            "ours-last", "10.77.0.5@232.1.1.1", ["--dns-domain", "lab.relays.test", "--discover", "source,dns-sd"])
        try stage.wait("the gateway to join") { try !stage.joined("ours-last").isEmpty }
        #expect(try stage.joined("ours-last").first == "10.9.0.1:2268")
    }

    @Test("A relay that dies is followed by the next of the records")
    func failover() throws {
        let stage = try DRIADStage()
        let first = try stage.startRelay("relay2", "10.9.0.2")
        _ = try stage.startGateway("gateway", "10.77.0.6@232.1.1.1")
        try stage.wait("the gateway to join") { try !stage.joined("gateway").isEmpty }
        #expect(try stage.joined("gateway") == ["10.9.0.2:2268"])
        _ = kill(first.processIdentifier, SIGKILL)
        first.waitUntilExit()
        // The one that was dead before comes to life.
        let address = try stage.start("address", ["ip", "addr", "add", "10.9.0.99/16", "dev", "eth0"])
        address.waitUntilExit()
        _ = try stage.startRelay("relay99", "10.9.0.99")
        try stage.wait("the gateway to change over", for: 60) { try stage.joined("gateway").contains("10.9.0.99:2268") }
    }
}
