/// Whether the path carries ECN marks and the peer reports them (RFC 9000 section 13.4.2 and Appendix A.4).
struct ECNValidation: Sendable {
    /// Packets marked before the first report is awaited.
    static let testPackets = 10

    enum State: Sendable, Equatable { case testing, unknown, capable, failed }

    struct Counts: Sendable {
        var ect0: UInt64 = 0
        var ect1: UInt64 = 0
        var ce: UInt64 = 0
        /// Packets of ours that left as ECT(0).
        var sent: UInt64 = 0
    }

    private(set) var state = State.testing
    private var counts = InlineArray<3, Counts>(repeating: Counts())
    private var testSent = 0
    private var testLost = 0

    /// Whether packets shall leave as ECT(0).
    var isMarking: Bool { state == .testing || state == .capable }

    mutating func marked(_ level: ProtectionLevel, packets: Int = 1) {
        counts[level.rawValue].sent += UInt64(packets)
        guard state == .testing else { return }
        testSent += packets
        if testSent >= Self.testPackets { state = .unknown }
    }

    /// A marked packet was lost: when all of the first ones are, marks are what the path drops.
    mutating func markedLost(packets: Int = 1) {
        guard state == .testing || state == .unknown else { return }
        testLost += packets
        if testLost >= Self.testPackets { state = .failed }
    }

    /// The test has lasted for three probe timeouts.
    mutating func testTimedOut() {
        if state == .testing { state = .unknown }
    }

    /// An acknowledgement that raised the largest acknowledged number arrived; it newly acknowledges `marked` packets
    /// that left as ECT(0). True when it reports more congestion than before.
    mutating func acknowledged(
        _ level: ProtectionLevel, marked: UInt64, reported: (ect0: UInt64, ect1: UInt64, ce: UInt64)?
    ) -> Bool {
        guard state != .failed else { return false }
        guard let reported else {
            if marked > 0 { state = .failed }
            return false
        }
        let before = counts[level.rawValue]
        // Counts fell, ECT(0) packets arrived as something else, or more arrived than were sent: no more marks, then or later
        // (RFC 9000 section 13.4.2.2).
        guard reported.ect0 >= before.ect0, reported.ect1 >= before.ect1, reported.ce >= before.ce,
            (reported.ect0 - before.ect0) &+ (reported.ce - before.ce) >= marked,
            reported.ect1 == 0, reported.ect0 &+ reported.ce <= before.sent
        else {
            state = .failed
            return false
        }
        counts[level.rawValue].ect0 = reported.ect0
        counts[level.rawValue].ect1 = reported.ect1
        counts[level.rawValue].ce = reported.ce
        if marked > 0 { state = .capable }
        return reported.ce > before.ce
    }

    /// On a new path validation begins anew; the peer's counts go on.
    mutating func restart() {
        state = .testing
        testSent = 0
        testLost = 0
    }
}
