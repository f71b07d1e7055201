import Objects
import QUIC
import Wire

/// A receiver of a `FlowServer`. A slot is used again after its receiver has gone, with another epoch.
public struct ReceiverID: Hashable, Sendable {
    /// Dense from 0: an index for the caller's own table.
    public var slot: Int
    /// Tells receivers of one slot apart: one more for each.
    public var epoch: UInt32
}

/// A receiver that is sent copies of the flow's packets.
public struct FlowCopy: Hashable, Sendable {
    /// The receiver's address and port, from which it has answered.
    public var to: SocketAddress
    /// Our own address, which the receiver expects them from.
    public var from: IPAddress?
}

/// What sealing the flow's packets takes, in the order it is to be done.
public enum KeyChange: Sendable {
    /// A key to seal with, for packets of this generation.
    case install(FlowKey)
    /// No packet will be sealed with this generation again.
    case drop(generation: UInt64)
}

/// How a source serves its receivers.
public struct FlowServerConfiguration: Sendable {
    /// Recent objects that a receiver is given that states no position.
    public var history: Int
    /// How long a receiver may take to state its position; after that it gets what is published from then on.
    public var positionTime = Duration.seconds(1)
    /// How often a receiver is told the source's clock again.
    public var clockInterval = Duration.seconds(60)
    /// Receivers that the group does not reach are sent copies of the flow.
    public var replicates = false
    /// The flow goes to a group; otherwise it goes out in copies only.
    public var hasGroup = true
    /// The least time after which a receiver of copies is tried on the group again.
    public var groupRetry = Duration.seconds(600)
    /// Pieces of repairs that may wait for one receiver's connection; a member for which more would wait leaves the flow.
    public var repairsPerReceiver = 4096
    /// The most that is handed to receivers' connections, in bits per second, shared fairly by account; nil sets no bound.
    public var unicastRate: UInt64?
    /// Datagrams may be sent (`FlowServer.sendDatagram`): then the flow is for those alone that take them, as one that takes none
    /// has to close its connection for one on the flow (RFC 9221 section 3). All others are served on their connections.
    public var sendsDatagrams = false
    /// Whoever writes an object part by part waits for the slowest receiver, not for nearly all: for those who can be trusted.
    public var writerWaitsForEverybody = false

    /// A source with a group that sends no copies. See `history`.
    public init(history: Int = 100) { self.history = history }
}

/// A source's whole service, without octets and time: one flow, if it has one, and every receiver with its session, its
/// cursor, its credit and the way that the flow takes to it. A pure value.
///
///     publish ──> ObjectLog ───────> DeliveryCursor of each receiver that does not hear the flow ──> its connection
///        └──────> FlowSource ──> transmit (everybody who does)
///                   ^    └── repairs, who left ──> cursors
///                   └── READY, PATH_ACK, LEAVE <── SourceSession of each receiver <── ReceivedFrames
///
/// A shell moves octets and time. For each connection it calls `accept`, then `handle` for each event, `serve` whenever
/// something has come and before packets are written, and `forget` at the end. `nextTouched` names the connections that
/// have something to send. The flow's packets are written by `flow.transmitRun`, between `settle` and `settle`.
public struct FlowServer: Sendable {
    /// The flow's packets. Nil: everything goes on connections.
    public internal(set) var flow: FlowSource?
    /// As the server was made with, but for `setHistory`.
    public private(set) var configuration: FlowServerConfiguration

