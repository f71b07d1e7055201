import Cryptography
import Logging
import QUIC
import Reactor
import Testing
import Wire

@testable import Flexicast
@testable import Transport

/// RFC 9000 section 17.1 and appendix A.3: a packet number on the flow may have one to four octets, and sources other than ours
/// use fewer than four.
@Suite struct FlowNumberTests {
    private static let id = FlowID([1, 2, 3, 4])!
    private static func key(_ generation: UInt64, from first: UInt64) -> FlowKey {
        FlowKey(
            generation: generation, suite: .aes128GCM, secret: [UInt8](repeating: UInt8(generation), count: 32),
            firstPacketNumber: first)
    }

    private final class Receiving {
        let reactor: Reactor
        let flow: FlowReception
        var numbers: [UInt64] = []
        var payloads: [[UInt8]] = []
        var rejected = 0

        init(_ keys: [FlowKey]) throws {
            reactor = try Reactor(io: .epoll)
            let ways = FlowWays(native: false, tunnel: false)
            flow = try FlowReception(
                FlowNumberTests.id, source: nil, group: SocketAddress("192.0.2.1:1")!, ways: ways,
                access: FlowAccess(native: false), reactor: reactor,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            for key in keys { flow.install(key) }
            flow.onPackets = { [unowned self] run, bytes, _ in
                for index in 0..<run.count {
                    numbers.append(run.firstPacketNumber + UInt64(index))
                    payloads.append([UInt8](bytes.extracting(run.payload(index))))
                }
                return run.count
            }
            flow.onRejected = { [unowned self] in rejected += 1 }
        }

        func receive(_ packets: [[UInt8]]) {
            var bytes = packets.flatMap { $0 }
            var span = bytes.mutableSpan
            flow.receive(&span, packetSize: packets[0].count, ecn: .notECT)
        }

        deinit { reactor.close() }
    }

    /// Packet `number` of the flow, of always the same size; its payload begins with the number's last octet.
    private static func packet(_ number: UInt64, length: Int, _ key: FlowKey) -> [UInt8] {
        var bytes: [UInt8] = [0x40 | UInt8(length - 1)] + id.octets
        for index in (0..<length).reversed() { bytes.append(UInt8(truncatingIfNeeded: number >> UInt64(8 * index))) }
        bytes.append(UInt8(truncatingIfNeeded: number))
        bytes += [UInt8](repeating: 7, count: 80 - bytes.count - CipherSuite.tagLength)
        bytes += [UInt8](repeating: 0, count: CipherSuite.tagLength)
        let plan = PacketPlan(
            level: .application, start: 0, packetNumberOffset: 1 + id.count, packetNumberLength: length,
            end: bytes.count, packetNumber: number)
        var span = bytes.mutableSpan
        SealingKey(suite: key.suite, secret: key.secret).seal(&span, plan)
        return bytes
    }

    /// Also where they lie back to back with others, and where one octet begins anew.
    @Test(arguments: [[1], [2], [3], [4], [1, 2, 3, 4], [4, 4, 1, 4]]) func anyLength(_ lengths: [Int]) throws {
        let key = Self.key(0, from: 250)
        let receiving = try Receiving([key])
        let sent = (251...UInt64(530)).map { $0 }
        let packets = sent.enumerated().map { Self.packet($1, length: lengths[$0 % lengths.count], key) }
        for first in stride(from: 0, to: packets.count, by: 70) {
            receiving.receive(Array(packets[first..<(first + 70)]))
        }
        #expect(receiving.numbers.sorted() == sent)
        #expect(receiving.rejected == 0)
        for (number, payload) in zip(receiving.numbers, receiving.payloads) {
            #expect(payload.first == UInt8(truncatingIfNeeded: number) && payload.dropFirst().allSatisfy { $0 == 7 })
        }
    }

    /// Around a change of keys, whose masks differ, each packet is opened by its own.
    @Test(arguments: 1...4) func withTwoKeys(_ length: Int) throws {
        let keys = [Self.key(0, from: 0), Self.key(1, from: 40)]
        let receiving = try Receiving(keys)
        for number in UInt64(1)...80 {
            receiving.receive([Self.packet(number, length: length, keys[number < 40 ? 0 : 1])])
        }
        #expect(receiving.numbers == (1...80).map { $0 } && receiving.rejected == 0)
    }

    /// What no key opens stays refused, and moves nothing.
    @Test(arguments: 1...4) func forgedPackets(_ length: Int) throws {
        let key = Self.key(0, from: 0)
        let receiving = try Receiving([key])
        receiving.receive([Self.packet(1, length: length, key)])
        for number in UInt64(2)...60 {
            receiving.receive([Self.packet(number + 1_000_000, length: length, Self.key(9, from: 0))])
        }
        receiving.receive([Self.packet(2, length: length, key)])
        #expect(receiving.numbers == [1, 2] && receiving.rejected == 59)
    }
}
