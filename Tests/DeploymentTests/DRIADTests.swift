import Foundation
import TestSupport
import Testing

// Relays found by the records that a real name server publishes: BIND, relays and a gateway in a namespace of their own.
//
//     gateway ── AMTRELAY of 5.0.77.10.in-addr.arpa? ──> named 10.9.0.53
//             ── Relay Discovery ──> relays 10.9.0.1, 10.9.0.2, [fd09::1]

/// A namespace with all addresses of the stage, a name server, and what a test starts there. Gone with the value.
private final class DRIADStage {
    static let obstacle = Ground.obstacle(needing: ["named"])

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

    private let temporary: TemporaryDirectory
    private let place: Place
    private var named: Child?

    init() throws {
        temporary = try TemporaryDirectory()
        place = try Place()
        try place.shell(
            """
            ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip link set eth1 up && \
            for i in 1 2 53; do ip addr add 10.9.0.$i/16 dev eth0; done && ip addr add fd09::1/64 dev eth0 nodad
            """)
        try startNameServer()
    }

    private func startNameServer() throws {
        var configuration = """
            options {
                directory "\(temporary.url.path)";
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
            try Data(zone.utf8).write(to: temporary.url.appending(path: "\(name).zone"))
        }
        try Data(configuration.utf8).write(to: temporary.url.appending(path: "named.conf"))
        named = try start(
            "named", [Machine.path(of: "named") ?? "named", "-g", "-c", "\(temporary.url.path)/named.conf"])
        try waitUntil(seconds: 30, "named to run\n\(log("named"))") { log("named").contains("running") }
    }

    private func start(_ name: String, _ command: [String]) throws -> Child {
        try Child(name, place.command(command), log: temporary.url.appending(path: "\(name).log"))
    }

    private func log(_ name: String) -> String {
        (try? String(contentsOf: temporary.url.appending(path: "\(name).log"), encoding: .utf8)) ?? ""
    }

    func addAddress(_ address: String) throws { try place.shell("ip addr add \(address) dev eth0") }

    func startRelay(_ name: String, _ address: String) throws -> Child {
        let relay = try start(
            name, [Ground.program, "relay", "--listen", address, "--upstream", "eth0", "--json", "--drain", "1s"])
        try relay.awaitEvent("listening")
        return relay
    }

    func startGateway(_ name: String, _ channel: String, _ more: [String] = [], timeout: String = "30s") throws -> Child
    {
        try start(
            name,
            [
                Ground.program, "gateway", "--relay", "auto", "--dns", "10.9.0.53:5300", "--dns-domain",
                "nowhere.test", "--group", channel, "--json", "--timeout", timeout, "--log-level", "debug",
            ] + more)
    }
}

extension Child {
    /// The relays that a gateway has joined at, one after the other.
    fileprivate var relays: [String] { told.events.filter { $0.event == "joined" }.compactMap(\.relay) }
}

@Suite(
    "Relays by the records of a real name server",
    .serialized, .enabled(if: DRIADStage.obstacle == nil, "\(DRIADStage.obstacle ?? "")"))
struct DRIADTests {
    @Test("A gateway joins at the relay that the source's records lead to")
    func records() throws {
        let stage = try DRIADStage()
        let relays = [
            try stage.startRelay("relay1", "10.9.0.1"), try stage.startRelay("relay2", "10.9.0.2"),
            try stage.startRelay("relay6", "fd09::1"),
        ]
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
        let gateways = try cases.map { try stage.startGateway($0.0, $0.1) }
        let vain = [
            try stage.startGateway("none", "10.77.0.8@232.1.1.1", timeout: "5s"),
            try stage.startGateway("unknown", "10.77.0.200@232.1.1.1", timeout: "5s"),
        ]
        for (gateway, (_, _, relay)) in zip(gateways, cases) {
            try gateway.awaitEvent("joined", seconds: 30)
            #expect(gateway.relays.first == relay, "\(gateway.name)")
        }
        for gateway in vain {
            try waitUntil(seconds: 30, "\(gateway.name) to end\n\(gateway.logTail)") { gateway.told.summary != nil }
            #expect(gateway.relays.isEmpty, "\(gateway.name)")
        }
        _ = relays
    }

    @Test("The local network's relay, found by DNS-SD on a port of its own, comes before the source's")
    func serviceDiscovery() throws {
        let stage = try DRIADStage()
        let relays = [try stage.startRelay("relay1", "10.9.0.1"), try stage.startRelay("lab", "10.9.0.2:2300")]
        let gateway = try stage.startGateway("gateway", "10.77.0.5@232.1.1.1", ["--dns-domain", "lab.relays.test"])
        try gateway.awaitEvent("joined", seconds: 30)
        #expect(gateway.relays.first == "10.9.0.2:2300")
        let oursLast = try stage.startGateway(
            "ours-last", "10.77.0.5@232.1.1.1", ["--dns-domain", "lab.relays.test", "--discover", "source,dns-sd"])
        try oursLast.awaitEvent("joined", seconds: 30)
        #expect(oursLast.relays.first == "10.9.0.1:2268")
        _ = relays
    }

    @Test("A relay that dies is followed by the next of the records")
    func failover() throws {
        let stage = try DRIADStage()
        let first = try stage.startRelay("relay2", "10.9.0.2")
        let gateway = try stage.startGateway("gateway", "10.77.0.6@232.1.1.1")
        try gateway.awaitEvent("joined", seconds: 30)
        #expect(gateway.relays == ["10.9.0.2:2268"])
        try first.end(SIGKILL)
        // The one that was dead before comes to life.
        try stage.addAddress("10.9.0.99/16")
        let second = try stage.startRelay("relay99", "10.9.0.99")
        try waitUntil(seconds: 60, "the gateway to change over\n\(gateway.logTail)") {
            gateway.relays.contains("10.9.0.99:2268")
        }
        _ = second
    }

    @Test("Where the network says that a relay is gone, nobody waits for its answers")
    func unreachable() throws {
        let stage = try DRIADStage()
        try stage.addAddress("10.9.0.99/16")
        let first = try stage.startRelay("relay99", "10.9.0.99")
        let second = try stage.startRelay("relay2", "10.9.0.2")
        let gateway = try stage.startGateway("gateway", "10.77.0.6@232.1.1.1")
        try gateway.awaitEvent("joined", seconds: 30)
        #expect(gateway.relays == ["10.9.0.99:2268"])
        try first.end(SIGKILL)
        try waitUntil(seconds: 60, "the gateway to change over\n\(gateway.logTail)") {
            gateway.relays.contains("10.9.0.2:2268")
        }
        #expect(gateway.told.events.contains { $0.event == "unreachable" && $0.relay == "10.9.0.99:2268" })
        #expect(gateway.log.contains("it cannot be reached"))
        // Nothing waited for two Requests to stay unanswered, which is how it is found out else.
        #expect(!gateway.log.contains("attempt=2") && !gateway.log.contains("it does not answer"))
        _ = second
    }
}
