import QUIC
import Wire

@testable import Flexicast

/// A real `FlowSource` and a cheap model of its receivers: lines with a rate and a queue, acknowledgements at the announced
/// delay, and strangers who lie. Nothing is sealed, no stream is put together: what is asked is how fast the flow goes, who
/// is on it, and how long objects wait.
final class FlowModel {
    enum Conduct {
        case honest
        /// Says that it has lost every so many packets.
        case loses(every: UInt64)
        /// Acknowledges after so many times the patience that the source has with it.
        case late(Double)
        /// Never acknowledges anything.
        case silent
    }

    /// A line with a rate and a queue that drops what does not fit; several receivers may share it.
    final class Line {
        private let bitsPerSecond: Double
        private let queue: Double
        private let isFree: Bool
        private var backlog = 0.0
        private var at = Instant(nanoseconds: 0)
        private var last: (number: UInt64, delay: Duration?) = (.max, nil)

        /// Without a rate everything passes at once.
        init(bitsPerSecond: UInt64? = nil, queue: Duration = .milliseconds(50)) {
            isFree = bitsPerSecond == nil
            self.bitsPerSecond = Double(bitsPerSecond ?? 0)
            self.queue = self.bitsPerSecond / 8 * Double(queue.nanoseconds) / 1e9
        }

        /// How long the packet waits and is sent; nil when it is dropped.
        func carry(_ number: UInt64, octets: Int, at now: Instant) -> Duration? {
            if isFree { return .zero }
            if last.number == number { return last.delay }
            backlog = max(0, backlog - Double((now - at).nanoseconds) * bitsPerSecond / 8e9)
            at = now
            last = (number, nil)
            guard backlog + Double(octets) <= queue else { return nil }
            backlog += Double(octets)
            last.delay = .nanoseconds(Int64(backlog * 8e9 / bitsPerSecond))
            return last.delay
        }
    }

    final class Receiver {
        let conduct: Conduct
        let account: FlowAccount
        let line: Line
        var delay: Duration
        var id: MemberID?
        var reason: LeaveReason?
        /// Packets under way, and those that have come since it acknowledged last.
        var coming: [(at: Instant, numbers: ClosedRange<UInt64>)] = []
        var nextAcknowledgement = Instant(nanoseconds: 0)

        init(_ conduct: Conduct, account: FlowAccount, line: Line, delay: Duration) {
            self.conduct = conduct
            self.account = account
            self.line = line
            self.delay = delay
        }
    }

    private struct Report {
        var at: Instant
        var receiver: Receiver
        var ranges: [ClosedRange<UInt64>]
    }

    var flow: FlowSource
    var now = Instant(nanoseconds: 1_000_000_000)
    var receivers: [Receiver] = []
    /// The longest that an object waited from its publication to its last packet.
    var worstWait = Duration.zero
    var repairs = 0
    private var reports: [Report] = []
    private var buffer = [UInt8](repeating: 0, count: 1 << 16)
    private var waiting: [(stream: UInt64, at: Instant)] = []
    private var random: SeededRandom
    private static let step = Duration.milliseconds(1)

    init(seed: UInt64, _ change: (inout FlowConfiguration) -> Void = { _ in }) {
        random = SeededRandom(seed: seed)
        var configuration = FlowConfiguration()
        change(&configuration)
        flow = FlowSource(
            flowID: World.flowID, parameters: World.parameters, configuration: configuration,
            seed: SeededRandom(seed: seed &+ 1), at: now)
        flow.attach(at: now)
    }

    @discardableResult
    func add(
        _ conduct: Conduct = .honest, address: UInt32, line: Line = Line(), delay: Duration = .milliseconds(10)
    ) -> Receiver {
        let receiver = Receiver(conduct, account: FlowAccount(.v4(address)), line: line, delay: delay)
        receiver.id = flow.add(
            streamWindow: 1 << 30, octets: 1 << 60, streams: 1 << 60, account: receiver.account, at: now)
        receiver.nextAcknowledgement = now + .milliseconds(Int64.random(in: 0..<25, using: &random))
        receivers.append(receiver)
        return receiver
    }

    var honest: [Receiver] {
        receivers.filter { if case .honest = $0.conduct { true } else { false } }
    }
    var onFlow: Int { honest.count { $0.id != nil } }

