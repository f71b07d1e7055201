import Foundation
import Testing
import Transport
import Wire

extension Deployment {
    @Suite struct ItemDelivery {
        /// Three hundred items to five receivers that each lose 2 % of the flow; one of them loses all of it for three
        /// seconds.
        @Test(arguments: [IOBackendChoice.epoll, .ioUring])
        func threeHundredItems(io: IOBackendChoice) throws {
            let world = try DeploymentWorld(
                Array(repeating: DeploymentWorld.Receiver(lossPercent: 2), count: 5), io: io)
            let cutAt = 4
            try world.publish(300, every: .milliseconds(60)) { number in
                // At 60 ms each, the cut begins after 6 seconds and ends 3 seconds later.
                if number == 100 { try world.network.setCut(true, at: cutAt + 1) }
                if number == 150 { try world.network.setCut(false, at: cutAt + 1) }
            }
            try world.settle()
            let cut = world.receivers[cutAt]
            try waitUntil(seconds: 15, "the cut receiver to return\n\(cut.logTail)") { cut.told.count("return") > 0 }
            var lost: [Int] = []
            for index in 0..<5 { lost.append(try world.network.packetsLost(at: index + 1)) }
            try world.stop()

            for index in 0..<5 {
                try world.verify(index)
                let told = world.receivers[index].told
                #expect(lost[index] > 0, "the losses were real at \(world.receivers[index].name)")
                #expect(told.items.count == 300)
                #expect((told.vias["flow"] ?? 0) + (told.vias["mixed"] ?? 0) > 150, "\(told.vias)")
                #expect(told.summary?.fallbacks == (index == cutAt ? 1 : 0), "\(world.receivers[index].logTail)")
                #expect(told.summary?.returns == (index == cutAt ? 1 : 0), "\(world.receivers[index].logTail)")
            }
            let counts = try #require(world.source.told.summary)
            let (flow, repair) = (counts.bytes_flow ?? 0, counts.bytes_repair ?? 0)
            note(
                """
                300 items, \(io.rawValue): flow \(flow) B, repair \(repair) B (\(repair * 100 / max(1, flow)) %), \
                unicast \(counts.bytes_unicast ?? 0) B, control \(counts.bytes_control ?? 0) B, \
                packets lost on the way \(lost)
                """)
            #expect(flow > 1_000_000)
            #expect(repair > 0)
            #expect(repair * 100 < flow * 30)
            #expect(counts.items == 300)
        }

        /// Receivers on the flow, receivers that never ask for it, and one that asks but cannot be reached.
        @Test func mixed() throws {
            let world = try DeploymentWorld([
                .init(), .init(lossPercent: 2), .init(path: "unicast"), .init(path: "unicast"), .init(isCut: true),
            ])
            try world.publish(80, every: .milliseconds(100))
            try world.settle()
            try world.stop()
            for index in 0..<5 {
                try world.verify(index)
                #expect(world.receivers[index].told.items.count == 80)
            }
            for index in 0..<2 {
                let vias = world.receivers[index].told.vias
                #expect((vias["flow"] ?? 0) > 60, "\(vias)")
            }
            for index in 2..<5 {
                let told = world.receivers[index].told
                #expect(told.vias == ["unicast": 80], "\(world.receivers[index].name)")
                #expect(told.count("listening") == 0, "\(world.receivers[index].name)")
                #expect(told.summary?.bytes_flow == 0)
            }
            // The one that cannot be reached asks and is never counted.
            #expect(world.source.told.mostMembers == 2)
            let joined = world.source.log.components(separatedBy: "receiver listens to the flow").count - 1
            #expect(joined == 2, "\(world.source.log)")
        }

        /// A receiver that the group does not reach is sent copies of the flow.
        @Test(arguments: [IOBackendChoice.epoll, .ioUring]) func replicated(io: IOBackendChoice) throws {
            let world = try DeploymentWorld([.init(), .init(isCut: true)], io: io, sourceOptions: ["--replicate"])
            let cut = world.receivers[1]
            try waitUntil(seconds: 15, "copies at the cut receiver\n\(cut.logTail)\n\(world.source.logTail)") {
                cut.told.count("listening") > 0 && world.source.told.interval?.members == 2
            }
            try world.publish(60, every: .milliseconds(30))
            try world.settle()
            try world.stop()
            for index in 0..<2 {
                try world.verify(index)
                let told = world.receivers[index].told
                #expect(told.vias["flow"] == 60, "\(told.vias)")
                #expect(told.summary?.fallbacks == 0)
            }
            let counts = try #require(world.source.told.summary)
            let (flow, copied) = (counts.bytes_flow ?? 0, counts.bytes_replicated ?? 0)
            // The copies began later, when the receiver had joined.
            #expect(copied > 60_000 && copied <= flow, "\(counts)")
        }

