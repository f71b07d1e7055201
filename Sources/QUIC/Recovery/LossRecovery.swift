import Wire

/// What the loss detection timer asks for.
enum TimerOutcome: Sendable, Equatable {
    case none
    /// Packets were found lost; what they carried was appended.
    case lost(ProtectionLevel)
    /// One or two ack-eliciting packets must go out at this level, whatever the window says (RFC 9002 section 6.2.4).
    case probe(ProtectionLevel)
}

/// The sending side of a connection: which packets arrived, which were lost, and how much may be in flight
/// (RFC 9002; names and order follow its appendices A and B). Three packet number spaces, one path.
struct LossRecovery: Sendable {
    /// Open packets of one space. Who reaches it must wait, however large the window (`canSend`).
    static let maxTrackedPackets = 16384
    /// Open packets that do not elicit an acknowledgement; the peer may never mention them, so the oldest are
    /// forgotten.
    static let maxTrackedNonEliciting = 64
    /// Datagrams of a size that the window must hold before a probe of it is sent.
    static let probesWorthWindow = 16
    /// RFC 9002 section 6.1.1.
    static let packetThreshold: UInt64 = 3
    /// RFC 9002 section 7.6.1.
    static let persistentCongestionThreshold: Int64 = 3

    struct Statistics: Sendable, Equatable {
        var packetsSent: UInt64 = 0
        var packetsLost: UInt64 = 0
        /// Packets given up that were acknowledged after all.
        var spuriousLosses: UInt64 = 0
        /// Probe timeouts.
        var ptoTotal: UInt64 = 0
    }

    /// One packet number space.
    struct Space: Sendable {
        var ledger = SentLedger()
        var nextPacketNumber: UInt64 = 0
        var largestAcknowledged: UInt64?
        var lossTime: Int64?
        var lastElicitingSent: Int64 = 0
        var elicitingInFlight = 0
        var nonEliciting = 0
        /// The first number sent on the current path; earlier ones do not count for its window or round trip.
        var pathStart: UInt64 = 0
        /// When the first ack-eliciting packet was sent of those lost in a row.
        var lossRunStart: Int64?
        var isDiscarded = false
    }

    // MARK: State that the connection sets

    /// RFC 9001 section 4.1.2.
    var handshakeConfirmed = false {
        didSet { if handshakeConfirmed { peerCompletedAddressValidation = true } }
    }
    /// Whether the server, if that is the peer, will send without hearing more (RFC 9002 section 6.2.2.1). A server's
    /// peer always has; for a client an acknowledgement in the Handshake space sets it.
    var peerCompletedAddressValidation: Bool
    /// Whether there are Handshake keys, so that a client without anything in flight probes there and not with
    /// Initials.
    var hasHandshakeKeys = false
    /// While the anti-amplification limit forbids all sending no probe timer runs.
    var amplificationBlocked = false
    /// The peer's max_ack_delay transport parameter.
    var peerMaxAckDelay = Duration.milliseconds(25) {
        didSet { peerDelay = max(0, peerMaxAckDelay.nanoseconds) }
    }
    /// Octets of a full datagram.
    var maxDatagramSize: Int {
        get { congestion.maxDatagramSize }
        set { congestion.maxDatagramSize = newValue }
    }

    // MARK: State that it reads

    var rtt: RTTEstimator
    var ptoCount = 0
    var bytesInFlight = 0
    var statistics = Statistics()
    /// Packets above 1200 octets, MTU probes aside, lost since one of them was acknowledged (see
    /// `PathMTU.isBlackHole`).
    var largeLosses = 0
    /// From when persistent congestion was established until something else is acknowledged.
    var isPersistentlyCongested = false

