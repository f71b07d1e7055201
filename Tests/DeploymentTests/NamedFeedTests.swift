import Foundation
import TestSupport
import Testing

extension Deployment {
    /// Several feeds of one source, of which receivers choose by name.
    @Suite struct NamedFeeds {
        @Test(arguments: [false, true]) func receiversChoose(byFlow: Bool) throws {
            let directory = try TemporaryDirectory()
            var files: [String] = []
            for (name, id) in [("news", "urn:n"), ("sport", "urn:s"), ("rest", "urn:r")] {
                let file = directory.url.appending(path: "\(name).atom")
                let entries = (1...3).map {
                    "<entry><id>\(id):\($0)</id><title>\($0)</title><updated>2026-01-01T00:00:00Z</updated></entry>"
                }
                try Data(
                    """
                    <feed xmlns="http://www.w3.org/2005/Atom"><id>\(id)</id><title>\(name)</title>
                    <updated>2026-01-01T00:00:00Z</updated><author><name>x</name></author>\(entries.joined())</feed>
                    """.utf8
                ).write(to: file)
                files.append(file.path)
            }
            let source = try Child(
                "source",
                [
                    Ground.program, "source", "--feed", "news=\(files[0])", "--feed", "sport=\(files[1])", "--feed",
                    files[2], "--poll", "50ms", "--listen", "127.0.0.1:0", "--json",
                ] + (byFlow ? ["--group", "239.77.0.9:4479", "--interface", "lo"] : []),
                log: directory.url.appending(path: "source.log"))
            try source.awaitEvent("listening")
            let told = try #require(source.told.events.first { $0.event == "listening" })
            try waitUntil(seconds: 20, "9 items\n\(source.logTail)") { source.tell { $0.itemLines } == 9 }
            func receive(_ options: [String], _ label: String) throws -> Child {
                try Child(
                    label,
                    [
                        Ground.program, "receive", told.address ?? "", "--trust", told.certificate ?? "", "--json",
                        "--interface", "lo",
                    ] + options, log: directory.url.appending(path: "\(label).log"))
            }
            let news = try receive(["--only", "news"], "news")
            let both = try receive(["--only", "news", "--only", "sport"], "both")
            let all = try receive([], "all")
            let expected: [(Child, Set<String>)] = [
                (news, ["urn:n"]), (both, ["urn:n", "urn:s"]), (all, ["urn:n", "urn:s", "urn:r"]),
            ]
            if byFlow {
                for (child, _) in expected { try child.awaitEvent("listening") }
                // One more of each, which the flow brings to everybody.
                for (index, file) in files.enumerated() {
                    let text = try String(contentsOfFile: file, encoding: .utf8)
                    let id = ["urn:n", "urn:s", "urn:r"][index]
                    try Data(
                        text.replacingOccurrences(
                            of: "</feed>",
                            with:
                                "<entry><id>\(id):4</id><title>4</title><updated>2026-01-02T00:00:00Z</updated></entry></feed>"
                        ).utf8
                    ).write(to: URL(filePath: file), options: .atomic)
                }
            }
            let each = byFlow ? 4 : 3
            try waitUntil(seconds: 20, "all items at \(all.name)\n\(all.logTail)") {
                all.tell { $0.items.count } == 3 * each
            }
            for (child, ids) in expected {
                try waitUntil(seconds: 20, "items at \(child.name)\n\(child.logTail)") {
                    child.tell { $0.items.count } == ids.count * each
                }
                let found = Set(child.told.items.keys.map { String($0.prefix(5)) })
                #expect(found == ids, "\(child.name)")
                #expect(try child.end() == 0)
            }
            #expect(try source.end() == 0)
        }
    }
}
