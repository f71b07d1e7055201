/// One question for the time of another clock.
package struct ClockExchange: Equatable, Sendable {
    /// When, by our clock, in nanoseconds since 1970: halfway between question and answer.
    package var middle: Int64
    /// How far the other clock is ahead of ours, in nanoseconds, if question and answer took equally long.
    package var offset: Int64
    /// How long question and answer took together, in nanoseconds.
    package var roundTrip: Int64

    package init(asked: Int64, roundTrip: Int64, answer: Int64) {
        middle = asked + roundTrip / 2
        offset = answer - middle
        self.roundTrip = roundTrip
    }
}

/// What is known of another clock: of all exchanges those count that took least, since least of their time is unexplained. The
/// answer was given at some moment of the round trip, so half of that is the most that the offset can be wrong by. A straight line
/// through the best at the beginning and the best at the end follows a clock that goes too fast or too slowly.
package struct ClockEstimate: Codable, Equatable, Sendable {
    /// How many exchanges there were.
    package var exchanges: Int
    /// How far it is ahead of ours, in nanoseconds, at `middle`.
    package var offsetNanoseconds: Int64
    /// By our clock, in nanoseconds since 1970.
    package var middleNanoseconds: Int64
    /// What it gains on ours, in nanoseconds a second; 0 when it was not watched for long enough to tell.
    package var driftNanosecondsPerSecond: Double
    /// The most that the offset may be wrong by.
    package var uncertaintyNanoseconds: Int64

    /// Of exchanges within less time than this no drift is told.
    static let leastSpan: Int64 = 5_000_000_000

    /// Nil without an exchange.
    package init?(_ exchanges: [ClockExchange]) {
        guard let first = exchanges.map(\.middle).min(), let last = exchanges.map(\.middle).max() else { return nil }
        self.exchanges = exchanges.count
        let tenth = (last - first) / 10
        let least = { (a: ClockExchange, b: ClockExchange) in a.roundTrip < b.roundTrip }
        guard let best = exchanges.min(by: least) else { return nil }
        if last - first >= Self.leastSpan, let early = exchanges.filter({ $0.middle <= first + tenth }).min(by: least),
            let late = exchanges.filter({ $0.middle >= last - tenth }).min(by: least)
        {
            offsetNanoseconds = early.offset
            middleNanoseconds = early.middle
            let span = Double(late.middle - early.middle) / 1e9
            driftNanosecondsPerSecond = Double(late.offset - early.offset) / span
            // Both may be wrong, in opposite directions; beyond them by an eighth of the way between, the line is wrong by a quarter more.
            uncertaintyNanoseconds = (max(early.roundTrip, late.roundTrip) * 5 + 7) / 8
        } else {
            offsetNanoseconds = best.offset
            middleNanoseconds = best.middle
            driftNanosecondsPerSecond = 0
            uncertaintyNanoseconds = (best.roundTrip + 1) / 2
        }
    }

    /// Our time at a moment of the other clock, both in nanoseconds since 1970.
    package func ours(_ theirs: Int64) -> Int64 {
        // The offset changes by parts of a million: that it is taken at its own moment makes no difference.
        let elapsed = Double(theirs - offsetNanoseconds - middleNanoseconds) / 1e9
        return theirs - offsetNanoseconds - Int64((elapsed * driftNanosecondsPerSecond).rounded())
    }
}