    var congestion: CongestionController
    var ecn = ECNValidation()
    var pacer = WindowPacer()
    var spaces = InlineArray<3, Space>(repeating: Space())
    var lostMemory = LostMemory()
    var skipper: NumberSkipper
    var peerDelay: Int64 = 25_000_000
    let initialRTT: Duration
    /// When a packet was sent, an acknowledgement arrived or the timer fired last.
    var lastEvent: Int64
    /// When `canSend` was asked last.
    private var lastQuestion: Int64 = .min
    /// The largest packet above 1200 octets that was acknowledged.
    var largestLargeAcknowledged: UInt64?
    /// Losses since the last congestion event, and how many of them were none.
    var lostInEvent = 0
    var spuriousInEvent = 0

    /// `random` decides which packet numbers are skipped; without it none is.
    init(
        role: Role, initialRTT: Duration = .milliseconds(333), maxDatagramSize: Int, at now: Instant,
        random: SeededRandom? = nil
    ) {
        peerCompletedAddressValidation = role == .server
        self.initialRTT = initialRTT
        rtt = RTTEstimator(initial: initialRTT)
        congestion = CongestionController(maxDatagramSize: maxDatagramSize)
        skipper = NumberSkipper(random: random)
        lastEvent = now.nanoseconds
    }

    /// Octets that may be in flight.
    var congestionWindow: Int { congestion.window }
    /// Whether to mark packets as ECT(0).
    var ecnCapable: Bool { ecn.isMarking }

    // Inlined, here and below, what is asked and changes nothing: the whole struct, a kilobyte, or all of its spaces would be
    // copied for the call.
    @inline(__always)
    func largestAcknowledged(_ level: ProtectionLevel) -> UInt64? { spaces[level.rawValue].largestAcknowledged }

    // MARK: Sending

    /// The number that `takePacketNumber` will return.
    @inline(__always)
    func nextPacketNumber(_ level: ProtectionLevel) -> UInt64 { spaces[level.rawValue].nextPacketNumber }

    /// The number for the next packet, which no other has had (RFC 9000 section 12.3). In the application space one is left
    /// out now and then.
    mutating func takePacketNumber(_ level: ProtectionLevel) -> UInt64 {
        let number = spaces[level.rawValue].nextPacketNumber
        spaces[level.rawValue].nextPacketNumber = level == .application ? skipper.successor(of: number) : number + 1
        return number
    }

    /// A packet left. `frames` lists what it carried; `size` counts the octets of the whole packet.
    mutating func packetSent(
        _ level: ProtectionLevel, packetNumber: UInt64, size: Int, ackEliciting: Bool, inFlight: Bool,
        frames: borrowing [SentFrame], ecn mark: ECN, isPathProbe: Bool, at now: Instant
    ) {
        let index = level.rawValue
        precondition(packetNumber < spaces[index].nextPacketNumber, "packet number \(packetNumber) was never taken")
        if !ackEliciting && !inFlight {
            while spaces[index].nonEliciting >= Self.maxTrackedNonEliciting, let oldest = spaces[index].ledger.first,
                !oldest.ackEliciting, !oldest.inFlight
            {
                spaces[index].ledger.removeFirst()
                spaces[index].nonEliciting -= 1
            }
        }
        let packet = SentPacket(
            packetNumber: packetNumber, sentAt: now, size: size, ackEliciting: ackEliciting, inFlight: inFlight,
            ecn: mark, isPathProbe: isPathProbe)
        guard noteSent(packet, level, at: now) else { return }
        spaces[index].ledger.append(packet, frames: frames)
    }

    /// Takes consecutive numbers of the application space for `count` packets, or for fewer, that leave together, each of
    /// `size` octets with nothing but octets of a stream. Returns the numbers.
    mutating func sendRun(_ run: StreamRun, count: Int, size: Int, ecn mark: ECN, at now: Instant) -> Range<UInt64> {
        let level = ProtectionLevel.application
        let first = spaces[level.rawValue].nextPacketNumber
        let count = Int(min(UInt64(count), skipper.consecutive(from: first)))
        let end = first + UInt64(count)
        spaces[level.rawValue].nextPacketNumber = skipper.successor(of: end - 1)
        let packet = SentPacket(run, count: count, packetNumber: first, sentAt: now, size: size, ecn: mark)
        _ = noteSent(packet, level, at: now)
        spaces[level.rawValue].ledger.append(packet, frames: [])
        return first..<end
    }

