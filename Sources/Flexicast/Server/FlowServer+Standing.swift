import Objects
import QUIC
import Wire

/// Where one receiver stands, for an operator to see.
public struct ReceiverStanding: Sendable, Equatable {
    /// How a receiver is served.
    public enum Way: String, Sendable {
        /// Its handshake is not complete.
        case connecting
        /// It is a member of the flow, and hears it from the group.
        case flow
        /// It is a member of the flow, and is sent copies of its packets.
        case copies
        /// Everything comes on its connection.
        case unicast
    }

    /// How it is served now.
    public var way: Way
    /// Parts of the log that have still to be handed to its connection.
    public var partsBehind: UInt64
    /// Bits per second of the flow that it can take, as far as is known: of a member alone, and nil when nothing limits it.
    public var takes: UInt64?

    /// A receiver that stands like this.
    public init(way: Way, partsBehind: UInt64, takes: UInt64? = nil) {
        self.way = way
        self.partsBehind = partsBehind
        self.takes = takes
    }
}

extension FlowServer {
    /// Where a receiver stands; nil when there is none of that ID.
    public func standing(of id: ReceiverID) -> ReceiverStanding? {
        guard let slot = slot(of: id) else { return nil }
        let seat = seats[slot]
        guard seat.isConnected else { return ReceiverStanding(way: .connecting, partsBehind: 0) }
        let lowest = seat.cursor.lowest(before: log.next) ?? log.next
        var standing = ReceiverStanding(way: .unicast, partsBehind: log.next - lowest)
        if let member = seat.member {
            standing.way = seat.way == .copies ? .copies : .flow
            standing.takes = flow.flatMap { $0.takes(member) }
        }
        return standing
    }

    /// Whether every receiver was handed all that was published, and nothing of the flow waits to be sent, acknowledged or
    /// repaired. What was handed to connections may be on its way.
    public var isHandedOver: Bool {
        guard flow?.isSettled ?? true else { return false }
        return seats.allSatisfy { seat in
            !seat.isConnected || seat.cursor.lowest(before: log.next) == nil && seat.repairs.isEmpty
        }
    }
}
