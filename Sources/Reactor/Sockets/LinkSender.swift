import CShims
import Glibc
import Wire

/// Puts multicast packets on a link as a router does, whatever their source is. Needs CAP_NET_RAW.
public final class LinkSender {
    /// Where packets are sent; as it was when this was made.
    public let interface: NetworkInterface
    private let descriptor: Int32
    /// Packets that the interface took.
    public private(set) var sent: UInt64 = 0
    /// Packets that the interface did not take.
    public private(set) var refused: UInt64 = 0

    /// - Parameter name: the interface's.
    /// - Throws: `ReactorError` without the privilege, or when there is no such interface.
    public init(interface name: String) throws(ReactorError) {
        let index = try NetworkInterface.index(of: name)
        guard let interface = try NetworkInterface.all().first(where: { $0.index == index }) else {
            throw ReactorError("interface", name, reason: "no such interface")
        }
        let fd = fcio_link_socket()
        guard fd >= 0 else {
            throw ReactorError(
                "packet socket", name, code: fd, advice: fd == -EPERM ? "run as root or with CAP_NET_RAW" : nil)
        }
        self.interface = interface
        descriptor = fd
    }

    deinit { Glibc.close(descriptor) }

    /// Sends `packet`, its IP header first, to the link address of its group.
    public func send(_ packet: Span<UInt8>) {
        let result = unsafe packet.withUnsafeBufferPointer { octets in
            unsafe octets.baseAddress.map { unsafe fcio_link_send(descriptor, interface.index, $0, octets.count) } ?? 0
        }
        if result < 0 { refused += 1 } else { sent += 1 }
    }
}