    /// Counts what leaves, probes too (RFC 9002 section 7.5). False when it is not to be remembered.
    private mutating func noteSent(_ packet: SentPacket, _ level: ProtectionLevel, at now: Instant) -> Bool {
        let index = level.rawValue
        statistics.packetsSent += UInt64(packet.count)
        lastEvent = now.nanoseconds
        if packet.ecn == .ect0 { ecn.marked(level, packets: packet.count) }
        if !packet.ackEliciting && !packet.inFlight {
            if spaces[index].nonEliciting >= Self.maxTrackedNonEliciting { return false }
            spaces[index].nonEliciting += 1
        }
        if packet.ackEliciting {
            spaces[index].lastElicitingSent = now.nanoseconds
            spaces[index].elicitingInFlight += packet.count
        }
        if packet.inFlight {
            bytesInFlight += packet.count * packet.size
            // By a guessed round trip a handshake of three packets would hold the first flight back for 80 ms; until one is
            // measured the window is small.
            if rtt.hasSample {
                pacer.sent(packet.size, packets: packet.count, rate: pacerRate, at: now.nanoseconds)
            }
        }
        return true
    }

    /// Whether window and pacer let a full datagram go now (RFC 9002 section 7).
    mutating func canSend(at now: Instant) -> Bool {
        lastQuestion = now.nanoseconds
        return windowAllows && pacer.allows(rate: pacerRate, at: now.nanoseconds)
    }

    /// Full datagrams that window and pacer let go now, one after the other; none while marks are tried out.
    @inline(__always)
    func datagramsAllowed(at now: Instant) -> Int {
        guard ecn.state != .testing else { return 0 }
        return min(
            windowRoom / congestion.maxDatagramSize,
            Self.maxTrackedPackets - spaces[ProtectionLevel.application.rawValue].ledger.count,
            pacer.datagramsAllowed(rate: pacerRate, at: now.nanoseconds))
    }

    /// When the pacer lets packets go again; nil unless the last answer of `canSend` was no and the pacer the only
    /// reason. Who asks again at that time gets another answer, so this is never a deadline that stays in the past.
    @inline(__always)
    var pacerDeadline: Instant? {
        let rate = pacerRate
        guard windowAllows, !pacer.allows(rate: rate, at: max(lastQuestion, lastEvent)) else { return nil }
        return Instant(nanoseconds: pacer.nextQuantum(rate: rate))
    }

    /// Until when acknowledgements may gather while the window or the pacer holds packets back: each alone lets few go, and
    /// many share a turn, a receive call and a segmented send. The path has packets enough meanwhile: for three
    /// quarters of the time that they queue on it, or an eighth of the round trip; and no longer than who waits for the pacer.
    @inline(__always)
    func gatherDeadline(at now: Instant) -> Instant? {
        guard handshakeConfirmed, rtt.hasSample, ptoCount == 0, bytesInFlight > 0,
            !(windowAllows && pacer.allows(rate: pacerRate, at: now.nanoseconds))
        else { return nil }
        let time = max((rtt.smoothedTime - rtt.minTime) * 3 / 4, rtt.smoothedTime / 8)
        return Instant(nanoseconds: now.nanoseconds + min(time, WindowPacer.quantumTime))
    }

    /// Octets that the window has room for.
    @inline(__always)
    var windowRoom: Int { max(0, congestion.window - bytesInFlight) }

