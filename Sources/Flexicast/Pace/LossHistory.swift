import Wire

/// One member's loss event rate and what TCP would send under it (RFC 5348 sections 3.1 and 5, as TFMCC does per
/// receiver in RFC 4654 section 3). Losses within one round trip are one event.
struct LossHistory: Sendable {
    /// Packets between loss events, newest first; the first is the open interval's start as a packet number.
    private var intervals = InlineArray<8, Float>(repeating: 0)
    private var count = 0
    private var eventStart: UInt64 = 0
    private var eventSentAt = Instant(nanoseconds: .min)

    private static var weights: InlineArray<8, Float> { [1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2] }

    var hasLoss: Bool { count > 0 }

    /// Takes note of a lost packet; true when it begins a loss event. `synthetic` is the interval that would have
    /// given half the present rate: the first event is not judged by the few packets before it (RFC 5348 6.3.1).
    mutating func lost(
        _ packetNumber: UInt64, sentAt: Instant, roundTrip: Duration, synthetic: @autoclosure () -> Double
    ) -> Bool {
        if count > 0, sentAt < eventSentAt + roundTrip { return false }
        let interval: Float
        if count == 0 {
            interval = Float(min(synthetic(), 1e9))
        } else {
            interval = Float(packetNumber > eventStart ? packetNumber - eventStart : 1)
        }
        for index in stride(from: 7, to: 0, by: -1) { intervals[index] = intervals[index - 1] }
        intervals[0] = interval
        count = min(count + 1, 8)
        eventStart = packetNumber
        eventSentAt = sentAt
        return true
    }

    /// The loss event rate when packets before `next` have been sent (RFC 5348 section 5.4).
    func eventRate(next: UInt64) -> Double {
        guard count > 0 else { return 0 }
        let weights = Self.weights
        let open = Float(next > eventStart ? next - eventStart : 1)
        var closed: Float = 0
        var closedWeight: Float = 0
        var withOpen = open * weights[0]
        var withOpenWeight = weights[0]
        for index in 0..<count {
            closed += intervals[index] * weights[index]
            closedWeight += weights[index]
            if index + 1 < 8 {
                withOpen += intervals[index] * weights[index + 1]
                withOpenWeight += weights[index + 1]
            }
        }
        let mean = max(closed / closedWeight, withOpen / withOpenWeight)
        return 1 / Double(max(1, mean))
    }
}

/// The TCP throughput equation (RFC 5348 section 3.1) with b = 1 and t_RTO = 4R.
enum Throughput {
    /// Round trips below this are not believed: with one the equation would promise too much.
    static let shortestRoundTrip = Duration.milliseconds(1)

    /// Bits per second for packets of `size` octets.
    static func bitsPerSecond(size: Int, roundTrip: Duration, lossEventRate p: Double) -> UInt64 {
        guard p > 0 else { return .max }
        let r = Double(max(roundTrip, shortestRoundTrip).nanoseconds) / 1e9
        let denominator = r * (2 * p / 3).squareRoot() + 4 * r * (3 * (3 * p / 8).squareRoot() * p * (1 + 32 * p * p))
        return UInt64(min(Double(size) * 8 / denominator, 1e15))
    }

    /// The loss interval that gives `bitsPerSecond`, by the equation's first term.
    static func interval(size: Int, roundTrip: Duration, bitsPerSecond: UInt64) -> Double {
        let r = Double(max(roundTrip, shortestRoundTrip).nanoseconds) / 1e9
        let root = Double(size) * 8 / (r * Double(max(1, bitsPerSecond)))
        return max(1, 1 / (1.5 * root * root))
    }
}
