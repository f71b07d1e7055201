/// CUBIC (RFC 9438) with HyStart++ (RFC 9406), in octets, with the recovery periods of RFC 9002 section 7.
struct CongestionController: Sendable {
    /// RFC 9438 section 4: how steeply the window grows, in datagrams per cubic second, and what is left after a loss.
    static let cubicFactor = 0.4
    static let decrease = 0.7
    /// RFC 9438 section 4.3: with this growth a window that shrinks to 0.7 is as large on average as Reno's.
    static let renoFriendlyIncrease = 3 * (1 - decrease) / (1 + decrease)

    /// Octets of a full datagram.
    var maxDatagramSize: Int {
        didSet {
            // RFC 9002 section 7.2: a smaller datagram during the handshake means a smaller initial window.
            if isUntouched && maxDatagramSize < oldValue { exactWindow = Self.initialWindow(maxDatagramSize) }
            exactWindow = max(exactWindow, minimumWindow)
        }
    }

    /// Octets that may be in flight.
    var window: Int { Int(exactWindow) }
    /// Octets below which the window doubles each round trip.
    private(set) var slowStartThreshold = Int.max
    /// When the current or last recovery period began, which ends slow start (RFC 9002 section 7.3.1): packets sent no later
    /// tell nothing new (RFC 9002 section 7.3.2).
    private(set) var recoveryStart: Int64 = .min
    /// Congestion events so far.
    private(set) var congestionEvents: UInt64 = 0

    private var exactWindow: Double
    private var isUntouched = true
    private var slowStart = HyStart()
    private var cubic = Cubic()
    private var beforeEvent: Saved?

    /// What a congestion event changed, for when all its losses turn out to be reordering.
    private struct Saved: Sendable {
        var window: Double
        var threshold: Int
        var cubic: Cubic
        var recoveryStart: Int64
    }

    init(maxDatagramSize: Int) {
        self.maxDatagramSize = maxDatagramSize
        exactWindow = Self.initialWindow(maxDatagramSize)
    }

    /// RFC 9002 section 7.2.
    private static func initialWindow(_ datagram: Int) -> Double {
        Double(min(10 * datagram, max(2 * datagram, 14720)))
    }

    private var minimumWindow: Double { Double(2 * maxDatagramSize) }

    var isInSlowStart: Bool { window < slowStartThreshold }

    func isInRecovery(sentTime: Int64) -> Bool { sentTime <= recoveryStart }

    /// Whether with `inFlight` octets in flight it was the window that held us back (RFC 9002 section 7.8): a window
    /// that is not used must not grow. Half of it is enough in slow start, and a short burst may always be missing.
    func isLimiting(inFlight: Int) -> Bool {
        inFlight + 3 * maxDatagramSize >= window || (isInSlowStart && inFlight > window / 2)
    }

    /// `bytes` were newly acknowledged, all sent after the recovery period began, the newest of them at `newestSent`.
    mutating func acknowledged(
        _ bytes: Int, newestSent: Int64, rtt: borrowing RTTEstimator, isLimiting: Bool, at now: Int64
    ) {
        isUntouched = false
        guard isInSlowStart else {
            if isLimiting {
                exactWindow = cubic.grow(
                    exactWindow, acknowledged: bytes, datagram: maxDatagramSize, roundTrip: rtt.smoothedTime, at: now)
            } else {
                cubic.pause(until: now)
            }
            return
        }
        let divisor = slowStart.acknowledged(newestSent: newestSent, rtt: rtt, at: now)
        if isLimiting { exactWindow += Double(bytes) / divisor }
        if slowStart.isOver { slowStartThreshold = window }
    }

    /// A packet sent at `sentTime` was lost or marked: shrink, once per round trip. True when this opened a new
    /// recovery period.
    @discardableResult
    mutating func congestionEvent(sentTime: Int64, at now: Int64) -> Bool {
        guard !isInRecovery(sentTime: sentTime) else { return false }
        beforeEvent = Saved(
            window: exactWindow, threshold: slowStartThreshold, cubic: cubic, recoveryStart: recoveryStart)
        isUntouched = false
        congestionEvents += 1
        recoveryStart = now
        cubic.shrink(exactWindow)
        exactWindow = max(exactWindow * Self.decrease, minimumWindow)
        slowStartThreshold = window
        return true
    }

    /// Every loss of the last event was spurious: take it back (RFC 9438 section 4.9).
    mutating func undoCongestionEvent() {
        guard let saved = beforeEvent else { return }
        beforeEvent = nil
        exactWindow = max(exactWindow, saved.window)
        slowStartThreshold = saved.threshold
        cubic = saved.cubic
        recoveryStart = saved.recoveryStart
    }

