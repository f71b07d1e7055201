import Foundation
import TestSupport
import Testing

extension Deployment {
    /// SIGHUP has a source read its configuration again, under receivers that are connected.
    @Suite struct Reload {
        /// How many: a handful, or as many as a variable says.
        private static let receivers =
            ProcessInfo.processInfo.environment["FLEXICAST_RELOAD_RECEIVERS"].flatMap { Int($0) } ?? 4

        private final class Scene {
            let directory: TemporaryDirectory
            let first: LoadFeed
            let second: SampleEntries
            private(set) var source: Child
            private(set) var receivers: [Child] = []

            init() throws {
                directory = try TemporaryDirectory()
                first = try LoadFeed(file: directory.url.appending(path: "first.atom"), octets: LoadFeed.smallItem)
                try first.publish(1)
                second = try SampleEntries(file: directory.url.appending(path: "second.atom"))
                try second.publish(upTo: 2)
                try Self.makeCertificate(in: directory.url, days: 100)
                try Self.write(Self.text(directory.url), to: directory.url)
                source = try Child(
                    "source", [Ground.program, "source", "--config", directory.url.path + "/c.toml", "--json"],
                    log: directory.url.appending(path: "source.log"))
                try source.awaitEvent("listening")
            }

            private static func text(_ directory: URL, _ more: String = "", feeds: [String] = ["first"]) -> String {
                """
                [source]
                feed = [\(feeds.map { "'\(directory.path)/\($0).atom'" }.joined(separator: ", "))]
                listen = '127.0.0.1:0'
                poll = '50ms'
                state = '\(directory.path)/state'
                certificate = '\(directory.path)/c.pem'
                key = '\(directory.path)/c.key'

                """ + more
            }

            private static func write(_ text: String, to directory: URL) throws {
                try Data(text.utf8).write(to: directory.appending(path: "c.toml"), options: .atomic)
            }

            static func makeCertificate(in directory: URL, days: Int) throws {
                let made = try run(
                    try #require(Machine.path(of: "openssl")),
                    [
                        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "\(days)", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                        directory.path + "/c.key", "-out", directory.path + "/c.pem",
                    ])
                try #require(made.status == 0, "\(made.errors)")
            }

            /// Changes the file and has it read.
            func reload(_ more: String = "", feeds: [String] = ["first"]) throws {
                try Self.write(Self.text(directory.url, more, feeds: feeds), to: directory.url)
                source.signal(SIGHUP)
            }

            func receive() throws -> Child {
                let receiver = try Child(
                    "receiver-\(receivers.count)",
                    [
                        Ground.program, "receive", source.told.events.first { $0.event == "listening" }?.address ?? "",
                        "--trust", directory.url.path + "/c.pem", "--json",
                    ], log: directory.url.appending(path: "receiver-\(receivers.count).log"))
                receivers.append(receiver)
                return receiver
            }

            func awaitLog(_ text: String, times: Int = 1) throws {
                try waitUntil(seconds: 20, "\(times) × \"\(text)\" in\n\(source.logTail)") {
                    source.log.components(separatedBy: text).count > times
                }
            }

            func awaitItems(_ count: Int, at some: ArraySlice<Child>) throws {
                for receiver in some {
                    try waitUntil(seconds: 60, "\(count) items at \(receiver.name)\n\(receiver.logTail)") {
                        receiver.tell { $0.itemLines } >= count
                    }
                }
            }
        }

