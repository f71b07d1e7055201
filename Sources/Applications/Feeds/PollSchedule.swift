import Feed
import FoundationEssentials

/// When to poll next: a pure value.
///
/// After a failure the time doubles, up to five minutes, and is spread by a fifth so that many sources of one feed do
/// not come back at once. What the server asks for with Retry-After (RFC 9110 section 10.2.3) is honoured up to an
/// hour.
package struct PollSchedule: Sendable, Equatable {
    package private(set) var interval: Duration
    /// Failures since the last success.
    package private(set) var failures = 0

    /// The longest pause that we choose ourselves.
    package static let longestBackOff = Duration.seconds(300)
    /// The longest pause that a server can ask for.
    package static let longestRetryAfter = Duration.seconds(3600)

    package init(interval: Duration) { self.interval = max(interval, .milliseconds(10)) }

    /// From the next pause on.
    package mutating func setInterval(_ interval: Duration) { self.interval = max(interval, .milliseconds(10)) }

    /// The pause after a poll that got an answer.
    package mutating func succeeded() -> Duration {
        failures = 0
        return interval
    }

    /// The pause after a poll that failed.
    package mutating func failed(retryAfter: Duration?, random: inout some RandomNumberGenerator) -> Duration {
        failures += 1
        let longest = max(interval, Self.longestBackOff)
        var pause = interval
        for _ in 1..<min(failures, 20) where pause < longest { pause *= 2 }
        pause = min(pause, longest) * Double.random(in: 0.8...1.2, using: &random)
        return max(min(pause, longest), min(retryAfter ?? .zero, Self.longestRetryAfter))
    }

    /// Reads Retry-After: seconds, or a date.
    package static func retryAfter(_ text: String?, now: Date) -> Duration? {
        guard let text else { return nil }
        if let seconds = Int64(text) {
            return seconds >= 0 ? .seconds(min(seconds, 86400)) : nil
        }
        return Timestamp.rfc822(text).map { .seconds(max(0, min($0.timeIntervalSince(now), 86400))) }
    }
}
