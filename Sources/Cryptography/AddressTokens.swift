import CShims
import QUIC
import Wire

/// Makes and checks the tokens with which a client proves its address: those of Retry packets and those of NEW_TOKEN
/// frames (RFC 9000 section 8.1). A token is sealed with a key that nobody else knows and that changes each day; the
/// server remembers nothing but the secret that all its keys come from. A NEW_TOKEN token can be used more than once while it lives: it grants no more
/// than a lift of the limit on what an unvalidated address is sent.
public final class AddressTokens {
    /// What a token says about the Initial packet that carried it.
    public enum Verdict: Equatable, Sendable {
        /// The client answers our Retry. The connection IDs go into the transport parameters.
        case retry(originalDestination: ConnectionID, retrySource: ConnectionID)
        /// The client used this address with us before.
        case validated
        /// Our Retry token, but expired or from another address: close with INVALID_TOKEN (section 8.1.2).
        case refused
        /// Not one of ours, or an old NEW_TOKEN token: as if there were none.
        case unknown
    }

    /// How long a client may take to answer a Retry.
    public static let retryLifetime: Duration = .seconds(10)
    /// How long a NEW_TOKEN token proves an address; also how long a sealing key is used.
    public static let lifetime: Duration = .seconds(24 * 3600)

    private struct Key {
        /// Days since 1970, of which the last octet is the first one of each token sealed with it.
        var day: Int64
        var sealing: PacketCipher
        var opening: PacketCipher

        init(day: Int64, secret: [UInt8]) {
            self.day = day
            let key = HKDF.expandLabel(.sha256, secret: secret, "token key \(day)", length: 16)
            let iv = HKDF.expandLabel(.sha256, secret: secret, "token iv \(day)", length: 12)
            sealing = PacketCipher(.aes128GCM, key: key, iv: iv, sealing: true)
            opening = PacketCipher(.aes128GCM, key: key, iv: iv, sealing: false)
        }

        var number: UInt8 { UInt8(truncatingIfNeeded: day) }
    }

    /// Number of the key, path and packet number for the nonce.
    private static let prefixLength = 13
    private static let longest = 200

    private var random: SeededRandom
    private let secret: [UInt8]
    /// What is to be added to an instant to have the time since 1970.
    private let clock: Duration
    private var current: Key
    private var previous: Key

    /// - Parameters:
    ///   - secret: what all keys come from, of nobody else's use: with it, tokens of a run before this one are known here.
    ///     Nil makes one.
    ///   - wallClock: the time of day at `now`, since 1970.
    ///   - random: for a secret, and for what makes tokens different.
    ///   - now: when it begins.
    public init(secret: [UInt8]? = nil, wallClock: Duration = .zero, random: consuming SeededRandom, at now: Instant) {
        precondition(secret.map { $0.count >= 16 } ?? true)
        self.secret = secret ?? random.octets(32)
        clock = wallClock - .nanoseconds(now.nanoseconds)
        let day = Self.day(of: wallClock)
        current = Key(day: day, secret: self.secret)
        previous = Key(day: day - 1, secret: self.secret)
        self.random = random
    }

    private static func day(of time: Duration) -> Int64 { time.components.seconds / lifetime.components.seconds }

    /// Since 1970.
    private func time(at now: Instant) -> Int64 { (clock + .nanoseconds(now.nanoseconds)).nanoseconds }

    /// The token for a Retry packet sent to `client`.
    public func retryToken(
        client: SocketAddress, originalDestination: ConnectionID, retrySource: ConnectionID, at now: Instant
    ) -> [UInt8] {
        seal(at: now) { writer in
            writer.uint8(0)
            writer.uint64(UInt64(bitPattern: time(at: now)))
            writer.address(client.address)
            writer.uint16(client.port)
            for id in [originalDestination, retrySource] {
                writer.uint8(UInt8(id.count))
                writer.octets(id.octets.span)
            }
        }
    }

    /// The token for a NEW_TOKEN frame sent to `client`. It holds for any port. Sealed under a nonce of its own, it is like no
    /// other and tells nobody else whose it is (RFC 9000 section 8.1.3).
    public func newToken(client: IPAddress, at now: Instant) -> [UInt8] {
        seal(at: now) { writer in
            writer.uint8(1)
            writer.uint64(UInt64(bitPattern: time(at: now)))
            writer.address(client)
        }
    }

