import Cryptography
import Flexicast
import Foundation
import QUIC
import TestSupport
import Testing
import Wire

@Suite(
    "A third party opens our flow's packets",
    .enabled(if: Machine.hasAioquic, "aioquic is missing: make test installs it into .build/venv"))
struct FlowPacketTests {
    struct Opened: Decodable {
        var header: String
        var payload: String
        var number: UInt64
    }

    /// aioquic's own packet protection opens a packet of the flow, given only what FC_KEY carries: there is no path ID in its
    /// nonce, so it is an ordinary 1-RTT packet under that secret.
    @Test(arguments: CipherSuite.allCases)
    func withTheSecretOfFCKey(_ suite: CipherSuite) throws {
        let now = Instant(nanoseconds: 1_000_000_000)
        let id = FlowID([0xf1, 2, 3, 4, 5, 6, 7, 8])!
        var configuration = FlowConfiguration()
        configuration.suite = suite
        var flow = FlowSource(
            flowID: id,
            parameters: FlowParameters(
                source: IPAddress("192.0.2.1")!, group: IPAddress("232.1.1.1")!, port: 5000, ackDelay: .milliseconds(25)
            ),
            configuration: configuration, seed: SeededRandom(seed: 3), at: now)
        flow.attach(at: now)
        let member = flow.add(streamWindow: 4 << 20, octets: 1 << 20, streams: 100, at: now)
        #expect(member != nil)
        let item = Array("one item, told to many".utf8)
        let publication = flow.publish(StreamOctets(item))
        #expect(publication.onFlow)
        var packet = [UInt8](repeating: 0, count: 1500)
        var plans: [PacketPlan] = []
        let length: Int
        do {
            var span = packet.mutableSpan
            var writer = ByteWriter(&span)
            let isWritten = flow.transmit(into: &writer, plans: &plans, at: now)
            #expect(isWritten)
            length = writer.offset
        }
        let key = flow.currentKey
        let sealing = SealingKey(suite: key.suite, secret: key.secret)
        do {
            var span = packet.mutableSpan
            sealing.seal(&span, plans[0])
        }
        let hex = { (octets: [UInt8]) in octets.map { String(format: "%02x", $0) }.joined() }
        let result = try run(
            Machine.python,
            [
                Machine.peers.appending(path: "aioquic_peer.py").path, "open", "--suite", "\(suite.rawValue)",
                "--secret",
                hex(key.secret), "--id-length", "8", "--expected", "\(key.firstPacketNumber)",
            ], input: hex(Array(packet.prefix(length))))
        guard result.status == 0 else { throw Failure(description: result.errors) }
        let opened = try JSONDecoder().decode(Opened.self, from: Data(result.output.utf8))
        #expect(opened.number == plans[0].packetNumber)
        #expect(opened.header.hasPrefix("43f102030405060708"))
        // STREAM with FIN and length: the item is in it word for word.
        #expect(opened.payload.contains(hex(item)))
    }
}
