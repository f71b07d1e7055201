import ArgumentParser
import Testing
import Wire

@testable import flexicast

@Suite struct ArgumentTests {
    @Test(arguments: [
        ("5s", Duration.seconds(5)), ("250ms", .milliseconds(250)), ("2m", .seconds(120)), ("1.5h", .seconds(5400)),
        ("10us", .microseconds(10)),
    ])
    func durations(text: String, duration: Duration) throws {
        #expect(try parseDuration(text) == duration)
    }

    @Test(arguments: ["", "5", "s", "-5s", "0s", "5 s", "1e3s", "5sec", "..s", "999999h", "٣s"])
    func wrongDurations(text: String) {
        #expect(throws: ArgumentProblem.self) { try parseDuration(text) }
    }

    @Test(arguments: [("50M", 50_000_000 as UInt64), ("2.5G", 2_500_000_000), ("800k", 800_000), ("12345", 12_345)])
    func rates(text: String, bits: UInt64) throws {
        #expect(try parseRate(text) == bits)
    }

    @Test(arguments: ["", "M", "50MB", "-1M", "1", "9999G", "50 M", "nan", "inf"])
    func wrongRates(text: String) {
        #expect(throws: ArgumentProblem.self) { try parseRate(text) }
    }

    @Test func serverNames() throws {
        #expect(try ServerName("example.org:4433").host == "example.org")
        #expect(try ServerName("[2001:db8::1]:4433").host == "2001:db8::1")
        #expect(try ServerName("192.0.2.1:4433").port == 4433)
        let several = try ServerNames("a.example:1,[2001:db8::1]:2,a.example:3")
        #expect(several.first.host == "a.example" && several.others.map(\.port) == [2, 3])
        for text in ["", "a.example:1,", ",a.example:1", "a.example:1,a.example:1", "a.example:1 b.example:1"] {
            #expect(throws: ArgumentProblem.self) { try ServerNames(text) }
        }
    }

    @Test(arguments: [
        "", "example.org", "example.org:", "example.org:0", "example.org:65536", ":4433", "2001:db8::1:4433",
        "192.0.2:4433", "-x.org:1", "a b:1",
    ])
    func wrongServerNames(text: String) {
        #expect(throws: ArgumentProblem.self) { try ServerName(text) }
    }

    @Test func everyOptionOfSourceReachesTheEndpoint() throws {
        let command = try SourceCommand.parse([
            "--feed", "https://example.org/new.atom", "--poll", "1s", "--listen", "[::]:4433", "--group",
            "[ff3e::8000:1]:5000", "--interface", "eth0", "--ttl", "8", "--certificate", "c.pem", "--key", "k.pem",
            "--write-certificate", "w.pem", "--rate", "50M", "--ack-delay", "25ms", "--history", "7", "--state", "s",
            "--keylog", "keys", "--json", "--io", "epoll", "--packet-size", "1402", "--whole-feed",
            "--rate-floor", "1M", "--pace-percent", "90",
        ])
        let options = command.options
        #expect(options.flow.packetSize == 1402)
        #expect(options.wholeFeed)
        #expect(options.feeds == ["https://example.org/new.atom"])
        #expect(options.pollInterval == .seconds(1))
        #expect(options.listen == SocketAddress("[::]:4433"))
        #expect(options.flow.group == SocketAddress("[ff3e::8000:1]:5000"))
        #expect(options.flow.interface == "eth0")
        #expect(options.flow.timeToLive == 8)
        #expect(options.certificate?.certificate == "c.pem")
        #expect(options.certificate?.key == "k.pem")
        #expect(options.certificateOutput == "w.pem")
        #expect(options.flow.rate == 50_000_000)
        #expect(options.flow.rateFloor == 1_000_000)
        #expect(options.flow.pacePercent == 90)
        #expect(options.flow.acknowledgementDelay == .milliseconds(25))
        #expect(options.history == 7)
        #expect(options.stateDirectory == "s")
        #expect(options.keyLog == "keys")
        #expect(options.json)
        #expect(options.io == .epoll)
    }

    @Test func everyOptionOfReceiveReachesTheEndpoint() throws {
        let command = try ReceiveCommand.parse([
            "192.0.2.1:4433", "--trust", "c.pem", "--path", "multicast", "--output", "out", "--count", "3",
            "--timeout", "2m", "--interface", "eth1", "--keylog", "keys", "--json", "--io", "io_uring",
        ])
        let options = command.options
        #expect(options.host == "192.0.2.1")
        #expect(options.port == 4433)
        #expect(options.trust == .file("c.pem"))
        #expect(options.path == .multicast)
        #expect(options.output == .directory("out"))
        #expect(options.count == 3)
        #expect(options.timeout == .seconds(120))
        #expect(options.interface == "eth1")
        #expect(options.keyLog == "keys")
        #expect(options.json)
        #expect(options.io == .ioUring)
        #expect(try ReceiveCommand.parse(["a.example:1", "--insecure"]).options.trust == .anyone)
        #expect(try ReceiveCommand.parse(["a.example:1"]).options.trust == .system)
        #expect(try ReceiveCommand.parse(["a.example:1", "--output", "-"]).options.output == .standardOutput)
    }

