import Foundation
import Testing
import Wire

/// Tunnels between real processes in real network namespaces.
@Suite(.serialized, .enabled(if: Ground.isSolid, "\(Ground.reason)"))
struct AMTDeploymentTests {
    private func listens(_ receivers: [Child], seconds: Double = 20) throws {
        for receiver in receivers {
            try receiver.awaitEvent("listening", seconds: seconds)
        }
    }

    /// Items that came on the flow alone.
    private func fromFlow(_ receiver: Child) -> Int {
        receiver.told.vias["flow"] ?? 0
    }

    /// All four combinations of what is in the tunnel and what is around it.
    @Test(arguments: [(true, true), (true, false), (false, true), (false, false)])
    func itemsComeThroughTheTunnel(dataIPv4: Bool, tunnelIPv4: Bool) throws {
        let stage = try AMTStage(receivers: 2)
        let source = try stage.startSource(isIPv4: dataIPv4)
        let relay = try stage.startRelay()
        let receivers = try (0..<2).map { index in
            try stage.startReceiver(
                index, path: "amt", isIPv4: dataIPv4, relay: stage.relayAddress(for: index, isIPv4: tunnelIPv4))
        }
        try listens(receivers)
        try stage.publish(8)
        try stage.settle(source, receivers)
        for receiver in receivers {
            #expect(fromFlow(receiver) >= 6, "\(receiver.logTail)")
            #expect(try receiver.end(SIGTERM) == 0)
            #expect((receiver.told.summary?.bytes_amt ?? 0) > 8 * 3000, "\(receiver.logTail)")
        }
        // Those that leave say so: nothing is left of them, and the group is not wanted any more.
        try waitUntil(seconds: 5, "the relay to forget\n\(relay.logTail)") {
            relay.told.interval?.endpoints == 0
        }
        #expect(relay.told.interval?.channels == 0)
        #expect(try relay.end(SIGTERM) == 0)
        #expect(relay.told.count("draining") > 0)
    }

