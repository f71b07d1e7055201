import Reactor

/// What one end of a measurement has done, in totals or between two readings. Times are nanoseconds.
public struct EndCounts: Sendable, Equatable {
    /// Of the clock.
    public var time: Int64 = 0
    /// Of CPU, in the thread that this end runs on.
    public var cpu: Int64 = 0
    /// Packets that this end sent or received; octets of their UDP payload.
    public var packets: UInt64 = 0
    public var octets: UInt64 = 0
    public var systemCalls: UInt64 = 0
    /// Messages handed to the kernel or taken from it: each is a run of packets.
    public var messages: UInt64 = 0
    public var turns: UInt64 = 0
    /// The longest turn of the loop since the beginning; not a total.
    public var longestTurn: UInt64 = 0
    /// Packets that the kernel dropped because they were not fetched in time.
    public var kernelDrops: UInt64 = 0
    /// Times the kernel's buffer or the send queue was full.
    public var blocked: UInt64 = 0
    /// Packets that the kernel refused.
    public var refused: UInt64 = 0
    /// Runs that had to leave packet by packet.
    public var unsegmented: UInt64 = 0
    /// Heap allocations of the thread; nil when no counter is preloaded.
    public var allocations: UInt64?

    public init() {}

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
        refused = reactor.sendErrors.total
        unsegmented = reactor.segmentationFallbacks
    }

    public static func - (a: Self, b: Self) -> Self {
        var d = a
        d.time -= b.time
        d.cpu -= b.cpu
        for path in [
            \Self.packets, \.octets, \.systemCalls, \.messages, \.turns, \.kernelDrops, \.blocked, \.refused,
            \.unsegmented,
        ] {
            d[keyPath: path] -= b[keyPath: path]
        }
        if let all = a.allocations, let before = b.allocations { d.allocations = all - before }
        return d
    }
}

/// A reactor that shares its thread with others and whose turns are charged to it.
final class ChargedReactor {
    let reactor: Reactor
    /// Nanoseconds of CPU that its turns have taken.
    private(set) var cpu: Int64 = 0
    /// Heap allocations in its turns; nil when no counter is preloaded.
    private(set) var allocations: UInt64?

    init(io: IOBackendChoice) throws {
        reactor = try Reactor(io: .init(io))
        allocations = Meters.allocations.map { _ in 0 }
    }

    /// One turn that waits for nothing.
    func turn() { charge { reactor.turn(timeout: .zero) } }

    /// Charges what `body` takes.
    func charge(_ body: () -> Void) {
        let time = Meters.threadTime
        let before = Meters.allocations
        body()
        cpu += Meters.threadTime - time
        if let before, let after = Meters.allocations { allocations = (allocations ?? 0) + after - before }
    }

    var sending: EndCounts {
        var counts = EndCounts(sending: reactor.counters, cpu: cpu)
        counts.allocations = allocations
        return counts
    }

    var receiving: EndCounts {
        var counts = EndCounts(receiving: reactor.counters, cpu: cpu)
        counts.allocations = allocations
        return counts
    }
}
