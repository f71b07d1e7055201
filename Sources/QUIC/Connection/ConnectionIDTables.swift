import Wire

/// The connection IDs that we issued and the peer addresses us by (RFC 9000 section 5.1).
struct LocalConnectionIDs: Sendable {
    struct Entry: Sendable {
        var sequence: UInt64
        var id: ConnectionID
        /// Nil once the peer has it.
        var token: [UInt8]?
    }

    /// We keep at most this many in use, whatever more the peer would accept.
    static let maxActive = 4

    /// The one in our long headers.
    let first: ConnectionID
    private(set) var active: [Entry]
    private(set) var nextSequence: UInt64 = 1
    /// Sequence numbers whose NEW_CONNECTION_ID frame is still to be sent, or sent again.
    private(set) var pending: [UInt64] = []
    /// The peer's active_connection_id_limit.
    var peerLimit = 2

    init(first: ConnectionID) {
        self.first = first
        active = [Entry(sequence: 0, id: first, token: nil)]
    }

    func contains(_ id: ConnectionID) -> Bool { active.contains { $0.id == id } }

    /// How many more IDs the peer may be given (RFC 9000 section 5.1.1).
    var wanted: Int { max(0, min(peerLimit, Self.maxActive) - active.count) }

    mutating func add(_ id: ConnectionID, token: [UInt8]) {
        active.append(Entry(sequence: nextSequence, id: id, token: token))
        pending.append(nextSequence)
        nextSequence += 1
    }

    /// What goes out in the next frame. Those that were retired meanwhile, or have arrived after all, are passed over.
    mutating func takePending() -> (sequence: UInt64, id: ConnectionID, token: [UInt8])? {
        while let sequence = pending.popLast() {
            if let entry = active.first(where: { $0.sequence == sequence }), let token = entry.token {
                return (sequence, entry.id, token)
            }
        }
        return nil
    }

    /// The peer has the ID: its frame will not be needed again.
    mutating func frameAcknowledged(_ sequence: UInt64) {
        if let index = active.firstIndex(where: { $0.sequence == sequence }) { active[index].token = nil }
    }

    mutating func frameLost(_ sequence: UInt64) { pending.append(sequence) }

    /// RETIRE_CONNECTION_ID (RFC 9000 section 19.16). Returns the ID that is no longer ours, nil when it was gone already.
    mutating func retire(_ sequence: UInt64, usedInPacket: ConnectionID) throws(TransportError) -> ConnectionID? {
        guard sequence < nextSequence else {
            throw TransportError(
                .protocolViolation, "RETIRE_CONNECTION_ID of sequence \(sequence), never issued", frameType: 0x19)
        }
        guard let index = active.firstIndex(where: { $0.sequence == sequence }) else { return nil }
        guard active[index].id != usedInPacket else {
            throw TransportError(
                .protocolViolation, "RETIRE_CONNECTION_ID of the packet's own destination", frameType: 0x19)
        }
        return active.remove(at: index).id
    }
}

/// The connection IDs that the peer issued and we address it by.
struct RemoteConnectionIDs: Sendable {
    struct Entry: Sendable, Equatable {
        var sequence: UInt64
        var id: ConnectionID
        var token: [UInt8]?
    }

    /// What we advertise as active_connection_id_limit.
    static let limit = 4
    /// RETIRE_CONNECTION_ID frames that may wait to be sent: a peer that makes us owe more is abusing us (CVE-2024-22189).
    static let maxRetirePending = 3 * limit
    /// Runs of sequence numbers that are told apart. A peer counts up (RFC 9000 section 5.1.1), so that what is missing between
    /// them is on its way; of one that leaves out more, the lowest that it left out count as received.
    static let maxReceivedRuns = 4 * limit

