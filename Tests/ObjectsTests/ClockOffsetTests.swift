import Testing
import Wire

@testable import Objects

@Suite struct ClockOffsetTests {
    @Test func theShortestRoundTripCounts() {
        var clock = ClockOffset()
        #expect(clock.sourceTime(at: start) == nil && clock.latency(of: noon, at: start) == nil)
        clock.add(source: noon, roundTrip: .milliseconds(40), at: start)
        #expect(clock.sourceTime(at: start) == noon + .milliseconds(20))
        #expect(clock.uncertainty(at: start) == .milliseconds(20))
        #expect(clock.latency(of: noon, at: start + .seconds(1)) == .milliseconds(1020))
        // A worse one says nothing, a better one all.
        clock.add(source: noon + .seconds(9), roundTrip: .milliseconds(60), at: start)
        #expect(clock.sourceTime(at: start) == noon + .milliseconds(20))
        clock.add(source: noon + .milliseconds(13), roundTrip: .milliseconds(2), at: start)
        #expect(clock.sourceTime(at: start) == noon + .milliseconds(14))
        // Until its clock may have drifted further than that: 200 ppm of 100 s are 20 ms.
        clock.add(source: noon + .seconds(100), roundTrip: .milliseconds(40), at: start + .seconds(100))
        #expect(clock.sourceTime(at: start + .seconds(100)) == noon + .seconds(100) + .milliseconds(20))
    }

    @Test("Times at the ends of the range do not trap") func extremes() {
        for time in [Int64.min, .max, 0] {
            for round in [Duration.nanoseconds(Int64.max), .zero, .nanoseconds(Int64.min)] {
                var clock = ClockOffset()
                clock.add(source: WallTime(nanoseconds: time), roundTrip: round, at: start)
                for published in [Int64.min, .max] {
                    _ = clock.latency(of: WallTime(nanoseconds: published), at: start + .seconds(1_000_000))
                    _ = clock.uncertainty(at: start + .seconds(1_000_000))
                }
            }
        }
    }
}
