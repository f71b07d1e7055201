import Wire

/// Spends a rate in quanta: once used up, nothing is sent until a quantum's worth has gathered again, so that a
/// batch leaves as one large segmented send instead of a trickle of single packets.
struct RatePacer: Sendable {
    /// Octets that may be sent now; in units of 1/8e9 octet-seconds would be exact, an octet is close enough.
    private var tokens: Double
    private var updatedAt: Instant
    private var isRefilling = false

    /// Octets that may leave in one go after a pause, and twice what fills one segmented send.
    private let burst: Double
    private let packet: Double

    init(packetSize: Int, burstPackets: Int, now: Instant) {
        burst = Double(packetSize * burstPackets)
        packet = Double(packetSize)
        tokens = burst
        updatedAt = now
    }

    /// What has to gather before sending goes on: ten milliseconds' worth, at the most one segmented send; a fast flow
    /// waits for up to eight of them, as long as they are no more than two hundred microseconds' worth: waking up costs as
    /// much as two such packets.
    private func quantum(_ rate: UInt64) -> Double {
        let run = burst / 2
        guard Double(rate) / 800 > run else { return max(packet, Double(rate) / 800) }
        return run * max(1, min(8, (Double(rate) / 40_000 / run).rounded(.down)))
    }

    /// Whether a packet may leave now at `rate` bits per second.
    @inline(__always)
    mutating func allows(rate: UInt64, at now: Instant) -> Bool {
        if now > updatedAt { refill(rate: rate, at: now) }
        if tokens <= 0 { isRefilling = true }
        return !isRefilling
    }

    private mutating func refill(rate: UInt64, at now: Instant) {
        let seconds = Double((now - updatedAt).nanoseconds) / 1e9
        tokens = min(max(burst, 2 * quantum(rate)), tokens + seconds * Double(rate) / 8)
        updatedAt = now
        // An octet of slack: the deadline below is rounded to nanoseconds.
        if isRefilling, tokens >= quantum(rate) - 1 { isRefilling = false }
    }

    /// Whole packets that may leave now for sure.
    var packets: Int { isRefilling ? 0 : Int(max(0, tokens / packet)) }

    mutating func spent(_ octets: Int) { tokens -= Double(octets) }

    /// When `allows` turns true again, at `rate`.
    func resumes(rate: UInt64) -> Instant {
        guard isRefilling || tokens <= 0 else { return updatedAt }
        let seconds = (quantum(rate) - tokens) * 8 / Double(max(1, rate))
        return updatedAt + .nanoseconds(Int64(max(0, seconds) * 1e9) + 1)
    }
}
