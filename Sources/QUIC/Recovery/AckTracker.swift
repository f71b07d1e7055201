import Wire

/// The receiving side of one packet number space: which packets came, and when to say so (RFC 9000 section 13.2).
struct AckTracker: Sendable {
    /// Ranges that are remembered and reported; the oldest go first. With 64 the range count is one octet.
    static let maxRanges = 64

    /// How long an acknowledgement may wait, 0 for not at all.
    var maxAckDelay: Duration {
        didSet { delay = maxAckDelay.nanoseconds }
    }
    /// Ack-eliciting packets after which an acknowledgement goes out whatever the delay (RFC 9000 section 13.2.2).
    let elicitingThreshold: Int

    /// The largest packet number received.
    private(set) var largest: UInt64?
    /// When an acknowledgement must go out; nil when none has to.
    private(set) var deadline: Instant?
    /// Whether a packet came since the last acknowledgement was written.
    private(set) var hasUnacknowledged = false
    /// The largest number in the acknowledgement written last.
    private(set) var lastAckLargest: UInt64?
    /// Ranges forgotten because there were too many.
    private(set) var droppedRanges: UInt64 = 0

    private var delay: Int64
    private var arrived = RangeSet()
    /// Numbers below this one are taken for duplicates: their ranges are forgotten (RFC 9000 section 13.2.3).
    private var floor: UInt64 = 0
    private var largestEliciting: UInt64?
    private var largestAt: Int64 = 0
    private var elicitingSinceAck = 0
    private var gridPhase: Int64?
    /// Marks that came, which each acknowledgement reports (RFC 9000 section 13.4.1).
    private var ect0: UInt64 = 0
    private var ect1: UInt64 = 0
    private var ce: UInt64 = 0

    /// The lowest number that some acknowledgement with a larger `largest` left out: it came late or did not fit.
    private var unreportedFrom: UInt64?
    /// The acknowledgement of an ACK at or above this one covers `unreportedFrom`; nil when none written so far does.
    private var reportedBy: UInt64?

    init(maxAckDelay: Duration, elicitingThreshold: Int = 2) {
        self.maxAckDelay = maxAckDelay
        self.elicitingThreshold = elicitingThreshold
        delay = maxAckDelay.nanoseconds
    }

    /// Whether `packetNumber` was received before, or lies so far back that this is no longer known.
    func isDuplicate(_ packetNumber: UInt64) -> Bool {
        packetNumber < floor || arrived.contains(packetNumber)
    }

    /// Whether none of `numbers` was received before, or lies so far back that this is no longer known.
    func isNew(_ numbers: ClosedRange<UInt64>) -> Bool {
        numbers.lowerBound >= floor && !arrived.intersects(numbers)
    }

    /// Notes a packet that was opened and is no duplicate.
    mutating func received(_ packetNumber: UInt64, ackEliciting: Bool, ecn: ECN, at now: Instant) {
        guard !isDuplicate(packetNumber) else { return }
        received(packetNumber...packetNumber, ackEliciting: ackEliciting, ecn: ecn, at: now)
    }

    /// The same for packets that came together, in the order of their numbers, all of them new.
    mutating func received(_ numbers: ClosedRange<UInt64>, ackEliciting: Bool, ecn: ECN, at now: Instant) {
        arrived.insert(numbers)
        let count = UInt64(numbers.count)
        switch ecn {
        case .notECT: break
        case .ect0: ect0 += count
        case .ect1: ect1 += count
        case .ce: ce += count
        }
        if numbers.upperBound >= largest ?? 0 {
            largest = numbers.upperBound
            largestAt = now.nanoseconds
        }
        if let lastAckLargest, numbers.lowerBound < lastAckLargest {
            unreportedFrom = min(unreportedFrom ?? .max, numbers.lowerBound)
            reportedBy = nil
        }
        hasUnacknowledged = true
        // Before the ranges are cut: a packet older than all of 64 ranges still counts as out of order.
        if ackEliciting { schedule(numbers, ecn: ecn, at: now.nanoseconds) }
        while arrived.count > Self.maxRanges {
            floor = max(floor, arrived[0].upperBound + 1)
            arrived.removeFirst()
            droppedRanges += 1
        }
    }

    func mustAckNow(at now: Instant) -> Bool {
        deadline.map { $0 <= now } ?? false
    }

    /// Has what came since the last acknowledgement reported without delay.
    mutating func acknowledgeNow(at now: Instant) {
        if hasUnacknowledged { deadline = now }
    }

    /// With a grid, acknowledgements go out only at multiples of `maxAckDelay` plus `phase`, however many packets come
    /// and in whatever order: the receivers of a flow, each with its own phase, then report evenly over time.
    mutating func setReportGrid(phase: Duration) { gridPhase = phase.nanoseconds }

