import Wire

/// What a receiver makes out of the source's clock: how far it is ahead of the receiver's own, which is the monotonic one
/// that gives `Instant`s, so that a wall clock that is set at the receiver changes nothing.
///
/// A sample is off by no more than half the round trip it was taken with, so the one with the shortest counts, and the
/// longer ago it was, the less.
public struct ClockOffset: Sendable, Equatable {
    /// How much two clocks may drift apart, in parts of a million.
    public static let drift: Int64 = 200

    private struct Sample: Sendable, Equatable {
        var offset: Int64
        var uncertainty: Int64
        var at: Instant
    }

    private var best: Sample?

    /// Nothing is known yet.
    public init() {}

    /// The source's clock showed `source` in a message that came at `now`, on a path with this round trip.
    public mutating func add(source: WallTime, roundTrip: Duration, at now: Instant) {
        let half = max(roundTrip.nanoseconds, 0) / 2
        if let known = uncertainty(at: now)?.nanoseconds, known < half { return }
        let there = source + .nanoseconds(half)
        best = Sample(
            offset: (there - WallTime(nanoseconds: now.nanoseconds)).nanoseconds, uncertainty: half, at: now)
    }

    /// What the source's clock shows at `now`; nil without a sample.
    public func sourceTime(at now: Instant) -> WallTime? {
        best.map { WallTime(nanoseconds: now.nanoseconds).advanced(by: $0.offset) }
    }

    /// How far `sourceTime` may be off at `now`; nil without a sample.
    public func uncertainty(at now: Instant) -> Duration? {
        guard let best else { return nil }
        let age = max((now - best.at).nanoseconds, 0)
        let (sum, overflow) = best.uncertainty.addingReportingOverflow(age / 1_000_000 * Self.drift)
        return .nanoseconds(overflow ? .max : sum)
    }

    /// How long before `now` the source's clock showed `published`; nil without a sample. Less than zero when the
    /// estimate is off, or the source says what cannot be.
    public func latency(of published: WallTime, at now: Instant) -> Duration? {
        sourceTime(at: now).map { $0 - published }
    }
}
