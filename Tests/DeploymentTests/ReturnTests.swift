import Foundation
import Operation
import TestSupport
import Testing
import Wire

extension Deployment {
    /// A source that is killed and started again with its state, and what its receivers are sent then: exactly what they
    /// lack. Twelve receivers by default; `FLEXICAST_RETURN_RECEIVERS=200` for the whole truth.
    @Suite struct Returns {
        static let receivers =
            ProcessInfo.processInfo.environment["FLEXICAST_RETURN_RECEIVERS"].flatMap { Int($0) } ?? 12
        /// All are to be back on the flow so long after the source can be reached again: two seconds on a machine that has
        /// time for it, as .ci/nightly says.
        static let limit =
            ProcessInfo.processInfo.environment["FLEXICAST_RETURN_SECONDS"].flatMap { Double($0) } ?? 15
        /// Items that half of the receivers miss.
        static let missed = 300

        @Test func exactlyWhatIsMissing() throws {
            let stage = try Stage(receivers: Self.receivers)
            try stage.startReceivers(Array(0..<Self.receivers))
            try stage.awaitMembers(Self.receivers, seconds: 60)
            try stage.publish(30)
            try stage.awaitItems(30, at: stage.all)

            // Nobody lacks anything, so that nothing is sent but what the connections themselves take.
            var idle = try stage.replaceSource()
            try stage.count(&idle)
            note("returns: nothing missed: \(idle)")
            let item = try stage.itemOctets()
            #expect(idle.items == 0)
            #expect(Set(stage.all.map(stage.firstServed)).count == 1, "all are where the source is")
            // Each is sent what the source's log is like, which is far less than an item.
            #expect(idle.bytesOfItems < Self.receivers * item / 2, "items were sent again")
            try stage.publish(10)
            try stage.awaitItems(40, at: stage.all)

            // Half of them miss what is published while they are away, and the source is killed before they come back.
            let absent = stage.all.filter { $0 % 2 == 1 }
            let present = stage.all.filter { $0 % 2 == 0 }
            let before = stage.all.map { stage.told($0) }
            // All at once, as each takes a while.
            for index in absent { stage.receivers[index].signal(SIGTERM) }
            for index in absent { try stage.receivers[index].end() }
            try stage.awaitMembers(present.count, seconds: 60)
            try stage.publish(Self.missed)
            try stage.awaitItems(40 + Self.missed, at: present)
            var back = try stage.replaceSource(starting: absent)
            try stage.awaitItems(40 + Self.missed, at: stage.all)
            try stage.count(&back)
            note("returns: \(absent.count) of them have missed \(Self.missed) items: \(back)")
            let lacked = absent.count * Self.missed * item
            note("returns: that is \(Double(back.bytesOfItems) / Double(lacked)) times what the missed items have")
            #expect(back.items == 0)
            let ahead = Set(present.map(stage.firstServed))
            let behind = Set(absent.map(stage.firstServed))
            #expect(ahead.count == 1 && behind.count == 1)
            #expect(ahead.first.flatMap { ahead in behind.first.map { ahead - $0 } } == Self.missed)
            #expect(back.bytesOfItems > lacked, "what was missing has been sent")
            #expect(back.bytesOfItems < lacked * 6 / 5, "no more than what was missing has been sent")

            // And all of them what is published with the source's start, before anybody is there.
            var late = try stage.replaceSource(publishing: Self.missed)
            try stage.awaitItems(40 + 2 * Self.missed, at: stage.all)
            try stage.count(&late)
            note("returns: all have missed \(Self.missed) items: \(late)")
            #expect(late.items == Self.missed)
            try stage.publish(10)
            try stage.awaitItems(50 + 2 * Self.missed, at: stage.all)

            for index in stage.all {
                let told = stage.told(index)
                let isAbsent = index % 2 == 1
                #expect(stage.positions(index).last?.answer == "taken", "receiver \(index)")
                #expect(told.itemLines == told.items.count, "receiver \(index) was told of items twice")
                #expect(told.count("gap") == 0, "receiver \(index)")
                #expect(told.itemLines == (isAbsent ? 10 : 50) + Self.missed * 2, "receiver \(index)")
                if isAbsent {
                    #expect(Set(told.items.keys).isDisjoint(with: before[index].items.keys), "receiver \(index)")
                }
            }
            // How long it takes where all have to be sent everything first goes by the machine.
            for restart in [idle, back] {
                #expect(restart.seconds <= Self.limit, "all back on the flow: \(restart)")
            }
            try stage.end()
        }

