/// The libraries that do the cryptography, with their versions as they say them themselves: OpenSSL, and if AES-GCM is another
/// one's, that one first.
public var cryptographyLibrary: String {
    let openSSL = AEADLibrary.openSSL.name ?? ""
    guard AEADLibrary.preferred == .ipsecMB, let other = AEADLibrary.ipsecMB.name else { return openSSL }
    return "AES-GCM by \(other); \(openSSL)"
}
