import Foundation
import TestSupport

// The stage of the AMT tests: a source, a relay, and receivers in networks that carry no multicast.
//
//     source ── (multicast router) ── relay ──┬── receiver 1
//                                             ├── receiver 2      one link each, unicast routed, multicast not
//                                             └── …

/// Source, relay and receivers, and a feed that grows.
final class AMTStage {
    private let temporary: TemporaryDirectory
    var directory: URL { temporary.url }
    let sourcePlace: Place
    let relayPlace: Place
    let receiverPlaces: [Place]
    private var routerPlace: Place?
    private(set) var routing: Child?
    private(set) var published = 0

    /// - Parameter isRouted: a router with the kernel's multicast routing between source and relay, IPv4 only.
    init(receivers: Int, isRouted: Bool = false) throws {
        temporary = try TemporaryDirectory()
        sourcePlace = try Place()
        relayPlace = try Place()
        receiverPlaces = try (0..<receivers).map { _ in try Place() }
        if isRouted { try buildRouter() } else { try link(sourcePlace, "src0", number: 0) }
        for (index, place) in receiverPlaces.enumerated() { try link(place, "rcv\(index + 1)", number: index + 1) }
        try relayPlace.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    }

    /// source (10.74.0.2) ── 10.74.0.1 router 10.74.200.1 ── relay (10.74.200.2). What the relay asks for is forwarded.
    private func buildRouter() throws {
        let router = try Place()
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
        let routing = try start(
            "router", at: router, ["router", "--upstream", "src0", "--downstream", "net0", "--json"])
        self.routing = routing
        try routing.awaitEvent("listening")
    }

    /// A link between a place and the relay's, with a subnet of its own.
    private func link(_ place: Place, _ name: String, number: Int) throws {
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

    /// Starts one of our commands.
    func start(_ name: String, at place: Place, _ arguments: [String], isPrivileged: Bool = true) throws -> Child {
        try Child(
            name, place.command([Ground.program] + arguments, isPrivileged: isPrivileged),
            log: directory.appending(path: "\(name).log"))
    }

    func startSource(isIPv4: Bool) throws -> Child {
        try write(items: 0)
        let child = try start(
            "source", at: sourcePlace,
            [
                "source", "--feed", directory.appending(path: "feed.atom").path, "--poll", "100ms", "--listen",
                isIPv4 ? "10.74.0.2:4433" : "[fd74::2]:4433", "--group",
                isIPv4 ? "232.74.0.1:5000" : "[ff3e::8000:74]:5000", "--interface", "eth0", "--ttl", "4",
                "--json",
            ])
        try child.awaitEvent("listening")
        return child
    }

    func startRelay(_ options: [String] = [], isPrivileged: Bool = true) throws -> Child {
        let child = try start(
            "relay", at: relayPlace, ["relay", "--upstream", "src0", "--drain", "1s", "--json"] + options,
            isPrivileged: isPrivileged)
        try child.awaitEvent("listening")
        return child
    }

    func startReceiver(_ index: Int, path: String, isIPv4: Bool, relay: String?) throws -> Child {
        try start(
            "receiver-\(index + 1)", at: receiverPlaces[index],
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
    func settle(_ source: Child, _ receivers: [Child], seconds: Double = 40) throws {
        try waitUntil(seconds: seconds, "\(published) items at the source") { source.told.items.count == published }
        let expected = source.told.items
        for receiver in receivers {
            try waitUntil(
                seconds: seconds,
                "\(expected.count) items at \(receiver.name), which has \(receiver.told.items.count)\n\(receiver.logTail)"
            ) { receiver.told.items == expected }
        }
    }
}
