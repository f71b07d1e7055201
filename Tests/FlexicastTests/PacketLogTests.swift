import Testing
import Wire

@testable import Flexicast

/// The packet log against a model that remembers each packet by itself.
@Suite struct PacketLogTests {
    private struct Packet {
        var sentAt: Instant
        var octetsBefore: UInt64
        var frames: [FrameRecord] = []
        var skipped = false
        var reports: [UInt64] = []
        var isRepaired = false
    }

    /// A log, the streams that its frames belong to, and what it should know.
    private struct Bench {
        var log = PacketLog(firstPacketNumber: 7)
        var streams = StreamStore()
        var packets: [UInt64: Packet] = [:]
        var base: UInt64 = 7
        var octets: UInt64 = 0
        var now = Instant(nanoseconds: 0)
        var reports: UInt64 = 0
        var random: SeededRandom

        init(seed: UInt64) { random = SeededRandom(seed: seed) }

        mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

        /// A frame of at most `count` octets of the stream at the cursor; nil when they would end it.
        mutating func frame(_ count: Int, mayEnd: Bool = true) -> FrameRecord? {
            if streams.isDrained { streams.append(StreamOctets([UInt8](repeating: 0, count: number(1...20_000)))) }
            let rest = streams.currentCount - streams.sent
            guard mayEnd || rest > count else { return nil }
            let length = min(count, rest)
            return FrameRecord(
                stream: streams.cursor, offset: UInt32(streams.sent), length: UInt16(length), fin: length == rest)
        }

        mutating func note(_ frames: [FrameRecord], octets count: Int) {
            packets[log.next] = Packet(sentAt: now, octetsBefore: octets, frames: frames)
            octets += UInt64(count)
        }

        mutating func step() {
            now = now + .nanoseconds(number(0...3))
            switch number(0...9) {
            case 0...2:
                let first = log.frames.end
                var frames: [FrameRecord] = []
                for _ in 0..<number(0...3) {
                    guard let frame = frame(number(1...500)) else { continue }
                    streams.sentNew(Int(frame.length), frames: 1, fin: frame.fin)
                    log.appendFrame(frame)
                    frames.append(frame)
                }
                let count = number(100...1200)
                note(frames, octets: count)
                log.appendPacket(firstFrame: first, octets: count, at: now)
            case 3...5:
                let most = number(1...52)
                guard let first = frame(300 * most, mayEnd: false), streams.sent > 0 else { return }
                let start = log.next
                for index in 0..<UInt64(most) {
                    packets[start + index] = Packet(
                        sentAt: now, octetsBefore: octets,
                        frames: [
                            FrameRecord(
                                stream: first.stream, offset: first.offset + UInt32(300 * index), length: 300,
                                fin: false)
                        ])
                    octets += 1200
                }
                log.appendPackets(
                    most, octets: 1200,
                    frame: FrameRecord(stream: first.stream, offset: first.offset, length: 300, fin: false), at: now)
                streams.sentNew(300 * most, frames: UInt32(most), fin: false)
            case 6:
                let end = log.next + UInt64(number(1...20))
                for number in log.next..<end {
                    packets[number] = Packet(sentAt: now, octetsBefore: octets, skipped: true)
                }
                log.skip(upTo: end, at: now)
            case 7, 8:
                guard base < log.next else { return }
                let lost = UInt64.random(in: base..<log.next, using: &random)
                reports += UInt64(number(1...3))
                packets[lost]?.reports.append(reports)
                let all = packets[lost]?.reports ?? []
                let told = log.markReported(lost, acknowledgements: reports)
                #expect(told.missing == UInt32(all.count) && UInt64(told.of) == reports - all[0] + 1)
                if number(0...3) == 0 {
                    log.markRepairedOnFlow(lost)
                    packets[lost]?.isRepaired = true
                }
            default:
                // Less than what comes, so that it grows.
                let floor = min(log.next, base + UInt64(number(0...60)))
                log.forget(below: floor, releasing: &streams)
                for number in base..<floor { packets[number] = nil }
                base = floor
            }
        }

        func check() {
            #expect(log.base == base && log.octetsSent == octets)
            #expect(log.octetsHeld == octets - (packets[base]?.octetsBefore ?? octets))
            for number in base..<log.next {
                guard let packet = packets[number] else {
                    Issue.record("packet \(number) is not in the model")
                    continue
                }
                let record = log[number]
                #expect(record.sentAt == packet.sentAt && record.skipped == packet.skipped)
                let frames = (0..<record.frameCount).map { log.frame($0, of: record) }
                #expect(frames.map(\.stream) == packet.frames.map(\.stream))
                #expect(frames.map(\.offset) == packet.frames.map(\.offset))
                #expect(frames.map(\.length) == packet.frames.map(\.length))
                #expect(frames.map(\.fin) == packet.frames.map(\.fin))
                #expect(log.isRepairedOnFlow(number) == packet.isRepaired)
                #expect(log.coversSkipped(number...number) == packet.skipped)
                if packet.skipped { #expect(packets[record.skippedUpTo - 1]?.skipped == true) }
            }
            let time = Instant(nanoseconds: now.nanoseconds - 5)
            let after = (base..<log.next).first { packets[$0].map { $0.sentAt > time } ?? false } ?? log.next
            #expect(log.first(sentAfter: time, from: base) == after)
            // The streams whose octets somebody may still ask for.
            let carried = Set(packets.values.flatMap { $0.frames.map(\.stream) })
            let held = streams.held(before: streams.cursor)
            #expect(Set(held) == carried.filter { $0 < streams.cursor })
        }
    }

    @Test(arguments: 1...8) func agreesWithAModel(seed: Int) {
        var bench = Bench(seed: UInt64(seed))
        for step in 0..<600 {
            bench.step()
            if step % 40 == 0 { bench.check() }
        }
        bench.log.forget(below: bench.log.next, releasing: &bench.streams)
        bench.packets = [:]
        bench.base = bench.log.next
        bench.check()
        #expect(bench.log.recordsHeld == 0)
    }

    @Test func aRunIsOneEntryAndItsLossesGoWhenItIsForgotten() {
        var log = PacketLog(firstPacketNumber: 0)
        var streams = StreamStore()
        streams.append(StreamOctets([UInt8](repeating: 0, count: 1 << 24)))
        let frame = FrameRecord(stream: 0, offset: 0, length: 1000, fin: false)
        for _ in 0..<200 {
            log.appendPackets(52, octets: 1200, frame: frame, at: Instant(nanoseconds: 0))
            streams.sentNew(52_000, frames: 52, fin: false)
        }
        #expect(log.recordsHeld == 400)
        for number in 0..<log.next { _ = log.markReported(number, acknowledgements: 1) }
        #expect(log.capacity >= 16_384)
        log.forget(below: log.next, releasing: &streams)
        #expect(log.capacity < 1024)
    }
}
