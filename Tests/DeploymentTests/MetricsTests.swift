import Foundation
import TestSupport
import Testing

/// Prometheus' own library for Python.
private enum Reader {
    static let python = Machine.root.appending(path: ".build/venv/bin/python3").path
    static let obstacle: String? =
        Ground.obstacle
        ?? (Machine.requiresAll || FileManager.default.isExecutableFile(atPath: python)
            ? nil : "prometheus-client is missing: make test installs it into .build/venv")
        ?? (Machine.has("promtool") ? nil : "promtool is missing: make test installs it")

    /// Fetches metrics in both formats, by a command that `run` runs where they are: values by name and labels. What Prometheus'
    /// own library and promtool would warn of is an error.
    static func fetch(_ port: Int, _ run: ([String]) throws -> String) throws -> [String: Double] {
        let script = """
            import subprocess, sys, urllib.request
            from prometheus_client.parser import text_string_to_metric_families
            from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
            def fetch(accept):
                request = urllib.request.Request("http://127.0.0.1:\(port)/metrics", headers={"Accept": accept})
                answer = urllib.request.urlopen(request, timeout=5)
                return answer.headers["Content-Type"], answer.read().decode()
            kind, text = fetch("*/*")
            assert kind.startswith("text/plain; version=0.0.4"), kind
            check = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
            assert check.returncode == 0, check.stdout + check.stderr
            kind, open_text = fetch("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
            assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
            assert open_text.endswith("\\n# EOF\\n")
            units = {family.name: family.unit for family in openmetrics(open_text)}
            seen = set()
            for family in text_string_to_metric_families(text):
                assert family.name not in seen and family.documentation, family
                assert family.type in ("counter", "gauge", "histogram"), family
                seen.add(family.name)
                for unit in ("seconds", "bytes"):
                    assert family.name.endswith(unit) == (units[family.name] == unit), family
                for sample in family.samples:
                    assert sample.name.endswith("_total") == (family.type == "counter"), sample
                    labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                    print(f"{sample.name} {labels or '-'} {sample.value}")
            assert seen == set(units), seen ^ set(units)
            """
        var values: [String: Double] = [:]
        for line in try run([python, "-c", script]).split(separator: "\n") {
            let words = line.split(separator: " ")
            let name = words[1] == "-" ? "\(words[0])" : "\(words[0]) \(words[1])"
            #expect(values[name] == nil, "\(name) twice")
            values[name] = Double(words[2])
        }
        return values
    }
}

/// Metrics of a relay and a gateway at work, read as Prometheus' own library for Python reads them.
@Suite(.serialized, .enabled(if: Reader.obstacle == nil, "\(Reader.obstacle ?? "")"))
struct MetricsTests {
    private func fetch(at place: Place, _ port: Int) throws -> [String: Double] {
        try Reader.fetch(port) { try place.shell($0) }
    }

    @Test func relayAndGatewayAreCounted() throws {
        let stage = try AMTStage(receivers: 1)
        let relay = try stage.startRelay(
            ["--metrics", "127.0.0.1:9464", "--deny-group", "232.66.0.0/16", "--channel-rate", "1G"])
        func gateway(_ name: String, _ channels: [String], _ more: [String]) throws -> Child {
            try stage.start(
                name, at: stage.receiverPlaces[0],
                ["gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--json"]
                    + channels.flatMap { ["--group", $0] } + more)
        }
        let listener = try gateway(
            "gateway", ["10.74.0.2@232.74.0.1", "10.74.0.2@232.66.0.1"],
            ["--to", "127.0.0.1:9999", "--count", "7", "--metrics", "127.0.0.1:9465"])
        try listener.awaitEvent("joined")
        try waitUntil(seconds: 10, "the join to arrive") { relay.told.interval?.endpoints == 1 }
        func send(_ count: Int, to group: String) throws {
            try stage.sourcePlace.shell([
                "/usr/bin/python3", "-c",
                """
                import socket
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
                s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.74.0.2"))
                for n in range(\(count)): s.sendto(b"x" * 100, ("\(group)", 5000))
                """,
            ])
        }
        try send(3, to: "232.74.0.9")
        try send(6, to: "232.74.0.1")
        let channel = "group=232.74.0.1,source=10.74.0.2"
        try waitUntil(seconds: 10, "six packets\n\(listener.logTail)") {
            try fetch(at: stage.receiverPlaces[0], 9465)["flexicast_gateway_channel_packets_total \(channel)"] == 6
        }
        let there = try fetch(at: stage.receiverPlaces[0], 9465)
        #expect(there["flexicast_gateway_channel_bytes_total \(channel)"] == 600)
        #expect(there["flexicast_gateway_received_packets_total"] == 6)
        #expect(there["flexicast_gateway_joined_tunnels"] == 1)
        let here = try fetch(at: stage.relayPlace, 9464)
        #expect(here["flexicast_relay_tunnels"] == 1 && here["flexicast_relay_channels"] == 1)
        #expect(here["flexicast_relay_channel_packets_total \(channel)"] == 6)
        // 100 octets of payload, 8 of UDP, 20 of IP, and 2 of AMT in the tunnel.
        #expect(here["flexicast_relay_channel_bytes_total \(channel)"] == 768)
        #expect(here["flexicast_relay_channel_copies_total \(channel)"] == 6)
        #expect(here["flexicast_relay_sent_packets_total"] == 6)
        #expect(here["flexicast_relay_sent_bytes_total"] == 780)
        #expect(here["flexicast_relay_dropped_packets_total reason=unwanted"] == 3)
        #expect((here["flexicast_relay_refused_joins_total reason=group_not_served"] ?? 0) >= 1)
        #expect(relay.log.contains("the group is not served"))
        // The tunnel, one by one.
        let listing = try stage.relayPlace.shell([
            "/usr/bin/python3", "-c",
            """
            import json, urllib.request
            page = json.load(urllib.request.urlopen("http://127.0.0.1:9464/endpoints", timeout=5))
            for each in page["endpoints"]: print(page["tunnels"], each["packets"], each["bytes"], each["joins"], each["gateway"])
            """,
        ])
        #expect(listing.hasPrefix("1 6 780 1 10.74.1.2:"))
        try send(1, to: "232.74.0.1")
        try waitUntil(seconds: 10, "the gateway to end") { listener.told.summary != nil }
        #expect(try listener.end(0) == 0)
        #expect(try relay.end(SIGTERM) == 0)
    }

