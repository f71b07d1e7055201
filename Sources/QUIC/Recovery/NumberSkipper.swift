import Wire

/// Leaves a packet number out now and then, so that a peer that acknowledges what it has not received gives itself away
/// (RFC 9000 section 21.4). The gaps grow: each costs the peer one more range to report.
struct NumberSkipper: Sendable {
    /// Skipped numbers that are remembered.
    static let memory = 4

    private var random: SeededRandom?
    private var exponent: UInt64 = 6
    private var nextSkip: UInt64 = .max
    private var recent = InlineArray<4, UInt64>(repeating: .max)
    private var skips = 0

    /// Without `random` nothing is ever skipped.
    init(random: SeededRandom?) {
        self.random = random
        draw(after: 0)
    }

    /// The number to use after `packetNumber`.
    mutating func successor(of packetNumber: UInt64) -> UInt64 {
        let next = packetNumber + 1
        guard next == nextSkip else { return next }
        recent[skips % Self.memory] = next
        skips += 1
        draw(after: next)
        return next + 1
    }

    /// How many numbers from `packetNumber` on, which is not left out, follow each other.
    func consecutive(from packetNumber: UInt64) -> UInt64 { nextSkip - packetNumber }

    /// Whether `range` holds a number that was never used.
    func isSkipped(in range: ClosedRange<UInt64>) -> Bool {
        for index in 0..<Self.memory where range.contains(recent[index]) { return true }
        return false
    }

    private mutating func draw(after packetNumber: UInt64) {
        guard let bits = random?.next() else { return }
        let span: UInt64 = 1 << exponent
        nextSkip = packetNumber + span / 2 + bits % span
        exponent = min(exponent + 1, 20)
    }
}
