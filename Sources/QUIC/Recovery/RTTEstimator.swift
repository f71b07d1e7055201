import Wire

/// Round-trip time of one path (RFC 9002 section 5).
struct RTTEstimator: Sendable, Equatable {
    /// The timer granularity that the protocol assumes (RFC 9002 section 6.1.2).
    static let granularity: Int64 = 1_000_000

    // Nanoseconds.
    private(set) var latestTime: Int64
    private(set) var minTime: Int64
    private var average: SmoothedRTT
    /// Whether anything has been measured yet; until then the values stand for the initial guess.
    private(set) var hasSample = false
    /// When the first sample was taken.
    private(set) var firstSampleAt: Int64 = .max

    init(initial: Duration) {
        latestTime = 0
        minTime = 0
        average = SmoothedRTT(first: max(1, initial.nanoseconds))
    }

    var smoothedTime: Int64 { average.time }
    var variationTime: Int64 { average.variation }
    var latest: Duration { .nanoseconds(latestTime) }
    var min: Duration { .nanoseconds(minTime) }
    var smoothed: Duration { .nanoseconds(smoothedTime) }
    var variation: Duration { .nanoseconds(variationTime) }

    /// The probe timeout without the peer's acknowledgement delay and without back-off (RFC 9002 section 6.2.1).
    var probeTimeout: Int64 { average.probeTimeout(granularity: Self.granularity) }

    /// How long a packet may stay behind a later one that was acknowledged (RFC 9002 section 6.1.2).
    var lossDelay: Int64 {
        let base = Swift.max(latestTime, smoothedTime)
        return Swift.max(base + base / 8, Self.granularity)
    }

    /// Takes the time from the sending of the largest newly acknowledged packet to now. `ackDelay` is what the peer
    /// says it held the acknowledgement back, cut to what it had promised; 0 in the Initial space.
    mutating func sample(_ measured: Int64, ackDelay: Int64, at now: Int64) {
        // A clock that did not move would otherwise make every timer zero.
        latestTime = Swift.max(1, measured)
        guard hasSample else {
            hasSample = true
            firstSampleAt = now
            minTime = latestTime
            average = SmoothedRTT(first: latestTime)
            return
        }
        // RFC 9002 section 5.2.
        minTime = Swift.min(minTime, latestTime)
        // The delay is not believed where it would push the sample below the minimum (RFC 9002 section 5.3).
        average.add(latestTime - minTime >= ackDelay ? latestTime - ackDelay : latestTime)
    }
}
