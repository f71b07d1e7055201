import Cryptography
import Flexicast
import Foundation
import Logging
import Reactor
import TestSupport
import Testing
import Wire

@testable import Transport

extension Deployment {
    /// One source and its receivers on one reactor and the loopback interface, where items come as fast as they can.
    @Suite struct LateJoin {
        /// Counts what a receiver gets.
        final class Ear {
            let receiver: Receiver
            /// Times that each item came.
            var times: [Int: Int] = [:]
            var vias: [Via: Int] = [:]
            var wrong = 0
            var isListening = false
            var fallbacks = 0
            var closed: String?

            init(_ receiver: Receiver) {
                self.receiver = receiver
                receiver.onEvent = { [unowned self] event in
                    switch event {
                    case .object(let item):
                        let number = LateJoin.number(of: Array(item.body))
                        if number < 0 || LateJoin.item(number)[...] != item.body { wrong += 1 }
                        times[number, default: 0] += 1
                        vias[item.via, default: 0] += 1
                    case .listening, .returned: isListening = true
                    case .fellBack:
                        fallbacks += 1
                        isListening = false
                    case .closed(let reason): closed = "\(reason)"
                    case .failed, .gap: wrong += 1
                    case .connected, .way, .log, .part, .datagram: break
                    }
                }
                receiver.start()
            }
        }

        static func item(_ number: Int) -> [UInt8] { Array("item \(number) is small".utf8) }
        static func number(of bytes: [UInt8]) -> Int {
            String(decoding: bytes, as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? -1
        }

        /// Nothing of the joiner's may depend on how many streams came before it: neither its credit nor what it
        /// believes to be lost. The history is longer than what may wait for a receiver otherwise.
        @Test func afterAHundredThousandItems() throws {
            let count = 100_000
            let history = 5000
            let world = try Loopback(history: history)
            defer { world.close() }
            let (reactor, source) = (world.reactor, world.source)

            let early = try world.newEar()
            #expect(world.turn(seconds: 10) { early.isListening && source.counts.members == 1 })
            let begin = ContinuousClock.now
            var next = 0
            let patience = begin + .seconds(150)
            while next < count, ContinuousClock.now < patience {
                // No more than the flow takes: what waits for it costs memory, not time.
                if source.server.queuedOctets < 64_000, early.times.count > next - 4000 {
                    for _ in 0..<min(500, count - next) {
                        try source.publish(Self.item(next))
                        next += 1
                    }
                }
                reactor.turn(timeout: .milliseconds(1))
            }
            #expect(world.turn(seconds: 20) { early.times.count == next })
            let seconds = (ContinuousClock.now - begin) / .seconds(1)
            try #require(next == count, "only \(next) items went out in \(seconds) seconds: \(early.vias)")

            let late = try world.newEar()
            #expect(world.turn(seconds: 20) { late.isListening && late.times.count == history })
            #expect(late.closed == nil)
            for _ in 0..<20 {
                for _ in 0..<50 {
                    try source.publish(Self.item(next))
                    next += 1
                }
                _ = world.turn(seconds: 1) { source.server.queuedOctets == 0 }
            }
            #expect(world.turn(seconds: 20) { late.times.count == history + 1000 && early.times.count == next })
            // What would come twice has time to come.
            _ = world.turn(seconds: 1) { false }

            note(
                """
                late join: \(count) items in \(Int(seconds)) s over \(source.server.flow?.nextPacketNumber ?? 0) packets; early \
                \(early.vias), late \(late.vias)
                """)
            #expect(early.times.count == count + 1000)
            #expect(late.times.keys.sorted() == Array((count - history)..<(count + 1000)))
            for ear in [early, late] {
                #expect(ear.wrong == 0)
                #expect(ear.times.values.allSatisfy { $0 == 1 }, "an item came twice")
                #expect(ear.closed == nil)
                #expect(ear.fallbacks == 0)
            }
            // A loss on the loopback interface would make some of them mixed.
            #expect((late.vias[.flow] ?? 0) >= 900, "\(late.vias)")
            #expect((early.vias[.flow] ?? 0) >= count * 9 / 10, "\(early.vias)")
        }

        /// A member that leaves the flow while thousands of items wait there is given them all on its own connection,
        /// and not taken for a slow one.
        @Test func aMemberLeavesABacklog() throws {
            let world = try Loopback(history: 10)
            defer { world.close() }
            let ears = [try world.newEar(), try world.newEar()]
            #expect(world.turn(seconds: 10) { ears.allSatisfy(\.isListening) && world.source.counts.members == 2 })
            let count = 10_000
            for number in 0..<count { try world.source.publish(Self.item(number)) }
            ears[0].receiver.peer.extension.leave(try #require(FlowID(Loopback.flowID)), at: world.reactor.now)
            ears[0].receiver.peer.pump()
            #expect(world.turn(seconds: 60) { ears.allSatisfy { $0.times.count == count } })
            for ear in ears {
                #expect(ear.closed == nil)
                #expect(ear.wrong == 0)
                #expect(ear.times.values.allSatisfy { $0 == 1 })
                note("backlog: \(ear.vias)")
            }
        }
    }
}

/// A source and its receivers on one reactor, with a flow on the loopback interface.
final class Loopback {
    let reactor: Reactor
    let source: SourceEndpoint
    private let listen: UDPSocket
    private let client: TLSContext
    private var ears: [Deployment.LateJoin.Ear] = []

    static let flowID: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]

    init(history: Int) throws {
        reactor = try Reactor(io: .auto)
        let loopback = IPAddress.v4(0x7f00_0001)
        listen = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0))
        var options = UDPOptions()
        options.multicastInterface = "lo"
        options.dontFragment = false
        let out = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0), options: options)
        // The source's port is free for the group as well, so two runs of the test do not meet.
        let group = SocketAddress(.v4(0xef4d_0003), port: listen.localAddress.port)
        guard let id = FlowID(Self.flowID) else { throw Failure(description: "no flow ID") }
        let flow = FlowSource(
            flowID: id,
            parameters: FlowParameters(
                source: loopback, group: group.address, port: group.port, ackDelay: .milliseconds(5)),
            seed: randomSeed(), at: reactor.now)
        let sender = FlowSender(group: group, packetSize: 1200, socket: out, reactor: reactor)
        let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
        client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
        source = SourceEndpoint(
            listen: listen, tls: server,
            server: FlowServer(
                flow: flow, log: memoryLog(), configuration: FlowServerConfiguration(history: history),
                seed: randomSeed(), wallClock: wallClock(),
                at: reactor.now),
            sender: sender, reactor: reactor, log: Self.quiet())
    }

    private static func quiet() -> Logger {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        return logger
    }

    func newEar() throws -> Deployment.LateJoin.Ear {
        let ear = Deployment.LateJoin.Ear(
            try Receiver(
                to: listen.localAddress, serverName: "127.0.0.1", tls: client, usesFlow: true,
                access: FlowAccess(interface: "lo"), reactor: reactor, log: Self.quiet()))
        ears.append(ear)
        return ear
    }

    /// Lets the reactor work until `condition` holds.
    func turn(seconds: Int, until condition: () -> Bool) -> Bool {
        let end = reactor.now + .seconds(seconds)
        while !condition(), reactor.now < end { reactor.turn(timeout: .milliseconds(10)) }
        return condition()
    }

    func close() {
        for ear in ears {
            ear.receiver.onEvent = { _ in }
            ear.receiver.close()
        }
        _ = turn(seconds: 5) { source.listener.peers.isEmpty }
        for ear in ears { ear.receiver.release() }
        source.close()
        reactor.close()
    }
}
