import Foundation
import TestSupport
import Testing
import Transport
import Wire

extension Deployment {
    /// A neighbour on the same link who throws things at everybody.
    @Suite struct ThrownPackets {
        /// What was captured comes again with bits flipped, cut short, or as it was, under its true sender's address;
        /// and noise comes to the source's port and to the group. Everything goes on, and it was all counted.
        @Test(arguments: [IOBackendChoice.epoll, .ioUring])
        func neighbourThrowsPackets(io: IOBackendChoice) throws {
            let world = try DeploymentWorld([.init(), .init(), .init(path: "unicast")], io: io, sparePlaces: 1)
            let process = world.network.identifier(4)
            let ears = try RawLink(process: world.network.identifier(0), interface: Namespaces.interface)
            let mouth = try RawLink(process: process, interface: Namespaces.interface)
            let station: [UInt8] = [0x02, 0xba, 0xd0, 0xba, 0xd0, 0x01]
            var random = SeededRandom(seed: 0xbad)
            var captured: [Frame] = []
            var thrown = (flipped: 0, cut: 0, repeated: 0, noise: 0)
            var toSource: Frame?
            var toGroup: Frame?
            let group = world.network.group

            func listen() {
                for _ in 0..<400 {
                    guard let bytes = ears.read() else { return }
                    guard let frame = Frame(bytes) else { continue }
                    if frame.destinationPort == DeploymentWorld.port { toSource = frame }
                    if .v4(frame.destination) == group.address { toGroup = frame }
                    // The newest replace the oldest: what is thrown is sometimes fresh and sometimes stale.
                    if captured.count < 200 {
                        captured.append(frame)
                    } else {
                        captured[Int(random.next() % 200)] = frame
                    }
                }
            }
            func throwOne() {
                guard !captured.isEmpty else { return }
                var frame = captured[Int(random.next() % UInt64(captured.count))]
                switch random.next() % 4 {
                case 0:
                    for _ in 0...(random.next() % 8) {
                        let bit = Int(random.next() % UInt64(frame.payload.count * 8))
                        frame.payload[bit / 8] ^= 1 << UInt8(bit % 8)
                    }
                    thrown.flipped += 1
                case 1:
                    frame.payload.removeLast(Int(random.next() % UInt64(frame.payload.count)))
                    thrown.cut += 1
                case 2: thrown.repeated += 1
                default:
                    guard let target = random.next() % 2 == 0 ? toSource : toGroup else { return }
                    frame = target
                    frame.payload = random.octets(1 + Int(random.next() % 1400))
                    if random.next() % 2 == 0 {
                        // Whom nobody knows: 10.77.0.5 and any port.
                        frame.setSource(0x0a4d_0005, port: UInt16(1024 + random.next() % 60_000))
                    }
                    if random.next() % 3 == 0 { frame.payload[0] = frame.payload[0] | 0xc0 }
                    thrown.noise += 1
                }
                mouth.send(frame.bytes(from: station))
            }

            listen()
            try world.publish(100, every: .milliseconds(80)) { _ in
                listen()
                for _ in 0..<40 { throwOne() }
            }
            try world.settle()
            #expect(world.source.isRunning)
            for receiver in world.receivers { #expect(receiver.isRunning, "\(receiver.logTail)") }
            try waitUntil(seconds: 10, "both members") { world.source.tell { $0.interval?.members } == 2 }
            #expect(!world.source.log.contains("receiver gone"), "\(world.source.logTail)")
            try world.stop()

            let source = try #require(world.source.told.summary)
            note(
                """
                bad input, \(io.rawValue): \(thrown); rejected: source \(source.packets_rejected ?? -1), receivers \
                \(world.receivers.map { $0.told.summary?.packets_rejected ?? -1 })
                """)
            #expect(thrown.flipped > 500 && thrown.cut > 500 && thrown.noise > 500 && thrown.repeated > 500)
            #expect((source.packets_rejected ?? 0) > 300)
            for index in 0..<3 {
                try world.verify(index)
                let told = world.receivers[index].told
                #expect(told.items.count == 100)
                #expect(told.count("connected") == 1, "the connection lived on\n\(world.receivers[index].logTail)")
                #expect(told.summary?.fallbacks == 0, "\(world.receivers[index].logTail)")
                #expect((told.summary?.packets_rejected ?? 0) > 20)
            }
            for index in 0..<2 {
                #expect((world.receivers[index].told.vias["flow"] ?? 0) > 90)
            }
        }
    }
}
