import QUIC
import Wire

/// One key of a flow: a random traffic secret (draft section 10.1) and the packets it covers.
public struct FlowKey: Hashable, Sendable {
    /// 0 for the flow's first key, one more for each; its lowest bit is the key phase bit of its packets.
    public var generation: UInt64
    /// What packets are sealed with.
    public var suite: CipherSuite
    /// `suite.secretLength` random octets, of which no connection's keys know (draft section 10.1).
    public var secret: [UInt8]
    /// The first packet number sealed with it.
    public var firstPacketNumber: UInt64
}

extension CipherSuite {
    /// Packets of `octets` octets that one key of a flow may seal.
    ///
    /// RFC 9001 section 6.6 gives 2^23 for AES-GCM because a packet may have 2^16 octets. What counts is 2^35 blocks of 16
    /// octets (appendix B.1.1, for an advantage of 2^-57), and a flow knows how large its packets are: below 2^11 octets they
    /// may be 2^28, which at two million packets a second is more than two minutes.
    func sealingLimit(packetSize octets: Int) -> UInt64 {
        guard self != .chaCha20Poly1305 else { return confidentialityLimit }
        let blocks = UInt64(max(1 << 11, octets) + 15) / 16
        return max(confidentialityLimit, (1 << 35) / blocks)
    }
}

/// The keys of a flow over time: the one in use, the next one while receivers learn it, and the one before while
/// packets under it may still be on their way. A receiver holds two: the next is told when the one in use has opened
/// packets for a while, so that the key phase bit tells two apart whatever is under way.
///
/// A change never waits for a receiver. Who has not settled the key before the one in use when the next is told has to
/// leave; the flow goes on.
struct FlowKeys: Sendable {
    private(set) var current: FlowKey
    private(set) var next: FlowKey?
    private(set) var previousGeneration: UInt64?
    /// When the next key comes into use at the latest: packet numbers up to it are skipped then.
    private(set) var switchAt = Instant.distantFuture
    /// The packet number at which the key in use ends, whether or not there is another: the first of the next key, or the
    /// one that it may not seal any more.
    private(set) var endsAt: UInt64
    /// The packet number at which another key is to be made for wear; `max` once that is known.
    private(set) var wearsAt: UInt64

    /// Packets that a key may seal, and after how many the next is made.
    private let limit: UInt64
    private let budget: UInt64
    /// The least time from a key's first packet to the next one's telling: what was told of both has arrived by then.
    private let activation: Duration
    /// Before that no key is made that is only wished for.
    private var earliestWanted: Instant
    /// Before that none is made at all, but for one that is worn out.
    private var earliest: Instant
    /// A receiver that knew the key has gone, or someone asked.
    var wanted = false
    private var isWorn = false

    /// - Parameters:
    ///   - limit: packets that a key may seal (RFC 9001 section 6.6).
    ///   - budget: packets after which the next is made, less than `limit`.
    ///   - activation: the time between telling a key and its first packet.
    init(
        suite: CipherSuite, limit: UInt64, budget: UInt64, activation: Duration, random: inout SeededRandom,
        now: Instant
    ) {
        current = FlowKey(
            generation: 0, suite: suite, secret: random.octets(suite.secretLength), firstPacketNumber: 0)
        self.limit = limit
        self.budget = budget
        self.activation = activation
        endsAt = limit
        wearsAt = budget
        earliestWanted = now
        earliest = now
    }

    /// The packets before `packetNumber` have worn the key.
    @inline(__always)
    mutating func sealed(before packetNumber: UInt64) { if packetNumber >= wearsAt { worn() } }

    private mutating func worn() {
        wearsAt = .max
        isWorn = next == nil
    }

    /// Whether the key in use may seal no packet of this number and there is no other.
    @inline(__always)
    func isWornOut(at packetNumber: UInt64) -> Bool { packetNumber >= endsAt && next == nil }

    /// When the next key is to be made; `distantFuture` when none is called for or one is told already.
    var rotationDue: Instant {
        guard next == nil else { return .distantFuture }
        if isWorn { return earliest }
        return wanted ? max(earliest, earliestWanted) : .distantFuture
    }

    /// Makes the next key, for packets from `packetNumber` on, and from the time on that receivers need to learn it.
    /// `interval` is the least time to another that is only wished for.
    mutating func rotate(
        from packetNumber: UInt64, interval: Duration, random: inout SeededRandom, at now: Instant
    ) -> FlowKey {
        let key = FlowKey(
            generation: current.generation + 1, suite: current.suite,
            secret: random.octets(current.suite.secretLength), firstPacketNumber: packetNumber)
        next = key
        switchAt = now + activation
        endsAt = min(endsAt, packetNumber)
        wearsAt = .max
        earliestWanted = now + interval
        wanted = false
        isWorn = false
        return key
    }

    mutating func activateNext(at now: Instant) {
        guard let key = next else { return }
        previousGeneration = current.generation
        current = key
        next = nil
        switchAt = .distantFuture
        endsAt = key.firstPacketNumber + limit
        wearsAt = key.firstPacketNumber + budget
        earliest = now + activation
    }

    /// The generation no receiver needs any more once everything before `floor` is settled.
    mutating func retire(below floor: UInt64) -> UInt64? {
        guard let old = previousGeneration, floor >= current.firstPacketNumber else { return nil }
        previousGeneration = nil
        return old
    }
}