    @Test func everyOptionOfRelayReachesTheEndpoint() throws {
        let options = try RelayCommand.parse([
            "--listen", "192.0.2.1", "--listen", "[2001:db8::1]:2300", "--upstream", "eth0", "--group",
            "239.1.1.1:5000", "--mtu", "1400", "--query-interval", "60s", "--drain", "1s", "--dynamic-mtu",
            "--minimum-mtu", "1300", "--unreachable-limit", "5", "--source-specific-only", "--advertise", "192.0.2.9",
            "--advertise", "2001:db8::9", "--allow-group", "239.0.0.0/8", "--deny-group", "239.2.0.0/16",
            "--allow-source", "10.0.0.0/8", "--deny-source", "10.9.0.0/16", "--tunnel-rate", "2M", "--tunnels", "7",
            "--tunnels-per-address", "3", "--gateway-fields", "never", "--json", "--io", "epoll",
        ]).options
        #expect(options.listen == ["192.0.2.1:2268", "[2001:db8::1]:2300"].compactMap { SocketAddress($0) })
        #expect(options.upstream == "eth0" && options.groups == [SocketAddress("239.1.1.1:5000")])
        #expect(options.relay.tunnelMTU == 1400 && options.drain == .seconds(1))
        let relay = options.relay
        #expect(relay.queryInterval == .seconds(60) && relay.followsPathMTU && relay.minimumMTU == 1300)
        #expect(relay.unreachableLimit == 5 && !relay.allowsAnySource)
        #expect(relay.advertisedIPv4 == IPAddress("192.0.2.9") && relay.advertisedIPv6 == IPAddress("2001:db8::9"))
        #expect(relay.groups.allowed.map(\.description) == ["239.0.0.0/8"])
        #expect(relay.groups.denied.map(\.description) == ["239.2.0.0/16"])
        #expect(relay.sources.allowed.map(\.description) == ["10.0.0.0/8"])
        #expect(relay.sources.denied.map(\.description) == ["10.9.0.0/16"])
        #expect(relay.endpointRate == 2_000_000 && relay.endpointLimit == 7 && relay.endpointsPerAddressLimit == 3)
        #expect(relay.gatewayFields == .never && options.json && options.io == .epoll)
    }

    @Test func relaysAreSearchedForAsAsked() throws {
        let options = try GatewayCommand.parse([
            "--relay", "auto", "--group", "10.0.0.1@232.1.1.1", "--dns", "192.0.2.53", "--dns-domain", "example.org",
            "--discover", "source,dns-sd",
        ]).options
        guard case .search(let search) = options.relay else {
            Issue.record("\(options.relay)")
            return
        }
        #expect(search.ways == [.sourceRecords, .serviceDiscovery] && search.domains == ["example.org"])
        #expect(search.nameServers == [SocketAddress("192.0.2.53:53")].compactMap(\.self))
    }

