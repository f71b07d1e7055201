import CCommit
import Cryptography
import Reactor

/// What `flexicast --version` prints: the program, what it was built from, and what it stands on here and now.
enum Version {
    /// By semantic versioning; a version not released yet ends in "-dev".
    static let number = "0.1.0-dev"

    /// The commit's short name, with "+changes" behind it if files differed from it; "unknown" if the build was not told.
    static var commit: String { String(decoding: (0...).lazy.map(fc_commit_octet).prefix { $0 != 0 }, as: UTF8.self) }

    /// One line each, all but the first with a name before it.
    static var description: String {
        let openSSL = AEADLibrary.openSSL.name ?? ""
        let ipsecMB = AEADLibrary.ipsecMB
        return """
            flexicast \(number)
            commit    \(commit)
            TLS       \(openSSL)
            AES-GCM   \(ipsecMB.name ?? "\(openSSL) (no IPSec-MB: \(ipsecMB.reason))")
            I/O       \(backend)
            Swift     \(swift)
            """
    }

    /// Of the standard library that is loaded, which does not tell patches apart.
    private static var swift: String {
        _SwiftStdlibVersion.current.description.split(separator: ".").prefix(2).joined(separator: ".")
    }

    /// What `--io auto` takes on this machine, and why.
    private static var backend: String {
        do throws(ReactorError) {
            let reactor = try Reactor(io: .auto)
            defer { reactor.close() }
            return reactor.backendDescription
        } catch {
            return "none: \(error)"
        }
    }
}
