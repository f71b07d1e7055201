import Foundation
import Testing
import Transport

extension Deployment {
    @Suite struct KilledProcesses {
        /// A receiver that is killed while it writes leaves only whole files; started again it catches up and takes
        /// nothing twice.
        @Test(arguments: [IOBackendChoice.epoll, .ioUring])
        func receiver(io: IOBackendChoice) throws {
            let world = try DeploymentWorld([.init(), .init()], io: io, sourceOptions: ["--history", "200"])
            var before = Told()
            try world.publish(120, every: .milliseconds(40)) { number in
                if number == 50 {
                    try world.receivers[0].end(SIGKILL)
                    before = world.receivers[0].told
                    try world.verifyFiles(0, try world.contents())
                }
                if number == 80 { try world.restart(0) }
            }
            #expect(before.items.count > 20, "it was killed at work")
            #expect(before.summary == nil)
            try world.settle()
            try waitUntil(seconds: 10, "the flow again") { world.receivers[0].told.count("listening") > 0 }
            try world.stop()
            try world.verify(0, told: before)
            try world.verify(1)
            let told = world.receivers[0].told
            // An item may be stored in the instant before the kill and never be told.
            #expect(told.items.count + before.items.count >= 119)
            let hidden = try FileManager.default.contentsOfDirectory(atPath: world.output(0).path)
            #expect(
                Set(hidden.filter { !$0.hasSuffix(".xml") }).subtracting(["feed.atom", ".lock", "position"]).isEmpty,
                "\(hidden)")
            #expect(world.receivers[1].told.summary?.fallbacks == 0)
            note(
                "receiver killed, \(io.rawValue): \(before.items.count) items before, \(told.items.count) after, \(told.vias)"
            )
        }

        /// A source that is killed and started again with the same state: receivers come back by themselves, no item is
        /// lost and none is sent twice.
        @Test func source() throws {
            let state = FileManager.default.temporaryDirectory.appending(path: "flexicast-state-\(UUID().uuidString)")
            defer { try? FileManager.default.removeItem(at: state) }
            let world = try DeploymentWorld(
                [.init(), .init(lossPercent: 2), .init(path: "unicast")],
                sourceOptions: ["--history", "200", "--state", state.path])
            try world.publish(50, every: .milliseconds(40))
            try waitUntil(seconds: 10, "the source to take 50 items") { world.source.told.items.count >= 50 }
            // More come while it is away, and while the receivers believe that it is there.
            try world.publish(5, every: .milliseconds(10))
            let killed = ContinuousClock.now
            try world.source.end(SIGKILL)
            let before = world.source.told
            try world.publish(10, every: .milliseconds(50))
            try world.replaceSource()
            try world.publish(20, every: .milliseconds(50))
            try waitUntil(seconds: 50, "the receivers to come back\n\(world.receivers[0].logTail)") {
                world.receivers.allSatisfy { $0.told.count("connected") >= 2 }
            }
            note("source killed: every receiver is back after \((ContinuousClock.now - killed) / .seconds(1)) s")
            try world.settle()
            try world.publish(20, every: .milliseconds(50))
            try world.settle()
            try waitUntil(seconds: 10, "the flow again") { world.source.told.interval?.members == 2 }
            // They say so: as a return who had fallen back, and else as a new connection that hears it.
            try waitUntil(seconds: 10, "a word of the flow") {
                world.receivers[..<2].allSatisfy { receiver in
                    let events = receiver.told.events.map(\.event)
                    let heard = events.lastIndex { $0 == "listening" || $0 == "return" }
                    return heard.map { $0 > (events.lastIndex(of: "connected") ?? .max) } ?? false
                }
            }
            try world.stop()
            let after = world.source.told
            #expect(Set(before.items.keys).isDisjoint(with: after.items.keys), "sent twice")
            // An item may be recorded in the instant before the kill and never be told: it is in the history then.
            #expect(before.items.count + after.items.count >= world.published - 5)
            for index in 0..<3 {
                try world.verify(index)
                #expect(world.receivers[index].told.items.count == world.published)
            }
        }
    }
}
