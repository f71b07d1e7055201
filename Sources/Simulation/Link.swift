import Wire

/// One direction of a path: how long a datagram takes, and whether it arrives.
public struct Link: Sendable {
    public var delay: Duration
    /// Up to this much more, drawn for each datagram: enough of it, and datagrams overtake each other.
    public var jitter: Duration
    /// The probability that a datagram is lost.
    public var loss: Double
    /// The probability that it arrives twice.
    public var duplication: Double
    public var isCut = false

    public private(set) var carried: UInt64 = 0
    public private(set) var dropped: UInt64 = 0

    public init(
        delay: Duration = .milliseconds(10), jitter: Duration = .microseconds(200), loss: Double = 0,
        duplication: Double = 0
    ) {
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.duplication = duplication
    }

    /// The times at which copies of a datagram sent now arrive.
    mutating func arrivals(at now: Instant, random: inout SeededRandom) -> [Instant] {
        carried += 1
        guard !isCut, loss == 0 || Double.random(in: 0..<1, using: &random) >= loss else {
            dropped += 1
            return []
        }
        let isTwice = duplication > 0 && Double.random(in: 0..<1, using: &random) < duplication
        return (0..<(isTwice ? 2 : 1)).map { _ in
            now + delay + .nanoseconds(Int64.random(in: 0...max(0, jitter.nanoseconds), using: &random))
        }
    }
}

/// The three ways between the source and one receiver.
public struct ReceiverLinks: Sendable {
    public var toSource: Link
    public var fromSource: Link
    /// The receiver's branch of the multicast tree.
    public var flow: Link

    public init(toSource: Link = Link(), fromSource: Link = Link(), flow: Link = Link()) {
        self.toSource = toSource
        self.fromSource = fromSource
        self.flow = flow
    }
}
