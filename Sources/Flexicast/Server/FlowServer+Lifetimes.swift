import Objects
import QUIC
import Wire

// Objects whose lifetime has ended (docs/objects.md). The log forgets them, so that a cursor that comes to one tells a gap; the
// flow neither sends nor repairs them; and connections that are sending one reset its streams.
//
//     log ──> ended ──> each connection, when it is served: RESET_STREAM and GAP for what it is sending
//      └────> flow ──> not begun: GAP to all members.   Lost later: RESET_STREAM and GAP to who reports it
extension FlowServer {
    /// Runs of numbers remembered for connections. All are served before as many more have come.
    private static var mostEnded: Int { 1024 }

    /// Ends the lifetimes that are over.
    mutating func endLifetimes(at now: Instant) {
        var hasEnded = false
        while let (range, wasOpen) = log.endLifetime(at: now) {
            objectsExpired += 1
            guard !range.isEmpty else { continue }
            hasEnded = true
            if ended.count == Self.mostEnded { ended.removeFirst() }
            ended.append(range)
            let unsent = flow?.expire(range) ?? []
            for slot in seats.indices where seats[slot].isConnected {
                end(range, unsent: unsent, slot)
                // Who has all that there is of it would wait for more.
                if wasOpen {
                    tellGap(slot, Gap(first: range.lowerBound, count: UInt64(range.count), reason: .lifetime))
                }
            }
        }
        guard hasEnded else { return }
        for slot in seats.indices where seats[slot].isConnected { touch(slot) }
        settle(at: now)
    }

    /// - Parameter unsent: parts that the flow was to bring and will not.
    private mutating func end(_ range: Range<UInt64>, unsent: [UInt64], _ slot: Int) {
        // What was published before it became a member was its cursor's.
        if let member = seats[slot].member, let first = flow?.firstStream(of: member) {
            for sequence in unsent where sequence >= first {
                tellGap(slot, Gap(first: sequence, count: 1, reason: .lifetime))
            }
        }
        for index in seats[slot].repairs.indices where range.contains(seats[slot].repairs[index].stream.index) {
            guard !seats[slot].repairs[index].isOver else { continue }
            seats[slot].repairs[index].isOver = true
            tellGap(slot, Gap(first: seats[slot].repairs[index].stream.index, count: 1, reason: .lifetime))
        }
    }

    /// The receiver lacks something of a part that the flow has sent and does not repair.
    mutating func giveUp(_ slot: Int, _ stream: StreamID, _ octets: StreamOctets) {
        tellGap(slot, Gap(first: stream.index, count: 1, reason: .lifetime))
        seats[slot].repairs.append(
            Seat.Repair(stream: stream, octets: octets, range: 0..<0, fin: false, counted: false, isOver: true))
        if seats[slot].repairs.count > configuration.repairsPerReceiver { isCrowded(slot) }
        touch(slot)
    }

    /// Has the receiver let go of the pieces that it has. The connection may have sent none of them itself.
    func resetStream<C: ReceiverConnection & ~Copyable>(_ repair: Seat.Repair, on connection: inout C) {
        connection.sendStreamRange(repair.stream, repair.octets, range: 0..<0, fin: false, counted: false)
        connection.reset(repair.stream, code: ObjectsError.Code.lifetime.rawValue)
    }

    /// Resets what the connection is still sending of parts whose lifetime has ended since it was served last.
    mutating func resetEnded<C: ReceiverConnection & ~Copyable>(_ slot: Int, on connection: inout C) {
        while seats[slot].nextEnded < ended.end {
            let place = max(seats[slot].nextEnded, ended.base)
            seats[slot].nextEnded = place + 1
            if seats[slot].hasSession {
                for sequence in ended[place] {
                    reset(
                        StreamID(initiator: .server, bidirectional: false, index: sequence), sequence, slot,
                        on: &connection)
                }
            } else {
                let range = ended[place]
                for (stream, sequence) in seats[slot].streams where range.contains(sequence) {
                    seats[slot].streams[stream] = nil
                    reset(stream, sequence, slot, on: &connection)
                }
            }
        }
    }

    private mutating func reset<C: ReceiverConnection & ~Copyable>(
        _ stream: StreamID, _ sequence: UInt64, _ slot: Int, on connection: inout C
    ) {
        guard connection.heldOctets(of: stream) > 0 else { return }
        connection.reset(stream, code: ObjectsError.Code.lifetime.rawValue)
        tellGap(slot, Gap(first: sequence, count: 1, reason: .lifetime))
    }
}
