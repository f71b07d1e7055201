import QUIC
import Wire

// DATAGRAM frames (RFC 9221) on the flow. Each is sent once, before stream data and at the flow's pace, and is not remembered: a
// packet that is lost is not missed for it. Flow control does not count them (RFC 9221 section 5.3).
extension FlowSource {
    /// Datagrams that may wait; for one more the oldest is dropped and counted.
    static var mostDatagrams: Int { 256 }

    /// Octets of the largest datagram that fits one packet.
    var largestDatagram: Int {
        configuration.packetSize - CipherSuite.tagLength - (1 + flowID.count + 4) - Connection.datagramHeader
    }

    /// Has a datagram sent to all members; at most `largestDatagram` octets. Without members nothing happens.
    mutating func sendDatagram(_ octets: [UInt8]) {
        guard memberCount > 0, !isWithdrawn else { return }
        precondition(octets.count <= largestDatagram, "a datagram has to fit one packet")
        if datagrams.count == Self.mostDatagrams {
            removeDatagram()
            statistics.datagramsDropped += 1
        }
        datagrams.append(octets)
    }

    /// As many as fit before `end`, in order.
    @_lifetime(writer: copy writer)
    mutating func writeDatagrams(into writer: inout ByteWriter, end: Int) {
        while !datagrams.isEmpty {
            let octets = datagrams[datagrams.base]
            guard writer.offset + Connection.datagramHeader + octets.count <= end else { return }
            writer.uint8(0x31)
            writer.uint16(UInt16(truncatingIfNeeded: octets.count) | 0x4000)
            writer.octets(octets.span)
            removeDatagram()
            statistics.datagramsSent += 1
        }
    }

    /// What is sent is remembered as a packet until all have settled it: beyond the bound of that, datagrams are dropped.
    mutating func boundDatagrams() {
        if unsettledOctets >= configuration.maximumUnsettledOctets { dropDatagrams() }
    }

    mutating func dropDatagrams() {
        statistics.datagramsDropped += UInt64(datagrams.count)
        while !datagrams.isEmpty { removeDatagram() }
    }

    /// The ring keeps what it is given until the place is used again.
    private mutating func removeDatagram() {
        datagrams[datagrams.base] = []
        datagrams.removeFirst()
    }
}
