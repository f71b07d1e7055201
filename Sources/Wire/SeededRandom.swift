/// A deterministic generator of unpredictable bits: the ChaCha20 block function (RFC 8439 section 2.3) in counter
/// mode over a 256-bit seed. A machine is given its seed by the caller, who takes it from the operating system in
/// production and from a test's number in a simulation.
public struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: InlineArray<16, UInt32>
    private var block: InlineArray<16, UInt32>
    private var used = 16

    /// `seed` is the ChaCha20 key, four words of 64 bits.
    public init(seed: (UInt64, UInt64, UInt64, UInt64)) {
        state = InlineArray(repeating: 0)
        block = InlineArray(repeating: 0)
        state[0] = 0x6170_7865
        state[1] = 0x3320_646e
        state[2] = 0x7962_2d32
        state[3] = 0x6b20_6574
        for (index, word) in [seed.0, seed.1, seed.2, seed.3].enumerated() {
            state[4 + 2 * index] = UInt32(truncatingIfNeeded: word)
            state[5 + 2 * index] = UInt32(truncatingIfNeeded: word >> 32)
        }
    }

    /// A seed for tests and simulations, where 64 bits are enough.
    public init(seed: UInt64) { self.init(seed: (seed, 0, 0, 0)) }

    /// Takes its seed from `source`, for one the operating system's generator.
    public init(from source: inout some RandomNumberGenerator) {
        self.init(seed: (source.next(), source.next(), source.next(), source.next()))
    }

    /// The generator's next eight octets.
    public mutating func next() -> UInt64 {
        if used == 16 { refill() }
        defer { used += 2 }
        return UInt64(block[used]) | UInt64(block[used + 1]) << 32
    }

    /// `count` octets.
    public mutating func octets(_ count: Int) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(count)
        while out.count < count {
            var word = next()
            for _ in 0..<min(8, count - out.count) {
                out.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
            }
        }
        return out
    }

    private mutating func refill() {
        block = state
        for _ in 0..<10 {
            quarter(0, 4, 8, 12)
            quarter(1, 5, 9, 13)
            quarter(2, 6, 10, 14)
            quarter(3, 7, 11, 15)
            quarter(0, 5, 10, 15)
            quarter(1, 6, 11, 12)
            quarter(2, 7, 8, 13)
            quarter(3, 4, 9, 14)
        }
        for index in 0..<16 { block[index] &+= state[index] }
        state[12] &+= 1
        if state[12] == 0 { state[13] &+= 1 }
        used = 0
    }

    private mutating func quarter(_ a: Int, _ b: Int, _ c: Int, _ d: Int) {
        func rotate(_ value: UInt32, _ by: UInt32) -> UInt32 { value << by | value >> (32 - by) }
        block[a] &+= block[b]
        block[d] = rotate(block[d] ^ block[a], 16)
        block[c] &+= block[d]
        block[b] = rotate(block[b] ^ block[c], 12)
        block[a] &+= block[b]
        block[d] = rotate(block[d] ^ block[a], 8)
        block[c] &+= block[d]
        block[b] = rotate(block[b] ^ block[c], 7)
    }
}
