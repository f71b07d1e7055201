import Foundation
import TestSupport
import Testing

extension Deployment {
    /// A source with tokens serves those who show one, and tells the others why it does not.
    @Suite struct Access {
        private final class Scene {
            let directory: TemporaryDirectory
            let feed: LoadFeed
            let source: Child
            static let tokens = ["anna": "0123456789abcdef-anna", "bert": "0123456789abcdef-bert"]

            init() throws {
                directory = try TemporaryDirectory()
                feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
                try feed.publish(1)
                let path = directory.url.path
                try Self.allow(["anna", "bert"], in: path)
                for (name, token) in Self.tokens { try Self.write("\(token)\n", to: "\(path)/\(name)") }
                try Self.write("0123456789abcdef-nobody", to: path + "/nobody")
                source = try Child(
                    "source",
                    [
                        Ground.program, "source", "--feed", feed.file.path, "--poll", "50ms", "--listen", "127.0.0.1:0",
                        "--group", "239.77.0.9:4479", "--interface", "lo", "--access", path + "/access",
                        "--write-certificate", path + "/c.pem", "--json",
                    ], log: directory.url.appending(path: "source.log"))
                try source.awaitEvent("listening")
            }

            static func write(_ text: String, to path: String, mode: Int = 0o600) throws {
                try Data(text.utf8).write(to: URL(filePath: path))
                try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
            }

            static func allow(_ names: [String], in path: String) throws {
                try write("# who\n" + names.map { "\($0)\t\(tokens[$0] ?? "")\n" }.joined(), to: path + "/access")
            }

            func receive(_ name: String, _ options: [String]) throws -> Child {
                try Child(
                    name,
                    [
                        Ground.program, "receive", source.told.events.first { $0.event == "listening" }?.address ?? "",
                        "--trust", directory.url.path + "/c.pem", "--interface", "lo", "--json",
                    ] + options, log: directory.url.appending(path: "\(name).log"))
            }

            func awaitItems(_ count: Int, at receiver: Child) throws {
                try waitUntil(seconds: 30, "\(count) items at \(receiver.name)\n\(receiver.logTail)\n\(source.logTail)")
                {
                    receiver.tell { $0.itemLines } >= count
                }
            }

            /// It ends by itself.
            func refused(_ receiver: Child, because reason: String) throws {
                try waitUntil(seconds: 30, "the end of \(receiver.name)\n\(receiver.logTail)") { !receiver.isRunning }
                #expect(receiver.process.terminationStatus == 1)
                #expect(
                    receiver.log.contains("give --token-file") && receiver.log.contains(reason), "\(receiver.logTail)")
            }
        }

        @Test func whoShowsATokenIsServedAndTheOthersAreToldWhy() throws {
            let scene = try Scene()
            let path = scene.directory.url.path
            let anna = try scene.receive("anna-1", ["--token-file", path + "/anna"])
            let bert = try scene.receive("bert-1", ["--token-file", path + "/bert"])
            for receiver in [anna, bert] { try receiver.awaitEvent("listening") }
            let nobody = try scene.receive("nobody-1", ["--token-file", path + "/nobody"])
            try scene.refused(nobody, because: "the source does not know the token")
            let silent = try scene.receive("silent", [])
            try scene.refused(silent, because: "the source asks for a token")
            let plain = try scene.receive("plain", ["--path", "unicast"])
            try scene.refused(plain, because: "the source asks for a token")
            for other in [nobody, silent, plain] {
                #expect(
                    other.told.itemLines == 0 && other.told.count("position") == 0 && other.told.count("listening") == 0
                )
            }
            #expect(scene.source.log.contains("token=anna") && !scene.source.log.contains("0123456789abcdef"))

            // Who is taken out of the file has to go, and the others stay.
            try Scene.allow(["anna"], in: path)
            scene.source.signal(SIGHUP)
            try scene.refused(bert, because: "the token is not known any more")
            try scene.feed.publish(1)
            try scene.awaitItems(2, at: anna)
            #expect(anna.told.count("connected") == 1)

            // A file that cannot be used changes nothing.
            try Scene.write("anna short\n", to: path + "/access")
            scene.source.signal(SIGHUP)
            try waitUntil(seconds: 20, "a word about line 1\n\(scene.source.logTail)") {
                scene.source.log.contains("access:1: a line is a name and a token")
            }
            let again = try scene.receive("anna-2", ["--token-file", path + "/anna"])
            try scene.awaitItems(2, at: again)
            #expect(try scene.source.end() == 0)
        }

        @Test(arguments: [
            ("", 0o644, "chmod 600"), ("", 0o640, "chmod 600"), ("a\n", 0o600, "access:1: "),
            (nil, 0o600, "there is no file"),
            ("a 0123456789abcdef\na 0123456789abcdeg\n", 0o600, "access:2: the name or the token is there twice"),
            ("a 0123456789abcde\n", 0o600, "16 to 512 visible"),
        ])
        func filesThatCannotBeUsedAreToldAtStart(text: String?, mode: Int, reason: String) throws {
            let directory = try TemporaryDirectory()
            let file = directory.url.path + "/access"
            if let text { try Scene.write(text, to: file, mode: mode) }
            let options = ["source", "--feed", "x", "--listen", "127.0.0.1:0", "--access", file]
            let result = try run(Ground.program, options)
            #expect(result.status == 1 && result.errors.contains(reason), "\(result.errors)")
            let config = directory.url.path + "/c.toml"
            try Data("[source]\nfeed = 'x'\nlisten = ':1'\naccess = '\(file)'\n".utf8).write(to: URL(filePath: config))
            let check = try run(Ground.program, ["check-config", config])
            #expect(check.status == 1 && check.output.hasPrefix("\(config):4: --access: "), "\(check.output)")
        }
    }
}
