/// Spreads packets over the round trip at 1.25 times the window (RFC 9002 section 7.7), as a virtual clock: each octet
/// moves it on by the time the octet is worth, and it may run ahead of the real one by a burst. It does not fall behind,
/// but for a burst while data waits for it: who looks late, because a loop has others to serve, loses nothing of the rate.
struct WindowPacer: Sendable {
    /// A burst is what is worth two milliseconds, within these numbers of full datagrams.
    static let minBurst: Int64 = 10
    static let maxBurst: Int64 = 52
    static let burstTime: Int64 = 2_000_000
    /// Whoever was held back waits until this much may go at once, so that it leaves as one large send.
    static let quantumTime: Int64 = 1_000_000

    /// When everything sent so far would have left at the exact rate.
    private var virtualTime: Int64 = .min
    /// Whether data waits for nothing else.
    var isHoldingBack = false

    /// What the rate follows from.
    struct Rate {
        var window: Int
        var smoothedRTT: Int64
        var datagramSize: Int

        /// Nanoseconds that `bytes` are worth, rounded up.
        func time(_ bytes: Int64) -> Int64 {
            let octets = 5 * Int64(max(1, window))
            let (product, overflow) = bytes.multipliedReportingOverflow(by: 4 * smoothedRTT)
            return overflow ? smoothedRTT : (product + octets - 1) / octets
        }

        var datagramTime: Int64 { time(Int64(datagramSize)) }
        var burst: Int64 {
            let one = datagramTime
            return min(max(WindowPacer.burstTime, WindowPacer.minBurst * one), WindowPacer.maxBurst * one)
        }
    }

    mutating func sent(_ bytes: Int, packets: Int = 1, rate: Rate, at now: Int64) {
        virtualTime = max(virtualTime, earliest(rate, now)) + rate.time(Int64(bytes)) * Int64(packets)
    }

    /// How far back the clock may be.
    private func earliest(_ rate: Rate, _ now: Int64) -> Int64 {
        isHoldingBack ? now - (Self.maxBurst * rate.datagramTime - rate.burst) : now
    }

    /// Whether a full datagram may go now.
    func allows(rate: Rate, at now: Int64) -> Bool {
        max(virtualTime, earliest(rate, now)) - now + rate.datagramTime <= rate.burst
    }

    /// How many full datagrams may go now.
    func datagramsAllowed(rate: Rate, at now: Int64) -> Int {
        let one = rate.datagramTime
        return Int(max(0, rate.burst - (max(virtualTime, earliest(rate, now)) - now)) / one)
    }

    /// The time from which on a quantum may go.
    func nextQuantum(rate: Rate) -> Int64 {
        guard virtualTime > .min else { return .min }
        let burst = rate.burst
        return virtualTime + min(max(Self.quantumTime, rate.datagramTime), burst) - burst
    }
}