    /// What was published, as parts by sequence number: a part's number is the index of its stream.
    public internal(set) var log: ObjectLog
    var seats: [Seat] = []
    private var freeSlots: [Int] = []
    /// By slot of the flow's member table.
    var receiverOfMember: [Int] = []
    /// Receivers that have something to send, each once.
    private var touched: [Int] = []
    private var touchedTaken = 0
    /// Those of them that are still to be named.
    var touchedSlots: ArraySlice<Int> { touched[touchedTaken...] }
    /// Receivers that have not stated their position, in the order in which their time is up.
    private var awaited = IndexedRing(filler: Awaited.none)
    /// Receivers that copies go to now.
    private(set) var copied: [Int] = []
    /// Members that are to leave the flow because too much waits for them.
    var crowded: [Int] = []
    var isSettling = false
    /// Who has to wait before it may join.
    var pauses = JoinPauses()
    /// Whether debug builds stop at an event after which `checkInvariants` finds something.
    public var checksInvariants = false
    var keyChanges: [KeyChange] = []
    private var notices: [ServerNotice] = []
    private var noticesTaken = 0
    var random: SeededRandom
    /// What the wall clock showed when.
    private var wallClock: (time: WallTime, at: Instant)
    private var nextGroupRetry: Instant
    /// What may be handed to connections, and whose turn it is; nil while that is not bounded.
    var unicast: UnicastBudget?
    /// The newest datagrams, by number, for receivers that do not hear them on the flow.
    var datagrams = IndexedRing(filler: [UInt8]())

    /// Numbers of parts whose lifetime has ended, for receivers whose connections may still be sending them.
    var ended = IndexedRing(filler: UInt64(0)..<0)

    /// What is read from the log's store.
    var reads = StoredReads()
    /// Parts that were read from the log's store.
    public internal(set) var storedPartsRead: UInt64 = 0
    /// Reads of the log's store that failed; who needed them waits and is served when they can be read again.
    public internal(set) var readFailures: UInt64 = 0
    /// Why the last of them failed.
    public internal(set) var lastReadFailure: String?

    /// Objects published.
    public internal(set) var objectCount: UInt64 = 0
    /// Sequence numbers that receivers were told nothing will come for, because they are not kept any more.
    public private(set) var partsGone: UInt64 = 0
    /// Objects whose lifetime has ended, also if all receivers had them.
    public internal(set) var objectsExpired: UInt64 = 0
    /// Sequence numbers that receivers were told nothing will come for, because the lifetime of their objects had ended.
    public private(set) var partsExpired: UInt64 = 0
    /// Control streams that broke a rule; their connections ended with them.
    public internal(set) var controlErrors: UInt64 = 0
    /// Reports of receivers that came too often, for them, their account or all together.
    public internal(set) var reportsIgnored: UInt64 = 0
    var reportBudget = ReportBudget()
    /// Times that a receiver was handed no more parts until it takes what it is told on its control stream.
    public internal(set) var controlWaits: UInt64 = 0
    /// Parts sent again to receivers that had them, for want of room to remember which those were.
    public private(set) var partsSentAgain: UInt64 = 0
    /// JOINs that were answered with LEAVE because the receiver, or its account, has to wait.
    public internal(set) var joinsRefused: UInt64 = 0
    /// Times that a datagram was not sent to a receiver, because it takes none of that size.
    public internal(set) var datagramsRefused: UInt64 = 0
    /// Times that a datagram was not handed to a receiver's connection, because newer ones took its place.
    public internal(set) var datagramsDropped: UInt64 = 0
    /// Accounts whose pause was forgotten before its time, as no more than `JoinPauses.mostAccounts` are remembered.
    public var pausesForgotten: UInt64 { pauses.forgotten }
    /// Notices that nobody took in time.
    public private(set) var noticesDropped: UInt64 = 0
    /// Receivers that are connected.
    public internal(set) var receiverCount = 0
    /// Receivers that have something to be sent and wait for their turn, because of `FlowServerConfiguration.unicastRate`.
    public var waitingReceivers: Int { unicast?.waitingCount ?? 0 }
    /// Something has happened since `flowWasPumped` that may let packets of the flow go.
    public internal(set) var isFlowTouched = false

    static let mostNotices = 1024

    private struct Awaited: Sendable {
        var id: ReceiverID
        var until: Instant
        static let none = Awaited(id: ReceiverID(slot: 0, epoch: 0), until: Instant(nanoseconds: 0))
    }

