import QUIC
import Wire

// Streams that are worth nothing any more: what has not begun on the flow is not sent, and nothing is repaired from then on. One
// that has begun is brought to its end, and repairs that wait on the flow leave: both are a matter of milliseconds.
extension FlowSource {
    /// The streams of these indices are worth nothing any more.
    /// - Returns: those that the flow will not send, which members have therefore to be told of. Who has lost packets of another
    ///   is named by `FlowAction.streamExpired`.
    mutating func expire(_ range: Range<UInt64>) -> [UInt64] {
        var unsent: [UInt64] = []
        for index in range {
            guard case .unsent(let octets) = streams.expire(index) else { continue }
            queuedStreams -= 1
            for slot in members.indices where members[slot].isActive && members[slot].firstStream > index {
                giveBack(UInt64(octets), to: slot)
            }
            unsent.append(index)
        }
        return unsent
    }

    /// A stream that came before the member's first will not be sent: the flow's count comes to the member's first sooner by as
    /// much, and so to the end of its credit.
    private mutating func giveBack(_ octets: UInt64, to slot: Int) {
        members[slot].octetsBefore -= octets
        members[slot].octetsTaken -= octets
        members[slot].streamsBefore -= 1
        members[slot].streamsTaken -= 1
        if let end = members[slot].octetsEnd, end < Self.noEnd {
            members[slot].octetsEnd = end - octets
            octetLimits.set(slot, octetLimits[slot] - octets)
        }
        if let end = members[slot].streamsEnd, end < Self.noEnd {
            members[slot].streamsEnd = end - 1
            streamLimits.set(slot, streamLimits[slot] - 1)
        }
    }

    /// Credit from here on is without end.
    private static var noEnd: UInt64 { 1 << 62 }

    /// Has the batch's member told of a stream that it has lost something of and that is not repaired; whether it is such a one.
    mutating func giveUpExpired(_ frame: FrameRecord, in batch: inout RepairBatch) -> Bool {
        guard streams.isExpired(frame.stream) else { return false }
        // Frames of one stream mostly come together.
        guard batch.expired != frame.stream else { return true }
        batch.expired = frame.stream
        act(
            .streamExpired(
                member: memberID(batch.slot),
                stream: StreamID(initiator: .server, bidirectional: false, index: frame.stream),
                octets: streams.octets(frame.stream)))
        return true
    }
}
