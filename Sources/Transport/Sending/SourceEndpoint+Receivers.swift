import Flexicast
import QUIC
import Wire

/// What an operator may want to know of one receiver.
package struct ReceiverAccount {
    package var address: SocketAddress
    package var standing: ReceiverStanding
    /// How long it has been served as it is.
    package var since: Duration
    /// Why it went back to its connection; empty when it did not.
    package var reason: String
    /// Smoothed round-trip time of its connection; nil before the first sample.
    package var roundTrip: Duration?
    /// Octets of UDP payload sent on its connection.
    package var octetsSent: UInt64
    /// Packets sent on its connection that were lost.
    package var packetsLost: UInt64
    /// Datagrams sent on its connection: nearly as many as packets.
    package var datagramsSent: UInt64

    package init(
        address: SocketAddress, standing: ReceiverStanding, since: Duration, reason: String, roundTrip: Duration?,
        octetsSent: UInt64, packetsLost: UInt64, datagramsSent: UInt64
    ) {
        self.address = address
        self.standing = standing
        self.since = since
        self.reason = reason
        self.roundTrip = roundTrip
        self.octetsSent = octetsSent
        self.packetsLost = packetsLost
        self.datagramsSent = datagramsSent
    }
}

extension SourceEndpoint {
    /// At most `limit` receivers from the one with this number on, and the number to go on with; nil when that was all.
    package func accounts(from first: Int, limit: Int) -> (accounts: [ReceiverAccount], next: Int?) {
        var accounts: [ReceiverAccount] = []
        for slot in connections.indices.dropFirst(max(0, first)) {
            guard let connection = connections[slot], let standing = server.standing(of: connection.id) else {
                continue
            }
            guard accounts.count < limit else { return (accounts, slot) }
            let statistics = connection.peer.connection.machine.statistics
            accounts.append(
                ReceiverAccount(
                    address: connection.peer.connection.machine.remoteAddress, standing: standing,
                    since: time - connection.changedAt, reason: connection.reason,
                    roundTrip: connection.peer.connection.machine.smoothedRTT, octetsSent: statistics.octetsSent,
                    packetsLost: statistics.packetsLost, datagramsSent: statistics.datagramsSent))
        }
        return (accounts, nil)
    }
}
