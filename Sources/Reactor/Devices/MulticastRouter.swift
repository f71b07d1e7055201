import CShims
import Glibc
import Wire

/// The kernel's IPv4 multicast forwarding between two interfaces of this host (RFC 1112; `ip mroute` shows it). The
/// kernel forwards what has a route, and only as long as this value lives. Needs CAP_NET_ADMIN.
public final class MulticastRouter {
    private static let upstreamNumber: UInt16 = 0
    private static let downstreamNumber: UInt16 = 1
    /// Where hosts send their IGMPv3 reports (RFC 9776 section 4.2.14).
    private static let reports = IPAddress.v4(0xe000_0016)

    private let descriptor: Int32

    /// - Parameters:
    ///   - upstream: Name of the interface that packets come in by.
    ///   - downstream: Name of the interface that they leave by, and that reports are heard on.
    /// - Throws: `ReactorError` without the privilege, when there is a multicast router already, or for a name that is
    ///   no interface's.
    public init(upstream: String, downstream: String) throws(ReactorError) {
        let interfaces = try [upstream, downstream].map { name throws(ReactorError) in
            try NetworkInterface.index(of: name)
        }
        descriptor = fcio_mroute_socket()
        guard descriptor >= 0 else {
            let advice: String? =
                switch -descriptor {
                case EPERM: "run as root or with CAP_NET_ADMIN"
                case EADDRINUSE: "another multicast router runs here"
                default: nil
                }
            throw ReactorError("multicast routing", "IPv4", code: descriptor, advice: advice)
        }
        for (number, interface) in zip([Self.upstreamNumber, Self.downstreamNumber], interfaces) {
            let code = fcio_mroute_interface(descriptor, number, interface)
            guard code >= 0 else { throw ReactorError("multicast routing", "interface \(interface)", code: code) }
        }
        let code = fcio_membership(
            descriptor, true, fcio_address(Self.reports, scope: interfaces[1]), fcio_address(), interfaces[1])
        guard code >= 0 else { throw ReactorError("join", "\(Self.reports) on \(downstream)", code: code) }
    }

    deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

    /// Forwards packets of `source` to `group` from now on, or no longer. Both are IPv4 addresses.
    /// - Throws: `ReactorError` when the kernel refuses.
    public func setForwarding(_ isOn: Bool, from source: IPAddress, to group: IPAddress) throws(ReactorError) {
        guard case .v4(let from) = source, case .v4(let to) = group else {
            throw ReactorError("multicast route", "\(source)@\(group)", reason: "only IPv4 is routed")
        }
        let code = fcio_mroute_route(descriptor, isOn, from, to, Self.upstreamNumber, Self.downstreamNumber)
        guard code >= 0 else { throw ReactorError("multicast route", "\(source)@\(group)", code: code) }
    }

    /// Runs `handler` with each IGMP message, its IP header first, that hosts of the downstream link send to the router.
    public func watchReports(on reactor: Reactor, _ handler: @escaping ([UInt8]) -> Void) throws(ReactorError) {
        try reactor.watchPackets(descriptor, closing: false, handler)
    }
}