    /// Judges the token of an Initial packet that came from `client`.
    public func check(_ token: Span<UInt8>, client: SocketAddress, at now: Instant) -> Verdict {
        // Sealed, of a kind that it says, for an address and a time (RFC 9000 sections 8.1.1 and 8.1.4).
        guard let plain = open(token, at: now) else { return .unknown }
        var reader = ByteReader(plain.span)
        guard let kind = reader.uint8(), let nanoseconds = reader.uint64(), let address = reader.address() else {
            return .unknown
        }
        let age = Duration.nanoseconds(time(at: now)) - .nanoseconds(Int64(bitPattern: nanoseconds))
        // A clock may be set back a little between two runs. From far ahead no token of ours can be.
        guard age >= .zero - Self.retryLifetime else { return .unknown }
        guard kind == 0 else {
            return age <= Self.lifetime && address == client.address ? .validated : .unknown
        }
        guard age <= Self.retryLifetime, let port = reader.uint16(), SocketAddress(address, port: port) == client,
            let original = reader.idWithLength(), let source = reader.idWithLength()
        else { return .refused }
        return .retry(originalDestination: original, retrySource: source)
    }

    private func rotate(at now: Instant) {
        let day = Self.day(of: .nanoseconds(time(at: now)))
        guard day > current.day else { return }
        previous = day == current.day + 1 ? current : Key(day: day - 1, secret: secret)
        current = Key(day: day, secret: secret)
    }

    private func seal(at now: Instant, _ body: (inout ByteWriter) -> Void) -> [UInt8] {
        rotate(at: now)
        let path = UInt32(truncatingIfNeeded: random.next())
        let number = random.next()
        var token = [UInt8].written(capacity: Self.longest) { writer in
            writer.uint8(current.number)
            writer.uint32(path)
            writer.uint64(number)
            body(&writer)
            writer.zeros(CipherSuite.tagLength)
        }
        let packet = InlineArray<1, fc_packet>(repeating: Self.layout(token.count, number, path))
        var span = token.mutableSpan
        current.sealing.seal(&span, packet.span, mask: nil)
        return token
    }

    private func open(_ token: Span<UInt8>, at now: Instant) -> [UInt8]? {
        rotate(at: now)
        guard (Self.prefixLength + CipherSuite.tagLength...Self.longest).contains(token.count) else { return nil }
        var reader = ByteReader(token)
        guard let keyNumber = reader.uint8(), let path = reader.uint32(), let number = reader.uint64(),
            let key = keyNumber == current.number ? current : keyNumber == previous.number ? previous : nil
        else { return nil }
        var copy = [UInt8](token)
        var span = copy.mutableSpan
        guard key.opening.open(&span, Self.layout(token.count, number, path)) else { return nil }
        return Array(copy[Self.prefixLength..<(token.count - CipherSuite.tagLength)])
    }

    private static func layout(_ count: Int, _ number: UInt64, _ path: UInt32) -> fc_packet {
        fc_packet(
            start: 0, number_offset: 1, payload_offset: prefixLength, end: count, number: number, path: path, mask: 0)
    }
}

extension ByteWriter {
    @_lifetime(self: copy self)
    fileprivate mutating func address(_ address: IPAddress) {
        switch address {
        case .v4(let bits):
            uint8(4)
            uint32(bits)
        case .v6(let bits):
            uint8(6)
            uint64(UInt64(truncatingIfNeeded: bits >> 64))
            uint64(UInt64(truncatingIfNeeded: bits))
        }
    }
}

extension ByteReader {
    @_lifetime(self: copy self)
    fileprivate mutating func address() -> IPAddress? {
        guard let version = uint8() else { return nil }
        if version == 4 { return uint32().map { .v4($0) } }
        guard version == 6, let high = uint64(), let low = uint64() else { return nil }
        return .v6(UInt128(high) << 64 | UInt128(low))
    }

    @_lifetime(self: copy self)
    fileprivate mutating func idWithLength() -> ConnectionID? {
        guard let count = uint8(), let octets = take(Int(count)) else { return nil }
        return ConnectionID(octets)
    }
}
