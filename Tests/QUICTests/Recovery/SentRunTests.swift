import Testing
import Wire

@testable import QUIC

/// Runs of packets against the same packets one by one.
@Suite("Packets that left as a run")
struct SentRunTests {
    private struct End {
        var recovery: LossRecovery
        var acked: [SentFrame] = []
        var lost: [SentFrame] = []

        init(seed: UInt64) {
            recovery = LossRecovery(
                role: .server, maxDatagramSize: 1452, at: at(0), random: SeededRandom(seed: seed))
            recovery.handshakeConfirmed = true
        }

        /// Octets of the streams that `frames` tell of, in order.
        static func octets(_ frames: [SentFrame]) -> [Range<UInt64>] {
            frames.flatMap { frame -> [Range<UInt64>] in
                guard case .stream(_, let offset, let length, _) = frame else { return [] }
                return stride(from: offset, to: offset + UInt64(length), by: 100).map { $0..<($0 + 100) }
            }
        }
    }

    /// Fates of 1, 3, 4 and so on up to 44 packets of 100 octets, acknowledged in ranges at random.
    @Test("are acknowledged, lost and counted as if they had left one by one", arguments: 1..<40 as Range<UInt64>)
    func equal(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var run = End(seed: seed)
        var single = End(seed: seed)
        var offset: UInt64 = 0
        var now: Int64 = 1
        var oldest: UInt64 = 0
        var partial = 0
        for _ in 0..<300 {
            now += Int64(random.next() % 4)
            if random.next() % 3 > 0 {
                let size = random.next() % 2 == 0 ? 1452 : 1100
                let ecn: ECN = random.next() % 2 == 0 ? .ect0 : .notECT
                var wanted = Int(1 + random.next() % 44)
                while wanted > 0 {
                    let frame = StreamRun(id: StreamID(3), offset: offset, length: 100)
                    let numbers = run.recovery.sendRun(frame, count: wanted, size: size, ecn: ecn, at: at(now))
                    for number in numbers {
                        #expect(single.recovery.takePacketNumber(.application) == number)
                        single.recovery.packetSent(
                            .application, packetNumber: number, size: size, ackEliciting: true, inFlight: true,
                            frames: [.stream(id: StreamID(3), offset: offset, length: 100, fin: false)], ecn: ecn,
                            isPathProbe: false, at: at(now))
                        offset += 100
                    }
                    wanted -= numbers.count
                }
            } else {
                let next = run.recovery.nextPacketNumber(.application)
                guard next > oldest else { continue }
                // Ranges from below, with holes of one packet and more, the highest first in the end.
                var ranges: [ClosedRange<UInt64>] = []
                var begin = oldest + random.next() % 3
                while begin < next, ranges.count < 5 {
                    let end = min(begin + random.next() % 30, next - 1)
                    let range = begin...end
                    begin = end + 2 + random.next() % 4
                    guard !run.recovery.skipper.isSkipped(in: range) else { continue }
                    ranges.insert(range, at: 0)
                }
                guard let largest = ranges.first?.upperBound else { continue }
                if random.next() % 2 == 0 { oldest = largest }
                partial += 1
                try run.recovery.acknowledged(
                    .application, ranges: ranges, ackDelay: .zero, ecnCounts: nil, at: at(now),
                    ackedFrames: &run.acked, lostFrames: &run.lost)
                try single.recovery.acknowledged(
                    .application, ranges: ranges, ackDelay: .zero, ecnCounts: nil, at: at(now),
                    ackedFrames: &single.acked, lostFrames: &single.lost)
            }
            if let due = run.recovery.deadline, due <= at(now) {
                #expect(
                    run.recovery.timerFired(at: at(now), lostFrames: &run.lost)
                        == single.recovery.timerFired(at: at(now), lostFrames: &single.lost))
                var again: ([SentFrame], [SentFrame]) = ([], [])
                run.recovery.reclaim(.application, packets: 2, lostFrames: &again.0)
                single.recovery.reclaim(.application, packets: 2, lostFrames: &again.1)
                #expect(End.octets(again.0) == End.octets(again.1))
            }
            let (a, b) = (run.recovery, single.recovery)
            #expect(End.octets(run.acked) == End.octets(single.acked))
            #expect(End.octets(run.lost) == End.octets(single.lost))
            #expect(a.statistics == b.statistics && a.bytesInFlight == b.bytesInFlight)
            #expect(a.congestionWindow == b.congestionWindow && a.deadline == b.deadline && a.rtt == b.rtt)
            #expect(a.spaces[2].ledger.count == b.spaces[2].ledger.count && a.largeLosses == b.largeLosses)
            #expect(a.spaces[2].elicitingInFlight == b.spaces[2].elicitingInFlight)
            #expect(a.ecn.state == b.ecn.state && a.pacerDeadline == b.pacerDeadline)
            run.acked = []
            run.lost = []
            single.acked = []
            single.lost = []
        }
        #expect(partial > 30 && run.recovery.statistics.packetsLost > 0)
    }
}
