import Reactor
import Transport

/// What one end of a measurement has done, in totals or between two readings. Times are nanoseconds.
package struct EndCounts: Sendable, Equatable {
    /// Of the clock.
    package var time: Int64 = 0
    /// Of CPU, in the thread that this end runs on.
    package var cpu: Int64 = 0
    /// Of CPU, in the turns in which it was looked where the time goes: all of it, that in calls into the kernel, and that
    /// of packet protection. What is left is the protocol and the loop.
    package var measured: Int64 = 0
    package var inputOutput: Int64 = 0
    package var cryptography: Int64 = 0
    /// Packets that this end sent or received; octets of their UDP payload.
    package var packets: UInt64 = 0
    package var octets: UInt64 = 0
    package var systemCalls: UInt64 = 0
    /// Messages handed to the kernel or taken from it: each is a run of packets.
    package var messages: UInt64 = 0
    package var turns: UInt64 = 0
    /// The longest turn of the loop since the measurement began; not a total.
    package var longestTurn: UInt64 = 0
    /// Packets that the kernel dropped because they were not fetched in time.
    package var kernelDrops: UInt64 = 0
    /// Times the kernel's buffer or the send queue was full.
    package var blocked: UInt64 = 0
    /// Packets that the kernel refused: all, and why.
    package var refused: UInt64 { refusals.total }
    package var refusals = ReactorCounters.SendErrors()
    /// Messages given up because they were cut short, and receive calls that failed.
    package var truncated: UInt64 = 0
    package var receiveErrors: UInt64 = 0
    /// Runs that had to leave packet by packet.
    package var unsegmented: UInt64 = 0
    /// Heap allocations of the thread; nil when no counter is preloaded.
    package var allocations: UInt64?
    /// Octets that the thread had the C library copy, in pieces as large as a payload; nil likewise.
    package var copied: UInt64?

    package init() {}

    /// What `reactor` has sent.
    init(sending reactor: ReactorCounters, cpu: Int64) {
        self.init(reactor, cpu: cpu)
        packets = reactor.datagramsOut
        octets = reactor.octetsOut
        messages = reactor.messagesOut
    }

    /// What `reactor` has received.
    init(receiving reactor: ReactorCounters, cpu: Int64) {
        self.init(reactor, cpu: cpu)
        packets = reactor.datagramsIn
        octets = reactor.octetsIn
        messages = reactor.messagesIn
    }

    private init(_ reactor: ReactorCounters, cpu: Int64) {
        time = Reactor.clock().nanoseconds
        self.cpu = cpu
        systemCalls = reactor.systemCalls
        turns = reactor.turns
        longestTurn = reactor.longestTurnNanoseconds
        kernelDrops = reactor.kernelDrops
        blocked = reactor.sendBlocked + reactor.sendQueueFull
        refusals = reactor.sendErrors
        truncated = reactor.truncated
        receiveErrors = reactor.receiveErrors
        unsegmented = reactor.segmentationFallbacks
    }

    package static func - (a: Self, b: Self) -> Self {
        var d = a
        d.time -= b.time
        for path in [\Self.cpu, \.measured, \.inputOutput, \.cryptography] { d[keyPath: path] -= b[keyPath: path] }
        for path in [
            \Self.packets, \.octets, \.systemCalls, \.messages, \.turns, \.kernelDrops, \.blocked, \.unsegmented,
            \.truncated, \.receiveErrors, \.refusals.tooLarge, \.refusals.unreachable, \.refusals.forbidden,
            \.refusals.noBuffers, \.refusals.other,
        ] {
            d[keyPath: path] -= b[keyPath: path]
        }
        if let all = a.allocations, let before = b.allocations { d.allocations = all - before }
        if let all = a.copied, let before = b.copied { d.copied = all - before }
        return d
    }
}

extension EndCounts {
    /// Nanoseconds of CPU for each of `packets`, told apart as the turns were in which it was looked; nil when none was.
    package func split(per packets: Double) -> (protocol: Double, cryptography: Double, inputOutput: Double)? {
        guard measured > 0 else { return nil }
        let share = Double(cpu) / packets / Double(measured)
        return (
            share * Double(measured - inputOutput - cryptography), share * Double(cryptography),
            share * Double(inputOutput)
        )
    }
}

/// Looks where the CPU time of some turns goes: one in seventeen, because looking costs more than it finds. (Not sixteen:
/// what repeats itself repeats in powers of two.)
final class TurnMeter {
    private var turn = 0
    private let every: Int
    private var measured: Int64 = 0
    private var inputOutput: Int64 = 0
    private var cryptography: Int64 = 0
    private let isOn: Bool

    /// With `isOn` false it looks nowhere.
    init(isOn: Bool = true, every: Int = 17) {
        self.isOn = isOn
        self.every = every
    }

    /// Runs `body`, one turn.
    func measure(_ body: () throws -> Void) rethrows {
        turn += 1
        guard isOn, turn % every == 0 else { return try body() }
        let before = Meters.split
        let start = Meters.threadTime
        Meters.measureSplit(true)
        defer { Meters.measureSplit(false) }
        try body()
        let time = Meters.threadTime - start
        let after = Meters.split
        measured += max(0, time - (after.clock - before.clock))
        inputOutput += after.inputOutput - before.inputOutput
        cryptography += after.cryptography - before.cryptography
    }

    /// Adds what was found to `counts`.
    func fill(_ counts: inout EndCounts) {
        counts.measured = measured
        counts.inputOutput = inputOutput
        counts.cryptography = cryptography
    }
}

/// A reactor that shares its thread with others and whose turns are charged to it.
final class ChargedReactor {
    let reactor: Reactor
    /// Nanoseconds of CPU that its turns have taken.
    private(set) var cpu: Int64 = 0
    /// Heap allocations in its turns; nil when no counter is preloaded.
    private var allocations: UInt64?
    private var copied: UInt64?
    private let meter: TurnMeter

    init(io: IOBackendChoice, splitsTime: Bool = true) throws {
        meter = TurnMeter(isOn: splitsTime)
        reactor = try Reactor(io: .init(io))
        allocations = Meters.allocations.map { _ in 0 }
        copied = Meters.copied.map { _ in 0 }
    }

    /// One turn that waits for nothing.
    func turn() {
        let reactor = reactor
        charge { meter.measure { reactor.turn(timeout: .zero) } }
    }

    /// Charges what `body` takes.
    func charge<E: Error>(_ body: () throws(E) -> Void) throws(E) {
        let before = (Meters.allocations, Meters.copied)
        let time = Meters.threadTime
        try body()
        cpu += Meters.threadTime - time
        if let first = before.0, let last = Meters.allocations { allocations = (allocations ?? 0) + last - first }
        if let first = before.1, let last = Meters.copied { copied = (copied ?? 0) + last - first }
    }

    var sending: EndCounts { filled(EndCounts(sending: reactor.counters, cpu: cpu)) }
    var receiving: EndCounts { filled(EndCounts(receiving: reactor.counters, cpu: cpu)) }

    private func filled(_ counts: EndCounts) -> EndCounts {
        var counts = counts
        meter.fill(&counts)
        counts.allocations = allocations
        counts.copied = copied
        return counts
    }
}
