import QUIC
import Wire

@testable import Flexicast

/// One `FlowSource` driven by hand: packets are collected, time moves when a test says so.
final class Bench {
    var flow: FlowSource
    var now = Instant(nanoseconds: 1_000_000_000)
    var actions: [FlowAction] = []
    var plans: [PacketPlan] = []
    private var buffer = [UInt8](repeating: 0, count: 2048)

    init(_ change: (inout FlowConfiguration) -> Void = { _ in }) {
        var configuration = FlowConfiguration()
        // Tests that are about other things should not meet skipped numbers, new keys or slow start.
        configuration.initialRate = .max
        configuration.skipInterval = 1 << 40
        configuration.rotatesKeyAfterLeave = false
        // One stream may be long enough to last.
        configuration.maximumStreamLength = 4 << 20
        change(&configuration)
        flow = FlowSource(
            flowID: World.flowID, parameters: World.parameters, configuration: configuration,
            seed: SeededRandom(seed: 9), at: now)
        flow.attach(at: now)
    }

    func addMembers(_ count: Int, octets: UInt64 = .max, streams: UInt64 = .max) -> [MemberID] {
        (0..<count).map { _ in flow.add(streamWindow: 1 << 30, octets: octets, streams: streams, at: now)! }
    }

    /// Writes what may be written now; the numbers of the packets.
    @discardableResult
    func transmit() -> [UInt64] {
        plans.removeAll(keepingCapacity: true)
        while true {
            let before = plans.count
            do {
                var span = buffer.mutableSpan
                var writer = ByteWriter(&span)
                guard flow.transmit(into: &writer, plans: &plans, at: now) else { break }
            }
            precondition(plans.count == before + 1)
        }
        drain()
        return plans.map(\.packetNumber)
    }

    /// One packet with a stream of its own.
    @discardableResult
    func sendPacket(_ size: Int = 100) -> UInt64 {
        _ = flow.publish(StreamOctets([UInt8](repeating: 7, count: size)))
        now += .milliseconds(1)
        return transmit().last!
    }

    func drain() {
        while let action = flow.nextAction() { actions.append(action) }
    }

    func acknowledge(_ member: MemberID, _ ranges: [ClosedRange<UInt64>]) {
        defer { drain() }
        flow.acknowledged(member, ranges: ranges, ackDelay: .zero, at: now)
    }

    /// Acknowledges every packet that the member has not settled, as a receiver that has opened them all would.
    func acknowledgeAll(_ member: MemberID) {
        var ranges: [ClosedRange<UInt64>] = []
        var number = max(flow.log.base, flow.members[member.slot].floor)
        while number < flow.log.next {
            let record = flow.log[number]
            if record.skipped {
                number = record.skippedUpTo
            } else if let last = ranges.last, last.upperBound + 1 == number {
                ranges[ranges.count - 1] = last.lowerBound...number
                number += 1
            } else {
                ranges.append(number...number)
                number += 1
            }
        }
        acknowledge(member, ranges.reversed())
    }

    func advance(_ duration: Duration) {
        let end = now + duration
        while true {
            let next = flow.nextDeadline
            guard next <= end else { break }
            now = max(next, now)
            flow.timerFired(at: now)
            transmit()
        }
        now = end
    }

    /// Repairs asked for since the last call: member and stream index.
    func takeRepairs() -> [(member: MemberID, stream: UInt64, range: Range<UInt64>, counted: Bool)] {
        drain()
        defer { actions.removeAll() }
        return actions.compactMap {
            if case .unicastRepair(let member, let stream, _, let range, _, let counted) = $0 {
                (member, stream.index, range, counted)
            } else {
                nil
            }
        }
    }

    var removals: [(MemberID, LeaveReason)] {
        actions.compactMap { if case .memberRemoved(let id, let reason, _) = $0 { (id, reason) } else { nil } }
    }

    var keys: [FlowKey] { actions.compactMap { if case .sendKey(let key) = $0 { key } else { nil } } }
}