    /// - Parameters:
    ///   - flow: its first stream must be the log's next number; nil: everything goes on connections.
    ///   - log: what receivers are served from; what is published goes into it.
    ///   - configuration: by which ways receivers are served, and how much.
    ///   - seed: for the times at which receivers are tried on the group again.
    ///   - wallClock: the time of day at `now`.
    ///   - now: when the server begins.
    public init(
        flow: FlowSource?, log: ObjectLog,
        configuration: FlowServerConfiguration = FlowServerConfiguration(), seed: SeededRandom, wallClock: WallTime,
        at now: Instant
    ) {
        precondition(flow.map { $0.nextStream.index == log.next } ?? true, "the flow and the log number parts alike")
        self.flow = flow
        self.log = log
        self.configuration = configuration
        random = seed
        self.wallClock = (wallClock, now)
        nextGroupRetry = now + configuration.groupRetry / 8
        unicast = configuration.unicastRate.map {
            UnicastBudget(rate: max(1, $0), largestPart: ObjectLimits.streamOctets, at: now)
        }
        settle(at: now)
    }

    /// So many recent objects are given to receivers that state no position from now on.
    public mutating func setHistory(_ count: Int) { configuration.history = count }

    /// Has packets of the flow written, in place: nil when there is no flow.
    public mutating func withFlow<R>(_ body: (inout FlowSource) -> R) -> R? {
        guard flow != nil else { return nil }
        return body(&flow!)
    }

    /// The flow's packets have been written as far as they may go now.
    public mutating func flowWasPumped() { isFlowTouched = false }

    // MARK: Objects

    /// Octets of parts that wait for their first packet on the flow.
    public var queuedOctets: UInt64 { flow?.queuedOctets ?? 0 }

    /// Sends an object to every receiver, and to those that come later and lack it, as long as the log keeps it. Throws
    /// what `ObjectLog.append` does; nothing was published then.
    /// - Parameter end: of the object's lifetime, if it has one: what receivers have not got by then they do not get.
    /// - Returns: whether all of it goes on the flow.
    @discardableResult
    public mutating func publish(
        name: String = "", mediaType: String = "", body: [UInt8], until end: Instant? = nil, at now: Instant
    ) throws(LogError) -> Bool {
        defer { assertInvariants(logHasGrown: true) }
        // Those of its parts that the flow does not carry, in order.
        var besides: [UInt64] = []
        let numbers = try log.append(
            name: name, mediaType: mediaType, body: body, published: wallTime(at: now), until: end
        ) { part in
            if !Self.give(part, to: &flow, isTouched: &isFlowTouched) { besides.append(part.sequence) }
        }
        objectCount += 1
        var next = 0
        for number in numbers {
            let onFlow = next == besides.count || besides[next] != number
            if !onFlow { next += 1 }
            hand(number, onFlow: onFlow)
        }
        // Only now: until all its parts are handed out, who leaves the flow would be given none of the rest.
        settle(at: now)
        return besides.isEmpty
    }

    /// Gives a part that is new in the log to the flow; whether it takes it.
    @inline(__always)
    static func give(_ part: borrowing Part, to flow: inout FlowSource?, isTouched: inout Bool) -> Bool {
        guard let onFlow = flow?.publish(part.octets, as: part.sequence) else { return false }
        isTouched = true
        return onFlow
    }

    /// Hands a part of the log to the receivers that do not hear it on the flow.
    mutating func hand(_ number: UInt64, onFlow: Bool) {
        for slot in seats.indices {
            if seats[slot].member != nil {
                guard !onFlow else { continue }
                seats[slot].cursor.add(number..<(number + 1), isCharged: false)
                if seats[slot].cursor.isCrowded { isCrowded(slot) }
            } else {
                // Who has more to be sent already is not woken for this.
                guard let follows = seats[slot].cursor.follows, follows <= number,
                    seats[slot].cursor.lowest(before: number) == nil
                else { continue }
            }
            touch(slot)
        }
    }

    /// What the wall clock shows at `now`, as far as is known.
    public func wallTime(at now: Instant) -> WallTime {
        // The 128-bit arithmetic of Duration would cost as much as the rest of publishing.
        WallTime(nanoseconds: wallClock.time.nanoseconds &+ (now.nanoseconds &- wallClock.at.nanoseconds))
    }

