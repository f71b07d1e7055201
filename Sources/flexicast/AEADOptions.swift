import ArgumentParser
import Cryptography

/// `--aead`, for every command that seals and opens packets. What it says holds as soon as the command line is read.
struct AEADOptions: ParsableArguments {
    enum Choice: String, CaseIterable, ExpressibleByArgument {
        case auto
        case openSSL = "openssl"
        case ipsecMB = "ipsec-mb"
    }

    @Option(
        help: ArgumentHelp(
            "Library for AES-GCM: auto (IPSec-MB if it is installed), openssl or ipsec-mb.", valueName: "library"))
    var aead = Choice.auto

    func validate() throws {
        let ipsecMB = AEADLibrary.ipsecMB
        if aead == .ipsecMB, ipsecMB.name == nil {
            throw ValidationError("--aead ipsec-mb: \(ipsecMB.reason); --aead openssl always works")
        }
        AEADLibrary.preferred = aead == .openSSL || ipsecMB.name == nil ? .openSSL : ipsecMB
    }
}
