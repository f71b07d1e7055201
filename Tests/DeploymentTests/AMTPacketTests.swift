import Foundation
import Testing

/// What a relay and a gateway do to single packets, between kernels.
@Suite(.serialized, .enabled(if: Ground.isSolid, "\(Ground.reason)"))
struct AMTPacketTests {
    /// Sends `count` packets of `octets` to the group, with a TTL and TOS, that routers must not fragment.
    private func send(_ count: Int, octets: Int = 100, ttl: Int = 8, tos: Int = 0, from place: Place) throws {
        let script = """
            import socket, time
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("10.74.0.2", 0))
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.74.0.2"))
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, \(ttl))
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, \(tos))
            s.setsockopt(socket.IPPROTO_IP, 10, 3)
            for i in range(\(count)): s.sendto(bytes(\(octets)), ("232.74.0.1", 5000)); time.sleep(0.001)
            """
        try place.shell("python3 -c '\(script)'")
    }

    /// On a TUN interface the packets arrive as multicast: a program that knows nothing of tunnels joins there.
    @Test func tunnelDevice() throws {
        let stage = try AMTStage(receivers: 1)
        let receiver = stage.receiverPlaces[0]
        let relay = try stage.startRelay()
        let gateway = try stage.start(
            "gateway", at: receiver,
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--group", "10.74.0.2@232.74.0.1",
                "--tun", "amt0", "--json",
            ])
        try gateway.awaitEvent("joined", seconds: 20)
        let script = """
            import socket, struct
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("232.74.0.1", 5000))
            request = struct.pack("=4s4si", socket.inet_aton("232.74.0.1"), bytes(4), socket.if_nametoindex("amt0"))
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            s.settimeout(20)
            print("ready", flush=True)
            for _ in range(20): data, sender = s.recvfrom(2000); print(len(data), sender[0], flush=True)
            """
        try receiver.shell("echo 0 > /proc/sys/net/ipv4/conf/amt0/rp_filter")
        let player = try Child(
            "player", receiver.command(["python3", "-c", script]), log: stage.directory.appending(path: "player.log"))
        func played() -> [String] { player.told.strange }
        try waitUntil(seconds: 10, "the player to join\n\(player.logTail)") { played().first == "ready" }
        try waitUntil(seconds: 10, "the relay to have joined\n\(relay.logTail)") {
            relay.told.interval?.channels == 1
        }
        try send(20, octets: 500, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "twenty packets: \(played())\n\(gateway.logTail)") { played().count == 21 }
        #expect(played().dropFirst().allSatisfy { $0 == "500 10.74.0.2" })
        #expect(try gateway.end(SIGTERM) == 0)
    }

    /// The mark of a packet is on the tunnel's, a mark set on the way through the tunnel is on what comes out (RFC 9601),
    /// packets for their own link stay there, and the sender of what does not fit is told (RFC 7450 section 5.3.3.6.2.1).
    @Test func marksHopsAndSizes() throws {
        let stage = try AMTStage(receivers: 1)
        let receiver = stage.receiverPlaces[0]
        let relay = try stage.startRelay(["--mtu", "1400"])
        try receiver.shell(
            """
            nft 'table inet marks {
                counter copied {}
                counter bare {}
                counter marked {}
                counter unmarked {}
                chain input {
                    type filter hook input priority 0;
                    iifname eth0 udp sport 2268 udp length > 130 ip ecn ect0 counter name copied
                    iifname eth0 udp sport 2268 udp length > 130 ip ecn not-ect counter name bare
                    iifname lo udp dport 9999 ip ecn ce counter name marked
                    iifname lo udp dport 9999 ip ecn != ce counter name unmarked
                }
            }'
            """)
        try stage.sourcePlace.shell(
            """
            nft 'table inet told {
                counter sizes {}
                chain input {
                    type filter hook input priority 0;
                    icmp type destination-unreachable icmp code frag-needed icmp mtu 1370 counter name sizes
                }
            }'
            """)
        let gateway = try stage.start(
            "gateway", at: receiver,
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--group", "10.74.0.2@232.74.0.1:5000",
                "--to", "127.0.0.1:9999", "--json",
            ])
        try gateway.awaitEvent("joined", seconds: 20)
        func received() -> Int { gateway.told.interval?.packets ?? 0 }
        try waitUntil(seconds: 10, "the relay to have joined\n\(relay.logTail)") {
            relay.told.interval?.channels == 1
        }

        try send(20, tos: 2, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "marked packets\n\(gateway.logTail)") { received() == 20 }
        // Those that leave together are one to the counters.
        #expect(try receiver.counted("copied", in: "marks") > 0 && receiver.counted("bare", in: "marks") == 0)
        #expect(try receiver.counted("marked", in: "marks") == 0)
        let unmarked = try receiver.counted("unmarked", in: "marks")

        // Congestion on the way.
        try stage.relayPlace.shell(
            """
            nft 'table inet congestion {
                chain out {
                    type filter hook output priority 0;
                    udp sport 2268 ip ecn ect0 ip ecn set ce
                }
            }'
            """)
        try send(20, tos: 2, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "marked packets\n\(gateway.logTail)") { received() == 40 }
        #expect(try receiver.counted("marked", in: "marks") > 0)
        #expect(try receiver.counted("unmarked", in: "marks") == unmarked)

        try send(20, ttl: 1, from: stage.sourcePlace)
        try send(20, octets: 1380, from: stage.sourcePlace)
        // What is sent last has come through when these have not.
        try send(1, from: stage.sourcePlace)
        try waitUntil(seconds: 10, "the last packet\n\(gateway.logTail)") { received() >= 41 }
        #expect(received() == 41)
        #expect(try (10...20).contains(stage.sourcePlace.counted("sizes", in: "told")))
        #expect(try relay.end(SIGTERM) == 0)
        let summary = try #require(relay.told.summary)
        #expect(summary.expired == 20)
        #expect((summary.too_large_told ?? 0) >= 10)
    }
}