        /// What a restart of the source has cost.
        struct Restart: CustomStringConvertible {
            var receivers: Int
            /// Without a source.
            var away = 0.0
            /// From the source's `listening` until the first, half and all of those that were there were members.
            var first = 0.0
            var half = 0.0
            var seconds = 0.0
            /// Items that the source has published since its start.
            var items = 0
            /// Since its start, octets of datagrams that carry stream data on connections, and of all others.
            var bytesOfItems = 0
            var bytesOfControl = 0

            var description: String {
                func rounded(_ time: Double) -> String { "\((time * 100).rounded() / 100)" }
                return
                    "\(receivers) receivers, source away for \(rounded(away)) s; back on the flow after it listened: first \(rounded(first)) s, half \(rounded(half)) s, all \(rounded(seconds)) s; \(bytesOfItems) octets with stream data, \(bytesOfControl) of control"
            }
        }

        /// A source with its state and receivers with theirs, each in a namespace of its own.
        final class Stage {
            let network: Namespaces
            let directory: TemporaryDirectory
            let feed: LoadFeed
            private(set) var source: Child
            private(set) var receivers: [Child] = []
            var all: Range<Int> { receivers.indices }

            init(receivers count: Int) throws {
                directory = try TemporaryDirectory()
                network = try Namespaces(places: count + 1)
                feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
                source = try Self.startSource(network, directory.url)
                try source.awaitEvent("listening")
            }

            private static func startSource(_ network: Namespaces, _ directory: URL) throws -> Child {
                try Child(
                    "source",
                    network.command(
                        [
                            Ground.program, "source", "--feed", directory.appending(path: "feed.atom").path, "--poll",
                            "50ms", "--listen", "\(SocketAddress(network.address(0), port: DeploymentWorld.port))",
                            "--group",
                            "\(network.group)", "--interface", Namespaces.interface, "--state",
                            directory.appending(path: "state").path, "--history", "0", "--json",
                        ], at: 0), log: directory.appending(path: "source.log"))
            }

            private func startReceiver(_ index: Int) throws -> Child {
                try Child(
                    "receiver-\(index)",
                    network.command(
                        [
                            Ground.program, "receive",
                            "\(SocketAddress(network.address(0), port: DeploymentWorld.port))",
                            "--insecure", "--interface", Namespaces.interface, "--output",
                            directory.url.appending(path: "receiver-\(index)").path, "--json",
                        ], at: index + 1), log: directory.url.appending(path: "receiver-\(index).log"))
            }

            /// Starts those receivers, anew where they were there before.
            func startReceivers(_ which: [Int]) throws {
                for index in which {
                    if index == receivers.count {
                        receivers.append(try startReceiver(index))
                    } else {
                        receivers[index] = try startReceiver(index)
                    }
                }
            }

            func told(_ index: Int) -> Told { receivers[index].told }
            func positions(_ index: Int) -> [EventLine] { told(index).events.filter { $0.event == "position" } }

            /// The number from which on the receiver is served, by the source's last answer.
            func firstServed(_ index: Int) -> Int { positions(index).last?.first ?? -1 }

            func publish(_ count: Int) throws {
                try feed.publish(count)
                let published = feed.published
                let before = published - count
                try waitUntil(seconds: 20, "the source to take items \(before) to \(published)\n\(source.logTail)") {
                    source.tell { $0.items["urn:flexicast:load:\(published - 1)"] } != nil
                }
            }

