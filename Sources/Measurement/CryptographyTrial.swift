import Cryptography
import QUIC
import Reactor
import Wire

/// What packet protection costs by itself: packets of one size and suite sealed in runs and opened one by one, as a source
/// and a receiver do. Nanoseconds are of CPU, per packet.
package struct CryptographyTrial {
    package struct Costs: Sendable {
        /// Sealed in runs, masks included; the masks alone; sealed one at a time; unmasked and opened.
        package var seal = 0.0
        package var masks = 0.0
        package var sealSingly = 0.0
        package var open = 0.0

        package init() {}
    }

    private let size: Int
    private let sealing: SealingKey
    private let opening: OpeningKey
    private let plans: [PacketPlan]
    private let clear: [UInt8]
    private var buffer: [UInt8]
    /// All that was sealed in runs. Nothing else happens: its time is that of CPU, and all of that is cryptography.
    package private(set) var sealed = EndCounts()

    /// Packets of a run.
    package static let run = 52
    /// A flow's header: first octet, flow ID, packet number.
    private static let packetNumberOffset = 9

    /// `size`: octets of a packet, from 64.
    package init(_ cipher: CipherChoice, size: Int) {
        self.size = size
        let secret = [UInt8](repeating: 7, count: cipher.suite.secretLength)
        sealing = SealingKey(suite: cipher.suite, secret: secret)
        opening = OpeningKey(suite: cipher.suite, secret: secret)
        plans = (0..<Self.run).map { index in
            PacketPlan(
                level: .application, start: index * size, packetNumberOffset: index * size + Self.packetNumberOffset,
                packetNumberLength: 4, end: (index + 1) * size, packetNumber: UInt64(index))
        }
        var clear: [UInt8] = []
        for index in 0..<Self.run {
            clear.append(0x43)
            clear += [UInt8](repeating: 9, count: 8)
            clear += [0, 0, 0, UInt8(index)]
            clear += [UInt8](repeating: 0x61, count: size - Self.packetNumberOffset - 4)
        }
        self.clear = clear
        buffer = clear
    }

    /// One round of so many runs, each kind of work after the other, so that a machine that slows down slows all.
    package mutating func round(runs: Int) -> Costs {
        let (sealing, plans) = (sealing, plans)
        var costs = Costs()
        let before = (Meters.allocations, Meters.copied)
        costs.seal = measure(runs) { sealing.seal(&$0, plans.span) }
        count(runs, nanoseconds: costs.seal, since: before)
        let bare = measure(runs) { sealing.seal(&$0, plans.span, masking: false) }
        costs.masks = max(0, costs.seal - bare)
        costs.sealSingly = measure(runs) { buffer in
            for plan in plans { sealing.seal(&buffer, plan) }
        }
        costs.open = measureOpening(runs)
        return costs
    }

    private mutating func count(_ runs: Int, nanoseconds: Double, since before: (UInt64?, UInt64?)) {
        let packets = runs * Self.run
        let cpu = Int64(nanoseconds * Double(packets))
        for path in [\EndCounts.time, \.cpu, \.measured, \.cryptography] { sealed[keyPath: path] += cpu }
        sealed.packets += UInt64(packets)
        sealed.octets += UInt64(packets * size)
        if let now = Meters.allocations, let then = before.0 {
            sealed.allocations = (sealed.allocations ?? 0) + now - then
        }
        if let now = Meters.copied, let then = before.1 { sealed.copied = (sealed.copied ?? 0) + now - then }
    }

    private mutating func measure(_ runs: Int, _ body: (inout MutableSpan<UInt8>) -> Void) -> Double {
        // Sealing what is sealed costs the same.
        let start = Meters.threadTime
        for _ in 0..<runs {
            var span = buffer.mutableSpan
            body(&span)
        }
        return Double(Meters.threadTime - start) / Double(runs * Self.run)
    }

    private mutating func measureOpening(_ runs: Int) -> Double {
        let (sealing, opening, plans) = (sealing, opening, plans)
        var time: Int64 = 0
        for _ in 0..<runs {
            buffer = clear
            var span = buffer.mutableSpan
            sealing.seal(&span, plans.span)
            let start = Meters.threadTime
            for plan in plans {
                let opened = opening.open(
                    &span, start: plan.start, packetNumberOffset: plan.packetNumberOffset, end: plan.end,
                    largest: plan.packetNumber, packetNumberLength: 4)
                precondition(opened?.packetNumber == plan.packetNumber, "what was sealed does not open")
            }
            time += Meters.threadTime - start
        }
        return Double(time) / Double(runs * Self.run)
    }
}
