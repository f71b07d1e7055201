import QUIC
import Wire

/// The source's side of one multicast flow, shared by all its members. A pure value: packets leave through
/// `transmit`, everything else that must happen through `nextAction`.
///
///     publish ──> StreamStore ──┐ new                        FC_STATE(READY) ──> add ──> Member
///                               ├──> transmit ──> PacketLog <── acknowledged ──┬──> settled: floor, memory freed
///     lost by many ─> repairs ──┘                            lost ─────────────┴──> repair: unicast or flow
///
/// Every packet belongs to every member from the member's first packet number on, until the member *settles* it: by
/// acknowledging it, or by losing it and being sent its frames again. A packet that few have lost is repaired on
/// their unicast paths; one that many have lost is repaired on the flow, in a packet of a new number which then
/// belongs to everybody as well. Below the lowest unsettled packet of all members nothing is remembered.
///
/// Streams carry the flow's own server-initiated unidirectional IDs. A member gets from the flow the streams that
/// were published after it became one; those before are its connection's business, whole, and so is everything it
/// has not settled when it leaves.
public struct FlowSource: Sendable {
    /// The destination connection ID of every packet of the flow.
    public let flowID: FlowID
    /// As the flow was made with, but for `setRates`.
    public internal(set) var configuration: FlowConfiguration
    /// As last announced.
    public internal(set) var parameters: FlowParameters {
        didSet { noteAckDelay() }
    }
    /// Counts since the flow began.
    public internal(set) var statistics = FlowStatistics()
    /// The flow is over: nothing is sent on it any more.
    var isWithdrawn = false

    var keys: FlowKeys
    var log: PacketLog
    var streams: StreamStore
    /// What many members have lost, to be sent on the flow again.
    var repairs = IndexedRing(filler: FrameRecord.none) { didSet { noteWaiting() } }
    /// Datagrams to be sent on the flow, once each.
    var datagrams = IndexedRing(filler: [UInt8]()) { didSet { noteWaiting() } }
    /// Repairs or datagrams wait. One flag for both, as it is asked before each packet.
    private(set) var hasWaiting = false
    /// Octets of packets that may be sent on the flow again though not most miss them: half of what is new earns them, so
    /// that few members who report losses, true or not, leave the flow two thirds of its rate. Beyond it each is repaired on
    /// its own path.
    var repairAllowance: UInt64
    var sharedLoss = SharedLoss()
    var random: SeededRandom
    var pacer: RatePacer
    var slowStart: SlowStart
    /// How far the many have settled the flow.
    var progress: Progress
    var electorate: Electorate
    /// Accounts given to members of whose address nothing is known.
    var accountsMade: UInt64 = 0
    var sendMeter: RateMeter

    var members: [Member] = []
    var freeSlots: [Int] = []
    /// How many receivers are on the flow.
    public internal(set) var memberCount = 0 {
        didSet { noteAckDelay() }
    }
    /// Connections that were told of the flow: while there are any, it is kept alive.
    public internal(set) var audience = 0

    // One value per member each, and the least of them.
    var floors = MinimumTree()
    var octetLimits = MinimumTree()
    var streamLimits = MinimumTree()
    var heard = MinimumTree()

    // Positions in the flow's own count of new stream octets and streams, which credit refers to.
    var octetPosition: UInt64 = 0
    var streamPosition: UInt64 = 0
    var queuedStreams: UInt64 = 0

    var nextPing: Instant
    // Nanoseconds: per packet, the 128-bit arithmetic of Duration would cost as much as writing the frames.
    var pingWait: Int64
    private let keepAliveWait: Int64
    /// The wait for the first PING after data.
    private var busyWait: Int64 = 0
    var skipAt: UInt64
    var lastLossCheck: Instant
    var ackDelayChangeableAt: Instant
    /// The number of members asks for another ack delay than is announced.
    private(set) var ackDelayIsDue = false

    /// Bounded, though not by a count of its own: one acknowledgement adds a repair for each packet that it settles at the
    /// most; a member that goes adds one for each part of what it has not settled and of what is queued, which
    /// `maximumUnsettledOctets` and `maximumQueuedOctets` bound; and where many go at once, `mostActions` ends it.
    private var actions: [FlowAction] = []
    private var actionsTaken = 0
    var slotScratch: [Int] = []

