import Cryptography
import QUIC

/// A certificate in PEM files.
public struct CertificateFiles: Sendable {
    /// Path of the chain: the certificate, then those that signed it.
    public var certificate: String
    /// Path of the certificate's private key.
    public var key: String

    /// Of a chain and its key. The files are read when they are used.
    public init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// Which certificates a receiver accepts.
public enum TrustChoice: Hashable, Sendable {
    /// The system's certification authorities.
    case system
    /// The certificates in this PEM file, and no others.
    case file(String)
    /// A source that has one of these certificates, whatever name and dates are in it.
    case pinned([CertificateFingerprint])
    /// Any certificate: whoever answers is believed.
    case anyone
}

extension TransportError {
    /// We did not accept the peer's certificate: the alerts of RFC 8446 section 6.2 that say so, from bad_certificate (42) to
    /// certificate_unknown (46), and unknown_ca (48).
    var isOfCertificate: Bool {
        (0x12a...0x12e).contains(code.rawValue) || code.rawValue == 0x130
    }
}