    /// The wall clock shows `time`: it may have been set. Forgets objects that are older than the log keeps them. To be
    /// called now and then.
    public mutating func wallClockIs(_ time: WallTime, at now: Instant) {
        wallClock = (time, now)
        log.expire(at: time)
    }

    // MARK: Receivers

    /// A connection has begun.
    public mutating func accept(at now: Instant) -> ReceiverID {
        defer { assertInvariants() }
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slot = seats.count
            seats.append(Seat(epoch: 0))
        }
        // The slot may still be in the list of those touched, for the receiver before.
        let isTouched = seats[slot].isTouched
        seats[slot] = Seat(epoch: seats[slot].epoch &+ 1)
        seats[slot].isTaken = true
        seats[slot].isTouched = isTouched
        return ReceiverID(slot: slot, epoch: seats[slot].epoch)
    }

    /// The connection is over and nothing more will be asked for it.
    public mutating func forget(_ id: ReceiverID, at now: Instant) {
        guard let slot = slot(of: id) else { return }
        defer { assertInvariants() }
        closed(slot, at: now)
        seats[slot].isTaken = false
        freeSlots.append(slot)
    }

    /// Takes an event of the receiver's connection; those that do not concern the service are ignored.
    public mutating func handle<C: ReceiverConnection & ~Copyable>(
        _ event: ConnectionEvent, of id: ReceiverID, on connection: inout C, at now: Instant
    ) {
        guard let slot = slot(of: id) else { return }
        defer { assertInvariants() }
        switch event {
        case .connected: connected(slot, on: &connection, at: now)
        case .closed: closed(slot, at: now)
        case .pathAbandoned(let pathID): pathAbandoned(pathID, slot, at: now)
        case .streamReadable(let id): controlReceived(slot, id, on: &connection, at: now)
        case .streamReset(.control, _), .streamStopped(.control, _):
            breakControl(slot, .controlCutOff, on: &connection, at: now)
        case .streamSent(let id):
            if !seats[slot].streams.isEmpty { seats[slot].streams[id] = nil }
            touch(slot)
        case .streamStopped, .writable: touch(slot)
        default: break
        }
    }

    /// Does what the receiver's frames asked for, and hands its connection what is to be sent. To be called after a datagram
    /// was received and before packets are written.
    public mutating func serve<C: ReceiverConnection & ~Copyable>(
        _ id: ReceiverID, frames: inout ReceivedFrames, on connection: inout C, at now: Instant
    ) {
        guard let slot = slot(of: id) else { return }
        defer { assertInvariants() }
        seats[slot].remote = connection.remoteAddress
        seats[slot].local = connection.localAddress?.address
        seats[slot].isValidated = connection.isRemoteAddressValidated
        if unicast != nil, seats[slot].isValidated { seats[slot].payer = FlowAccount(connection.remoteAddress.address) }
        do throws(TransportError) {
            while let frame = frames.next() {
                guard seats[slot].isConnected else { continue }
                try take(frame, slot, on: &connection, at: now)
            }
        } catch {
            connection.close(error, at: now)
            // Whatever else it has sent is not looked at any more.
            closed(slot, at: now)
        }
        guard seats[slot].isConnected else { return }
        deliver(slot, on: &connection, at: now)
    }

    /// A receiver's connection that has something to send; nil when there is none.
    public mutating func nextTouched() -> ReceiverID? {
        while touchedTaken < touched.count {
            let slot = touched[touchedTaken]
            touchedTaken += 1
            seats[slot].isTouched = false
            if seats[slot].isTaken { return ReceiverID(slot: slot, epoch: seats[slot].epoch) }
        }
        touched.removeAll(keepingCapacity: true)
        touchedTaken = 0
        return nil
    }

    /// Whether `nextTouched` has somebody to name.
    public var hasTouched: Bool { touchedTaken < touched.count }

    /// Notes that a receiver's connection has something to send.
    mutating func touch(_ slot: Int) {
        guard !seats[slot].isTouched else { return }
        seats[slot].isTouched = true
        touched.append(slot)
    }

    /// Whether the receiver hears the flow and the source counts on it.
    public func isMember(_ id: ReceiverID) -> Bool { slot(of: id).map { seats[$0].member != nil } ?? false }

    func slot(of id: ReceiverID) -> Int? {
        guard seats.indices.contains(id.slot), seats[id.slot].isTaken, seats[id.slot].epoch == id.epoch else {
            return nil
        }
        return id.slot
    }

    func id(of slot: Int) -> ReceiverID { ReceiverID(slot: slot, epoch: seats[slot].epoch) }

    mutating func awaitPosition(_ slot: Int, until: Instant) { awaited.append(Awaited(id: id(of: slot), until: until)) }

    mutating func countSentAgain(_ parts: UInt64) { partsSentAgain += parts }
    mutating func countGone(_ gap: Gap) {
        if gap.reason == .lifetime { partsExpired += gap.count } else { partsGone += gap.count }
    }

    // MARK: Copies, keys, notices

    /// Receivers that copies of the flow's packets go to now. Nobody is sent them at an address that has not answered: it may
    /// be somebody else's.
    public func collectCopies(into copies: inout [FlowCopy]) {
        copies.removeAll(keepingCapacity: true)
        for slot in copied where seats[slot].isValidated {
            copies.append(FlowCopy(to: seats[slot].remote, from: seats[slot].local))
        }
    }

    /// Receivers on copies, those included whose address has not answered yet.
    public var copiedCount: Int { copied.count }

    mutating func setCopied(_ slot: Int, _ isCopied: Bool) {
        if isCopied { copied.append(slot) } else { copied.removeAll { $0 == slot } }
    }

    /// Keys to be dealt with before the flow's next packet is written.
    public mutating func nextKeyChange() -> KeyChange? { keyChanges.isEmpty ? nil : keyChanges.removeFirst() }

    /// The next thing to tell an operator, in order; nil when there is none.
    public mutating func nextNotice() -> ServerNotice? {
        guard noticesTaken < notices.count else {
            if noticesTaken > 0 { notices.removeAll(keepingCapacity: true) }
            noticesTaken = 0
            return nil
        }
        defer { noticesTaken += 1 }
        return notices[noticesTaken]
    }

    mutating func tell(_ notice: ServerNotice) {
        guard notices.count < Self.mostNotices else {
            noticesDropped += 1
            return
        }
        notices.append(notice)
    }

    // MARK: Time

    /// When to call `timerFired`, unless something happens before. The flow's own pace is in it.
    public var nextDeadline: Instant {
        // Two by two: more of them would be put into an array.
        min(
            min(flow?.nextDeadline ?? .distantFuture, retriesGroup ? nextGroupRetry : .distantFuture),
            min(
                min(log.nextLifetimeEnd ?? .distantFuture, reads.deadline),
                min(
                    awaited.isEmpty ? .distantFuture : awaited[awaited.base].until,
                    unicast?.nextTurn ?? .distantFuture)))
    }

    /// The same for a shell that has done at `now` what could be done: a deadline that has passed waits for something else
    /// than time, and is looked at again a little later.
    public func nextWake(after now: Instant) -> Instant {
        let deadline = nextDeadline
        return deadline > now ? deadline : now + .milliseconds(1)
    }

    private var retriesGroup: Bool { configuration.replicates && configuration.hasGroup && !copied.isEmpty }

    /// Does what time alone brings about; `flow.transmitRun` is to follow.
    public mutating func timerFired(at now: Instant) {
        defer { assertInvariants() }
        if flow != nil { flow!.timerFired(at: now) }
        settle(at: now)
        reads.timerFired(at: now)
        endLifetimes(at: now)
        if retriesGroup, now >= nextGroupRetry {
            nextGroupRetry = now + configuration.groupRetry / 8
            retryGroup(at: now)
        }
        while !awaited.isEmpty, awaited[awaited.base].until <= now {
            if let slot = slot(of: awaited[awaited.base].id) { positionNotStated(slot, at: now) }
            awaited.removeFirst()
        }
        beginTurns(at: now)
    }
}