    /// - Parameters:
    ///   - flowID: 1 to 20 octets, which tell the flow from all others at its receivers.
    ///   - parameters: where the flow goes; its `ackDelay` is replaced by the configuration's.
    ///   - configuration: its packets have 256 to 65000 octets.
    ///   - firstStream: the index of the first stream that is published.
    ///   - seed: for keys, packet number and skipped numbers; nobody else may know it.
    ///   - now: when the flow begins.
    public init(
        flowID: FlowID, parameters: FlowParameters, configuration: FlowConfiguration = FlowConfiguration(),
        firstStream: UInt64 = 0, seed: SeededRandom, at now: Instant
    ) {
        precondition(flowID.count >= 1, "a flexicast flow id has at least one octet")
        precondition((256...65_000).contains(configuration.packetSize))
        self.flowID = flowID
        self.configuration = configuration
        self.parameters = parameters
        random = seed
        streams = StreamStore(from: firstStream)
        let limit =
            configuration.sealingLimit ?? configuration.suite.sealingLimit(packetSize: configuration.packetSize)
        keys = FlowKeys(
            suite: configuration.suite, limit: limit, budget: min(configuration.packetsPerKey, limit / 2),
            activation: configuration.keyActivationDelay, random: &random, now: now)
        // Four octets of packet number decode against FC_KEY's, so any start will do; 0 is what people expect.
        log = PacketLog(firstPacketNumber: 0)
        pacer = RatePacer(packetSize: configuration.packetSize, burstPackets: configuration.burstPackets, now: now)
        slowStart = SlowStart(rate: configuration.firstRate, from: 0)
        progress = Progress(from: 0)
        electorate = Electorate(percent: configuration.pacePercent)
        sendMeter = RateMeter(now: now)
        repairAllowance = UInt64(configuration.packetSize * configuration.burstPackets)
        nextPing = now
        keepAliveWait = min(configuration.keepAliveInterval.nanoseconds, 1 << 60)
        pingWait = keepAliveWait
        skipAt = 0
        lastLossCheck = now
        ackDelayChangeableAt = now
        self.parameters.ackDelay = wantedAckDelay
        noteAckDelay()
        drawSkip()
        actions.append(.installKey(keys.current))
    }

    private mutating func noteAckDelay() {
        let wanted = wantedAckDelay
        let now = parameters.ackDelay
        // A change of less than a quarter is not worth N frames.
        ackDelayIsDue = wanted > now + now / 4 || wanted + wanted / 4 < now
        busyWait = min(max(configuration.tailProbeInterval, parameters.ackDelay).nanoseconds, keepAliveWait)
    }

    private mutating func noteWaiting() { hasWaiting = !repairs.isEmpty || !datagrams.isEmpty }

    /// A packet has gone: when the next PING is due.
    mutating func schedulePing(wasPing: Bool, at now: Instant) {
        pingWait = wasPing ? min(pingWait * 2, keepAliveWait) : busyWait
        nextPing = Instant(nanoseconds: now.nanoseconds + pingWait)
    }

    /// The next thing to do; nil when all is done. Call until nil after every other call.
    public mutating func nextAction() -> FlowAction? {
        guard !actions.isEmpty else { return nil }
        guard actionsTaken < actions.count else {
            actions.removeAll(keepingCapacity: true)
            actionsTaken = 0
            return nil
        }
        defer { actionsTaken += 1 }
        return actions[actionsTaken]
    }

    /// Whether `nextAction` has something.
    @inline(__always)
    var hasActions: Bool { actionsTaken < actions.count }

    mutating func act(_ action: FlowAction) { actions.append(action) }

    /// Once so many actions wait, no further member is removed before they are done, unless it leaves by itself.
    static var mostActions: Int { 1 << 16 }
    /// Whether more members may be removed in this turn.
    var hasRoomForRemovals: Bool { actions.count - actionsTaken < Self.mostActions }

    // MARK: Publishing

    /// A stream's number and the way it goes.
    public struct Publication: Hashable, Sendable {
        /// Server-initiated and unidirectional; the same number on the flow and on every connection.
        public var stream: StreamID
        /// False: send it to every connection by unicast. True: only to those that are not members.
        public var onFlow: Bool
    }

