import CShims
import QUIC
import Wire

/// Whether two strings of octets are the same, in time that depends on their lengths alone.
public func constantTimeEquals(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    guard a.count > 0 else { return true }
    return unsafe a.withUnsafeBufferPointer { a in
        unsafe b.withUnsafeBufferPointer { b in
            unsafe fc_equal(a.baseAddress, b.baseAddress, a.count) != 0
        }
    }
}

/// A generator seeded by the operating system, for a machine in production.
public func randomSeed() -> SeededRandom {
    var system = SystemRandomNumberGenerator()
    return SeededRandom(from: &system)
}

/// A static key that turns every connection ID into its stateless reset token, so that the tokens need no memory
/// (RFC 9000 section 10.3.2).
public struct StatelessResetKey: Sendable {
    private let key: [UInt8]

    /// `key`: at least 16 secret octets, kept over a restart if resets shall work after it.
    public init(key: [UInt8]) {
        precondition(key.count >= 16)
        self.key = key
    }

    /// A key of 32 octets from `random`, which must be a secret generator: resets for connections before a restart do not work.
    public init(from random: inout SeededRandom) { self.init(key: random.octets(32)) }

    /// The 16-octet token of `id`.
    public func token(for id: ConnectionID) -> [UInt8] {
        Array(HKDF.authenticate(.sha256, key: key, id.octets).prefix(Self.tokenLength))
    }

    /// Octets of a token.
    public static let tokenLength = 16
}

/// Stateless Reset packets (RFC 9000 section 10.3).
public enum StatelessReset {
    /// The shortest that can pass for a packet: five octets that look random and the token.
    public static let minimumLength = 21

    /// Whether a packet of `received` octets is large enough to be answered.
    static func answers(_ received: Int) -> Bool { received > minimumLength }

    /// The answer to a short-header packet of `received` octets for a connection ID we do not know, or nil when it is
    /// too small to be answered: a reset is always shorter than its cause, so that two endpoints cannot keep
    /// resetting each other (RFC 9000 section 10.3.3).
    public static func packet(answering received: Int, token: [UInt8], random: inout SeededRandom) -> [UInt8]? {
        guard answers(received) else { return nil }
        let length = min(received - 1, 42)
        var packet = random.octets(length - token.count)
        packet[0] = packet[0] & 0x3f | 0x40
        return packet + token
    }

    /// Whether a datagram ends with one of the peer's `tokens`.
    public static func isReset(_ datagram: Span<UInt8>, tokens: [[UInt8]]) -> Bool {
        guard datagram.count >= minimumLength else { return false }
        let tail = datagram.extracting((datagram.count - StatelessResetKey.tokenLength)..<datagram.count)
        // Every token is compared, so that the time tells nothing (RFC 9000 section 10.3.1).
        return tokens.reduce(false) { found, token in constantTimeEquals(token.span, tail) || found }
    }
}
