import Wire

/// SipHash-2-4 (Aumasson and Bernstein 2012): a keyed hash of short inputs that nobody without the key can predict.
/// A relay answers every Request with one, for anybody who asks, so that it must be cheap.
public struct SipHash: Sendable {
    private let key: (UInt64, UInt64)

    /// - Parameter key: 16 octets as two words in little-endian order.
    public init(key: (UInt64, UInt64)) { self.key = key }

    /// The hash of 64-bit `words`, each as eight octets in little-endian order.
    public func hash(_ words: InlineArray<4, UInt64>) -> UInt64 {
        var state = State(key: key)
        for index in words.indices { state.absorb(words[index]) }
        state.absorb(32 << 56)
        return state.finish()
    }

    /// The hash of `octets`.
    public func hash(_ octets: Span<UInt8>) -> UInt64 {
        var state = State(key: key)
        var word: UInt64 = 0
        for index in octets.indices {
            word |= UInt64(octets[index]) << UInt64(8 * (index & 7))
            if index & 7 == 7 {
                state.absorb(word)
                word = 0
            }
        }
        state.absorb(word | UInt64(octets.count & 255) << 56)
        return state.finish()
    }

    private struct State {
        var v0, v1, v2, v3: UInt64

        init(key: (UInt64, UInt64)) {
            v0 = key.0 ^ 0x736f_6d65_7073_6575
            v1 = key.1 ^ 0x646f_7261_6e64_6f6d
            v2 = key.0 ^ 0x6c79_6765_6e65_7261
            v3 = key.1 ^ 0x7465_6462_7974_6573
        }

        mutating func absorb(_ word: UInt64) {
            v3 ^= word
            round()
            round()
            v0 ^= word
        }

        mutating func finish() -> UInt64 {
            v2 ^= 0xff
            for _ in 0..<4 { round() }
            return v0 ^ v1 ^ v2 ^ v3
        }

        private mutating func round() {
            v0 &+= v1
            v2 &+= v3
            v1 = rotate(v1, 13) ^ v0
            v3 = rotate(v3, 16) ^ v2
            v0 = rotate(v0, 32)
            v2 &+= v1
            v0 &+= v3
            v1 = rotate(v1, 17) ^ v2
            v3 = rotate(v3, 21) ^ v0
            v2 = rotate(v2, 32)
        }

        private func rotate(_ value: UInt64, _ by: UInt64) -> UInt64 { value << by | value >> (64 - by) }
    }
}
