import Foundation
import TestSupport
import Testing
import Wire

extension Deployment {
    /// Receivers whose own network, or whose source's addresses, are not what they were.
    @Suite struct ChangingNetwork {
        private func viaFlow(_ child: Child) -> Int { child.tell { $0.vias["flow"] ?? 0 } }

        /// Items are published until some of them come to a receiver by the flow.
        private func awaitFlow(at receiver: Child, in world: DeploymentWorld) throws {
            let before = viaFlow(receiver)
            try waitUntil(seconds: 40, "items on the flow at \(receiver.name)\n\(receiver.logTail)") {
                try world.publish(1, every: .milliseconds(100))
                return viaFlow(receiver) > before
            }
        }

        /// As a tunnel's or a container's: it is in no group when it comes back.
        @Test(arguments: Namespaces.Family.allCases)
        func anInterfaceThatIsMadeAgainIsJoinedAgain(family: Namespaces.Family) throws {
            let world = try DeploymentWorld([.init(), .init()], family: family)
            let receiver = world.receivers[0]
            try awaitFlow(at: receiver, in: world)
            try world.network.replaceInterface(at: 1)
            try waitUntil(seconds: 20, "a second connection\n\(receiver.logTail)") {
                receiver.tell { $0.count("connected") } >= 2
            }
            #expect(receiver.log.contains("the network of this machine has changed"))
            try awaitFlow(at: receiver, in: world)
            try world.settle()
            #expect(world.receivers[1].told.count("connected") == 1)
            for index in 0...1 { try world.verify(index) }
            try world.stop()
        }

        /// It does not wait until the connection times out.
        @Test func aChangedAddressCostsNoSilence() throws {
            let world = try DeploymentWorld([.init()], sparePlaces: 1)
            let receiver = world.receivers[0]
            try awaitFlow(at: receiver, in: world)
            let (old, new) = (world.network.address(1), world.network.address(2))
            try world.network.shell(at: 2, ["ip", "addr", "del", "\(new)/16", "dev", "eth0"])
            try world.network.shell(at: 1, ["ip", "addr", "add", "\(new)/16", "dev", "eth0"])
            try world.network.shell(at: 1, ["ip", "addr", "del", "\(old)/16", "dev", "eth0"])
            try world.network.shell(
                at: 1, ["ip", "-batch", "-"],
                input: "addr replace \(new)/16 dev eth0\nroute replace 224.0.0.0/4 dev eth0\n")
            try waitUntil(seconds: 20, "a second connection\n\(receiver.logTail)") {
                receiver.tell { $0.count("connected") } >= 2
            }
            #expect(!receiver.log.contains("connection ended"), "\(receiver.logTail)")
            try awaitFlow(at: receiver, in: world)
            try world.settle()
            try world.verify(0)
            try world.stop()
        }

        /// A name whose first address is dead: the next has its turn before the first is given up (RFC 8305).
        @Test func anAddressThatIsDeadCostsNothing() throws {
            let directory = try TemporaryDirectory()
            let feed = try LoadFeed(file: directory.url.appending(path: "feed.atom"), octets: LoadFeed.smallItem)
            try feed.publish(1)
            let source = try Child(
                "source",
                [Ground.program, "source", "--feed", feed.file.path, "--listen", "127.0.0.1:0", "--json"],
                log: directory.url.appending(path: "source.log"))
            try source.awaitEvent("listening")
            let told = try #require(source.told.events.first { $0.event == "listening" })
            let port = try #require(told.address?.split(separator: ":").last)
            // Nothing is at the first address, and nothing says so.
            let hosts = directory.url.appending(path: "hosts").path
            try Data("::1 flexicast-two.test\n127.0.0.1 flexicast-two.test\n".utf8).write(to: URL(filePath: hosts))
            let receiver = try Child(
                "receiver",
                [
                    "unshare", "--mount", "--propagation", "private", "sh", "-c",
                    "mount --bind \"$0\" /etc/hosts && exec \"$@\"", hosts, Ground.program, "receive",
                    "flexicast-two.test:\(port)", "--trust", told.certificate ?? "", "--count", "1", "--json",
                ], log: directory.url.appending(path: "receiver.log"))
            try waitUntil(seconds: 30, "an item\n\(receiver.logTail)") { !receiver.isRunning }
            #expect(receiver.process.terminationStatus == 0, "\(receiver.logTail)")
            #expect(receiver.told.events.first { $0.event == "connected" }?.address == "127.0.0.1:\(port)")
            // The first attempt was never given up for being silent.
            #expect(!receiver.log.contains("connection ended") && !receiver.log.contains("does not answer"))
            #expect(try source.end() == 0)
        }
    }
}
