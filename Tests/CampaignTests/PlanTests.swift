import Foundation
import Testing
import Wire

@testable import Campaign

@Suite("A campaign's plan")
struct PlanTests {
    private func plan(_ text: String) throws(PlanError) -> Plan { try Plan(Array(text.utf8), file: "plan.yaml") }

    private func problems(_ text: String) -> [String] {
        do throws(PlanError) {
            _ = try plan(text)
            return []
        } catch { return error.description.split(separator: "\n").map(String.init) }
    }

    static let whole = """
        name: campus
        duration: 1.5m
        settle: 5s
        defaults: {identity: ~/.ssh/lab, options: [StrictHostKeyChecking=accept-new]}
        hosts:
          lab1: {ssh: root@lab1.example.org, port: 2222}
          lab2: {ssh: lab2, program: /opt/flexicast}
          lab3: {ssh: lab3, image: localhost/flexicast, options: []}
          here: {ssh: none}
        source:
          host: lab1
          listen: "[::]:4433"
          address: "[2001:db8::1]:4433"
          group: "[ff3e::8000:1]:5000"
          interface: eth0
          options: [--rate, 50M]
        relay: {host: lab2, listen: 192.0.2.2:2268, upstream: eth1}
        receivers:
          - {hosts: [lab2, lab3], path: amt}
          - {host: here, path: unicast, count: 2, interface: lo}
          - {host: here, options: [--io, epoll]}
        send: {items: 10, interval: 250ms, size: 2000}
        faults:
          - {at: 2s, cut: lab3, for: 3s}
          - {at: 3s, kill: here-2}
          - {at: 1m, stop: relay}

        """