    /// Each refusal exits with 64 and names what would be accepted.
    @Test(arguments: [
        (["source", "--listen", ":1"], "nothing to send; give --feed"),
        (["source", "--feed", "x", "--listen", "239.1.1.1:1"], "is a multicast group"),
        (["source", "--feed", "x", "--listen", "1.2.3"], "write ADDRESS:PORT"),
        (["source", "--feed", "x", "--listen", ":1", "--group", "1.2.3.4:5"], "is not a multicast address"),
        (["source", "--feed", "x", "--listen", "1.2.3.4:1", "--group", "[ff3e::1]:5"], "different IP versions"),
        (["source", "--feed", "x", "--listen", ":1", "--poll", "5"], "write a number and a unit"),
        (["source", "--feed", "x", "--listen", ":1", "--rate", "50Q"], "such as 50M"),
        (["source", "--feed", "x", "--listen", ":1", "--rate-floor", "101M"], "is above --rate"),
        (["source", "--feed", "x", "--listen", ":1", "--pace-percent", "0"], "from 50 to 100"),
        (["source", "--feed", "x", "--listen", ":1", "--ttl", "0"], "from 1 to 255"),
        (["source", "--feed", "x", "--listen", ":1", "--ack-delay", "1h"], "at most 10s"),
        (["source", "--feed", "x", "--listen", ":1", "--key", "k"], "go together"),
        (["source", "--feed", "gopher://x", "--listen", ":1"], "accepted are http://…, https://…, file:///…"),
        (["source", "--feed", "x", "--feed", "x", "--listen", ":1"], "is given twice"),
        (["source", "--feed", "x", "--feed", "y", "--whole-feed", "--listen", ":1"], "--whole-feed sends one feed"),
        (["receive", "nowhere"], "write HOST:PORT"),
        (["receive", "a:1", "--path", "amt"], "--path amt needs --relay"),
        (["receive", "a:1", "--trust", "f", "--insecure"], "exclude each other"),
        (["receive", "a:1", "--json", "--output", "-"], "both write to standard output"),
        (["receive", "a:1", "--io", "kqueue"], "'io_uring' or 'epoll'"),
        (["receive", "a:1", "--dns", "192.0.2.53"], "give --relay auto"),
        (["receive", "a:1", "--relay", "192.0.2.1", "--dns-domain", "example.org"], "--dns-domain say how"),
        (
            ["gateway", "--relay", "192.0.2.1", "--group", "10.0.0.1@232.1.1.1", "--dns", "192.0.2.53"],
            "give --relay auto"
        ),
        (["gateway", "--relay", "auto", "--group", "10.0.0.1@232.1.1.1", "--dns", "239.1.1.1"], "write ADDRESS"),
        (["gateway", "--relay", "auto", "--group", "10.0.0.1@232.1.1.1", "--dns-domain", "a..b"], "write a domain"),
        (["gateway", "--relay", "auto"], "give --group, or --verify alone"),
        (["receive", "a:1", "--relay", "auto", "--discover", "dns"], "write some of dns-sd, anycast and source"),
        (["receive", "a:1", "--relay", "auto", "--discover", "source,source"], "each once"),
        (["receive", "a:1", "--discover", "source"], "--discover say how"),
        (["gateway", "--relay", "auto", "--group", "232.1.1.1"], "is source-specific"),
        (["gateway", "--relay", "auto", "--verify", "10.0.0.1@232.1.1.1", "--count", "3"], "only tells what it finds"),
        (
            ["gateway", "--relay", "auto", "--group", "10.0.0.1@232.1.1.1", "--to", "127.0.0.1:1", "--tun", "t0"],
            "exclude each other"
        ),
        (["relay", "--allow-group", "232.1.0.1/16"], "no bits set behind"),
        (["relay", "--deny-source", "10.0.0.0/33"], "write ADDRESS/BITS"),
        (["relay", "--minimum-mtu", "1300"], "goes with --dynamic-mtu"),
        (["relay", "--dynamic-mtu", "--minimum-mtu", "1400", "--mtu", "1300"], "is more than --mtu"),
        (["relay", "--advertise", "0.0.0.0"], "an address of this machine"),
        (["relay", "--advertise", "192.0.2.1", "--advertise", "192.0.2.2"], "one IPv4 and one IPv6"),
        (["relay", "--query-interval", "10h"], "from 1s to 31744s"),
        (["source", "--feed", "x", "--listen", ":1", "--packet-size", "1500"], "from 1200 to 1472"),
        (["demo", "--receivers", "0", "--unicast", "0"], "at least one receiver"),
        (["demo", "--loss", "100"], "below 100"),
        (["demo", "--wrong"], "Unknown option '--wrong'"),
    ])
    func refusalsSayWhatWouldBeAccepted(arguments: [String], text: String) {
        do {
            _ = try Flexicast.parseAsRoot(arguments)
            Issue.record("accepted")
        } catch {
            #expect(Flexicast.exitCode(for: error).rawValue == 64)
            #expect(Flexicast.fullMessage(for: error).contains(text))
        }
    }
}

@Suite struct LogLineTests {
    @Test func oneLineWithSortedQuotedMetadata() {
        let line = LineLogHandler.line(
            time: .init(timeIntervalSince1970: 0.25), level: .warning, label: "source", message: "poll failed",
            metadata: ["url": "http://x", "error": "not found"])
        #expect(line == "1970-01-01T00:00:00.250Z warning source: poll failed error=\"not found\" url=http://x\n")
    }

    @Test func whatPeersSendCannotForgeLines() {
        let line = LineLogHandler.line(
            time: .init(timeIntervalSince1970: 0), level: .info, label: "x", message: "a\nb",
            metadata: ["title": "\u{1b}[2Jc\r\n"])
        #expect(line.unicodeScalars.count { $0.value < 0x20 } == 1)
        #expect(line.hasSuffix("\n"))
    }
}
