/// PEM files.
public struct CertificateFiles: Sendable {
    public var certificate: String
    public var key: String

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
    /// Any certificate: whoever answers is believed.
    case anyone
}
