/// Which end of the connection this is.
public enum Role: Sendable, Equatable {
    /// The end that connected. It opens streams of even numbers (RFC 9000 section 2.1).
    case client
    /// The end that was connected to. It opens streams of odd numbers.
    case server

    /// The other end's.
    public var peer: Role { self == .client ? .server : .client }
}

/// A packet number space, with its keys (RFC 9000 section 12.3, RFC 9001 section 2.1). 0-RTT is not spoken here: the
/// TLS library underneath cannot leave out EndOfEarlyData.
public enum ProtectionLevel: Int, CaseIterable, Comparable, Sendable {
    /// Initial packets, whose keys come from the client's first destination ID: no secret (RFC 9001 section 5.2).
    case initial = 0
    /// Handshake packets.
    case handshake = 1
    /// 1-RTT.
    case application = 2

    public static func < (a: ProtectionLevel, b: ProtectionLevel) -> Bool { a.rawValue < b.rawValue }
}

/// The TLS 1.3 cipher suites that QUIC packet protection uses here (RFC 9001 section 5.3). The raw value is the TLS code point.
public enum CipherSuite: UInt16, CaseIterable, Sendable {
    /// TLS_AES_128_GCM_SHA256.
    case aes128GCM = 0x1301
    /// TLS_AES_256_GCM_SHA384.
    case aes256GCM = 0x1302
    /// TLS_CHACHA20_POLY1305_SHA256.
    case chaCha20Poly1305 = 0x1303

    /// Octets of a traffic secret: the length of the suite's hash.
    public var secretLength: Int { self == .aes256GCM ? 48 : 32 }

    /// Packets that may be sealed with one key (RFC 9001 section 6.6).
    public var confidentialityLimit: UInt64 { self == .chaCha20Poly1305 ? 1 << 62 : 1 << 23 }

    /// Packets that may fail to open before the connection must end (RFC 9001 section 6.6).
    public var integrityLimit: UInt64 { self == .chaCha20Poly1305 ? 1 << 36 : 1 << 52 }

    /// Octets of the authentication tag, the same for all three.
    public static let tagLength = 16
}
