/// PEM files.
package struct CertificateFiles: Sendable {
    package var certificate: String
    package var key: String

    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// Which certificates a receiver accepts.
package enum TrustChoice: Hashable, Sendable {
    /// The system's certification authorities.
    case system
    /// The certificates in this PEM file, and no others.
    case file(String)
    /// Any certificate: whoever answers is believed.
    case anyone
}
