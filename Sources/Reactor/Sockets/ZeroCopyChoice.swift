import Wire

/// Whether a socket sends straight from its arena, which io_uring can (IORING_OP_SEND_ZC), or lets the kernel copy.
public enum ZeroCopyMode: String, Sendable, CaseIterable {
    /// What turns out cheaper, measured at first and again every ten seconds.
    case auto
    /// Without a copy wherever that works, whatever it costs.
    case on
    /// The kernel copies what is sent.
    case off
}

/// Chooses the cheaper way to send by trying both in turns. A pure value: the socket measures.
///
/// Whether a copy is saved at all depends on the way that packets take: an interface without segmentation offload and
/// one whose packets come back to this host copy all the same, and then the notifications are extra work.
struct ZeroCopyChoice {
    enum Way: Sendable { case copy, zeroCopy }

    /// Sends of each way in one trial; the medians are compared.
    static let samples = 16
    /// A send of fewer octets tells little.
    static let leastOctets = 32_768
    static let interval = Duration.seconds(10)
    /// What has to be saved for the choice to fall on it.
    static let least = 0.95

    private(set) var mode: ZeroCopyMode
    /// The way outside of trials.
    private(set) var way: Way
    /// One line for people: what was chosen and why.
    private(set) var reason: String
    private var costs: (copy: SortedSamples, zeroCopy: SortedSamples) = (.init(), .init())
    private var copied = 0
    private var returned = 0
    private var left: Int
    private var due = Instant(nanoseconds: 0)

    init(_ mode: ZeroCopyMode) {
        self.mode = mode
        way = mode == .on ? .zeroCopy : .copy
        left = mode == .auto ? 2 * Self.samples : 0
        reason =
            switch mode {
            case .auto: "to be measured at work"
            case .on: "on, as asked"
            case .off: "off, as asked"
            }
    }

    /// How to send the next `octets`, and whether to say what it cost.
    mutating func next(octets: Int, at now: Instant) -> (way: Way, isMeasured: Bool) {
        if mode != .off, left == 0, now >= due {
            if mode == .on { way = .zeroCopy } else { beginTrial() }
        }
        guard left > 0, octets >= Self.leastOctets else { return (way, false) }
        return (left % 2 == 0 ? .copy : .zeroCopy, true)
    }

    private mutating func beginTrial() {
        left = 2 * Self.samples
        costs = (.init(), .init())
        copied = 0
        returned = 0
    }

    /// A send that `next` wanted measured took so much of the thread's time.
    mutating func measured(_ way: Way, nanoseconds: Int64, octets: Int, at now: Instant) {
        guard left > 0, octets > 0 else { return }
        let cost = Double(nanoseconds) / Double(octets)
        if way == .copy { costs.copy.insert(cost) } else { costs.zeroCopy.insert(cost) }
        left -= 1
        if left == 0 { decide(at: now) }
    }

    /// The kernel has given back as many sends, and had copied as many of them.
    mutating func gaveBack(_ count: Int, copied: Int) {
        returned += count
        self.copied += copied
    }

    private mutating func decide(at now: Instant) {
        due = now + Self.interval
        let copy = costs.copy.median
        let without = costs.zeroCopy.median
        let isCopied = copied * 2 > returned
        way = without < copy * Self.least && !isCopied ? .zeroCopy : .copy
        let figures = "\(Self.perPacket(without)) ns per 1200 octets without a copy, \(Self.perPacket(copy)) with"
        reason = (way == .zeroCopy ? "on: " : "off: ") + figures
        if isCopied { reason += "; the kernel copies all the same on this way" }
    }

    private static func perPacket(_ cost: Double) -> Int { Int((min(cost, 1e6) * 1200).rounded()) }

    /// Sending without a copy does not work now: not for the next ten seconds.
    mutating func failed(_ what: String, at now: Instant) {
        way = .copy
        left = 0
        due = now + Self.interval
        reason = "off: \(what)"
    }

    /// Sending without a copy will not work again.
    mutating func end(_ what: String) {
        mode = .off
        way = .copy
        left = 0
        reason = "off: \(what)"
    }
}

/// The costs of one way, in order. Room for all of them is there from the start.
private struct SortedSamples {
    private var values = InlineArray<16, Double>(repeating: 0)
    private var count = 0

    init() {}

    var median: Double { count == 0 ? 0 : values[count / 2] }

    mutating func insert(_ value: Double) {
        guard count < values.count else { return }
        var place = count
        while place > 0, values[place - 1] > value {
            values[place] = values[place - 1]
            place -= 1
        }
        values[place] = value
        count += 1
    }
}
