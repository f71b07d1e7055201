import CShims
import Glibc
import Wire

/// A network interface of this host that shows what this process writes (TUN): whole IP packets arrive on it as if from
/// a link. Needs CAP_NET_ADMIN. It is gone when the value is.
public final class TunnelDevice {
    /// The interface's name, 1 to 15 octets.
    public let name: String
    private let descriptor: Int32
    /// Packets that the interface did not take.
    public private(set) var refused: UInt64 = 0

    /// Makes the interface `name`, at most 15 octets, and brings it up.
    /// - Throws: `ReactorError` without the privilege, or when the name is taken.
    public init(name: String) throws(ReactorError) {
        guard (1...15).contains(name.utf8.count) else {
            throw ReactorError("tun", name, reason: "no name of an interface", advice: "1 to 15 octets will do")
        }
        let fd = unsafe fcio_tun(name)
        guard fd >= 0 else {
            let advice: String? =
                switch -fd {
                case EPERM, EACCES: "run as root or with CAP_NET_ADMIN"
                case EBUSY, EINVAL: "the name may be taken: see `ip link`"
                case ENOENT: "this machine has no /dev/net/tun"
                default: nil
                }
            throw ReactorError("tun", name, code: fd, advice: advice)
        }
        self.name = name
        descriptor = fd
    }

    deinit { Glibc.close(descriptor) }

    /// Has `packet`, its IP header first, arrive on the interface.
    public func write(_ packet: Span<UInt8>) {
        let result = unsafe packet.withUnsafeBufferPointer { octets in
            unsafe octets.baseAddress.map { unsafe fcio_write_packet(descriptor, $0, octets.count) } ?? 0
        }
        if result < 0 { refused += 1 }
    }
}