    /// Whether the window has room for a probe of `size` octets of the path's MTU. What is beyond the first step pays only
    /// for who sends much: that is, whose window has grown.
    @inline(__always)
    func mayProbe(_ size: Int) -> Bool {
        bytesInFlight + size <= congestion.window
            && (size <= PathMTU.steps[0] || congestion.window >= Self.probesWorthWindow * size)
    }

    @inline(__always)
    var windowAllows: Bool {
        bytesInFlight + congestion.maxDatagramSize <= congestion.window
            && spaces[ProtectionLevel.application.rawValue].ledger.count < Self.maxTrackedPackets
    }

    @inline(__always)
    private var pacerRate: WindowPacer.Rate {
        WindowPacer.Rate(
            window: congestion.window, smoothedRTT: rtt.smoothedTime, datagramSize: congestion.maxDatagramSize)
    }

    // MARK: Timer (RFC 9002 sections 6.1.2, 6.2 and A.8, A.9)

    /// When `timerFired` must be called; nil when nothing is awaited.
    @inline(__always)
    var deadline: Instant? {
        if let (time, _) = earliestLossTime { return Instant(nanoseconds: time) }
        if amplificationBlocked { return nil }
        return probeDeadline.map { Instant(nanoseconds: $0.time) }
    }

    /// Does what is due at `now`; a call too early does nothing.
    mutating func timerFired(at now: Instant, lostFrames: inout [SentFrame]) -> TimerOutcome {
        if let (time, index) = earliestLossTime {
            guard time <= now.nanoseconds else { return .none }
            detectLosses(index, at: now.nanoseconds, lostFrames: &lostFrames)
            return .lost(ProtectionLevel(rawValue: index) ?? .application)
        }
        guard !amplificationBlocked, let probe = probeDeadline, probe.time <= now.nanoseconds else { return .none }
        ptoCount += 1
        statistics.ptoTotal += 1
        lastEvent = now.nanoseconds
        if ptoCount >= 3 { ecn.testTimedOut() }
        return .probe(probe.level)
    }

    /// Nanoseconds that an acknowledgement may take, without back-off (RFC 9002 section 6.2.1).
    @inline(__always)
    var probeTimeout: Int64 { rtt.probeTimeout + peerDelay }

    @inline(__always)
    private var earliestLossTime: (time: Int64, index: Int)? {
        var earliest: (time: Int64, index: Int)?
        for index in 0..<3 {
            if let time = spaces[index].lossTime, time < earliest?.time ?? .max { earliest = (time, index) }
        }
        return earliest
    }

    @inline(__always)
    private var probeDeadline: (time: Int64, level: ProtectionLevel)? {
        var earliest: (time: Int64, level: ProtectionLevel)?
        for level in ProtectionLevel.allCases where spaces[level.rawValue].elicitingInFlight > 0 {
            var timeout = rtt.probeTimeout
            if level == .application {
                // The peer may not be able to open these yet (section 6.2.1).
                guard handshakeConfirmed else { continue }
                timeout += peerDelay
            }
            let time = later(spaces[level.rawValue].lastElicitingSent, by: timeout)
            if time < earliest?.time ?? .max { earliest = (time, level) }
        }
        if earliest == nil && !peerCompletedAddressValidation {
            // Nobody but us can end the wait of a server that used up its amplification allowance (RFC 9000 section 8.1,
            // RFC 9002 section 6.2.2.1).
            let level: ProtectionLevel =
                hasHandshakeKeys || spaces[ProtectionLevel.initial.rawValue].isDiscarded ? .handshake : .initial
            earliest = (later(lastEvent, by: rtt.probeTimeout), level)
        }
        return earliest
    }

    private func later(_ start: Int64, by timeout: Int64) -> Int64 {
        let (product, overflow) = timeout.multipliedReportingOverflow(by: 1 << Int64(min(ptoCount, 20)))
        let (sum, overflows) = start.addingReportingOverflow(product)
        return overflow || overflows ? .max : sum
    }

    // MARK: Loss detection (RFC 9002 section 6.1 and A.10)

