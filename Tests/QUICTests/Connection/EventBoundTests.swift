import Testing
import Wire

@testable import QUIC

/// What a peer can repeat at will does not gather, however late the application looks.
@Suite struct EventBoundTests {
    private func pair() -> ClearPair {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxDatagramFrameSize = 1200
        var pair = ClearPair(client: configuration, server: configuration)
        pair.handshake()
        return pair
    }

    /// RFC 9000 section 19.7: a server may send any number of NEW_TOKEN frames.
    @Test func tokensThatWaitAreBounded() {
        var pair = pair()
        for number in 0..<20 as Range<UInt64> {
            ClearPair.inject(
                [0x07, 1, UInt8(number)], number: 1000 + number, from: ClearPair.serverAddress, to: &pair.client,
                at: pair.now)
        }
        let waiting = Connection.maxWaitingTokens
        #expect(pair.client.statistics.newTokensDropped == UInt64(20 - waiting))
        var taken = 0
        while let event = pair.client.nextEvent() { if case .newToken = event { taken += 1 } }
        #expect(taken == waiting)
        ClearPair.inject(
            [0x07, 1, 99], number: 2000, from: ClearPair.serverAddress, to: &pair.client, at: pair.now)
        #expect(pair.client.statistics.newTokensDropped == UInt64(20 - waiting), "there is room again")

        for number in 0..<20 as Range<UInt8> { pair.server.sendNewToken([number]) }
        #expect(pair.server.newTokens.count == waiting)
        #expect(pair.server.statistics.newTokensDropped == UInt64(20 - waiting))
    }

    /// RFC 9221 section 5.3: a receiver may drop DATAGRAM frames that it has no room for.
    @Test func datagramsThatWaitAreBounded() {
        var pair = pair()
        let frames = [[UInt8]](repeating: [0x31, 1, 7], count: 300).flatMap { $0 }
        for number in 0..<20 as Range<UInt64> {
            ClearPair.inject(
                frames, number: 1000 + number, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        }
        let waiting = Connection.maxWaitingDatagrams
        #expect(pair.server.statistics.datagramFramesUnread == UInt64(20 * 300 - waiting))
        var taken = 0
        while let event = pair.server.nextEvent() { if case .datagram = event { taken += 1 } }
        #expect(taken == waiting)
        ClearPair.inject(frames, number: 2000, from: ClearPair.clientAddress, to: &pair.server, at: pair.now)
        #expect(pair.server.statistics.datagramFramesUnread == UInt64(20 * 300 - waiting), "there is room again")
    }

    /// RFC 9000 section 9.3: a peer may move with each packet.
    @Test func movesAreToldTogether() {
        var pair = pair()
        let last = SocketAddress(ClearPair.clientAddress.address, port: 6099)
        for number in 0..<100 as Range<UInt64> {
            ClearPair.inject(
                [0x01], number: 1000 + number, from: SocketAddress(last.address, port: 6000 + UInt16(number)),
                to: &pair.server, at: pair.now)
        }
        var moves: [SocketAddress] = []
        while let event = pair.server.nextEvent() { if case .peerAddressChanged(let to) = event { moves.append(to) } }
        #expect(moves == [last])
    }
}
