/// A point in time as clocks on the wall show it, which may be set back: good for what is told to others, never for
/// timers. Those use `Instant`.
public struct WallTime: Comparable, Hashable, Sendable {
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    public var nanoseconds: Int64

    /// - Parameter nanoseconds: since 1970-01-01 00:00 UTC, leap seconds left out.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public static func < (a: WallTime, b: WallTime) -> Bool { a.nanoseconds < b.nanoseconds }

    /// The time from `b` to `a`, saturating at the ends of the range: both may come from a peer.
    public static func - (a: WallTime, b: WallTime) -> Duration {
        let (difference, overflow) = a.nanoseconds.subtractingReportingOverflow(b.nanoseconds)
        return .nanoseconds(overflow ? (a > b ? .max : .min) : difference)
    }

    /// Saturates at the ends of the range.
    public static func + (a: WallTime, b: Duration) -> WallTime { a.advanced(by: b.nanoseconds) }

    /// The same for a number of nanoseconds, without the 128-bit arithmetic of Duration.
    func advanced(by step: Int64) -> WallTime {
        let (sum, overflow) = nanoseconds.addingReportingOverflow(step)
        return WallTime(nanoseconds: overflow ? (step > 0 ? .max : .min) : sum)
    }
}