    /// RFC 9002 section 7.6.2, RFC 9438 section 4.8.
    mutating func persistentCongestion() {
        exactWindow = minimumWindow
        recoveryStart = .min
        beforeEvent = nil
        cubic = Cubic()
        slowStart = HyStart()
    }
}

/// The window's growth in congestion avoidance (RFC 9438 section 4). Windows are in octets, times in nanoseconds.
struct Cubic: Sendable {
    /// The window before the last decrease, or less so that others get room (section 4.7).
    private var maximum = 0.0
    private var priorWindow = 0.0
    /// What Reno would have by now.
    private var estimate = 0.0
    /// Seconds from the start of the epoch until the window is back at `maximum`.
    private var plateau = 0.0
    private var epochStart: Int64?
    private var lastGrowth: Int64 = 0

    mutating func shrink(_ window: Double) {
        maximum = window < maximum ? window * (1 + CongestionController.decrease) / 2 : window
        priorWindow = window
        epochStart = nil
    }

    mutating func grow(
        _ window: Double, acknowledged bytes: Int, datagram: Int, roundTrip: Int64, at now: Int64
    ) -> Double {
        let datagram = Double(datagram)
        if epochStart == nil {
            epochStart = now
            estimate = window
            if window < maximum {
                plateau = cubeRoot((maximum - window) / datagram / CongestionController.cubicFactor)
            } else {
                plateau = 0
                maximum = window
            }
        }
        lastGrowth = now
        let elapsed = Double(now - (epochStart ?? now)) / 1e9
        func curve(_ seconds: Double) -> Double {
            let distance = seconds - plateau
            return CongestionController.cubicFactor * distance * distance * distance * datagram + maximum
        }
        let share = Double(bytes) / window
        estimate += (estimate < priorWindow ? CongestionController.renoFriendlyIncrease : 1) * datagram * share
        if curve(elapsed) < estimate { return max(window, estimate) }
        let target = min(max(curve(elapsed + Double(roundTrip) / 1e9), window), 1.5 * window)
        return window + (target - window) * share
    }

    /// Time in which the window was not used does not count (section 5.8).
    mutating func pause(until now: Int64) {
        guard let start = epochStart else { return }
        epochStart = start + (now - lastGrowth)
        lastGrowth = now
    }
}

/// Leaves slow start when the round trip grows, before packets are lost (RFC 9406 section 4).
struct HyStart: Sendable {
    static let samplesPerRound = 8
    static let minThreshold: Int64 = 4_000_000
    static let maxThreshold: Int64 = 16_000_000
    static let conservativeDivisor = 4.0
    static let conservativeRounds = 5

    private(set) var isOver = false
    /// Packets sent from then on belong to the next round.
    private var roundEnd: Int64 = .min
    private var lastMin: Int64 = .max
    private var currentMin: Int64 = .max
    private var samples = 0
    private var baseline: Int64?
    private var roundsLeft = 0

    /// How much slower than doubling the window shall grow.
    mutating func acknowledged(newestSent: Int64, rtt: borrowing RTTEstimator, at now: Int64) -> Double {
        if newestSent >= roundEnd {
            if baseline != nil {
                roundsLeft -= 1
                if roundsLeft == 0 { isOver = true }
            }
            roundEnd = now
            lastMin = currentMin
            currentMin = .max
            samples = 0
        }
        currentMin = min(currentMin, rtt.latestTime)
        samples += 1
        if samples >= Self.samplesPerRound, currentMin < .max, lastMin < .max {
            if let before = baseline {
                // The growth was jitter: double again.
                if currentMin < before { baseline = nil }
            } else if currentMin >= lastMin + min(max(lastMin / 8, Self.minThreshold), Self.maxThreshold) {
                baseline = currentMin
                roundsLeft = Self.conservativeRounds
            }
        }
        return baseline == nil ? 1 : Self.conservativeDivisor
    }
}

/// The cube root of `value`, which is not negative, by Newton's method: the same on every platform.
func cubeRoot(_ value: Double) -> Double {
    guard value > 0 else { return 0 }
    // The right power of two, or the one above, to begin with.
    var root = Double(sign: .plus, exponent: Int((Double(value.exponent) / 3).rounded(.up)), significand: 1)
    for _ in 0..<7 { root = (2 * root + value / (root * root)) / 3 }
    return root
}
