import CShims
import QUIC

/// The key derivation of TLS 1.3 and QUIC (RFC 5869, RFC 8446 section 7.1) with SHA-256 or SHA-384.
enum HKDF {
    enum Hash {
        case sha256, sha384

        var length: Int { self == .sha256 ? 32 : 48 }
    }

    static func authenticate(_ hash: Hash, key: [UInt8], _ data: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: hash.length)
        let result = unsafe fc_hmac(
            hash == .sha384 ? 1 : 0, key, key.count, data, data.count, &out)
        precondition(result == 0, "OpenSSL refused an HMAC")
        return out
    }

    static func extract(_ hash: Hash, salt: [UInt8], _ input: [UInt8]) -> [UInt8] {
        authenticate(hash, key: salt, input)
    }

    static func digest(_ hash: Hash, _ data: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: hash.length)
        let result =
            switch hash {
            case .sha256: unsafe fc_sha256(data, data.count, &out)
            case .sha384: unsafe fc_sha384(data, data.count, &out)
            }
        precondition(result == 0, "OpenSSL refused a digest")
        return out
    }

    /// HKDF-Expand-Label. `length` is at most one output of the hash, which is all that QUIC ever asks for.
    static func expandLabel(
        _ hash: Hash, secret: [UInt8], _ label: String, context: [UInt8] = [], length: Int
    ) -> [UInt8] {
        precondition(length <= hash.length)
        let name = "tls13 " + label
        var info: [UInt8] = [UInt8(length >> 8), UInt8(length & 0xff), UInt8(name.utf8.count)]
        info.append(contentsOf: name.utf8)
        info.append(UInt8(context.count))
        info += context
        // HKDF-Expand's counter of its first and only block.
        info.append(1)
        return Array(authenticate(hash, key: secret, info).prefix(length))
    }
}

extension CipherSuite {
    var hash: HKDF.Hash { self == .aes256GCM ? .sha384 : .sha256 }

    /// Octets of the packet key and of the header protection key.
    var keyLength: Int { fc_key_length(rawValue) }
}
