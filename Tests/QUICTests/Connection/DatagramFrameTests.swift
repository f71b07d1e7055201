import Testing
import Wire

@testable import QUIC

/// DATAGRAM frames under congestion and loss (RFC 9221).
@Suite struct DatagramFrameTests {
    private func pair() -> ClearPair {
        var configuration = ConnectionConfiguration()
        configuration.parameters.maxDatagramFrameSize = 65535
        var pair = ClearPair(client: configuration, server: configuration)
        pair.handshake()
        return pair
    }

    private static func received(_ events: [ConnectionEvent]) -> [[UInt8]] {
        events.compactMap { if case .datagram(let octets, .unicast) = $0 { octets } else { nil } }
    }

    /// RFC 9221 section 5.4: they wait for the congestion controller; section 5: the newest of what waits is worth most.
    @Test func theyWaitForTheWindowAndTheOldestGo() {
        var pair = pair()
        let octets = 1000
        for number in 0..<(Connection.maxQueuedDatagrams + 20) {
            let isQueued = pair.server.sendDatagram(
                [UInt8(truncatingIfNeeded: number), UInt8(number >> 8)] + [UInt8](repeating: 0, count: octets))
            #expect(isQueued)
        }
        #expect(pair.server.statistics.datagramFramesDropped == 20)
        while ClearPair.transmit(&pair.server, at: pair.now) != nil {}
        let inFlight = pair.server.bytesInFlight
        #expect(inFlight > octets && inFlight <= pair.server.congestionWindow)
        #expect(pair.server.datagrams.count > Connection.maxQueuedDatagrams / 2, "no more than the window has left")
    }

    @Test func allThatWaitArriveInOrder() {
        var pair = pair()
        let sent = (0..<200).map { [UInt8($0)] + [UInt8](repeating: 1, count: 1100) }
        for octets in sent { _ = pair.server.sendDatagram(octets) }
        pair.run(for: .seconds(2))
        #expect(Self.received(pair.clientEvents) == sent)
    }

    /// RFC 9221 section 5.2: one that is lost is not sent again.
    @Test func whatIsLostStaysLost() {
        var pair = pair()
        let from = pair.sentByServer
        pair.drop = { fromClient, index in !fromClient && index < from + 3 }
        for number in 0..<10 as Range<UInt8> {
            _ = pair.server.sendDatagram([number] + [UInt8](repeating: 1, count: 1100))
        }
        pair.run(for: .seconds(3))
        #expect(Self.received(pair.clientEvents).map(\.[0]) == [3, 4, 5, 6, 7, 8, 9])
        #expect(pair.server.statistics.packetsLost >= 3 && pair.server.bytesInFlight == 0)
    }

    /// The largest fits beside the acknowledgement of scattered packets, as soon as there is a packet for it alone.
    @Test func theLargestAlwaysFits() {
        var pair = pair()
        pair.drop = { fromClient, index in fromClient && index % 2 == 0 }
        for _ in 0..<60 {
            pair.client.ping()
            pair.pump()
        }
        pair.drop = { _, _ in false }
        let largest = Connection.largestDatagram
        var isSent = pair.server.sendDatagram([UInt8](repeating: 2, count: largest))
        #expect(isSent)
        isSent = pair.server.sendDatagram([UInt8](repeating: 2, count: largest + 1))
        #expect(!isSent && pair.server.statistics.datagramFramesRefused == 1)
        pair.run(for: .milliseconds(300))
        #expect(Self.received(pair.clientEvents).map(\.count) == [largest])
    }
}
