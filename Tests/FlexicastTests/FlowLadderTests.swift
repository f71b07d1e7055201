import Testing
import Wire

@testable import Flexicast

@Suite struct FlowLadderTests {
    func at(_ seconds: Double) -> Instant { Instant(nanoseconds: Int64(seconds * 1e9)) }

    @Test func tunnelOpensWhenTheGroupIsNotHeard() {
        var ladder = FlowLadder(FlowWays(tunnel: true), at: at(10))
        let first = ladder.start()
        #expect(first == nil && ladder.nextDeadline == at(11.5))
        let early = ladder.timerFired(at: at(11.4))
        let due = ladder.timerFired(at: at(11.5))
        #expect(early == nil && due == .openTunnel && ladder.nextDeadline == .distantFuture)
    }

    @Test func heardGroupKeepsTheTunnelShut() {
        var ladder = FlowLadder(FlowWays(tunnel: true), at: at(0))
        for tick in 1...100 {
            let heard = ladder.nativeHeard(at: at(Double(tick)))
            let fired = ladder.timerFired(at: at(Double(tick) + 0.9))
            #expect(heard == nil && fired == nil)
        }
    }

    @Test func tunnelClosesWhenTheGroupIsHeardSteadily() {
        var ladder = FlowLadder(FlowWays(tunnel: true), at: at(0))
        _ = ladder.timerFired(at: at(2))
        // A gap starts the wait anew.
        let steps = [3.0, 4, 5, 8, 9, 10, 11, 12, 12.9, 13].map { ladder.nativeHeard(at: at($0)) }
        #expect(steps.dropLast().allSatisfy { $0 == nil } && steps.last == .closeTunnel)
        #expect(ladder.nextDeadline == at(14.5))
        let again = ladder.timerFired(at: at(14.5))
        #expect(again == .openTunnel)
    }

    @Test func withoutARelayThereIsNoTunnel() {
        var ladder = FlowLadder(FlowWays(), at: at(0))
        let first = ladder.start()
        #expect(first == nil && ladder.nextDeadline == .distantFuture)
    }

    @Test func tunnelOnlyOpensAtOnce() {
        var ladder = FlowLadder(FlowWays(native: false, tunnel: true), at: at(0))
        let first = ladder.start()
        #expect(first == .openTunnel && ladder.nextDeadline == .distantFuture)
    }
}