    private(set) var active: [Entry]
    /// Sequence numbers that came, in use or not: a frame that is sent again brings no ID back that we have retired.
    private(set) var received = RangeSet()
    /// Sequence numbers whose RETIRE_CONNECTION_ID frame is to be sent, or sent again.
    private(set) var pendingRetire: [UInt64] = []
    private var retirePriorTo: UInt64 = 0
    /// RETIRE_CONNECTION_ID frames in flight.
    private var unacknowledged = 0

    init(first: ConnectionID) {
        active = [Entry(sequence: 0, id: first, token: nil)]
        received.insert(0)
    }

    var current: ConnectionID { active[0].id }

    /// The peer chose the ID we must use from its first packet on, or a Retry changed it.
    mutating func replaceFirst(_ id: ConnectionID) { active[0].id = id }
    mutating func setFirstToken(_ token: [UInt8]) {
        if let index = active.firstIndex(where: { $0.sequence == 0 }) { active[index].token = token }
    }

    /// NEW_CONNECTION_ID (RFC 9000 section 19.15).
    mutating func add(sequence: UInt64, retirePriorTo: UInt64, id: ConnectionID, token: [UInt8]) throws(TransportError)
    {
        func refuse(_ code: TransportError.Code, _ why: String) -> TransportError {
            TransportError(code, "NEW_CONNECTION_ID: \(why)", frameType: 0x18)
        }
        guard retirePriorTo <= sequence else {
            throw refuse(.frameEncodingError, "retire prior to \(retirePriorTo) above its own sequence \(sequence)")
        }
        guard active[0].id.count > 0 else { throw refuse(.protocolViolation, "we address the peer without an ID") }
        if let known = active.first(where: { $0.sequence == sequence || $0.id == id }) {
            guard known.sequence == sequence, known.id == id, known.token == token else {
                throw refuse(.protocolViolation, "sequence \(sequence) contradicts an earlier frame")
            }
        } else if noteReceived(sequence) {
            if sequence < self.retirePriorTo {
                try retireLater(sequence)
            } else {
                active.append(Entry(sequence: sequence, id: id, token: token))
            }
        }
        if retirePriorTo > self.retirePriorTo {
            self.retirePriorTo = retirePriorTo
            for entry in active where entry.sequence < retirePriorTo { try retireLater(entry.sequence) }
            active.removeAll { $0.sequence < retirePriorTo }
            guard !active.isEmpty else { throw refuse(.protocolViolation, "no connection ID is left") }
        }
        // RFC 9000 section 5.1.1.
        guard active.count <= Self.limit else {
            throw refuse(.connectionIDLimitError, "more than \(Self.limit) active")
        }
    }

    /// False when a frame with this number has come before.
    private mutating func noteReceived(_ sequence: UInt64) -> Bool {
        guard received.insert(sequence) else { return false }
        if received.count > Self.maxReceivedRuns { received.insert(received[0].lowerBound...received[1].upperBound) }
        return true
    }

    /// Goes over to a fresh ID, as when the path changes (RFC 9000 section 9.5); false when there is none, or the peer leaves too
    /// many unacknowledged that we have retired.
    mutating func rotate() -> Bool {
        guard active.count > 1, pendingRetire.count + unacknowledged < Self.maxRetirePending else { return false }
        pendingRetire.append(active.removeFirst().sequence)
        return true
    }

    /// No ID is forgotten without a word (RFC 9000 section 5.1.2).
    private mutating func retireLater(_ sequence: UInt64) throws(TransportError) {
        guard pendingRetire.count + unacknowledged < Self.maxRetirePending else {
            throw TransportError(
                .connectionIDLimitError, "more than \(Self.maxRetirePending) retired IDs unacknowledged",
                frameType: 0x18)
        }
        pendingRetire.append(sequence)
    }

    mutating func takePendingRetire() -> UInt64? {
        guard let sequence = pendingRetire.popLast() else { return nil }
        unacknowledged += 1
        return sequence
    }

    mutating func retireFrameAcknowledged() { unacknowledged -= 1 }
    mutating func retireFrameLost(_ sequence: UInt64) {
        unacknowledged -= 1
        pendingRetire.append(sequence)
    }
}