            /// Waits until the receivers have so many items.
            func awaitItems(_ count: Int, at which: some Sequence<Int>) throws {
                for index in which {
                    let output = directory.url.appending(path: "receiver-\(index)")
                    var found = 0
                    try waitUntil(
                        seconds: 60,
                        "\(count) items at receiver \(index), \(found) are there\n\(receivers[index].logTail)"
                    ) {
                        let names = (try? FileManager.default.contentsOfDirectory(atPath: output.path)) ?? []
                        found = names.count { $0.hasSuffix(".xml") && !$0.hasPrefix(".") }
                        return found >= count
                    }
                }
            }

            /// Waits until the source counts on so many.
            func awaitMembers(_ count: Int, seconds: Double) throws {
                try waitUntil(seconds: seconds, "\(count) members\n\(source.logTail)") {
                    source.tell { $0.interval?.members } == count
                }
            }

            /// Kills the source, adds items to the feed while it is away and starts it again, and when the receivers that
            /// are there have come back, starts those that are not.
            func replaceSource(starting absent: [Int] = [], publishing items: Int = 0) throws -> Restart {
                var restart = Restart(receivers: receivers.count - absent.count)
                // Who is off the flow, as it had to on a busy machine, waits before it asks for it again, and would not
                // notice before that the source has gone: that is not what is measured here.
                try awaitMembers(restart.receivers, seconds: 120)
                let log = directory.url.appending(path: "source.log")
                let skipped = try FileManager.default.attributesOfItem(atPath: log.path)[.size] as? Int ?? 0
                try source.end(SIGKILL)
                let killed = ContinuousClock.now
                if items > 0 { try feed.publish(items) }
                source = try Self.startSource(network, directory.url)
                try source.awaitEvent("listening")
                let begin = ContinuousClock.now
                restart.away = (begin - killed) / .seconds(1)
                // The source's log tells of each member as it comes; its counts are a second apart.
                func members() -> Int {
                    let text = String(
                        decoding: (try? Data(contentsOf: log).dropFirst(skipped)) ?? Data(), as: UTF8.self)
                    return text.split(separator: "\n").count { $0.contains("receiver listens to the flow") }
                }
                try waitUntil(seconds: 60, "all back on the flow\n\(source.logTail)") {
                    let members = members()
                    let time = (ContinuousClock.now - begin) / .seconds(1)
                    if members > 0, restart.first == 0 { restart.first = time }
                    if 2 * members >= restart.receivers, restart.half == 0 { restart.half = time }
                    restart.seconds = time
                    return members >= restart.receivers
                }
                try startReceivers(absent)
                try awaitMembers(receivers.count, seconds: 60)
                return restart
            }

            /// What the source has sent since its start, when nothing more is under way.
            func count(_ restart: inout Restart) throws {
                let seen = source.tell { $0.intervals }
                try waitUntil(seconds: 10, "the source's counts") { source.tell { $0.intervals } > seen + 1 }
                let counts = source.tell { $0.interval }
                restart.items = counts?.items ?? 0
                restart.bytesOfItems = (counts?.bytes_unicast ?? 0) + (counts?.bytes_repair ?? 0)
                restart.bytesOfControl = counts?.bytes_control ?? 0
            }

            /// Octets of an item as it is sent.
            func itemOctets() throws -> Int {
                let output = directory.url.appending(path: "receiver-0")
                let names = try FileManager.default.contentsOfDirectory(atPath: output.path)
                guard let name = names.first(where: { $0.hasSuffix(".xml") && !$0.hasPrefix(".") }) else {
                    throw Failure(description: "no item")
                }
                return try Data(contentsOf: output.appending(path: name)).count
            }

            func end() throws {
                for child in receivers {
                    let status = try child.end()
                    #expect(status == 0, "\(child.name)\n\(child.logTail)")
                }
                let status = try source.end()
                #expect(status == 0, "\(source.logTail)")
            }
        }
    }
}
