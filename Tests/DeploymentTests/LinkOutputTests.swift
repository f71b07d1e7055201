import Foundation
import TestSupport
import Testing

/// `flexicast gateway --interface`: a receiver that knows nothing of tunnels, on a link behind the gateway, joins with
/// what its kernel has of IGMPv3 and MLDv2.
///
///     source ── relay ── (no multicast) ── gateway ── lan0, MTU 1400 ── player
@Suite(.serialized, .enabled(if: Ground.isSolid, "\(Ground.reason)"))
struct LinkOutputTests {
    private static let channels = ["10.74.0.2@232.74.0.1", "fd74::2@[ff3e::8000:74]"]

    /// Prints length, TTL or hop limit, and sender of what comes.
    private static let player = """
        import socket, struct
        group4, group6 = "232.74.0.1", "ff3e::8000:74"
        s4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s4.bind((group4, 5000))
        a = socket.inet_aton
        s4.setsockopt(0, 39, a(group4) + a("10.75.0.2") + a("10.74.0.2"))
        s4.setsockopt(0, 12, 1)
        s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s6.bind((group6, 5000))
        def name(text): return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, text), 0).ljust(128, b"\\0")
        request = struct.pack("=I4x", socket.if_nametoindex("eth0")) + name(group6) + name("fd74::2")
        s6.setsockopt(socket.IPPROTO_IPV6, 46, request)
        s6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        print("ready", flush=True)
        import select
        while True:
            for s in select.select([s4, s6], [], [])[0]:
                data, control, _, sender = s.recvmsg(3000, 100)
                hops = struct.unpack("=i", control[0][2][:4])[0]
                print(len(data), hops, sender[0], flush=True)
        """

    private func send(_ count: Int, octets: Int, ttl: Int = 8, isIPv4: Bool = true, from place: Place) throws {
        let socket =
            isIPv4
            ? """
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("10.74.0.2", 0))
            s.setsockopt(0, socket.IP_MULTICAST_IF, socket.inet_aton("10.74.0.2"))
            s.setsockopt(0, socket.IP_MULTICAST_TTL, \(ttl))
            s.setsockopt(0, 10, 0)
            to = ("232.74.0.1", 5000)
            """
            : """
            s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            s.bind(("fd74::2", 0))
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, \(ttl))
            to = ("ff3e::8000:74", 5000)
            """
        try place.shell(
            ["python3", "-c", "import socket\n\(socket)\nfor n in range(\(count)): s.sendto(bytes(\(octets)), to)"])
    }

    @Test func plainReceiversHearTheStream() throws {
        let stage = try AMTStage(receivers: 1)
        let (home, lan) = (stage.receiverPlaces[0], try Place())
        try home.shell("ip link add lan0 type veth peer name eth0 netns \(lan.identifier)")
        for (place, device, last) in [(home, "lan0", 1), (lan, "eth0", 2)] {
            try place.shell(
                """
                ip link set \(device) mtu 1400 && ip addr add 10.75.0.\(last)/24 dev \(device) && \
                ip addr add fd75::\(last)/64 dev \(device) nodad && ip link set \(device) up
                """)
        }
        try lan.shell("ip route add default via 10.75.0.1 && ip -6 route add default via fd75::1")
        let relay = try stage.startRelay()
        let options = Self.channels.flatMap { ["--group", $0] }
        let gateway = try stage.start(
            "gateway", at: home,
            ["gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--interface", "lan0", "--json"] + options)
        try waitUntil(seconds: 20, "both joins\n\(gateway.logTail)") { relay.told.interval?.channels == 2 }
        let player = try Child(
            "player", lan.command(["python3", "-c", Self.player]), log: stage.directory.appending(path: "player.log"))
        func played() -> [String] { Array(player.told.strange.dropFirst()) }
        try waitUntil(seconds: 10, "the player to join\n\(player.logTail)") { !player.told.strange.isEmpty }

        // The relay has taken a hop and the gateway another.
        try send(5, octets: 500, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "five packets: \(played())\n\(gateway.logTail)") { played().count == 5 }
        #expect(played() == [String](repeating: "500 6 10.74.0.2", count: 5))
        try send(5, octets: 500, isIPv4: false, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "five more: \(played())\n\(gateway.logTail)") { played().count == 10 }
        #expect(Array(played().suffix(5)) == [String](repeating: "500 6 fd74::2", count: 5))
        // Divided for the tunnel, made whole, and divided again for the link.
        try send(1, octets: 1472, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "the large one: \(played())\n\(gateway.logTail)") {
            played().last == "1472 6 10.74.0.2"
        }
        // Those with no hop left for the link stay out, and IPv6 that does not fit it.
        try send(3, octets: 500, ttl: 2, from: stage.sourcePlace)
        try send(1, octets: 1380, isIPv4: false, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "four to be withheld") { gateway.told.interval?.withheld == 4 }
        #expect(played().count == 11)

        // Somebody else sends the channel on the link: it is left to them.
        try lan.shell("ip addr add 10.74.0.2/32 dev eth0")
        try send(1, octets: 77, from: lan)
        try lan.shell("ip addr del 10.74.0.2/32 dev eth0")
        try send(5, octets: 500, from: stage.sourcePlace)
        try send(1, octets: 501, isIPv4: false, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "the other channel: \(played())") { played().last == "501 6 fd74::2" }
        try waitUntil(seconds: 10, "five to be withheld") { gateway.told.interval?.withheld == 9 }
        #expect(played().count { $0 == "500 6 10.74.0.2" } == 5 && played().contains("77 8 10.74.0.2"))
        // They are gone: it comes again.
        try waitUntil(seconds: 20, "the channel again: \(played())") {
            try send(1, octets: 502, from: stage.sourcePlace)
            return played().last == "502 6 10.74.0.2"
        }
        #expect(try gateway.end(SIGTERM) == 0)
    }

    /// What is sent on the relay's own link would come back from it, again and again.
    @Test func neverOnTheLinkOfTheRelay() throws {
        let stage = try AMTStage(receivers: 1)
        for relay in [stage.relayAddress(for: 0, isIPv4: true), stage.relayAddress(for: 0, isIPv4: false)] {
            let gateway = try stage.start(
                "gateway", at: stage.receiverPlaces[0],
                ["gateway", "--relay", relay, "--interface", "eth0", "--group", Self.channels[0]])
            try waitUntil(seconds: 10, "the gateway to end") { !gateway.isRunning }
            #expect(gateway.process.terminationStatus == 1)
            #expect(gateway.log.contains("it would hear what is sent there"))
        }
        let gateway = try stage.start(
            "gateway", at: stage.receiverPlaces[0],
            ["gateway", "--relay", "198.51.100.1", "--interface", "lo", "--group", Self.channels[0]])
        try waitUntil(seconds: 10, "the gateway to end") { !gateway.isRunning }
        #expect(gateway.log.contains("lo is no link"))
    }
}