    // Inlined, as what is below it: the octets are put together where they stay.
    /// Gives `octets` the next server-initiated unidirectional stream ID and, when there are members, queues them as
    /// one whole stream. Everybody who is not a member at this moment needs it on the unicast path.
    @inline(__always)
    public mutating func publish(_ octets: consuming StreamOctets) -> Publication {
        let stream = StreamID(initiator: .server, bidirectional: false, index: streams.next)
        statistics.streamsPublished += 1
        let onFlow =
            memberCount > 0 && !isWithdrawn && UInt64(octets.count) <= configuration.maximumStreamLength
            && streams.queuedOctets + UInt64(octets.count) <= configuration.maximumQueuedOctets
        if onFlow {
            streams.append(octets)
            queuedStreams += 1
        } else {
            streams.appendOffFlow()
            statistics.streamsOffFlow += 1
        }
        return Publication(stream: stream, onFlow: onFlow)
    }

    /// The same for the stream with this index, which is the next one or beyond: those between are used up, and nothing is
    /// published under them. Whether the stream goes on the flow.
    @inline(__always)
    mutating func publish(_ octets: consuming StreamOctets, as index: UInt64) -> Bool {
        precondition(streams.next <= index, "the flow and the log number parts alike")
        while streams.next < index { streams.appendOffFlow() }
        return publish(octets).onFlow
    }

    /// The ID that the next published stream gets.
    public var nextStream: StreamID { StreamID(initiator: .server, bidirectional: false, index: streams.next) }
    /// The number that the next packet may have.
    public var nextPacketNumber: UInt64 { log.next }
    /// The key that packets are sealed with now.
    public var currentKey: FlowKey { keys.current }
    /// Octets of packets that some member has not settled.
    public var unsettledOctets: UInt64 { log.octetsHeld }
    /// Octets of stream data waiting for their first packet.
    public var queuedOctets: UInt64 { streams.queuedOctets }
    /// Octets of streams held in memory.
    public var octetsHeld: UInt64 { streams.octetsHeld }
    /// Records held in memory, of packets, frames, streams and repairs.
    public var recordsHeld: Int { log.recordsHeld + streams.streamsHeld + repairs.count }
    /// Steps done for acknowledgements, tree nodes included.
    public var workSteps: UInt64 {
        statistics.acknowledgementSteps + floors.steps + heard.steps
    }
    /// Whether everything published has been sent and settled.
    public var isSettled: Bool { streams.isDrained && !hasWaiting && streams.octetsHeld == 0 }

    // MARK: Audience

    /// A connection has been told of the flow.
    public mutating func attach(at now: Instant) {
        if audience == 0 {
            nextPing = now
            pingWait = keepAliveWait
        }
        audience += 1
    }

    /// A connection that `attach` was called for has ended.
    public mutating func detach() {
        // A flow that has ended has let go of all at once.
        guard !isWithdrawn else { return }
        precondition(audience > 0)
        audience -= 1
    }

    /// The keys for a receiver that has joined, oldest first: the one in use from the next packet on, and the one to
    /// come if receivers have been told of it already. The flow is probed so that the receiver soon opens a packet.
    public mutating func joined(at now: Instant) -> [FlowKey] {
        pingWait = configuration.tailProbeInterval.nanoseconds
        nextPing = min(nextPing, now + configuration.tailProbeInterval)
        var current = keys.current
        current.firstPacketNumber = max(current.firstPacketNumber, log.next)
        return [current] + (keys.next.map { [$0] } ?? [])
    }

    /// The streams before `first` of which parts may still be sent on the flow. A receiver that has joined hears those
    /// parts, and would wait forever for the rest: send it each of them whole on its unicast path, unless its connection
    /// has been given the stream already.
    public func unfinishedStreams(before first: StreamID) -> [(stream: StreamID, octets: StreamOctets)] {
        streams.held(before: first.index).map {
            (StreamID(initiator: .server, bidirectional: false, index: $0), streams.octets($0))
        }
    }

    /// Ends the flow: every member is removed with what it lacks.
    public mutating func withdraw(at now: Instant) {
        for slot in members.indices where members[slot].isActive { remove(slot, reason: .withdrawn) }
        isWithdrawn = true
        audience = 0
    }

    mutating func drawSkip() {
        skipAt = log.next + configuration.skipInterval / 2 + random.next() % max(1, configuration.skipInterval)
    }

    var wantedAckDelay: Duration {
        switch configuration.ackDelay {
        case .fixed(let delay): delay
        case .automatic:
            AckDelayBudget.delay(members: memberCount, bitsPerSecond: configuration.feedbackBudget)
        }
    }

    /// How often the ack delay is announced anew at the most.
    static var ackDelayHold: Duration { .seconds(1) }
}
