import QUIC
import Testing
import Wire

@testable import Flexicast

/// A key change never waits for a member, and the flow never for a key.
@Suite struct KeyTests {
    /// A flow whose keys wear out quickly. Its first member acknowledges all each 50 milliseconds, the second nothing.
    private final class Wear {
        let bench: Bench
        let members: [MemberID]
        /// Packets in each 50 milliseconds, which is more than a paced run waits for.
        var packets: [Int] = []
        var generations: [UInt64] = []

        /// Each stretch has four fifths of what the usual one has.
        var isSteady: Bool {
            let sorted = packets.dropFirst(5).sorted()
            return sorted[0] * 5 >= sorted[sorted.count / 2] * 4
        }
        var mostSealed = 0

        init(members count: Int, _ change: (inout FlowConfiguration) -> Void) {
            bench = Bench {
                $0.packetSize = 256
                $0.rateCeiling = 8_000_000
                $0.memberTimeout = .seconds(3600)
                change(&$0)
            }
            members = bench.addMembers(count)
        }

        func run(_ rounds: Int) throws {
            for _ in 0..<rounds {
                _ = bench.flow.publish(StreamOctets([UInt8](repeating: 1, count: 60_000)))
                let before = bench.flow.statistics.packetsSent
                bench.advance(.milliseconds(50))
                packets.append(Int(bench.flow.statistics.packetsSent - before))
                let key = bench.flow.currentKey
                mostSealed = max(
                    mostSealed,
                    Int(bench.flow.nextPacketNumber - min(bench.flow.nextPacketNumber, key.firstPacketNumber)))
                generations.append(bench.flow.currentKey.generation)
                bench.acknowledgeAll(members[0])
            }
        }
    }

    /// RFC 9001 section 6.6: no key seals more than it may. Neither the interval between keys made for leavers nor a member
    /// that says nothing of the last key keeps the next back.
    @Test(arguments: [1, 2]) func aFlowThatWearsItsKeysNeverStops(members: Int) throws {
        let wear = Wear(members: members) {
            $0.sealingLimit = 2000
            $0.packetsPerKey = 1000
            $0.keyActivationDelay = .milliseconds(20)
            $0.keyRotationInterval = .seconds(3600)
            $0.maximumUnsettledOctets = 1 << 30
        }
        try wear.run(100)
        #expect(wear.isSteady, "\(wear.packets)")
        #expect(wear.generations.last.map { $0 >= 15 } == true)
        // Who is silent leaves when the key after next is needed, for nothing else.
        #expect(wear.bench.removals.map(\.1) == (members == 2 ? [.tooSlow] : []))
        #expect(wear.mostSealed <= 2000)
    }

    /// When there is no time to tell receivers, the flow goes on all the same.
    @Test func aKeyThatMaySealNoMoreIsReplacedAtOnce() throws {
        let wear = Wear(members: 1) {
            $0.sealingLimit = 100
            $0.packetsPerKey = 50
            $0.keyActivationDelay = .milliseconds(500)
        }
        try wear.run(12)
        #expect(wear.isSteady, "\(wear.packets)")
        #expect(wear.mostSealed <= 100)
    }

    /// Receivers are told each key this long before its first packet, and the next no sooner than that after it: FC_KEY is
    /// sent once per two activation delays at most.
    @Test func keysThatWearOutAreToldInTimeAndNotTooOften() throws {
        let wear = Wear(members: 1) {
            $0.sealingLimit = 1 << 20
            $0.packetsPerKey = 10
            $0.keyActivationDelay = .milliseconds(50)
        }
        try wear.run(20)
        #expect((9...11).contains(wear.bench.keys.count))
        #expect(wear.isSteady, "\(wear.packets)")
    }

