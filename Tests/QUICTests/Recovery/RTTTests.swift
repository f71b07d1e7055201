import Testing
import Wire

@testable import QUIC

@Suite("RFC 9002 section 5: round-trip time")
struct RTTTests {
    @Test func theFirstSampleSetsEverything() throws {
        var sender = Sender()
        #expect(sender.recovery.rtt.smoothed == .milliseconds(333))
        #expect(!sender.recovery.rtt.hasSample)
        sender.send(at: at(0))
        try sender.acknowledge(0...0, delay: .milliseconds(20), at: at(100))
        #expect(sender.recovery.rtt.latest == .milliseconds(100))
        #expect(sender.recovery.rtt.smoothed == .milliseconds(100))
        #expect(sender.recovery.rtt.variation == .milliseconds(50))
        #expect(sender.recovery.rtt.min == .milliseconds(100))
        #expect(sender.recovery.rtt.hasSample)
    }

    @Test func laterSamplesAreSmoothedAndLoseTheDelay() throws {
        var sender = Sender()
        sender.send(at: at(0))
        try sender.acknowledge(0...0, at: at(100))
        sender.send(at: at(200))
        try sender.acknowledge(1...1, delay: .milliseconds(20), at: at(340))
        // Adjusted to 120: variation 3/4 of 50 and 1/4 of 20, smoothed 7/8 of 100 and 1/8 of 120.
        #expect(sender.recovery.rtt.variation == .microseconds(42_500))
        #expect(sender.recovery.rtt.smoothed == .microseconds(102_500))
        #expect(sender.recovery.rtt.latest == .milliseconds(140))
    }

    @Test func aDelayBeyondThePromiseIsCutOnceTheHandshakeIsConfirmed() throws {
        for confirmed in [false, true] {
            var sender = Sender(confirmed: confirmed)
            sender.recovery.peerMaxAckDelay = .milliseconds(10)
            sender.send(at: at(0))
            try sender.acknowledge(0...0, at: at(100))
            sender.send(at: at(200))
            try sender.acknowledge(1...1, delay: .milliseconds(40), at: at(380))
            let adjusted = confirmed ? 170 : 140
            #expect(sender.recovery.rtt.smoothed == .microseconds((7 * 100 + adjusted) * 1000 / 8))
        }
    }

    @Test func aDelayThatWouldUndercutTheMinimumIsIgnored() throws {
        var sender = Sender()
        sender.send(at: at(0))
        try sender.acknowledge(0...0, at: at(100))
        sender.send(at: at(200))
        try sender.acknowledge(1...1, delay: .milliseconds(20), at: at(310))
        #expect(sender.recovery.rtt.smoothed == .microseconds((7 * 100 + 110) * 1000 / 8))
    }

    @Test func initialPacketsAreNeverDelayed() throws {
        var sender = Sender(confirmed: false)
        sender.send(.initial, at: at(0))
        try sender.acknowledge(.initial, 0...0, at: at(100))
        sender.send(.initial, at: at(200))
        try sender.acknowledge(.initial, 1...1, delay: .milliseconds(20), at: at(340))
        #expect(sender.recovery.rtt.smoothed == .milliseconds(105))
    }

    @Test("no sample unless the largest is new and something asked for the acknowledgement")
    func noSample() throws {
        var sender = Sender()
        sender.send(eliciting: false, at: at(0))
        try sender.acknowledge(0...0, at: at(50))
        #expect(!sender.recovery.rtt.hasSample)
        sender.send(at: at(100))
        sender.send(at: at(100))
        try sender.acknowledge(2...2, at: at(150))
        try sender.acknowledge(1...2, at: at(900))
        #expect(sender.recovery.rtt.latest == .milliseconds(50))
    }
}