    /// Gives up what is three packets or 9/8 of a round trip behind, and shrinks the window for it (RFC 9000 section 13.3),
    /// in the handshake too (RFC 9002 section 7.4);
    /// what did not ask for an acknowledgement is no sign of persistent congestion (RFC 9002 section 7.6.2).
    mutating func detectLosses(_ index: Int, at now: Int64, lostFrames: inout [SentFrame]) {
        spaces[index].lossTime = nil
        guard let largest = spaces[index].largestAcknowledged else { return }
        let delay = rtt.lossDelay
        let persistent = probeTimeout * Self.persistentCongestionThreshold
        var lastCongested: Int64?
        var isPersistent = false
        // Oldest first; whatever lies behind an open packet that is not lost is not lost either.
        while true {
            let (open, followsSettled) = spaces[index].ledger.firstOpen()
            if followsSettled { spaces[index].lossRunStart = nil }
            guard var packet = open, packet.packetNumber < largest else { break }
            // An acknowledgement of ours that stays out is nothing to wait for. Of a run the last packets may be.
            if packet.inFlight, packet.sentTime > now - delay {
                guard packet.packetNumber + Self.packetThreshold <= largest else {
                    spaces[index].lossTime = packet.sentTime + delay
                    break
                }
                packet = packet.prefix(Int(largest - Self.packetThreshold - packet.packetNumber) + 1)
            }
            spaces[index].ledger.appendFrames(of: packet, to: &lostFrames)
            spaces[index].ledger.removeFirst(packet.count)
            closed(packet, in: index)
            let isOnPath = packet.packetNumber >= spaces[index].pathStart
            if packet.ackEliciting && isOnPath && packet.sentTime > rtt.firstSampleAt {
                let start = spaces[index].lossRunStart ?? packet.sentTime
                spaces[index].lossRunStart = start
                if packet.sentTime - start > persistent { isPersistent = true }
            }
            guard packet.inFlight else { continue }
            statistics.packetsLost += UInt64(packet.count)
            if packet.ecn == .ect0 && isOnPath { ecn.markedLost(packets: packet.count) }
            // The loss of a probe is its answer, not congestion (RFC 9000 sections 9.4 and 14.4).
            guard isOnPath, !packet.isPathProbe else { continue }
            if packet.size > PathMTU.floor, largestLargeAcknowledged.map({ packet.packetNumber > $0 }) ?? true {
                largeLosses += packet.count
            }
            lastCongested = packet.sentTime
            if congestion.congestionEvent(sentTime: packet.sentTime, at: now) {
                lostInEvent = 0
                spuriousInEvent = 0
            }
            lostInEvent += packet.count
            for number in packet.packetNumber...packet.lastPacketNumber {
                lostMemory.insert(number, ProtectionLevel(rawValue: index) ?? .application)
            }
        }
        if isPersistent && lastCongested != nil {
            congestion.persistentCongestion()
            isPersistentlyCongested = true
        }
    }

    /// Takes a packet that is no longer open out of the counts.
    mutating func closed(_ packet: SentPacket, in index: Int) {
        if packet.ackEliciting { spaces[index].elicitingInFlight -= packet.count }
        if !packet.ackEliciting && !packet.inFlight { spaces[index].nonEliciting -= 1 }
        if packet.inFlight && packet.packetNumber >= spaces[index].pathStart {
            bytesInFlight -= packet.count * packet.size
        }
    }

    /// Packets given up earlier that `ranges` acknowledge after all.
    mutating func noteSpuriousLosses(_ level: ProtectionLevel, _ ranges: [ClosedRange<UInt64>]) {
        let late = lostMemory.remove(level, ranges)
        guard late > 0 else { return }
        statistics.spuriousLosses += UInt64(late)
        spuriousInEvent += late
        if spuriousInEvent == lostInEvent { congestion.undoCongestionEvent() }
    }
}