    /// Without native multicast `auto` takes the tunnel; a relay that dies and comes back loses nothing.
    @Test func relayIsKilledAndReturns() throws {
        let stage = try AMTStage(receivers: 2)
        let source = try stage.startSource(isIPv4: true)
        var relay = try stage.startRelay()
        let receivers = try (0..<2).map { index in
            try stage.startReceiver(
                index, path: "auto", isIPv4: true, relay: stage.relayAddress(for: index, isIPv4: true))
        }
        try listens(receivers)
        for receiver in receivers { #expect(receiver.told.events.contains { $0.event == "path" && $0.path == "amt" }) }
        try stage.publish(4)
        _ = try relay.end(SIGKILL)
        try stage.publish(10, every: 0.4)
        try stage.settle(source, receivers)
        for receiver in receivers { #expect(receiver.told.count("fallback") > 0, "\(receiver.logTail)") }
        relay = try stage.startRelay()
        for receiver in receivers {
            try receiver.awaitEvent("return", seconds: 30)
        }
        let before = receivers.map(fromFlow)
        try stage.publish(6)
        try stage.settle(source, receivers)
        for (receiver, before) in zip(receivers, before) { #expect(fromFlow(receiver) >= before + 5) }
    }

    /// A translator gives the receiver another address, and its tunnel another port, while it runs: the relay takes it for
    /// a new gateway, whose Teardown ends the tunnel of the old one.
    @Test func translatorChangesItsMind() throws {
        let stage = try AMTStage(receivers: 1)
        let source = try stage.startSource(isIPv4: true)
        let relay = try stage.startRelay()
        try stage.relayPlace.shell(
            """
            nft add table ip move && nft 'add set ip move ports { type inet_service; flags dynamic; }' && \
            nft 'add chain ip move pre { type filter hook prerouting priority -310; }' && \
            nft 'add rule ip move pre iifname rcv1 udp dport 2268 add @ports { udp sport }'
            """)
        let receiver = try stage.startReceiver(
            0, path: "amt", isIPv4: true, relay: stage.relayAddress(for: 0, isIPv4: true))
        try listens([receiver])
        try stage.publish(4)
        try stage.settle(source, [receiver])
        // Stateless, so that no binding survives; nothing reaches the old address any more.
        try stage.relayPlace.shell(
            """
            port=$(nft list set ip move ports | grep -o '[0-9]* }' | grep -o '[0-9]*') && \
            ip route add 10.74.1.50/32 via 10.74.1.2 dev rcv1 && \
            nft 'add chain ip move post { type filter hook postrouting priority 300; }' && \
            nft add rule ip move pre iifname rcv1 ip saddr 10.74.1.2 udp dport 2268 udp sport set 40999 && \
            nft add rule ip move pre iifname rcv1 ip saddr 10.74.1.2 notrack ip saddr set 10.74.1.50 && \
            nft add rule ip move post oifname rcv1 ip daddr 10.74.1.2 drop && \
            nft add rule ip move post oifname rcv1 udp sport 2268 udp dport 40999 udp dport set $port && \
            nft add rule ip move post oifname rcv1 ip daddr 10.74.1.50 ip daddr set 10.74.1.2
            """)
        try stage.publish(4)
        try stage.settle(source, [receiver])
        try receiver.awaitEvent("return", seconds: 30)
        let before = fromFlow(receiver)
        try stage.publish(6)
        try stage.settle(source, [receiver])
        #expect(fromFlow(receiver) >= before + 5)
        try waitUntil(seconds: 10, "the old tunnel to be torn down\n\(relay.logTail)") {
            relay.told.interval?.endpoints == 1
        }
    }

    /// Nothing gets through the tunnel for a while, in either direction.
    @Test func blackhole() throws {
        let stage = try AMTStage(receivers: 1)
        let source = try stage.startSource(isIPv4: true)
        let relay = try stage.startRelay()
        let receiver = try stage.startReceiver(
            0, path: "amt", isIPv4: true, relay: stage.relayAddress(for: 0, isIPv4: true))
        try listens([receiver])
        try stage.publish(4)
        try stage.receiverPlaces[0].shell(
            """
            nft add table inet hole && \
            nft 'add chain inet hole in { type filter hook input priority 0; }' && \
            nft 'add chain inet hole out { type filter hook output priority 0; }' && \
            nft add rule inet hole in udp sport 2268 drop && nft add rule inet hole out udp dport 2268 drop
            """)
        try stage.publish(12, every: 0.4)
        try stage.settle(source, [receiver])
        #expect(receiver.told.count("fallback") > 0, "\(receiver.logTail)")
        try stage.receiverPlaces[0].shell("nft delete table inet hole")
        try receiver.awaitEvent("return", seconds: 30)
        let before = fromFlow(receiver)
        try stage.publish(6)
        try stage.settle(source, [receiver])
        #expect(fromFlow(receiver) >= before + 5)
        _ = relay
    }

    /// Figure 1: five receivers through tunnels, four on unicast, the relay behind a router that the kernel makes one.
    @Test func fiveThroughTunnelsFourOnUnicast() throws {
        let stage = try AMTStage(receivers: 9, isRouted: true)
        let source = try stage.startSource(isIPv4: true)
        let relay = try stage.startRelay()
        let receivers = try (0..<9).map { index in
            try stage.startReceiver(
                index, path: index < 5 ? "amt" : "unicast", isIPv4: true,
                relay: index < 5 ? stage.relayAddress(for: index, isIPv4: true) : nil)
        }
        try listens(Array(receivers[..<5]), seconds: 40)
        for receiver in receivers[5...] { try receiver.awaitEvent("connected", seconds: 20) }
        try stage.publish(20)
        try stage.settle(source, receivers)
        #expect(try source.end(SIGTERM) == 0)
        let counts = try #require(source.told.summary)
        let flow = counts.bytes_flow ?? 0
        let unicast = counts.bytes_unicast ?? 0
        let routes = try #require(stage.routing).told.events.filter { $0.event == "route" }.map(\.channel)
        #expect(routes == ["10.74.0.2@232.74.0.1"])
        // Each of the four gets what the flow carries once for the five.
        #expect(flow > 20 * 3000 && unicast > 4 * 20 * 3000)
        #expect(Double(unicast) / 4 < 1.5 * Double(flow) && Double(flow) < 1.5 * Double(unicast) / 4)
        for receiver in receivers[..<5] { #expect(fromFlow(receiver) >= 18, "\(receiver.logTail)") }
        _ = relay
    }

    /// The stand-alone gateway: payloads to a UDP port, here of the flow, whose packets it cannot read.
    @Test func standAloneGateway() throws {
        let stage = try AMTStage(receivers: 2)
        let source = try stage.startSource(isIPv4: true)
        let relay = try stage.startRelay()
        // Somebody has to listen, or the source sends nothing.
        let receiver = try stage.startReceiver(
            1, path: "amt", isIPv4: true, relay: stage.relayAddress(for: 1, isIPv4: true))
        try listens([receiver])
        let gateway = try stage.start(
            "gateway", at: stage.receiverPlaces[0],
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--group", "10.74.0.2@232.74.0.1:5000",
                "--to", "127.0.0.1:9999", "--count", "3", "--timeout", "20s", "--json",
            ])
        try waitUntil(seconds: 25, "\(gateway.logTail) to get three packets") { gateway.told.summary != nil }
        #expect(try gateway.end(0) == 0)
        #expect((gateway.told.summary?.packets ?? 0) >= 3)
        let verifier = try stage.start(
            "verify", at: stage.receiverPlaces[0],
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--verify", "10.74.0.2@232.74.0.1:5000",
                "--timeout", "4s", "--json",
            ])
        try verifier.awaitEvent("verified", seconds: 20)
        // It ends by itself.
        #expect(try verifier.end(0) == 0)
        #expect((verifier.told.events.last?.packets ?? 0) >= 2)
        // A channel that nobody sends to, and an address that is no relay's.
        for (address, channel, status) in [
            (stage.relayAddress(for: 0, isIPv4: true), "10.74.0.2@232.74.0.9:5000", Int32(2)),
            ("10.74.1.2", "10.74.0.2@232.74.0.1:5000", 1),
        ] {
            let verifier = try stage.start(
                "verify", at: stage.receiverPlaces[0],
                ["gateway", "--relay", address, "--verify", channel, "--timeout", "1s", "--json"])
            try verifier.awaitEvent("verified", seconds: 20)
            #expect(try verifier.end(0) == status)
        }
        _ = (source, relay)
    }

    /// What the kernel refuses to join now it may join later.
    @Test func refusedJoinsAreTriedAgain() throws {
        let stage = try AMTStage(receivers: 1)
        try stage.relayPlace.shell("echo 0 > /proc/sys/net/ipv4/igmp_max_memberships")
        let relay = try stage.startRelay()
        let gateway = try stage.start(
            "gateway", at: stage.receiverPlaces[0],
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--group", "10.74.0.2@232.74.0.1:5000",
                "--to", "127.0.0.1:9999", "--json",
            ])
        try gateway.awaitEvent("joined")
        func isMember() throws -> Bool {
            try stage.relayPlace.shell("ip maddr show dev src0").contains("232.74.0.1")
        }
        try waitUntil(seconds: 10, "the join to fail\n\(relay.logTail)") { relay.log.contains("cannot join") }
        #expect(try !isMember())
        try stage.relayPlace.shell("echo 20 > /proc/sys/net/ipv4/igmp_max_memberships")
        try waitUntil(seconds: 20, "the join\n\(relay.logTail)") { try isMember() }
        #expect(try gateway.end(SIGTERM) == 0)
        try waitUntil(seconds: 10, "the group to be left\n\(relay.logTail)") { try !isMember() }
    }

    /// An upstream interface that comes late, and one that is deleted and made again: packets flow without a restart, and both
    /// states are told.
    @Test(arguments: [false, true]) func upstreamInterfacesMayComeAndGo(isPlain: Bool) throws {
        let stage = try AMTStage(receivers: 1)
        let place = stage.relayPlace
        try place.shell("ip link del src0")
        let relay = try stage.startRelay(isPlain ? ["--group", "232.74.0.1:5000"] : [], isPrivileged: !isPlain)
        #expect(relay.log.contains("it is waited for"))
        let gateway = try stage.start(
            "gateway", at: stage.receiverPlaces[0],
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--group", "10.74.9.2@232.74.0.1:5000",
                "--to", "127.0.0.1:9999", "--json",
            ])
        try gateway.awaitEvent("joined")
        for round in 1...2 {
            let sender = try Place()
            try place.shell(
                """
                ip link add src0 type veth peer name eth0 netns \(sender.identifier) && \
                ip addr add 10.74.9.1/24 dev src0 && ip link set src0 up
                """)
            try sender.shell(
                "ip addr add 10.74.9.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.74.9.1")
            try waitUntil(seconds: 20, "the join\n\(relay.logTail)") {
                try place.shell("ip maddr show dev src0").contains("232.74.0.1")
            }
            let before = gateway.told.interval?.packets ?? 0
            try waitUntil(seconds: 20, "packets in round \(round)\n\(relay.logTail)") {
                try sender.shell(
                    """
                    python3 -c "import socket; s = socket.socket(2, 2); s.setsockopt(0, 33, 8); \
                    s.sendto(b'x', ('232.74.0.1', 5000))"
                    """)
                return (gateway.told.interval?.packets ?? 0) > before
            }
            try place.shell("ip link del src0")
            try waitUntil(seconds: 10, "the interface to be missed\n\(relay.logTail)") {
                relay.log.components(separatedBy: "the upstream interface is gone").count == round + 1
            }
        }
        #expect(try gateway.end(SIGTERM) == 0)
        #expect(try relay.end(SIGTERM) == 0)
    }

    /// Without a privilege: ordinary sockets for the groups that were configured.
    @Test func relayWithoutPrivilege() throws {
        let stage = try AMTStage(receivers: 1)
        let source = try stage.startSource(isIPv4: true)
        let relay = try stage.startRelay(["--group", "232.74.0.1:5000"], isPrivileged: false)
        let receiver = try stage.startReceiver(
            0, path: "amt", isIPv4: true, relay: stage.relayAddress(for: 0, isIPv4: true))
        try listens([receiver])
        try stage.publish(8)
        try stage.settle(source, [receiver])
        #expect(fromFlow(receiver) >= 6, "\(receiver.logTail)")
        #expect(try relay.end(SIGTERM) == 0)
    }
}
