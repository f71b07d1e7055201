import Cryptography
import Flexicast
import Foundation
import Logging
import Reactor
import TestSupport
import Testing
import Wire

@testable import Endpoint

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
                    case .item(let item):
                        let number = LateJoin.number(of: item.bytes)
                        if number < 0 || LateJoin.item(number) != item.bytes { wrong += 1 }
                        times[number, default: 0] += 1
                        vias[item.via, default: 0] += 1
                    case .listening, .returned: isListening = true
                    case .fellBack:
                        fallbacks += 1
                        isListening = false
                    case .closed(let reason): closed = "\(reason)"
                    case .connected, .way: break
                    }
                }
                receiver.start()
            }
        }

        static func item(_ number: Int) -> [UInt8] { Array("item \(number) is small".utf8) }
        static func number(of bytes: [UInt8]) -> Int {
            String(decoding: bytes, as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? -1
        }

        private func quiet() -> Logger {
            var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            logger.logLevel = .critical
            return logger
        }

        /// Nothing of the joiner's may depend on how many streams came before it: neither its credit nor what it
        /// believes to be lost. The history is longer than what may wait for a receiver otherwise.
        @Test func afterAHundredThousandItems() throws {
            let count = 100_000
            let history = 5000
            let reactor = try Reactor(io: .auto)
            defer { reactor.close() }
            let loopback = IPAddress.v4(0x7f00_0001)
            let listen = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0))
            var options = UDPOptions()
            options.multicastInterface = "lo"
            options.dontFragment = false
            let out = try reactor.udpSocket(bind: SocketAddress(loopback, port: 0), options: options)
            // The source's port is free for the group as well, so two runs of the test do not meet.
            let group = SocketAddress(.v4(0xef4d_0003), port: listen.localAddress.port)
            let flow = FlowSource(
                flowID: try #require(FlowID([1, 2, 3, 4, 5, 6, 7, 8])),
                parameters: FlowParameters(
                    source: loopback, group: group.address, port: group.port, ackDelay: .milliseconds(5)),
                seed: randomSeed(), at: reactor.now)
            let sender = FlowSender(flow, group: group, socket: out, reactor: reactor)
            let server = try TLSContext.server(selfSignedFor: ["127.0.0.1"], alpn: [applicationProtocol])
            let client = try TLSContext.client(trust: .none, alpn: [applicationProtocol])
            let source = Source(
                listen: listen, tls: server, sender: sender, history: history, reactor: reactor, log: quiet())
            func newEar() throws -> Ear {
                Ear(
                    try Receiver(
                        to: listen.localAddress, serverName: "127.0.0.1", tls: client, usesFlow: true, access: FlowAccess(interface: "lo"),
                        reactor: reactor, log: quiet()))
            }
            func turn(seconds: Int, until condition: () -> Bool) -> Bool {
                let end = reactor.now + .seconds(seconds)
                while !condition(), reactor.now < end { reactor.turn(timeout: .milliseconds(10)) }
                return condition()
            }

            let early = try newEar()
            #expect(turn(seconds: 10) { early.isListening && sender.flow.memberCount == 1 })
            let begin = ContinuousClock.now
            var next = 0
            let patience = begin + .seconds(150)
            while next < count, ContinuousClock.now < patience {
                // No more than the flow takes: what waits for it costs memory, not time.
                if sender.flow.queuedOctets < 64_000, early.times.count > next - 4000 {
                    for _ in 0..<min(500, count - next) {
                        source.publish(Self.item(next))
                        next += 1
                    }
                }
                reactor.turn(timeout: .milliseconds(1))
            }
            #expect(turn(seconds: 20) { early.times.count == next })
            let seconds = (ContinuousClock.now - begin) / .seconds(1)
            try #require(next == count, "only \(next) items went out in \(seconds) seconds: \(early.vias)")

            let late = try newEar()
            #expect(turn(seconds: 20) { late.isListening && late.times.count == history })
            #expect(late.closed == nil)
            for _ in 0..<20 {
                for _ in 0..<50 {
                    source.publish(Self.item(next))
                    next += 1
                }
                _ = turn(seconds: 1) { sender.flow.queuedOctets == 0 }
            }
            #expect(turn(seconds: 20) { late.times.count == history + 1000 && early.times.count == next })
            // What would come twice has time to come.
            _ = turn(seconds: 1) { false }

            note(
                """
                late join: \(count) items in \(Int(seconds)) s over \(sender.flow.nextPacketNumber) packets; early \
                \(early.vias), late \(late.vias)
                """)
            #expect(early.times.count == count + 1000)
            #expect(late.times.keys.sorted() == Array((count - history)..<(count + 1000)))
            for ear in [early, late] {
                #expect(ear.wrong == 0)
                #expect(ear.times.values.allSatisfy { $0 == 1 }, "an item came twice")
                #expect(ear.closed == nil)
                #expect(ear.fallbacks == 0)
                ear.receiver.onEvent = { _ in }
            }
            // A loss on the loopback interface would make some of them mixed.
            #expect((late.vias[.flow] ?? 0) >= 900, "\(late.vias)")
            #expect((early.vias[.flow] ?? 0) >= count * 9 / 10, "\(early.vias)")
            for ear in [early, late] { ear.receiver.close() }
            _ = turn(seconds: 5) { source.listener.peers.isEmpty }
            for ear in [early, late] { ear.receiver.release() }
            source.close()
        }
    }
}
