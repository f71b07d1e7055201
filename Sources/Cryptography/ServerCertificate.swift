import CShims
import Wire

/// What a certificate is known by: SHA-256 of its DER form.
public struct CertificateFingerprint: Hashable, Sendable, CustomStringConvertible {
    /// 32 octets.
    public let octets: [UInt8]

    init(octets: [UInt8]) { self.octets = octets }

    /// Reads `sha256/` and 64 hexadecimal digits, which may be in pairs with colons between them, as `openssl x509
    /// -fingerprint -sha256` prints them.
    public init?(_ text: some StringProtocol) {
        guard text.lowercased().hasPrefix("sha256/") else { return nil }
        let digits = text.utf8.dropFirst(7)
        let hasColons = digits.contains(0x3a)
        guard digits.count == (hasColons ? 95 : 64) else { return nil }
        var octets: [UInt8] = []
        var rest = digits[...]
        while let high = rest.popFirst(), let low = rest.popFirst() {
            guard let octet = Self.octet(high, low) else { return nil }
            octets.append(octet)
            if hasColons, let colon = rest.popFirst(), colon != 0x3a { return nil }
        }
        guard octets.count == 32 else { return nil }
        self.octets = octets
    }

    private static func octet(_ high: UInt8, _ low: UInt8) -> UInt8? {
        func value(_ digit: UInt8) -> UInt8? {
            switch digit {
            case 0x30...0x39: digit - 0x30
            case 0x41...0x46: digit - 0x41 + 10
            case 0x61...0x66: digit - 0x61 + 10
            default: nil
            }
        }
        guard let high = value(high), let low = value(low) else { return nil }
        return high << 4 | low
    }

    /// `sha256/` and 64 lower-case hexadecimal digits.
    public var description: String { "sha256/" + octets.hexadecimal }
}

/// What a server's certificate says about itself.
public struct CertificateFacts: Equatable, Sendable {
    /// What receivers can pin it by.
    public var fingerprint: CertificateFingerprint
    /// Seconds since the beginning of 1970, UTC, from which on it is valid.
    public var validFrom: Int64
    /// Seconds since the beginning of 1970, UTC, from which on it is not valid any more.
    public var validUntil: Int64
}

/// A certificate and its private key, as text that files of the usual form hold.
public struct CertificatePEM: Sendable {
    /// The certificate.
    public var certificate: String
    /// Its private key: a secret.
    public var key: String

    /// How long a certificate that nobody else vouches for is valid: it is trusted for what it is, by its file or its
    /// fingerprint, and running out would only lock out those that do.
    public static let days = 3650

    /// A new P-256 key and a certificate signed with it.
    ///
    /// - Parameters:
    ///   - names: the host names and IP addresses that it is for.
    ///   - days: how long it is valid from now.
    /// - Throws: when a name is neither, or there is none.
    public init(selfSignedFor names: [String], days: Int = Self.days) throws(TLSConfigurationError) {
        let allowed = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*")
        var alternatives: [String] = []
        for name in names {
            if let address = IPAddress(name) {
                alternatives.append("IP:\(address)")
            } else if !name.isEmpty, name.allSatisfy(allowed.contains) {
                alternatives.append("DNS:\(name)")
            } else {
                throw TLSConfigurationError("\"\(name)\" is neither a host name nor an IP address")
            }
        }
        guard !alternatives.isEmpty else { throw TLSConfigurationError("a certificate needs at least one name") }
        let list = alternatives.joined(separator: ",")
        var certificate = [CChar](repeating: 0, count: Int(FC_CERTIFICATE_TEXT))
        var key = certificate
        var reason = [CChar](repeating: 0, count: Int(FC_TLS_TEXT))
        guard unsafe fc_certificate_make(list, Int32(days), &certificate, &key, &reason) == 0 else {
            throw TLSConfigurationError("cannot make a certificate for \(list): \(TLSContext.string(reason))")
        }
        self.certificate = TLSContext.string(certificate)
        self.key = TLSContext.string(key)
    }
}
