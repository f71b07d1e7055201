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
    /// Any certificate: whoever answers is believed.
    case anyone
}
