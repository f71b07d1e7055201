import Testing
import Wire

@testable import Transport

@Suite struct ReconnectPauseTests {
    private func pauses(_ failures: Int) -> [Duration] {
        (UInt64(0)..<1000).map { seed in
            var random = SeededRandom(seed: seed)
            return ReconnectPause.afterFailures(failures, random: &random)
        }
    }

    /// A thousand receivers that lose their source at the same time come back spread over half of the longest pause.
    @Test(arguments: [(0, 500), (1, 1000), (4, 8000), (6, 30_000), (1000, 30_000)])
    func nobodyComesBackTogether(failures: Int, longest: Int) {
        let pauses = pauses(failures).sorted()
        #expect(pauses.first! >= .milliseconds(longest) / 2)
        #expect(pauses.last! <= .milliseconds(longest))
        // No twentieth of the time sees more than twice its share, or next to nobody.
        for step in 0..<20 {
            let start = Duration.milliseconds(longest) / 2 + .milliseconds(longest) / 40 * step
            let count = pauses.count { $0 >= start && $0 < start + .milliseconds(longest) / 40 }
            #expect((20..<100).contains(count), "step \(step)")
        }
    }

    /// A source that says that it was started anew is there: nobody waits long, nor do all come at once.
    @Test func aSourceThatIsBackIsComeBackToSoon() {
        let pauses = (UInt64(0)..<1000).map { seed in
            var random = SeededRandom(seed: seed)
            return ReconnectPause.afterReset(random: &random)
        }
        #expect(pauses.max()! <= .milliseconds(250))
        for step in 0..<10 {
            let count = pauses.count {
                $0 >= .milliseconds(25) * step && $0 < .milliseconds(25) * (step + 1)
            }
            #expect((50..<200).contains(count), "step \(step)")
        }
    }
}
