import QUIC
import Testing
import Wire

@testable import Cryptography

/// RFC 9000 section 5.2.2: a server that takes no connection says so in an Initial packet.
@Suite struct ConnectionRefusalTests {
    @Test(arguments: ["too many connections from your address", String(repeating: "long ", count: 100), ""])
    func aRefusalReachesTheClient(_ reason: String) throws {
        let (context, _) = try SecureConnectionTests.contexts()
        let now = SecureWorld.start
        let id = ConnectionID([1, 2, 3, 4, 5, 6, 7, 8])!
        let client = try SecureConnection(
            client: ConnectionConfiguration(), tls: context, serverName: "source.test",
            to: SecureWorld.serverAddress, localID: id, seed: SeededRandom(seed: 5), at: now)
        var first = [UInt8](repeating: 0, count: 1500)
        var outgoing: [OutgoingDatagram] = []
        do {
            var span = first.mutableSpan
            _ = client.transmit(into: &span, most: 1, datagrams: &outgoing, at: now)
        }
        first.removeLast(first.count - outgoing[0].count)
        let admission = Admission(random: SeededRandom(seed: 3), at: now)
        guard case .admit(let admitted) = admission.judge(first.span, from: SecureWorld.clientAddress, at: now) else {
            Issue.record("not admitted")
            return
        }
        var packet = admission.refusal(of: admitted, reason: reason, at: now)!
        #expect(packet.count < 1200 / 3)
        #expect(admission.counters.refusals == 1)
        var none = NoExtension()
        do {
            var span = packet.mutableSpan
            client.receive(
                &span, from: SecureWorld.serverAddress, to: nil, ecn: .notECT, at: now, extension: &none)
        }
        var closed: CloseReason?
        while let event = client.nextEvent(at: now) { if case .closed(let reason) = event { closed = reason } }
        guard case .peer(let error) = closed else {
            Issue.record("\(String(describing: closed))")
            return
        }
        #expect(error.code == .connectionRefused)
        #expect(error.reason == String(reason.prefix(Admission.longestReason)))
    }
}