    /// Writes an ACK frame, or a PATH_ACK for `pathID` (RFC 9000 section 19.3, draft-ietf-quic-multipath-21 section
    /// 4.1), with as many ranges as fit, newest first. False, and nothing written, when none fits or there is none.
    @_lifetime(writer: copy writer)
    mutating func writeACK(
        into writer: inout ByteWriter, pathID: UInt64?, ackDelayExponent: UInt8, at now: Instant
    ) -> Bool {
        guard let newest = arrived.last else { return false }
        // After an acknowledged acknowledgement `newest` may lie below `largest`, whose time then says nothing.
        let held = newest.upperBound == largest ? max(0, now.nanoseconds - largestAt) : 0
        let ackDelay = UInt64(held / 1000) >> UInt64(ackDelayExponent)
        let hasECN = ect0 != 0 || ect1 != 0 || ce != 0

        var size = 2 + Varint.length(newest.upperBound) + Varint.length(ackDelay)
        size += Varint.length(newest.upperBound - newest.lowerBound)
        if let pathID { size += Varint.length(pathID) }
        if hasECN { size += Varint.length(ect0) + Varint.length(ect1) + Varint.length(ce) }
        guard size <= writer.remaining else { return false }

        // How far down the ranges fit.
        var lowest = arrived.count - 1
        while lowest > 0 {
            let next = arrived[lowest - 1]
            size += Varint.length(arrived[lowest].lowerBound - next.upperBound - 2)
            size += Varint.length(next.upperBound - next.lowerBound)
            guard size <= writer.remaining else { break }
            lowest -= 1
        }

        let ecnBit: UInt8 = hasECN ? 1 : 0
        if let pathID {
            writer.uint8(0x3e | ecnBit)
            writer.varint(pathID)
        } else {
            writer.uint8(0x02 | ecnBit)
        }
        writer.varint(newest.upperBound)
        writer.varint(ackDelay)
        writer.varint(UInt64(arrived.count - 1 - lowest))
        writer.varint(newest.upperBound - newest.lowerBound)
        var index = arrived.count - 1
        while index > lowest {
            let next = arrived[index - 1]
            writer.varint(arrived[index].lowerBound - next.upperBound - 2)
            writer.varint(next.upperBound - next.lowerBound)
            index -= 1
        }
        if hasECN {
            writer.varint(ect0)
            writer.varint(ect1)
            writer.varint(ce)
        }
        written(largest: newest.upperBound, isWhole: lowest == 0)
        return true
    }

    /// An acknowledgement of ours whose largest number was `largest` has arrived: what it reported need not be reported
    /// again (RFC 9000 section 13.2.4).
    mutating func acknowledgementAcknowledged(largest: UInt64) {
        var end = largest + 1
        if let from = unreportedFrom {
            if let reportedBy, largest >= reportedBy {
                unreportedFrom = nil
                self.reportedBy = nil
            } else {
                end = min(end, from)
            }
        }
        guard end > floor else { return }
        floor = end
        arrived.remove(0...(end - 1))
    }

    private mutating func written(largest: UInt64, isWhole: Bool) {
        if !isWhole {
            unreportedFrom = arrived[0].lowerBound
            reportedBy = nil
        } else if unreportedFrom != nil, reportedBy == nil {
            // An earlier ACK with the same largest number cannot be told from this one when it is acknowledged.
            reportedBy = largest == lastAckLargest ? largest + 1 : largest
        }
        lastAckLargest = largest
        hasUnacknowledged = false
        elicitingSinceAck = 0
        deadline = nil
    }

    private mutating func schedule(_ numbers: ClosedRange<UInt64>, ecn: ECN, at now: Int64) {
        if let gridPhase, delay > 0 {
            if deadline == nil { deadline = Instant(nanoseconds: Self.gridPoint(after: now, delay, gridPhase)) }
            return
        }
        elicitingSinceAck += numbers.count
        // RFC 9000 section 13.2.1: at once when something is missing or late, so that the sender repairs it soon.
        var isUrgent = delay <= 0 || elicitingSinceAck >= elicitingThreshold || ecn == .ce
        if let previous = largestEliciting {
            if numbers.lowerBound < previous {
                isUrgent = true
            } else if !arrived.contains(max(previous, floor)...numbers.upperBound) {
                isUrgent = true
            }
        }
        largestEliciting = max(largestEliciting ?? 0, numbers.upperBound)
        let due = Instant(nanoseconds: isUrgent ? now : now + delay)
        deadline = min(deadline ?? .distantFuture, due)
    }

    /// The first multiple of `period` plus `phase` that lies after `now`.
    private static func gridPoint(after now: Int64, _ period: Int64, _ phase: Int64) -> Int64 {
        let since = (now - phase) % period
        return now - (since < 0 ? since + period : since) + period
    }
}
