import Testing
import Wire

@testable import Endpoint

@Suite struct GatewayLadderTests {
    let relay = RelayChoice.at(SocketAddress(.v4(0xc000_0201), port: 2268))
    func at(_ seconds: Double) -> Instant { Instant(nanoseconds: Int64(seconds * 1e9)) }

    @Test func tunnelOpensWhenTheGroupIsNotHeard() {
        var ladder = FlowLadder(FlowAccess(relay: relay), at: at(10))
        let first = ladder.start()
        #expect(first == nil && ladder.nextDeadline == at(11.5))
        let early = ladder.timerFired(at: at(11.4))
        let due = ladder.timerFired(at: at(11.5))
        #expect(early == nil && due == .openTunnel && ladder.nextDeadline == .distantFuture)
    }

    @Test func heardGroupKeepsTheTunnelShut() {
        var ladder = FlowLadder(FlowAccess(relay: relay), at: at(0))
        for tick in 1...100 {
            let heard = ladder.nativeHeard(at: at(Double(tick)))
            let fired = ladder.timerFired(at: at(Double(tick) + 0.9))
            #expect(heard == nil && fired == nil)
        }
    }

    @Test func tunnelClosesWhenTheGroupIsHeardSteadily() {
        var ladder = FlowLadder(FlowAccess(relay: relay), at: at(0))
        _ = ladder.timerFired(at: at(2))
        // A gap starts the wait anew.
        let steps = [3.0, 4, 5, 8, 9, 10, 11, 12, 12.9, 13].map { ladder.nativeHeard(at: at($0)) }
        #expect(steps.dropLast().allSatisfy { $0 == nil } && steps.last == .closeTunnel)
        #expect(ladder.nextDeadline == at(14.5))
        let again = ladder.timerFired(at: at(14.5))
        #expect(again == .openTunnel)
    }

    @Test func withoutARelayThereIsNoTunnel() {
        var ladder = FlowLadder(FlowAccess(), at: at(0))
        let first = ladder.start()
        #expect(first == nil && ladder.nextDeadline == .distantFuture)
    }

    @Test func tunnelOnlyOpensAtOnce() {
        var ladder = FlowLadder(FlowAccess(native: false, relay: relay), at: at(0))
        let first = ladder.start()
        #expect(first == .openTunnel && ladder.nextDeadline == .distantFuture)
    }
}

@Suite struct SequenceWatchTests {
    private func packet(_ number: Int, sender: UInt8 = 1) -> [UInt8] {
        [0x80, 33, UInt8(number >> 8 & 255), UInt8(number & 255), 0, 0, 0, 0, 0, 0, 0, sender, 9, 9]
    }

    private func watch(_ packets: [[UInt8]]) -> (lost: Int, reordered: Int)? {
        var watch = SequenceWatch()
        for packet in packets { watch.take(packet.span) }
        return watch.result
    }

    @Test func lossAndOrder() throws {
        let whole = try #require(watch((65_530..<65_560).map { packet($0) }))
        #expect(whole == (0, 0))
        let gaps = try #require(watch((1..<50).filter { $0 % 10 != 0 }.map { packet($0) }))
        #expect(gaps == (4, 0))
        let swapped = try #require(watch([1, 2, 4, 3, 5, 7, 6].map { packet($0) }))
        #expect(swapped == (0, 2))
    }

    @Test func otherPayloads() {
        #expect(watch((0..<100).map { [UInt8($0), 1, 2, 3] }) == nil)
        // Short headers of QUIC begin with bits 01, and what is random has no long-lived senders.
        var random = SeededRandom(seed: 1)
        #expect(watch((0..<200).map { _ in random.octets(40) }) == nil)
    }
}
