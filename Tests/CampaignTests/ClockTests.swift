import Testing

@testable import Campaign

@Suite("The clocks of hosts")
struct ClockTests {
    /// Exchanges with a clock that is `offset` ahead and gains `drift` nanoseconds a second, over ways of uneven length.
    private func exchanges(offset: Int64, drift: Double, seconds: Int64, waits: [(there: Int64, back: Int64)])
        -> [ClockExchange]
    {
        let start: Int64 = 1_790_000_000_000_000_000
        return waits.enumerated().map { index, wait in
            let asked = start + seconds * 1_000_000_000 * Int64(index) / Int64(max(waits.count - 1, 1))
            let answered = asked + wait.there
            let gained = Int64(Double(answered - start) / 1e9 * drift)
            return ClockExchange(asked: asked, roundTrip: wait.there + wait.back, answer: answered + offset + gained)
        }
    }

    /// Ways that differ by chance, as queues make them.
    private func waits(_ count: Int, seed: UInt64) -> [(there: Int64, back: Int64)] {
        var state = seed
        let next = { () -> Int64 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int64(state >> 40) * 3
        }
        return (0..<count).map { _ in (100_000 + next(), 100_000 + next()) }
    }

    @Test(arguments: [0, 5_000_000_000, -3_600_000_000_000], [0.0, 20_000, -100_000])
    func theTruthIsWithinWhatIsSaidOfIt(_ offset: Int64, _ drift: Double) throws {
        for seed in 1...20 {
            let all = exchanges(offset: offset, drift: drift, seconds: 60, waits: waits(100, seed: UInt64(seed)))
            let estimate = try #require(ClockEstimate(all))
            #expect(estimate.exchanges == 100)
            for second in stride(from: Int64(0), through: 60, by: 10) {
                let ours = 1_790_000_000_000_000_000 + second * 1_000_000_000
                let theirs = ours + offset + Int64(Double(second) * drift)
                // A nanosecond or two are lost where numbers are rounded.
                #expect(abs(estimate.ours(theirs) - ours) <= estimate.uncertaintyNanoseconds + 10)
            }
        }
    }

    @Test func whatTookLeastTimeCounts() throws {
        let all = exchanges(
            offset: 1_000_000, drift: 0, seconds: 1, waits: [(9_000_000, 1_000_000), (200, 100), (50_000, 4_000_000)])
        let estimate = try #require(ClockEstimate(all))
        #expect(estimate.uncertaintyNanoseconds == 150)
        #expect(estimate.offsetNanoseconds == 1_000_050)
        #expect(estimate.driftNanosecondsPerSecond == 0)
        #expect(ClockEstimate([]) == nil)
    }
}
