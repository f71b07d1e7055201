import QUIC
import Wire

/// Whether packets of a flow arrive steadily, judged without opening them.
struct Hearing: Sendable {
    private var since: Instant?
    private var last = Instant(nanoseconds: 0)
    private var count = 0

    mutating func heard(_ packets: Int, at now: Instant, gap: Duration) {
        if since == nil || now - last > gap {
            since = now
            count = 0
        }
        last = now
        count += packets
    }

    func isSteady(at now: Instant, time: Duration, packets: Int) -> Bool {
        guard let since else { return false }
        return now - since >= time && count >= packets
    }
}

/// The keys that open packets of a flow: usually one, two while the source changes them.
struct ReceiverKeys: Sendable {
    private(set) var keys: [FlowKey] = []
    /// When the older of two goes.
    private(set) var dropAt = Instant.distantFuture

    /// Takes a key; nil when it is known already or older than those here, else the keys that have to go.
    mutating func insert(_ key: FlowKey) -> [FlowKey]? {
        guard !keys.contains(where: { $0.generation == key.generation }) else { return nil }
        if let same = keys.firstIndex(where: { $0.secret == key.secret }) {
            // Sent again, to another JOIN: the key stays installed under the name it has.
            keys[same].firstPacketNumber = min(keys[same].firstPacketNumber, key.firstPacketNumber)
            return nil
        }
        keys.append(key)
        keys.sort { $0.generation < $1.generation }
        guard keys.count > 2 else { return [] }
        dropAt = .distantFuture
        return [keys.removeFirst()]
    }

    /// The packet numbers that the key of this generation covers; nil without such a key.
    func numbers(of generation: UInt64) -> Range<UInt64>? {
        guard let index = keys.firstIndex(where: { $0.generation == generation }) else { return nil }
        let first = keys[index].firstPacketNumber
        return first..<(index + 1 == keys.count ? .max : max(first, keys[index + 1].firstPacketNumber))
    }

    /// The newer key is in use: the older one is kept for stragglers only.
    mutating func used(generation: UInt64, at now: Instant, retention: Duration) {
        if keys.count == 2, generation == keys[1].generation, dropAt == .distantFuture { dropAt = now + retention }
    }

    mutating func expired(at now: Instant) -> FlowKey? {
        guard now >= dropAt, keys.count == 2 else { return nil }
        dropAt = .distantFuture
        return keys.removeFirst()
    }
}

/// Where a receiver stands with one flow (draft section 5.2, figure "Receiver-side finite-state machine"). "Unaware" is a flow
/// that is not in the table.
///
///     aware --JOIN sent--> needsKey --FC_KEY--> joined --packet opened, READY sent--> listening
///       ^                     |                    |                                     |
///       |                     +-- LEAVE received --+-- nothing heard, LEAVE, silence -----+
///       |                                          v
///       +---- asked to leave ------------------- left --heard steadily, JOIN sent--> needsKey
///
/// and from any of them a withdrawal leads to `retired`, which ignores all but a newer announcement.
enum ReceiverPhase: Sendable {
    case aware(Aware)
    case needsKey(NeedsKey)
    case joined(Joined)
    case listening(Listening)
    case left(Left)
    case retired

    /// Announced, not joined.
    struct Aware: Sendable {
        /// It is to be joined as soon as that may be.
        var isWanted: Bool
    }

    /// JOIN sent.
    struct NeedsKey: Sendable {
        var isReturn: Bool
        /// What FC_KEYs of an earlier membership must not be taken for an answer.
        var keysAbove: UInt64?
        /// When it is to be said that there is no answer: never again once it was.
        var warnAt: Instant

        func keyReceived(_ key: FlowKey, timeout: Duration, at now: Instant) -> Joined {
            var keys = ReceiverKeys()
            _ = keys.insert(key)
            return Joined(isReturn: isReturn, keys: keys, deadline: now + timeout)
        }
    }

    /// The key is in place, no packet has been opened yet.
    struct Joined: Sendable {
        var isReturn: Bool
        var keys: ReceiverKeys
        var deadline: Instant

        func packetOpened(at now: Instant) -> Listening {
            Listening(keys: keys, since: now)
        }
    }

    /// READY sent: the source counts on us.
    struct Listening: Sendable {
        var keys: ReceiverKeys
        var since: Instant
    }

    /// Not a member any more, but still in the group, so as to hear when the flow is back. A replicated flow is joined
    /// again without being heard: its packets come only to those who have joined.
    struct Left: Sendable {
        var hearing = Hearing()
        /// How long the flow has to be heard before it is joined again.
        var steadyTime: Duration
        var notBefore: Instant
    }
}

/// One flow as a receiver knows it.
struct ReceiverFlow: Sendable {
    let id: FlowID
    let ordinal: Int
    var parameters: FlowParameters
    var phase: ReceiverPhase {
        didSet { usual = nil }
    }
    /// While listening: when a packet was opened last.
    var lastOpened = Instant(nanoseconds: 0)
    /// What that was when the source was asked whether it is still there.
    var askedAfter: Instant?
    /// Packets that are to be processed and change nothing but `lastOpened`, known from one like them before: what spares
    /// them the way through `phase`.
    var usual: Usual?

    struct Usual: Sendable {
        var generation: UInt64
        var numbers: Range<UInt64>
    }

    var announceSequence: UInt64
    /// Ours and the source's FC_STATE sequence numbers, and the highest of FC_KEY.
    var stateSequence: UInt64 = 0
    var peerStateSequence: UInt64?
    var keySequence: UInt64?
    /// Given out with the first JOIN and kept for good.
    var pathID: UInt64?
    /// What comes on that path is noted and acknowledged: from FC_KEY on until LEAVE.
    var isPathOpen = false
    var isInGroup = false
    var backOffs = 0
    var rejected: UInt64 = 0

    /// Its group is of an IP version that was declared.
    var isSupported: Bool
    /// The source has abandoned its path, and it gets no other one.
    var isPathAbandoned = false
    var isJoinable: Bool { isSupported && !isPathAbandoned }

    var hasJoined: Bool {
        switch phase {
        case .needsKey, .joined, .listening: true
        case .aware, .left, .retired: false
        }
    }

    /// The source sends copies to this receiver's own address, once it has joined.
    var isReplicated: Bool { !parameters.group.isMulticast }

    var keys: [FlowKey] {
        switch phase {
        case .joined(let state): state.keys.keys
        case .listening(let state): state.keys.keys
        case .aware, .needsKey, .left, .retired: []
        }
    }

    /// Nil is any-source multicast.
    var multicastSource: IPAddress? { parameters.source.isUnspecified ? nil : parameters.source }
}