    /// Bits per second that the flow sends while `bits` per second are published in objects of `size` octets, or as much as
    /// there is room for.
    @discardableResult
    func run(for duration: Duration, publishing bits: UInt64 = .max, size: Int = 3000, each: () -> Void = {}) -> UInt64
    {
        let before = flow.statistics.octetsSent
        let end = now + duration
        var due = now
        let pause = Duration.nanoseconds(Int64(min(Double(size) * 8e9 / Double(bits), 1e12)))
        while now < end {
            now += Self.step
            each()
            if bits == .max {
                while flow.memberCount > 0, flow.queuedOctets < 200_000 { publish(size) }
            } else {
                while due <= now {
                    publish(size)
                    due += pause
                }
            }
            deliverReports()
            if flow.nextDeadline <= now { flow.timerFired(at: now) }
            drain()
            transmit()
            acknowledge()
        }
        let seconds = Double(duration.nanoseconds) / 1e9
        return UInt64(Double(flow.statistics.octetsSent - before) * 8 / seconds)
    }

    private func publish(_ size: Int) {
        let publication = flow.publish(StreamOctets([UInt8](repeating: 0, count: size)))
        if publication.onFlow { waiting.append((publication.stream.index, now)) }
    }

    private func transmit() {
        while true {
            let first = flow.log.next
            var runs: [RunPlan] = []
            do {
                var span = buffer.mutableSpan
                var writer = ByteWriter(&span)
                flow.transmitRun(of: 54, into: &writer, runs: &runs, at: now)
            }
            drain()
            guard flow.log.next > first else { break }
            for number in first..<flow.log.next {
                guard number >= flow.log.base, !flow.log[number].skipped else { continue }
                send(number)
            }
        }
        let sent = flow.streams.cursor
        while let object = waiting.first, object.stream < sent {
            worstWait = max(worstWait, now - object.at)
            waiting.removeFirst()
        }
        if let object = waiting.first { worstWait = max(worstWait, now - object.at) }
    }

    private func send(_ number: UInt64) {
        for receiver in receivers where receiver.id != nil {
            guard let delay = receiver.line.carry(number, octets: flow.configuration.packetSize, at: now) else {
                continue
            }
            let at = now + delay + receiver.delay
            let last = receiver.coming.count - 1
            if last >= 0, receiver.coming[last].at == at, receiver.coming[last].numbers.upperBound + 1 == number {
                receiver.coming[last].numbers = receiver.coming[last].numbers.lowerBound...number
            } else {
                receiver.coming.append((at, number...number))
            }
        }
    }

    private func acknowledge() {
        for receiver in receivers where receiver.id != nil && receiver.nextAcknowledgement <= now {
            receiver.nextAcknowledgement = now + flow.parameters.ackDelay
            var ranges: [ClosedRange<UInt64>] = []
            let count = receiver.coming.prefix { $0.at <= now }.count
            var answer = now + receiver.delay
            func take(_ numbers: ClosedRange<UInt64>) {
                if let last = ranges.last, last.upperBound + 1 == numbers.lowerBound {
                    ranges[ranges.count - 1] = last.lowerBound...numbers.upperBound
                } else {
                    ranges.append(numbers)
                }
            }
            for packets in receiver.coming[..<count] {
                switch receiver.conduct {
                case .loses(let every):
                    for number in packets.numbers where number % every != 0 { take(number...number) }
                case .silent: break
                case .late(let times):
                    if let id = receiver.id {
                        answer = now + .nanoseconds(Int64(Double(flow.patience(id.slot).nanoseconds) * times))
                    }
                    take(packets.numbers)
                case .honest: take(packets.numbers)
                }
            }
            receiver.coming.removeFirst(count)
            guard !ranges.isEmpty else { continue }
            reports.append(Report(at: answer, receiver: receiver, ranges: ranges.reversed()))
        }
    }

    private func deliverReports() {
        let due = reports.filter { $0.at <= now }
        reports.removeAll { $0.at <= now }
        for report in due {
            guard let id = report.receiver.id else { continue }
            flow.acknowledged(id, ranges: report.ranges, ackDelay: .zero, at: now)
            drain()
        }
    }

    private func drain() {
        while let action = flow.nextAction() {
            switch action {
            case .memberRemoved(let id, let reason, _):
                guard let receiver = receivers.first(where: { $0.id == id }) else { continue }
                receiver.id = nil
                receiver.reason = reason
                receiver.coming = []
            case .unicastRepair: repairs += 1
            default: break
            }
        }
    }
}