        /// A network that carries the group from some time on: who was sent copies is tried on the group again, in vain at
        /// first, then for good, and misses nothing.
        @Test func backOnTheGroup() throws {
            let world = try DeploymentWorld(
                [.init(), .init(isCut: true)], sourceOptions: ["--replicate", "--group-retry", "4s"])
            let source = world.source
            func replicated() -> Int? { source.told.interval?.replicated }
            try waitUntil(seconds: 15, "copies\n\(source.logTail)") { replicated() == 1 }
            // Tried in vain, and on copies again.
            func trials() -> Int { source.log.components(separatedBy: "is tried on the group again").count - 1 }
            func offers() -> Int { source.log.components(separatedBy: "is offered copies").count - 1 }
            try waitUntil(seconds: 30, "a trial in vain\n\(source.log)") {
                try world.publish(1, every: .milliseconds(100))
                return trials() >= 1 && offers() >= 2 && replicated() == 1 && source.told.interval?.members == 2
            }
            try world.network.setCut(false, at: 2)
            try waitUntil(seconds: 30, "the group to be back\n\(source.log)") {
                try world.publish(1, every: .milliseconds(100))
                return replicated() == 0 && source.told.interval?.members == 2
            }
            let copied = try #require(source.told.interval?.bytes_replicated)
            try world.publish(40, every: .milliseconds(30))
            try world.settle()
            try world.stop()
            for index in 0..<2 { try world.verify(index) }
            let last = try #require(source.told.summary)
            #expect(last.replicated == 0)
            #expect((last.bytes_replicated ?? 0) < copied + 20_000, "\(copied) \(last)")
        }

        /// The same over IPv6, on a source-specific group.
        @Test func internetProtocolVersion6() throws {
            let world = try DeploymentWorld([.init(), .init(lossPercent: 2), .init(path: "unicast")], family: .ipv6)
            let source = hexadecimal(world.network.address(0))
            let group = hexadecimal(world.network.group.address)
            for place in [1, 2] {
                let filters = try world.network.shell(at: place, ["cat", "/proc/net/mcfilter6"])
                #expect(
                    filters.split(separator: "\n").contains { $0.contains(group) && $0.contains(source) },
                    "no (S,G) at place \(place):\n\(filters)")
            }
            try world.publish(60, every: .milliseconds(80))
            try world.settle()
            try world.stop()
            for index in 0..<3 {
                try world.verify(index)
                #expect(world.receivers[index].told.items.count == 60)
            }
            for index in 0..<2 {
                let vias = world.receivers[index].told.vias
                #expect((vias["flow"] ?? 0) + (vias["mixed"] ?? 0) > 50, "\(vias)")
                #expect(world.receivers[index].told.summary?.fallbacks == 0)
            }
            #expect(world.receivers[2].told.vias == ["unicast": 60])
        }

        /// A source-specific group of IPv4: the kernel filters by source, so another sender is not heard.
        @Test func sourceSpecificJoin() throws {
            let world = try DeploymentWorld([.init()], group: "232.77.0.1")
            let filters = try world.network.shell(at: 1, ["cat", "/proc/net/mcfilter"])
            #expect(
                filters.split(separator: "\n").contains { $0.contains("0xe84d0001") && $0.contains("0x0a4d0001") },
                "no (S,G):\n\(filters)")
            try world.publish(10, every: .milliseconds(50))
            try world.settle()
            try world.stop()
            try world.verify(0)
            #expect((world.receivers[0].told.vias["flow"] ?? 0) >= 9)
        }

        /// An IPv6 address as the kernel's tables write it.
        private func hexadecimal(_ address: IPAddress) -> String {
            guard case .v6(let bits) = address else { return "" }
            let digits = String(bits, radix: 16)
            return String(repeating: "0", count: 32 - digits.count) + digits
        }
    }
}
