import Reactor
import Testing
import Wire

/// Groups on the loopback. IPv6 needs a route for multicast that `lo` does not have by itself, so those run in a
/// network namespace with a virtual cable.
@Suite struct MulticastTests {
    @Test(arguments: backends)
    func membersHearAGroupFromAnySource(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        #expect(try talk(reactor, group: "239.255.41.\(number(io))", source: nil, interface: "lo") == [1, 3])
    }

    @Test(arguments: backends)
    func membersHearAGroupFromTheirSourceOnly(io: Reactor.IO) throws {
        let reactor = try Reactor(io: io)
        defer { reactor.close() }
        let group = "232.1.41.\(number(io))"
        #expect(try talk(reactor, group: group, source: "127.0.0.1", interface: "lo") == [1, 3])
        #expect(try talk(reactor, group: group, source: "127.0.0.2", interface: "lo") == [])
    }

    @Test(.enabled(if: mayMakeNamespaces, "needs root"), arguments: backends)
    func ipv6GroupsWorkBothWays(io: Reactor.IO) throws {
        let heard = try #require(
            onThread(unsharing: .network) { () -> [[UInt8]] in
                shell(
                    """
                    ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v0 up && \
                    ip link set v1 up && ip address add fd00:41::1/64 dev v0 nodad
                    """)
                guard let reactor = try? Reactor(io: io) else { return [[9]] }
                defer { reactor.close() }
                return [
                    (try? talk(reactor, group: "ff15::41", source: nil, interface: "v0")) ?? [9],
                    (try? talk(reactor, group: "ff35::41", source: "fd00:41::1", interface: "v0")) ?? [9],
                    (try? talk(reactor, group: "ff35::41", source: "fd00:41::2", interface: "v0")) ?? [9],
                ]
            })
        #expect(heard == [[1, 3], [1, 3], []])
    }

    /// Of two networks, a group is sent to from the one that the routing table names, and not from the first.
    @Test(.enabled(if: mayMakeNamespaces, "needs root")) func theRoutingTableNamesTheAddressOfASender() throws {
        let found = try #require(
            onThread(unsharing: .network) { () -> [IPAddress?] in
                shell(
                    """
                    ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up && \
                    ip address add 192.0.2.1/24 dev v0 && ip address add 198.51.100.1/24 dev v1
                    """)
                let before = NetworkInterface.address(toward: ip("232.1.1.1"))
                shell("ip route add default via 198.51.100.254")
                return [before] + ["232.1.1.1", "192.0.2.9"].map { NetworkInterface.address(toward: ip($0)) }
            })
        #expect(found == [nil, ip("198.51.100.1"), ip("192.0.2.1")])
    }

    /// Sends 1 to members, 2 after they have left and 3 when they are back: what they heard, the end mark left out.
    private func talk(_ reactor: Reactor, group: String, source: String?, interface: String) throws -> [UInt8] {
        let group = ip(group)
        let any = group.isIPv4 ? "0.0.0.0:0" : "[::]:0"
        var options = UDPOptions()
        options.multicastInterface = interface
        options.multicastLoop = true
        options.multicastTTL = 3
        let receiver = try reactor.udpSocket(bind: address(any))
        let sender = try reactor.udpSocket(
            bind: group.isIPv4 ? address("127.0.0.1:0") : address(any), options: options)
        defer {
            receiver.close()
            sender.close()
        }
        let collector = Collector()
        receiver.handler = collector
        let target = SocketAddress(group, port: receiver.localAddress.port)
        let source = source.map(ip)
        for step in [UInt8(1), 2, 3] {
            if step == 2 {
                try receiver.leave(group: group, source: source, interface: interface)
            } else {
                try receiver.join(group: group, source: source, interface: interface)
            }
            #expect(throws: ReactorError.self) {
                // Twice the same is refused.
                if step == 2 {
                    try receiver.leave(group: group, source: source, interface: interface)
                } else {
                    try receiver.join(group: group, source: source, interface: interface)
                }
            }
            // Unicast behind it, so that silence has an end.
            for _ in 0..<3 { sender.send([step, step], to: target) }
            let here = group.isIPv4 ? ip("127.0.0.1") : ip("::1")
            sender.send([0xff], to: SocketAddress(here, port: target.port))
            let before = collector.datagrams.count { $0.bytes == [0xff] }
            #expect(reactor.turns { collector.datagrams.count { $0.bytes == [0xff] } > before })
        }
        #expect(collector.datagrams.allSatisfy { $0.bytes == [0xff] || $0.local == target })
        #expect(reactor.counters.sendErrors.total == 0)
        var steps: [UInt8] = []
        for step in [UInt8(1), 2, 3] {
            let copies = collector.datagrams.count { $0.bytes == [step, step] }
            #expect(copies == 0 || copies == 3)
            if copies > 0 { steps.append(step) }
        }
        return steps
    }

    private func number(_ io: Reactor.IO) -> Int { io == .epoll ? 1 : 2 }

    @Test func mistakesAreNamed() throws {
        let reactor = try Reactor(io: .epoll)
        defer { reactor.close() }
        let socket = try reactor.udpSocket(bind: address("0.0.0.0:0"))
        func complaint(_ body: () throws -> Void) throws -> String {
            try #require(throws: ReactorError.self, performing: body).description
        }
        #expect(
            try complaint { try socket.join(group: ip("192.0.2.1")) }
                == "join 192.0.2.1: not a multicast address; groups lie in 224.0.0.0/4 or ff00::/8")
        #expect(
            try complaint { try socket.join(group: ip("239.1.1.1"), interface: "nosuch0") }
                .hasPrefix("interface nosuch0: no such interface; this machine has "))
        #expect(
            try complaint { try socket.join(group: ip("232.1.1.1"), source: ip("::1"), interface: "lo") }
                == "join ::1@232.1.1.1 on lo: source and group are of different IP versions")
        #expect(
            try complaint { try socket.leave(group: ip("239.1.1.1"), interface: "lo") }
                == "leave 239.1.1.1 on lo: Cannot assign requested address; it was not joined that way")
        for last in 1...20 { try socket.join(group: ip("239.255.42.\(last)"), interface: "lo") }
        #expect(
            try complaint { try socket.join(group: ip("239.255.42.21"), interface: "lo") }
                == "join 239.255.42.21 on lo: No buffer space available; "
                + "a socket takes 20 groups (net.ipv4.igmp_max_memberships): use another socket")
    }

    @Test func interfacesAreListed() throws {
        let interfaces = try NetworkInterface.all()
        let loopback = try #require(interfaces.first { $0.name == "lo" })
        #expect(loopback.isLoopback && loopback.isUp && loopback.index == 1 && loopback.mtu >= 1280)
        #expect(loopback.addresses.contains(ip("127.0.0.1")))
        #expect(Set(interfaces.map(\.index)).count == interfaces.count)
    }
}
