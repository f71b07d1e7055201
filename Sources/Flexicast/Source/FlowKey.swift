import QUIC
import Wire

/// One key of a flow: a random traffic secret and the packets it covers.
public struct FlowKey: Hashable, Sendable {
    /// 0 for the flow's first key, one more for each; its lowest bit is the key phase bit of its packets.
    public var generation: UInt64
    public var suite: CipherSuite
    /// `suite.secretLength` random octets.
    public var secret: [UInt8]
    /// The first packet number sealed with it.
    public var firstPacketNumber: UInt64
}

/// The keys of a flow over time: the one in use, the next one while receivers learn it, and the one before while
/// packets under it may still be on their way. A third is never made before the first is gone, so the key phase bit
/// tells the two apart.
struct FlowKeys: Sendable {
    private(set) var current: FlowKey
    private(set) var next: FlowKey?
    private(set) var previousGeneration: UInt64?
    /// When the next key comes into use at the latest: packet numbers up to it are skipped then.
    private(set) var switchAt = Instant.distantFuture
    /// From which packet number on at the latest.
    private(set) var nextFirstPacketNumber = UInt64.max
    private var earliestRotation: Instant
    var wanted = false

    init(suite: CipherSuite, random: inout SeededRandom, now: Instant) {
        current = FlowKey(
            generation: 0, suite: suite, secret: random.octets(suite.secretLength), firstPacketNumber: 0)
        earliestRotation = now
    }

    /// Packets that this key has sealed, or could have, before `packetNumber`.
    func used(before packetNumber: UInt64) -> UInt64 {
        packetNumber - current.firstPacketNumber
    }

    var isRotating: Bool { next != nil || previousGeneration != nil }

    /// When a wanted rotation may begin; `distantFuture` when none is wanted or another is under way.
    var rotationDue: Instant { wanted && !isRotating ? earliestRotation : .distantFuture }

    mutating func rotate(
        from packetNumber: UInt64, activation: Duration, interval: Duration, random: inout SeededRandom, at now: Instant
    ) -> FlowKey {
        let key = FlowKey(
            generation: current.generation + 1, suite: current.suite,
            secret: random.octets(current.suite.secretLength), firstPacketNumber: packetNumber)
        next = key
        switchAt = now + activation
        nextFirstPacketNumber = packetNumber
        earliestRotation = now + interval
        wanted = false
        return key
    }

    mutating func activateNext() {
        guard let key = next else { return }
        previousGeneration = current.generation
        current = key
        next = nil
        switchAt = .distantFuture
        nextFirstPacketNumber = .max
    }

    /// The generation no receiver needs any more once everything before `floor` is settled.
    mutating func retire(below floor: UInt64) -> UInt64? {
        guard let old = previousGeneration, floor >= current.firstPacketNumber else { return nil }
        previousGeneration = nil
        return old
    }
}
