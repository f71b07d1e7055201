import Glibc
import Reactor
import Testing
import Wire

@testable import Measurement
@testable import Transport

/// The measurements of `flexicast perf` measure what they say: everything that was counted happened.
@Suite(.serialized) struct TrialTests {
    @Test func arrivalsAreJudgedByTheirNumbers() {
        var judge = ArrivalJudge()
        for number: UInt64 in [0, 1, 3, 2, 2, 7, 3] { judge.arrived(number) }
        #expect(judge.received == 5)
        #expect(judge.reordered == 1)
        #expect(judge.duplicate == 2)
        // 4, 5, 6, 8 and 9 never came.
        #expect(judge.lost(of: 10) == 5)
    }

    /// What lies further back than is remembered counts as late, and numbers used again in the memory as new.
    @Test func arrivalsFarApart() {
        var judge = ArrivalJudge()
        judge.arrived(5)
        judge.arrived(5 + ArrivalJudge.window)
        judge.arrived(5 + 3 * ArrivalJudge.window)
        #expect(judge.duplicate == 0)
        #expect(judge.received == 3)
        judge.arrived(6)
        #expect(judge.reordered == 1)
    }

    @Test func wordsSurviveTheWire() {
        var totals = DatagramTrialTotals()
        totals.packets = 1
        totals.lost = .max
        totals.kernelDrops = 9
        for word in [
            DatagramTrialMessage.data(run: 7, number: 1 << 40), .end(run: 7, sent: totals),
            .report(run: 8, received: totals),
        ] {
            let octets = word.encoded
            #expect(DatagramTrialMessage(octets.span) == word)
            for cut in 0..<octets.count where DatagramTrialMessage(octets.span.extracting(0..<cut)) != nil {
                Issue.record("\(cut) octets of \(octets.count) are enough")
            }
        }
        let strange: [UInt8] = Array("not one of ours, but as long as one of them".utf8)
        #expect(DatagramTrialMessage(strange.span) == nil)
    }

    @Test(arguments: [IOBackendChoice.epoll, .ioUring], [nil, 20_000_000 as UInt64])
    func datagramsArriveAndBothEndsTell(io: IOBackendChoice, rate: UInt64?) throws {
        var options = DatagramTrialOptions()
        options.io = io
        options.rate = rate
        let receiver = try DatagramReceiveTrial(at: SocketAddress(.v4(0x7f00_0001), port: 0), options)
        let sender = try DatagramSendTrial(to: receiver.localAddress, options)
        // One thread: a few packets, which the receiver's buffer holds, then the receiver's turn.
        for _ in 0..<5 {
            sender.run(packets: 50, until: Reactor.clock() + .seconds(10))
            receiver.run(until: Reactor.clock() + .milliseconds(5))
        }
        // The last word waits at the receiver, its answer at the sender.
        sender.finish(within: .milliseconds(50))
        receiver.run(until: Reactor.clock() + .seconds(10)) { $0.sent != nil }
        sender.finish(within: .seconds(2))
        let sent = try #require(receiver.sent)
        #expect(sent.packets >= 250)
        #expect(receiver.totals.packets + receiver.totals.lost == sent.packets)
        #expect(receiver.totals.lost == 0)
        #expect(receiver.totals.reordered == 0)
        #expect(receiver.totals.octets == sent.packets * 1200)
        #expect(sender.reports.values.first?.packets == sent.packets)
        #expect(sender.counts.packets >= sent.packets)
        #expect(sender.counts.messages < sent.packets, "packets leave in runs")
    }

    @Test func handshakesAreFullOrResumedAsAsked() throws {
        let trial = try HandshakeTrial()
        for kind in HandshakeTrial.Kind.allCases {
            let round = try trial.round(kind, count: 2)
            #expect(round.quic > 0)
            #expect(round.alone > 0)
        }
    }

    /// The trial itself traps when a packet that was sealed does not open.
    @Test(arguments: CipherChoice.allCases)
    func everySuiteSealsAndOpens(cipher: CipherChoice) {
        var trial = CryptographyTrial(cipher, size: 200)
        let costs = trial.round(runs: 2)
        #expect(costs.seal > 0 && costs.sealSingly > 0 && costs.open > 0)
    }

    @Test(arguments: FanoutWay.allCases)
    func itemsReachEveryReceiver(way: FanoutWay) throws {
        var options = FanoutTrialOptions()
        options.receivers = 3
        options.itemSize = 20_000
        options.rate = 50_000_000
        options.io = .epoll
        options.group = SocketAddress(.v4(0xef0a_0003), port: 5993)
        let trial = try FanoutTrial(way, options)
        try trial.connect()
        let limit = Reactor.clock() + .seconds(20)
        while trial.itemsDelivered < 30, Reactor.clock() < limit {
            try trial.run(until: Reactor.clock() + .milliseconds(50))
        }
        #expect(trial.itemsDelivered >= 30)
        #expect(trial.closed == 0)
        let packets = UInt64(trial.itemsDelivered * 20_000 / 1200)
        #expect(trial.delivered.packets > packets)
        // On the flow each of the packets sent is delivered to all.
        if way == .flow { #expect(trial.sent.packets < trial.delivered.packets) }
    }

    /// The limit is 16 KiB, what a thread has once included.
    @Test(arguments: FanoutWay.allCases) func anIdleReceiverCostsTheSourceLittle(way: FanoutWay) throws {
        var options = FanoutTrialOptions()
        options.receivers = 100
        options.io = .epoll
        options.group = SocketAddress(.v4(0xef0a_0004), port: 5992)
        let octets = try FanoutTrial.idleMemory(way, options)
        #expect((1000..<18_432).contains(octets), "\(octets) octets")
    }

    @Test func aRelayForwardsToEveryGateway() throws { try forward(plainly: true) }

    @Test(.enabled(if: geteuid() == 0, "a packet socket takes root"))
    func aRelayForwardsWhatItCaptures() throws { try forward(plainly: false) }

    private func forward(plainly isPlain: Bool) throws {
        var options = RelayTrialOptions()
        options.gateways = 2
        options.isPlain = isPlain
        options.rate = 20_000_000
        options.io = .epoll
        options.group = SocketAddress(.v4(0xef0a_0005), port: 5991)
        let trial = try RelayTrial(options)
        try trial.connect()
        let limit = Reactor.clock() + .seconds(20)
        while trial.forwarded.packets < 200, Reactor.clock() < limit {
            trial.run(until: Reactor.clock() + .milliseconds(50))
        }
        #expect(trial.forwarded.packets >= 200)
        #expect(trial.captured * 2 >= trial.forwarded.packets)
        #expect(trial.received.packets > 0)
    }
}