    @Test func everyKeyIsRead() throws {
        let plan = try plan(Self.whole)
        #expect(plan.name == "campus")
        #expect(plan.duration == .seconds(90))
        #expect(plan.settle == .seconds(5))
        #expect(plan.hosts.map(\.name) == ["lab1", "lab2", "lab3", "here"])
        #expect(plan.hosts[0].destination == "root@lab1.example.org")
        #expect(plan.hosts[0].port == 2222)
        #expect(plan.hosts[0].identity == "~/.ssh/lab")
        #expect(plan.hosts[0].options == ["StrictHostKeyChecking=accept-new"])
        #expect(plan.hosts[1].program == "/opt/flexicast")
        #expect(plan.hosts[2].image == "localhost/flexicast")
        #expect(plan.hosts[2].options == [])
        #expect(plan.hosts[3].destination == nil)
        #expect(
            plan.source
                == Plan.Source(
                    host: "lab1", listen: SocketAddress("[::]:4433")!, address: SocketAddress("[2001:db8::1]:4433")!,
                    group: SocketAddress("[ff3e::8000:1]:5000"), interface: "eth0", options: ["--rate", "50M"]))
        let address = SocketAddress("192.0.2.2:2268")!
        #expect(plan.relay == Plan.Relay(host: "lab2", listen: address, address: address, upstream: "eth1"))
        #expect(
            plan.receivers == [
                Plan.Receiver(name: "lab2", host: "lab2", path: .amt),
                Plan.Receiver(name: "lab3", host: "lab3", path: .amt),
                Plan.Receiver(name: "here-1", host: "here", path: .unicast, interface: "lo"),
                Plan.Receiver(name: "here-2", host: "here", path: .unicast, interface: "lo"),
                Plan.Receiver(name: "here-3", host: "here", path: .auto, options: ["--io", "epoll"]),
            ])
        #expect(plan.content == .samples(items: 10, interval: .milliseconds(250), size: 2000))
        #expect(
            plan.faults == [
                Plan.Fault(kind: .cut(host: "lab3"), at: .seconds(2), lasting: .seconds(3)),
                Plan.Fault(kind: .kill(role: "here-2"), at: .seconds(3)),
                Plan.Fault(kind: .stop(role: "relay"), at: .seconds(60)),
            ])
        #expect(plan.text == Self.whole)
    }

    static let least = """
        hosts: {a: {ssh: a}}
        source: {host: a, listen: 192.0.2.1:4433}
        receivers: [{host: a, path: unicast}]

        """

    @Test func whatIsNotSaidIsUsual() throws {
        let plan = try plan(Self.least)
        #expect(plan.content == .samples(items: 60, interval: .milliseconds(500), size: nil))
        #expect(plan.duration == .seconds(60))
        #expect(plan.relay == nil && plan.faults == [])
        #expect(plan.hosts[0].program == "flexicast")
    }

    /// JSON is YAML.
    @Test func jsonIsRead() throws {
        let json = """
            {"hosts": {"a": {"ssh": "a"}}, "source": {"host": "a", "listen": "192.0.2.1:4433"},
             "receivers": [{"host": "a", "path": "unicast"}], "send": {"items": 7}}
            """
        #expect(try plan(json).content == .samples(items: 7, interval: .milliseconds(500), size: nil))
    }

    @Test func everyProblemIsToldWithItsLine() {
        let text = """
            hosts:
              a: {ssh: a, prot: 22}
              b: {ssh: -oProxyCommand=x}
            source: {host: c, listen: here, group: 192.0.2.1:5000}
            receivers:
              - {host: a, path: amt}
              - {host: a, count: many}
            send: {items: [1], interval: 5}
            faults:
              - {cut: a}
              - {at: 1s, cut: a, kill: a}
              - {at: 1s, kill: nobody}
            colour: red
            hosts: {}

            """
        let expected = [
            (2, "unknown key \"prot\""), (3, "ssh must be HOST"), (4, "no host c"), (4, "listen must be an address"),
            (4, "192.0.2.1:5000 is no multicast group"), (6, "path amt needs a relay"), (7, "count must be a number"),
            (8, "items must be a number"), (8, "interval: \"5\" is not a duration"), (10, "a fault needs at"),
            (11, "one of cut, kill and stop"), (12, "no role nobody"), (13, "unknown key \"colour\""),
            (14, "hosts is there twice"),
        ]
        // The second `hosts` hides the first one, whose problems are then told when it is gone.
        let all = problems(text) + problems(text.replacing("\nhosts: {}", with: ""))
        for (line, what) in expected {
            #expect(
                all.contains { $0.hasPrefix("plan.yaml:\(line): ") && $0.contains(what) }, "\(line): \(what) in \(all)")
        }
    }

    @Test(arguments: [
        ("a: [1\n}", 2, "this is no YAML"), ("", 1, "nothing in it"), ("- 1\n- 2", 1, "must be keys with values"),
        ("a: &x 1\nb: *x", 2, "aliases"), ("a: 1\n---\nb: 2", 2, "second document"),
        ("\t- a", 1, "this is no YAML"), ("hosts: 3", 1, "hosts must be names"),
    ])
    func whatIsNoPlanIsToldWithItsLine(_ text: String, _ line: Int, _ what: String) {
        let all = problems(text)
        #expect(all.contains { $0.hasPrefix("plan.yaml:\(line): ") && $0.contains(what) }, "\(all)")
    }

    @Test func theLimitsHold() {
        let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
        #expect(problems(deep).first?.contains("nested more than 32 deep") == true)
        let wide = "[" + String(repeating: "1,", count: YAMLNode.mostNodes) + "1]"
        #expect(problems(wide).first?.contains("more than 100000 pieces") == true)
        let long = String(repeating: "# \n", count: 400_000)
        #expect(problems(long).first?.contains("more than 1048576 octets") == true)
        let many = Self.least.replacing("path: unicast", with: "path: unicast, count: 2001")
        #expect(problems(many).first?.contains("a number from 1 to 2000") == true)
        #expect(problems(Self.least + "settle: 1s\n" + String(repeating: "x: 1\n", count: 200)).count == 100)
    }

    @Test func aFileThatIsNotThereIsTold() {
        #expect(throws: PlanError.self) { try Plan.read(file: "/nowhere/plan.yaml") }
    }
}
