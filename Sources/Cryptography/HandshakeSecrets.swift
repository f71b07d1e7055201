import CShims
import QUIC
import Wire

/// The traffic secrets of the handshake (RFC 8446 section 7.1).
///
/// OpenSSL 3.0 announces the client's with the server's whole flight, where QUIC needs it as soon as the server's hello is there, so
/// that Handshake packets can be acknowledged (RFC 9002 section 6.2.2.1): a long flight would not end otherwise, as an
/// address that is not proven is sent three times its octets at the most (RFC 9000 section 8.1).
struct HandshakeSecrets: Equatable {
    var client: [UInt8]
    var server: [UInt8]

    /// - Parameters:
    ///   - suite: that both ends agreed on.
    ///   - shared: what the key exchange has agreed on.
    ///   - psk: of the session that is resumed; empty without one.
    ///   - hellos: all handshake messages from the client's first to the server's last hello, in order.
    /// - Returns: nil when these are not two or, with a HelloRetryRequest, four messages.
    init?(_ suite: CipherSuite, shared: [UInt8], psk: [UInt8], hellos: [UInt8]) {
        let hash = suite.hash
        guard let transcript = Self.transcript(hash, hellos) else { return nil }
        let none = [UInt8](repeating: 0, count: hash.length)
        let early = HKDF.extract(hash, salt: none, psk.isEmpty ? none : psk)
        let derived = HKDF.expandLabel(
            hash, secret: early, "derived", context: HKDF.digest(hash, []), length: hash.length)
        let handshake = HKDF.extract(hash, salt: derived, shared)
        client = HKDF.expandLabel(hash, secret: handshake, "c hs traffic", context: transcript, length: hash.length)
        server = HKDF.expandLabel(hash, secret: handshake, "s hs traffic", context: transcript, length: hash.length)
    }

    /// The transcript hash (RFC 8446 section 4.4.1).
    private static func transcript(_ hash: HKDF.Hash, _ hellos: [UInt8]) -> [UInt8]? {
        var count = 0
        var end = 0
        var first = 0
        while end < hellos.count {
            guard hellos.count - end >= 4 else { return nil }
            end += 4 + (Int(hellos[end + 1]) << 16 | Int(hellos[end + 2]) << 8 | Int(hellos[end + 3]))
            count += 1
            if count == 1 { first = end }
        }
        guard end == hellos.count else { return nil }
        switch count {
        case 2: return HKDF.digest(hash, hellos)
        case 4:
            // Of a hello that was asked for again its digest is left.
            let digest = HKDF.digest(hash, Array(hellos[..<first]))
            return HKDF.digest(hash, [254, 0, 0, UInt8(digest.count)] + digest + hellos[first...])
        default: return nil
        }
    }
}
