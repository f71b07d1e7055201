/// A point on the monotonic clock that the caller hands to a machine. Machines never read a clock themselves.
public struct Instant: Comparable, Hashable, Sendable {
    /// Nanoseconds since an arbitrary start.
    public var nanoseconds: Int64

    /// - Parameter nanoseconds: since the start that all instants of one clock have in common.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Later than any event: a deadline that never comes.
    public static let distantFuture = Instant(nanoseconds: .max)

    @inlinable
    public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Saturates at `distantFuture`.
    public static func + (a: Instant, b: Duration) -> Instant {
        let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b.nanoseconds)
        return overflow ? .distantFuture : Instant(nanoseconds: sum)
    }

    /// Saturates at `distantFuture`.
    public static func += (a: inout Instant, b: Duration) { a = a + b }

    /// `b` before `a`. Traps beyond 64 bits of nanoseconds.
    public static func - (a: Instant, b: Duration) -> Instant {
        Instant(nanoseconds: a.nanoseconds - b.nanoseconds)
    }

    /// The time from `b` to `a`, negative when `a` is the earlier one. Traps beyond 64 bits of nanoseconds.
    public static func - (a: Instant, b: Instant) -> Duration {
        .nanoseconds(a.nanoseconds - b.nanoseconds)
    }
}

extension Duration {
    /// The duration in whole nanoseconds, saturating at the ends of the range.
    @inlinable
    public var nanoseconds: Int64 {
        // 128 bits are divided in a loop: for less than nine seconds, 64 of them do.
        let low = Int64(truncatingIfNeeded: attoseconds)
        if attoseconds == Int128(low) { return low / 1_000_000_000 }
        return Int64(clamping: attoseconds / 1_000_000_000)
    }
}
