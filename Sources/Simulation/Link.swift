import Wire

/// A line with a rate and a queue, which drops what does not fit. Links that share one share its rate, and a packet of the
/// flow is carried once for all of them.
public final class Line {
    private let bitsPerSecond: Double
    private let queue: Double
    private var backlog = 0.0
    private var at = Instant(nanoseconds: 0)
    private var flowPacket: (number: UInt64, delay: Duration?)?

    /// `queue`: how long a full queue takes to empty.
    public init(bitsPerSecond: UInt64, queue: Duration = .milliseconds(50)) {
        self.bitsPerSecond = Double(bitsPerSecond)
        self.queue = self.bitsPerSecond / 8 * Double(queue.nanoseconds) / 1e9
    }

    /// How long a datagram waits and is sent; nil when it is dropped.
    func carry(_ octets: Int, flowPacket number: UInt64?, at now: Instant) -> Duration? {
        if let number, let known = flowPacket, known.number == number { return known.delay }
        backlog = max(0, backlog - Double((now - at).nanoseconds) * bitsPerSecond / 8e9)
        at = now
        var delay: Duration?
        if backlog + Double(octets) <= queue {
            backlog += Double(octets)
            delay = .nanoseconds(Int64(backlog * 8e9 / bitsPerSecond))
        }
        if let number { flowPacket = (number, delay) }
        return delay
    }
}

/// One direction of a path: how long a datagram takes, and whether it arrives.
public struct Link {
    /// How long a datagram takes at least, once it is past the line.
    public var delay: Duration
    /// Up to this much more, drawn for each datagram: enough of it, and datagrams overtake each other.
    public var jitter: Duration
    /// The probability that a datagram is lost.
    public var loss: Double
    /// The probability that it arrives twice.
    public var duplication: Double
    /// No datagram arrives as long as it is.
    public var isCut = false
    /// What it has to pass first; nil is as fast as need be.
    public var line: Line?

    /// Datagrams that were sent on it, those dropped included.
    private(set) var carried: UInt64 = 0
    /// Datagrams that were lost, by chance, for the line's queue, or because it was cut.
    private(set) var dropped: UInt64 = 0

    /// Ten milliseconds and up to a fifth of one more, without losses, unless said otherwise.
    public init(
        delay: Duration = .milliseconds(10), jitter: Duration = .microseconds(200), loss: Double = 0,
        duplication: Double = 0, line: Line? = nil
    ) {
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.duplication = duplication
        self.line = line
    }

    /// Whether chance, or a cut, takes a datagram that got here with others at once.
    mutating func loses(_ random: inout SeededRandom) -> Bool {
        carried += 1
        guard isCut || loss > 0 && Double.random(in: 0..<1, using: &random) < loss else { return false }
        dropped += 1
        return true
    }

    /// The times at which copies of a datagram sent now arrive. `flowPacket` is its number on the flow.
    mutating func arrivals(
        of octets: Int, flowPacket: UInt64? = nil, at now: Instant, random: inout SeededRandom
    ) -> [Instant] {
        carried += 1
        guard !isCut, loss == 0 || Double.random(in: 0..<1, using: &random) >= loss else {
            dropped += 1
            return []
        }
        var wait = Duration.zero
        if let line {
            guard let queued = line.carry(octets, flowPacket: flowPacket, at: now) else {
                dropped += 1
                return []
            }
            wait = queued
        }
        let isTwice = duplication > 0 && Double.random(in: 0..<1, using: &random) < duplication
        return (0..<(isTwice ? 2 : 1)).map { _ in
            now + wait + delay + .nanoseconds(Int64.random(in: 0...max(0, jitter.nanoseconds), using: &random))
        }
    }
}

/// A branch of the multicast tree: what is lost on it is lost for all behind it, who lose more each for themselves by their
/// own link for the flow. Receivers on one hear a packet at the same time.
public struct Branch {
    /// From the source to where the branch's receivers are.
    public var link: Link
    /// Whoever was put on it.
    public internal(set) var receivers: [Int] = []

    /// A branch without receivers.
    public init(link: Link = Link()) { self.link = link }
}

/// The three ways between the source and one receiver.
public struct ReceiverLinks {
    /// From the receiver's connection to the source.
    public var toSource: Link
    /// From the source to the receiver's connection.
    public var fromSource: Link
    /// The receiver's branch of the multicast tree.
    public var flow: Link

    /// Three usual links unless said otherwise.
    public init(toSource: Link = Link(), fromSource: Link = Link(), flow: Link = Link()) {
        self.toSource = toSource
        self.fromSource = fromSource
        self.flow = flow
    }
}
