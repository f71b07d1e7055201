import Foundation
import TestSupport
import Testing

extension Deployment {
    /// A source is the same one after a restart, and receivers know it, or say why not and what would do.
    @Suite struct Identity {
        /// A source with a state directory of its own and receivers, all on loopback.
        private final class Scene {
            let directory: TemporaryDirectory
            let feed: LoadFeed
            private(set) var source: Child
            private var receivers = 0
            private let options: [String]

            init(_ options: [String] = []) throws {
                directory = try TemporaryDirectory()
                self.options = options
                feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
                try feed.publish(1)
                source = try Self.start(directory.url, "127.0.0.1:0", options)
                try source.awaitEvent("listening")
            }

            private static func start(_ directory: URL, _ address: String, _ options: [String]) throws -> Child {
                try Child(
                    "source",
                    [
                        Ground.program, "source", "--feed", directory.appending(path: "feed.atom").path, "--poll",
                        "50ms", "--listen", address, "--state", directory.appending(path: "state").path, "--json",
                    ] + options, log: directory.appending(path: "source.log"))
            }

            func path(_ name: String) -> String { directory.url.appending(path: name).path }
            var listening: EventLine? { source.told.events.first { $0.event == "listening" } }
            var address: String { listening?.address ?? "" }
            var certificate: String { listening?.certificate ?? "" }

            /// Kills the source and starts it at the same address.
            func restartSource() throws {
                let address = address
                try source.end(SIGKILL)
                source = try Self.start(directory.url, address, options)
                try source.awaitEvent("listening")
            }

            func receive(_ options: [String]) throws -> Child {
                receivers += 1
                return try Child(
                    "receiver-\(receivers)", [Ground.program, "receive", address, "--json"] + options,
                    log: directory.url.appending(path: "receiver-\(receivers).log"))
            }

            func awaitItems(_ count: Int, at receiver: Child) throws {
                try waitUntil(seconds: 20, "\(count) items at \(receiver.name)\n\(receiver.logTail)") {
                    receiver.told.itemLines >= count
                }
            }

            /// A new certificate of somebody else's making for this machine, valid for so many days.
            func makeCertificate(_ name: String, days: Int) throws {
                let openssl = try #require(Machine.path(of: "openssl"))
                let made = try run(
                    openssl,
                    [
                        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "\(days)", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                        path("\(name).key"), "-out", path("\(name).pem"),
                    ])
                try #require(made.status == 0, "\(made.errors)")
            }
        }

        @Test func aSourceThatStartsAgainIsTheSame() throws {
            let scene = try Scene(["--write-certificate", FileManager.default.temporaryDirectory.path + "/unused.pem"])
            defer {
                try? FileManager.default.removeItem(atPath: FileManager.default.temporaryDirectory.path + "/unused.pem")
            }
            let certificate = scene.certificate
            let receiver = try scene.receive(["--trust", certificate])
            try scene.awaitItems(1, at: receiver)
            try scene.restartSource()
            #expect(scene.certificate == certificate)
            try scene.feed.publish(1)
            try scene.awaitItems(2, at: receiver)
            let key = try FileManager.default.attributesOfItem(atPath: scene.path("state/certificate-key.pem"))
            #expect(key[.posixPermissions] as? Int == 0o600)
            #expect(try receiver.end() == 0)
            #expect(try scene.source.end() == 0)
        }

        /// Who does not know the certificate says so once, with what would do, goes on trying and fails in the end.
        @Test func aCertificateThatIsNotTrustedIsTold() throws {
            let scene = try Scene()
            let receiver = try scene.receive([])
            try waitUntil(seconds: 20, "a word about the certificate\n\(receiver.logTail)") {
                receiver.log.contains("give --trust") && receiver.log.contains(scene.certificate)
            }
            #expect(try receiver.end() == 1)
            #expect(receiver.log.components(separatedBy: "give --trust").count == 2)
        }

        /// The file that is trusted is replaced while the receiver runs.
        @Test func whatIsTrustedIsReadAgain() throws {
            let scene = try Scene()
            try scene.makeCertificate("other", days: 10)
            let trusted = scene.path("trusted.pem")
            try FileManager.default.copyItem(atPath: scene.path("other.pem"), toPath: trusted)
            let receiver = try scene.receive(["--trust", trusted])
            try waitUntil(seconds: 20, "a word about the certificate") { receiver.log.contains("give --trust") }
            try Data(contentsOf: URL(filePath: scene.path("state/certificate.pem"))).write(to: URL(filePath: trusted))
            try scene.awaitItems(1, at: receiver)
            #expect(try receiver.end() == 0)
        }

        /// SIGHUP brings a new certificate for who comes from now on, and nobody who is there notices. One that cannot be used
        /// changes nothing.
        @Test func aCertificateIsRenewed() throws {
            let directory = try TemporaryDirectory()
            let (certificate, key) = (
                directory.url.appending(path: "now.pem").path, directory.url.appending(path: "now.key").path
            )
            func use(_ name: String, of scene: Scene?) throws {
                let from = scene?.directory.url ?? directory.url
                for (suffix, to) in [("pem", certificate), ("key", key)] {
                    try Data(contentsOf: from.appending(path: "\(name).\(suffix)")).write(to: URL(filePath: to))
                }
            }
            let maker = try Scene()
            try maker.makeCertificate("first", days: 10)
            try maker.makeCertificate("second", days: 100)
            try use("first", of: maker)
            let scene = try Scene(["--certificate", certificate, "--key", key])
            #expect(scene.source.log.contains("expires at"), "ten days are few")
            let before = try scene.receive(["--trust", maker.path("first.pem")])
            try scene.awaitItems(1, at: before)

            try Data("rubbish".utf8).write(to: URL(filePath: key))
            scene.source.signal(SIGHUP)
            try waitUntil(seconds: 10, "a word about the key") { scene.source.log.contains("stays as it was") }
            try use("second", of: maker)
            scene.source.signal(SIGHUP)
            try waitUntil(seconds: 10, "the new certificate") { scene.source.log.contains("was read again") }
            let after = try scene.receive(["--trust", maker.path("second.pem")])
            try scene.awaitItems(1, at: after)
            try scene.feed.publish(1)
            try scene.awaitItems(2, at: before)
            try scene.awaitItems(2, at: after)
            #expect(before.told.count("connected") == 1)
            #expect(scene.source.log.components(separatedBy: "expires at").count == 2, "a hundred days are enough")
        }
    }
}
