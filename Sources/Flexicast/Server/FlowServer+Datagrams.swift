import QUIC
import Wire

/// Why a datagram was not sent.
public enum DatagramError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It would not fit one packet; `most` would.
    case tooLong(octets: Int, most: Int)
    /// The source was set up to send none.
    case notOffered

    /// For a reader: what was wrong, and what would do.
    public var description: String {
        switch self {
        case .tooLong(let octets, let most):
            "a datagram of \(octets) octets does not fit one packet: at most \(most) do"
        case .notOffered: "the source was set up to send no datagrams"
        }
    }
}

// Datagrams (RFC 9221, docs/objects.md): each goes once to everybody, by the flow or on the receiver's connection, and is never
// sent again. A receiver that is slow to take them loses the oldest.
extension FlowServer {
    /// Datagrams kept for receivers' connections; who is further behind loses the oldest.
    static var mostDatagrams: Int { Connection.maxQueuedDatagrams }

    /// Octets of the largest datagram: with its number it fits one packet of the flow, and one of any connection.
    public var largestDatagram: Int {
        min(flow?.largestDatagram ?? .max, Connection.largestDatagram) - DatagramNumber.mostOctets
    }

    /// Sends a datagram to every receiver that is there.
    /// - Throws: `DatagramError`; nothing was sent then.
    public mutating func sendDatagram(_ octets: [UInt8], at now: Instant) throws(DatagramError) {
        guard configuration.sendsDatagrams else { throw .notOffered }
        guard octets.count <= largestDatagram else { throw .tooLong(octets: octets.count, most: largestDatagram) }
        defer { assertInvariants() }
        let datagram = DatagramNumber.put(datagrams.end, before: octets)
        if datagrams.count == Self.mostDatagrams { datagrams.removeFirst() }
        datagrams.append(datagram)
        if let members = flow?.memberCount, members > 0 {
            flow!.sendDatagram(datagram)
            isFlowTouched = true
        }
        for slot in seats.indices where seats[slot].isConnected && seats[slot].member == nil { touch(slot) }
    }

    /// Hands the receiver's connection the datagrams that it does not hear on the flow.
    mutating func deliverDatagrams<C: ReceiverConnection & ~Copyable>(
        _ slot: Int, on connection: inout C, at now: Instant
    ) {
        guard seats[slot].nextDatagram < datagrams.end else { return }
        defer { seats[slot].nextDatagram = datagrams.end }
        guard seats[slot].member == nil else { return }
        let first = max(seats[slot].nextDatagram, datagrams.base)
        datagramsDropped += first - seats[slot].nextDatagram
        for number in first..<datagrams.end {
            if connection.sendDatagram(datagrams[number]) {
                unicast?.charge(datagrams[number].count, at: now)
            } else {
                datagramsRefused += 1
            }
        }
    }

    /// Whether the receiver may be on a flow that carries datagrams (RFC 9221 section 3). An operator is told of one that may not.
    mutating func mayHearDatagrams(_ slot: Int, _ parameters: TransportParameters?) -> Bool {
        guard configuration.sendsDatagrams else { return true }
        let takes = parameters?.maxDatagramFrameSize ?? 0
        let least = UInt64(largestDatagram + DatagramNumber.mostOctets + Connection.datagramHeader)
        guard takes < least else { return true }
        tell(
            .notAdmitted(
                id(of: slot), reason: "its max_datagram_frame_size is \(takes), the datagrams of the flow need \(least)"
            ))
        return false
    }
}
