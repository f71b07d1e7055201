import QUIC
import Testing
import Wire

/// RFC 9001 section 6: what a peer may do with its keys, and what is KEY_UPDATE_ERROR.
@Suite("Key updates that break a rule close the connection")
final class KeyUpdateTests {
    private var pair = ClearPair()

    init() { pair.handshake() }

    private static let ping: [UInt8] = [0x01]

    private func client(sends payload: [UInt8], number: UInt64, key: UInt64) {
        ClearPair.inject(
            payload, number: number, from: ClearPair.clientAddress, keyGeneration: key, to: &pair.server, at: pair.now)
    }

    /// The server has sent an acknowledgement of all that came.
    private func serverAcknowledges() {
        pair.now += .milliseconds(30)
        pair.server.timerFired(at: pair.now)
        pair.pump()
    }

    private func updateKeys(_ role: Role) {
        let isUpdated = role == .client ? pair.client.updateKeys() : pair.server.updateKeys()
        #expect(isUpdated)
    }

    private func error() -> TransportError? {
        pair.pump()
        guard case .local(let error) = pair.serverEvents.closeReason else { return nil }
        return error
    }

    /// Section 6.4: reordered packets are opened with the old key as long as they are older than the update.
    @Test func anOldKeyIsForOldPackets() {
        client(sends: Self.ping, number: 1000, key: 0)
        client(sends: Self.ping, number: 1005, key: 1)
        client(sends: Self.ping, number: 1003, key: 1)
        client(sends: Self.ping, number: 1002, key: 0)
        #expect(error() == nil)
        #expect(pair.server.keyGeneration == 1)
        client(sends: Self.ping, number: 1004, key: 0)
        #expect(error()?.code == .keyUpdateError)
    }

    /// Section 6.2: an update may follow another only when that was acknowledged.
    @Test(arguments: [false, true]) func updatesFollowAcknowledgements(_ isAcknowledged: Bool) {
        client(sends: Self.ping, number: 1000, key: 1)
        if isAcknowledged { serverAcknowledges() }
        client(sends: Self.ping, number: 1001, key: 2)
        #expect(error()?.code == (isAcknowledged ? nil : .keyUpdateError))
    }

    /// The same holds when the update before was ours and the peer has only followed it.
    @Test func anAnswerIsAcknowledgedToo() {
        updateKeys(.server)
        client(sends: Self.ping, number: 1000, key: 1)
        client(sends: Self.ping, number: 1001, key: 2)
        #expect(error()?.code == .keyUpdateError)
    }

    /// Section 6.2: whoever has opened a packet under the new key answers with it.
    @Test(arguments: [0, 1] as [UInt64]) func theNewKeyIsAcknowledgedWithTheNewKey(_ key: UInt64) throws {
        updateKeys(.server)
        let stream = try pair.server.openStream(bidirectional: false)
        try pair.server.write(stream, [1], fin: true)
        let datagram = try #require(ClearPair.transmit(&pair.server, at: pair.now))
        let plan = try #require(datagram.1.last)
        #expect(plan.keyGeneration == 1)
        client(sends: [0x02, UInt8(plan.packetNumber), 0, 0, 0], number: 1000, key: key)
        #expect(error()?.code == (key == 1 ? nil : .keyUpdateError))
    }

    /// Two ends that keep to the rules may update as often as they like.
    @Test func updatesGoOnForEver() throws {
        for round in UInt64(1)...6 {
            updateKeys(round % 2 == 0 ? .server : .client)
            // The first exchange spreads the keys, the second is acknowledged under them.
            for _ in 0..<2 {
                try pair.client.write(pair.client.openStream(bidirectional: false), [1], fin: true)
                try pair.server.write(pair.server.openStream(bidirectional: false), [1], fin: true)
                pair.run { $0.client.bytesInFlight == 0 && $0.server.bytesInFlight == 0 }
            }
            #expect(pair.client.keyGeneration == round && pair.server.keyGeneration == round)
        }
        #expect(pair.client.isActive && pair.server.isActive)
    }
}