    /// The numbers left to the old key last for the activation delay at any rate, and cost nothing when they are not needed.
    @Test func aFastFlowLeavesNumbersForTheTimeThatReceiversAreTold() throws {
        let bench = Bench {
            $0.rateCeiling = 20_000_000_000
            $0.rotatesKeyAfterLeave = true
        }
        let members = bench.addMembers(2)
        bench.sendPacket()
        bench.flow.rotateKey()
        bench.flow.timerFired(at: bench.now)
        bench.drain()
        let key = try #require(bench.keys.first)
        // Half a second at two million packets a second.
        #expect(key.firstPacketNumber >= 1_000_000)
        bench.advance(.milliseconds(1100))
        #expect(bench.flow.currentKey.generation == 1)
        let number = bench.sendPacket()
        for _ in 0..<3 { bench.sendPacket() }
        let capacity = bench.flow.log.capacity
        bench.acknowledge(members[0], [(number + 1)...(number + 3)])
        #expect(bench.flow.statistics.lossReports > 0)
        #expect(bench.flow.log.capacity <= capacity + 64)
        // What a member lacks on both sides of the numbers left out.
        let given = bench.takeRepairs().filter { $0.member == members[1] }.map(\.stream)
        bench.flow.leave(members[1], reason: .left, at: bench.now)
        // The first was given up for lack of an acknowledgement, and repaired, before that.
        #expect(given + bench.takeRepairs().map(\.stream) == [0, 1, 2, 3, 4])
        bench.advance(.seconds(4))
        #expect(bench.flow.recordsHeld == 0)
    }

    /// Secrets are drawn at random: each flow and each of its keys has its own, and nothing of a connection goes in.
    @Test func secretsAreDrawnAtRandom() {
        var secrets: Set<[UInt8]> = []
        for seed in 1...20 as ClosedRange<UInt64> {
            var flow = FlowSource(
                flowID: World.flowID, parameters: World.parameters, seed: SeededRandom(seed: seed),
                at: Instant(nanoseconds: 0))
            secrets.insert(flow.currentKey.secret)
            flow.attach(at: Instant(nanoseconds: 0))
            flow.rotateKey()
            flow.timerFired(at: Instant(nanoseconds: 3_600_000_000_000))
            while let action = flow.nextAction() {
                if case .installKey(let key) = action { secrets.insert(key.secret) }
            }
        }
        #expect(secrets.count == 40 && secrets.allSatisfy { $0.count == 32 })
    }

    /// RFC 9001 appendix B.1.1.
    @Test func aKeySealsAsManyPacketsAsTheirSizeAllows() {
        #expect(CipherSuite.aes128GCM.sealingLimit(packetSize: 1200) == 1 << 28)
        #expect(CipherSuite.aes256GCM.sealingLimit(packetSize: 2048) == 1 << 28)
        #expect(CipherSuite.aes128GCM.sealingLimit(packetSize: 65_000) < 1 << 24)
        #expect(CipherSuite.aes128GCM.sealingLimit(packetSize: 65_000) >= 1 << 23)
        #expect(CipherSuite.chaCha20Poly1305.sealingLimit(packetSize: 65_000) == 1 << 62)
    }

    /// Losses are found again whatever their number, and forgotten ones take no room.
    @Test(arguments: 1...3 as ClosedRange<UInt64>) func marksAgreeWithAModel(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var marks = LossMarks()
        var model: [UInt64: UInt32] = [:]
        var base: UInt64 = 0
        var most = 0
        for _ in 0..<20_000 {
            let number = base + UInt64.random(in: 0..<400, using: &random)
            marks[marks.place(of: number, base: base)].missing += 1
            model[number, default: 0] += 1
            if Int.random(in: 0..<50, using: &random) == 0 {
                base += UInt64.random(in: 0..<200, using: &random)
                model = model.filter { $0.key >= base }
            }
            most = max(most, marks.capacity)
        }
        for number in base..<(base + 400) { #expect(marks.find(number).map { marks[$0].missing } == model[number]) }
        #expect(most <= 2048)
    }
}
