import CShims
import Synchronization

/// The libraries that protect packets with AES-GCM. Whatever the choice, ChaCha20-Poly1305, header protection and TLS are
/// OpenSSL's, and packets are the same to the bit.
public enum AEADLibrary: UInt8, Sendable, CaseIterable {
    /// The one that TLS uses, and which is always there.
    case openSSL
    /// Intel's IPSec-MB, which is found when the program runs: the quicker one where it is installed.
    case ipsecMB

    /// Name and version as the library gives them itself; nil when it cannot be used here.
    public var name: String? {
        switch self {
        case .openSSL: return unsafe String(cString: fc_library_version())
        case .ipsecMB:
            guard let name = unsafe fc_ipsec_mb() else { return nil }
            return unsafe String(cString: name)
        }
    }

    /// Why the library has no `name`.
    public var reason: String { self == .openSSL ? "" : unsafe String(cString: fc_ipsec_mb_reason()) }

    /// What keys that are made from now on are made with, in all threads; OpenSSL in the beginning.
    public static var preferred: AEADLibrary {
        get { AEADLibrary(rawValue: choice.load(ordering: .relaxed)) ?? .openSSL }
        set { choice.store(newValue.rawValue, ordering: .relaxed) }
    }

    private static let choice = Atomic<UInt8>(AEADLibrary.openSSL.rawValue)
}