        /// A certificate is renewed, a feed added and one taken out, limits and the log's level are changed: nobody who is there
        /// notices, and whoever comes then meets what is new.
        @Test func nobodyNoticesButWhoComesThen() throws {
            let scene = try Scene()
            for _ in 0..<Self.receivers { _ = try scene.receive() }
            try scene.awaitItems(1, at: scene.receivers[...])
            let before = scene.receivers[...]
            let fingerprint = try #require(scene.source.told.events.first { $0.event == "listening" }?.certificate)

            try Scene.makeCertificate(in: scene.directory.url, days: 200)
            try scene.reload(
                "connections = \(Self.receivers)\nlog-level = 'debug'\nttl = 3\ninterface = 'lo'\n",
                feeds: ["first", "second"])
            try scene.awaitLog("the configuration was read again")
            #expect(!scene.source.log.contains("the certificate was read again fingerprint=\(fingerprint)"))
            try scene.awaitLog("some options take a restart options=\"interface, ttl\"")
            try scene.awaitItems(3, at: before)
            try scene.awaitLog("debug source: 2 new")
            // There is room for nobody more.
            let refused = try scene.receive()
            try waitUntil(seconds: 20, "a refusal\n\(refused.logTail)") {
                scene.source.tell { ($0.interval?.connections_refused ?? 0) > 0 }
            }
            #expect(refused.told.count("connected") == 0)

            try scene.reload("connections = 1000", feeds: ["second"])
            try scene.awaitLog("the configuration was read again", times: 2)
            // It trusts the new certificate, and what comes to a feed that was taken out goes to nobody.
            try scene.awaitItems(3, at: [refused])
            try scene.first.publish(1)
            try scene.second.publish(upTo: 3)
            try scene.awaitItems(4, at: before)
            #expect(before.allSatisfy { $0.tell { $0.itemLines } == 4 })
            for receiver in before { #expect(receiver.told.count("connected") == 1, "\(receiver.name)") }

            // A feed that comes back goes on where it was.
            try scene.reload(feeds: ["second", "first"])
            try scene.awaitItems(5, at: before)
            #expect(try scene.source.end() == 0)
        }

        /// A relay, a gateway and a receiver take the log's level, and are not ended.
        @Test(arguments: [
            ("relay", "listen = '127.0.0.1:22681'\ngroup = '232.1.1.1:5000'\ndrain = '1ms'\n"),
            ("gateway", "relay = '127.0.0.1:9'\ngroup = '10.0.0.1@232.1.1.1'\n"),
            ("receive", "server = '127.0.0.1:9'\n"),
        ])
        func othersTakeTheLevel(command: String, options: String) throws {
            let directory = try TemporaryDirectory()
            let file = directory.url.appending(path: "c.toml")
            try Data("[\(command)]\n\(options)".utf8).write(to: file)
            let child = try Child(
                command, [Ground.program, command, "--config", file.path, "--json"],
                log: directory.url.appending(path: "log"))
            // Until then it would be its end, as for any program.
            try waitUntil(seconds: 20, "a handler of SIGHUP") { child.catches(SIGHUP) }
            func told(_ text: String) throws {
                try waitUntil(seconds: 20, "\(text) in\n\(child.logTail)") {
                    child.signal(SIGHUP)
                    return child.log.contains(text)
                }
            }
            try Data("[\(command)]\n\(options)interface = 3\nnone = 1\n".utf8).write(to: file, options: .atomic)
            try told("stays as it was")
            try Data("[\(command)]\n\(options)log-level = 'debug'\n".utf8).write(to: file, options: .atomic)
            try told("the configuration was read again")
            #expect(!child.log.contains("take a restart"))
            if command == "relay" {
                try Data("[relay]\n\(options)tunnels = 9\nmtu = 1400\n".utf8).write(to: file, options: .atomic)
                try told("some options take a restart options=mtu")
            }
            #expect(try child.end() == 0)
        }

        /// All that is wrong is told, and everything stays as it was.
        @Test func aBadConfigurationChangesNothing() throws {
            let scene = try Scene()
            let receiver = try scene.receive()
            try scene.awaitItems(1, at: [receiver])
            try scene.reload(
                "connections = 1\nhistory = 'x'\nlog-level = 'debug'\npol = '1s'\n", feeds: ["first", "second"])
            try scene.awaitLog("the configuration stays as it was", times: 2)
            #expect(scene.source.log.contains("c.toml:9: ") && scene.source.log.contains("c.toml:11: "))
            #expect(!scene.source.log.contains("was read again") && !scene.source.log.contains("debug source"))
            try scene.first.publish(1)
            try scene.awaitItems(2, at: [receiver])
            let second = try scene.receive()
            try scene.awaitItems(2, at: [second])
            #expect(try scene.source.end() == 0)
        }
    }
}
