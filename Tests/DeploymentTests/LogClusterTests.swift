import Foundation
import TestSupport
import Testing
import Wire

/// Everything of a distributed log is lost and comes back, one after the other, while objects go out.
@Suite(
    "A distributed log that loses its parts",
    .enabled(
        if: Ground.obstacle(needing: NATSServers.tools) == nil, "\(Ground.obstacle(needing: NATSServers.tools) ?? "")"))
struct LogClusterTests {
    private static var wanted: (objects: Int, receivers: Int) {
        let given = ProcessInfo.processInfo.environment["FLEXICAST_LOG_CLUSTER"]?.split(separator: ",").compactMap {
            Int($0)
        }
        return given?.count == 2 ? (given?[0] ?? 0, given?[1] ?? 0) : (1200, 12)
    }

    @Test(
        "A poller, a source and a server are killed, a source is cut off: every object is everywhere, once, equal to the octet"
    )
    func everythingDies() throws {
        let (objects, receiverCount) = Self.wanted
        let places = 3
        let stage = try LogStage(servers: 3, heads: 3, receivers: places)
        let feed = NumberedFeed(file: stage.directory.url.appending(path: "feed.atom"))
        try feed.publish(upTo: 1)
        let lease = ["--lease", "3s"]
        var pollers = try (0..<2).map { try stage.startPoller($0, lease) }
        var heads = try (0..<3).map { try stage.startHead($0) }
        for head in heads { try head.awaitEvent("listening", seconds: 30) }
        let receivers = try (0..<receiverCount).map { index in
            try stage.startReceiver(
                index % places, "receiver-\(index)", index % 4 == 0 ? ["--path", "unicast"] : [])
        }
        for receiver in receivers { try receiver.awaitEvent("connected") }

        func active() -> Int? {
            pollers.firstIndex { poller in
                poller.isRunning && poller.told.events.last { $0.event == "log" }?.state == "polling"
            }
        }
        func current(_ receiver: Child) -> String? { receiver.told.events.last { $0.event == "connected" }?.address }

        // What happens at which object.
        var gone: [Child] = []
        var toRestart: Int?
        var killed = Date.distantPast
        var orphans: [Child] = []
        var served: [Double] = []
        let step = objects / 12
        for number in 1...objects {
            try feed.publish(upTo: number)
            Thread.sleep(forTimeInterval: 0.025)
            switch number {
            case step:
                let index = active() ?? 0
                try pollers[index].end(SIGKILL)
                (toRestart, gone) = (index, gone + [pollers[index]])
            case 2 * step:
                if let index = toRestart { pollers[index] = try stage.startPoller(index, lease) }
            case 3 * step:
                let address = "\(stage.address(ofHead: 0))"
                orphans = receivers.filter { current($0) == address }
                killed = Date()
                try heads[0].end(SIGKILL)
            case 5 * step:
                for orphan in orphans {
                    let next = orphan.told.events.last { $0.event == "connected" }?.time.flatMap(Self.date)
                    served.append((next ?? .distantFuture).timeIntervalSince(killed))
                }
                heads[0] = try stage.startHead(0)
            case 6 * step: try stage.servers.kill(at: 0)
            case 8 * step: try stage.servers.start(at: 0)
            case 9 * step: try stage.setCut(true, head: 1)
            case 9 * step + 400 where 400 < 2 * step, 11 * step: try stage.setCut(false, head: 1)
            default: break
            }
        }
        for receiver in receivers {
            try waitUntil(
                seconds: 40,
                """
                \(objects) items at \(receiver.name), which has \(receiver.tell { $0.items.count }) of \(current(receiver) ?? "nobody")
                \(receiver.logTail)
                \((pollers + heads).map { "\($0.name)\n\($0.logTail)" }.joined(separator: "\n"))
                """
            ) { receiver.tell { $0.items.count } == objects }
        }
        // Digests as the pollers have appended them.
        let appended = (gone + pollers).reduce(into: [String: String]()) { $0.merge($1.told.items) { $1 } }
        for receiver in receivers {
            let told = receiver.told
            #expect(told.itemLines == objects, "\(receiver.name): items told twice")
            #expect(told.count("gap") == 0, "\(receiver.name)")
            #expect(
                told.items.allSatisfy { id, digest in appended[id, default: digest] == digest },
                "\(receiver.name): other octets")
            #expect(told.items == receivers[0].told.items, "\(receiver.name): other octets")
            // Under the same numbers, wherever they came from, and never from the beginning again.
            #expect(told.sequences == receivers[0].told.sequences, "\(receiver.name): other numbers")
            #expect(Set(told.sequences.values).count == objects)
            let answers = told.events.filter { $0.event == "position" }.map(\.answer)
            #expect(answers.dropFirst().allSatisfy { $0 == "taken" }, "\(receiver.name): \(answers)")
            #expect(try receiver.end() == 0)
        }
        #expect(Double(appended.count) > Double(objects) * 0.9)
        served.sort()
        if !served.isEmpty {
            note(
                "\(served.count) receivers of a dead source were served elsewhere after \(served.map { ($0 * 100).rounded() / 100 }) s, median \((served[served.count / 2] * 100).rounded() / 100) s"
            )
            #expect(served.allSatisfy { $0 < 20 })
        }
    }

    private static func date(_ text: String) -> Date? {
        try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }
}

extension LogStage {
    /// Cuts a source off from everybody, or lets it back.
    func setCut(_ isCut: Bool, head index: Int) throws {
        let rules =
            isCut
            ? """
            table inet cut {
              chain input { type filter hook input priority 0; policy drop; }
              chain output { type filter hook output priority 0; policy drop; }
            }

            """ : "delete table inet cut\n"
        try network.shell(at: place(ofHead: index), ["nft", "-f", "-"], input: rules)
    }
}

/// A feed whose items are numbers, of which the newest are in its file.
struct NumberedFeed {
    let file: URL
    /// More than come while nobody can look.
    private static let window = 700

    func publish(upTo count: Int) throws {
        var text = """
            <feed xmlns="http://www.w3.org/2005/Atom"><id>urn:numbers</id><title>numbers</title>\
            <updated>2026-01-01T00:00:00Z</updated>

            """
        for number in stride(from: count, through: max(1, count - Self.window + 1), by: -1) {
            text += """
                <entry><id>urn:number:\(number)</id><title>\(number)</title><updated>2026-01-01T00:00:00Z</updated>\
                <content>\(String(repeating: "\(number) ", count: 60))</content></entry>

                """
        }
        try (text + "</feed>\n").write(to: file, atomically: true, encoding: .utf8)
    }
}