    /// A channel is held to its rate, and another one does not feel it.
    @Test func channelsHaveARate() throws {
        let stage = try AMTStage(receivers: 1)
        let relay = try stage.startRelay(["--metrics", "127.0.0.1:9464", "--channel-rate", "100k"])
        let listener = try stage.start(
            "gateway", at: stage.receiverPlaces[0],
            [
                "gateway", "--relay", stage.relayAddress(for: 0, isIPv4: true), "--json", "--to", "127.0.0.1:9999",
                "--group", "10.74.0.2@232.74.0.1", "--group", "10.74.0.2@232.74.0.2",
            ])
        try listener.awaitEvent("joined")
        try waitUntil(seconds: 10, "the joins to arrive") { relay.told.interval?.channels == 2 }
        try stage.sourcePlace.shell([
            "/usr/bin/python3", "-c",
            """
            import socket
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.74.0.2"))
            for n in range(500): s.sendto(b"x" * 972, ("232.74.0.1", 5000))
            s.sendto(b"x" * 972, ("232.74.0.2", 5000))
            """,
        ])
        let other = "group=232.74.0.2,source=10.74.0.2"
        try waitUntil(seconds: 10, "the last packet") {
            try fetch(at: stage.relayPlace, 9464)["flexicast_relay_channel_copies_total \(other)"] == 1
        }
        let values = try fetch(at: stage.relayPlace, 9464)
        let dropped = try #require(values["flexicast_relay_dropped_packets_total reason=channel_rate"])
        #expect(dropped > 100 && values["flexicast_relay_sent_packets_total"] == 501 - dropped)
        #expect(
            values["flexicast_relay_channel_dropped_packets_total group=232.74.0.1,source=10.74.0.2"] == dropped)
        #expect(values["flexicast_relay_channel_dropped_packets_total \(other)"] == 0)
    }

    /// A source tells how its receivers are served, each of them too, and lets them have everything before it ends.
    @Test func aSourceIsSeenAndDrains() throws {
        let directory = try TemporaryDirectory()
        func path(_ name: String) -> String { directory.url.appending(path: name).path }
        let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: 400_000)
        let source = try Child(
            "source",
            [
                Ground.program, "source", "--feed", path("feed.atom"), "--poll", "50ms", "--listen", "127.0.0.1:0",
                "--unicast-rate", "8M", "--drain", "60s", "--metrics", "127.0.0.1:0", "--json",
            ], log: directory.url.appending(path: "source.log"))
        try source.awaitEvent("listening")
        let listening = try #require(source.told.events.first)
        let port = try #require(listening.metrics?.split(separator: ":").last.flatMap { Int($0) })
        func fetch() throws -> [String: Double] {
            try Reader.fetch(port) { command in
                let ran = try run(command[0], Array(command.dropFirst()))
                try #require(ran.status == 0, "\(ran.errors)")
                return ran.output
            }
        }
        func page(_ name: String) throws -> String {
            let ran = try run("/usr/bin/curl", ["-sS", "-f", "http://127.0.0.1:\(port)\(name)"])
            try #require(ran.status == 0, "\(ran.errors)")
            return ran.output
        }
        let receiver = try Child(
            "receiver",
            [
                Ground.program, "receive", listening.address ?? "", "--trust", listening.certificate ?? "", "--json",
                "--output", path("items"),
            ], log: directory.url.appending(path: "receiver.log"))
        try receiver.awaitEvent("connected")
        try feed.publish(1)
        try waitUntil(seconds: 20, "an item\n\(receiver.logTail)") { receiver.told.itemLines == 1 }
        let seen = try fetch()
        #expect(seen["flexicast_source_receivers way=unicast"] == 1)
        #expect(seen["flexicast_source_items_total"] == 1)
        #expect((seen["flexicast_source_sent_bytes_total kind=unicast"] ?? 0) > 400_000)
        #expect((seen["flexicast_source_polls_total"] ?? 0) > 0)
        #expect((seen["flexicast_source_certificate_expiry_timestamp_seconds"] ?? 0) > Date().timeIntervalSince1970)
        let listing = try page("/receivers")
        let answer = try JSONDecoder().decode(ReceiverListing.self, from: Data(listing.utf8))
        #expect(answer.receivers == 1)
        #expect(answer.listing.map(\.way) == ["unicast"])
        #expect(answer.listing.first?.parts_behind == 0)
        #expect((answer.listing.first?.bytes ?? 0) > 400_000)
        #expect(try page("/receivers?from=1").contains("\"listing\":[\n]"))
        #expect(try page("/health").contains("\"status\":\"up\""))

        // Three items take more than a second; the source is told to end when it has just read them.
        try feed.publish(3)
        try waitUntil(seconds: 20, "the source to read them") { source.told.items.count == 4 }
        #expect(try source.end() == 0)
        #expect(source.told.count("draining") == 1)
        try waitUntil(seconds: 10, "the rest\n\(receiver.logTail)") { receiver.told.itemLines == 4 }
        #expect(try receiver.end() == 0)
    }

    /// What a receiver tells of itself, as numbers for Prometheus and as events, agrees with the items that it printed.
    @Test func aReceiverIsSeen() throws {
        let directory = try TemporaryDirectory()
        func path(_ name: String) -> String { directory.url.appending(path: name).path }
        let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: 20_000)
        let source = try Child(
            "source",
            [
                Ground.program, "source", "--feed", path("feed.atom"), "--poll", "50ms", "--listen", "127.0.0.1:0",
                "--replicate", "--json",
            ], log: directory.url.appending(path: "source.log"))
        try source.awaitEvent("listening")
        let listening = try #require(source.told.events.first)
        let receiver = try Child(
            "receiver",
            [
                Ground.program, "receive", listening.address ?? "", "--trust", listening.certificate ?? "", "--json",
                "--interval", "100ms", "--metrics", "127.0.0.1:0",
            ], log: directory.url.appending(path: "receiver.log"))
        try receiver.awaitEvent("listening")
        let address = try #require(receiver.told.events.first { $0.event == "metrics" }?.address)
        let port = try #require(address.split(separator: ":").last.flatMap { Int($0) })
        func fetch() throws -> [String: Double] {
            try Reader.fetch(port) { command in
                let ran = try run(command[0], Array(command.dropFirst()))
                try #require(ran.status == 0, "\(ran.errors)")
                return ran.output
            }
        }
        try feed.publish(3)
        try waitUntil(seconds: 20, "the items\n\(receiver.logTail)") { receiver.told.itemLines == 3 }
        let seen = try fetch()
        #expect(seen["flexicast_receiver_way way=flow"] == 1 && seen["flexicast_receiver_way way=unicast"] == 0)
        #expect(seen["flexicast_receiver_connections_total"] == 1)
        for via in ["flow", "unicast", "mixed"] {
            #expect(
                seen["flexicast_receiver_items_total via=\(via)"] == Double(receiver.told.vias[via] ?? 0), "\(via)")
        }
        #expect((seen["flexicast_receiver_received_bytes_total way=flow"] ?? 0) > 60_000)
        #expect(seen["flexicast_receiver_item_latency_seconds_count"] == 3)
        let sum = try #require(seen["flexicast_receiver_item_latency_seconds_sum"])
        #expect(abs(sum * 1000 - receiver.told.latencies.reduce(0, +)) < 0.01)
        for bound in [0.001, 0.01, 0.1, 1.0] {
            #expect(
                seen["flexicast_receiver_item_latency_seconds_bucket le=\(bound)"]
                    == Double(receiver.told.latencies.count { $0 <= bound * 1000 }), "\(bound)")
        }
        // The intervals together are the whole.
        try waitUntil(seconds: 20, "an interval behind it") { receiver.told.intervalItems == 3 }
        let reported = try #require(receiver.told.interval)
        #expect(reported.way == "flow" && reported.packets_lost == 0)
        // Without a source there is no way, and that is a fact to be told.
        try source.end(SIGKILL)
        try waitUntil(seconds: 60, "the receiver to notice\n\(receiver.logTail)") {
            try fetch()["flexicast_receiver_way way=none"] == 1
        }
        #expect(try receiver.end() == 0)
    }

    // swift-format-ignore: AlwaysUseLowerCamelCase
    private struct ReceiverListing: Decodable {
        struct One: Decodable {
            var way: String
            var parts_behind: Int
            var bytes: Int
        }
        var receivers: Int
        var listing: [One]
    }
}
