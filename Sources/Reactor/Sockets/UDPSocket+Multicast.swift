import CShims
import Glibc
import Wire

extension UDPSocket {
    /// Joins `group`: from any source, or source-specifically (RFC 4607) when `source` is given. The kernel then sends
    /// the IGMPv3 or MLDv2 report. The socket gets only the groups it has joined itself.
    ///
    /// A socket may be in 20 groups (`net.ipv4.igmp_max_memberships`) with 10 sources each (`net.ipv4.igmp_max_msf`).
    /// `interface`: the name of the interface to join on; nil takes the one that routes to the group.
    /// - Throws: `ReactorError` when there is no such interface or route, the group is joined already, or the
    ///   socket is in too many.
    public func join(
        group: IPAddress, source: IPAddress? = nil, interface: String? = nil
    ) throws(ReactorError) {
        try membership(true, group: group, source: source, interface: interface)
    }

    /// Leaves `group`; the arguments must be those of the join.
    public func leave(
        group: IPAddress, source: IPAddress? = nil, interface: String? = nil
    ) throws(ReactorError) {
        try membership(false, group: group, source: source, interface: interface)
    }

    private func membership(
        _ join: Bool, group: IPAddress, source: IPAddress?, interface: String?
    ) throws(ReactorError) {
        let call = join ? "join" : "leave"
        var subject = source.map { "\($0)@\(group)" } ?? "\(group)"
        if let interface { subject += " on \(interface)" }
        guard isOpen else { throw ReactorError(call, subject, reason: "the socket is closed") }
        guard group.isMulticast else {
            throw ReactorError(
                call, subject, reason: "not a multicast address", advice: "groups lie in 224.0.0.0/4 or ff00::/8")
        }
        if let source, source.isIPv4 != group.isIPv4 {
            throw ReactorError(call, subject, reason: "source and group are of different IP versions")
        }
        let index: UInt32 = if let interface { try NetworkInterface.index(of: interface) } else { 0 }
        let code = fcio_membership(
            descriptor, join, fcio_address(group, scope: index), source.map { fcio_address($0) } ?? fcio_address(),
            index)
        guard code < 0 else { return }
        let advice: String? =
            switch (-code, join) {
            case (ENODEV, _) where interface == nil: "no route leads to the group: name an interface"
            case (ENODEV, _): "the interface cannot multicast: see `ip link`"
            case (ENOBUFS, true): "a socket takes 20 groups (net.ipv4.igmp_max_memberships): use another socket"
            case (EADDRINUSE, true): "it is joined already"
            case (EADDRNOTAVAIL, true): "it is joined already"
            case (EADDRNOTAVAIL, false), (EINVAL, false): "it was not joined that way"
            default: nil
            }
        throw ReactorError(call, subject, code: code, advice: advice)
    }
}
