import CShims
import Glibc
import Wire

/// A network interface of this machine.
public struct NetworkInterface: Sendable, Hashable {
    /// The system's name for it, such as `eth0`; at most 15 octets.
    public var name: String
    /// The number that the system gave it, from 1; another interface may have it later.
    public var index: UInt32
    /// Largest IP packet in octets; 0 when unknown.
    public var mtu: Int
    /// Whether it was switched on (IFF_UP) when this was read.
    public var isUp: Bool
    /// Whether it leads to this host alone.
    public var isLoopback: Bool
    /// Whether multicast can be sent and joined on it.
    public var supportsMulticast: Bool
    /// Whether it has one other end only, as a tunnel has.
    var isPointToPoint: Bool
    /// All that it has, in the system's order, link-local ones too.
    public var addresses: [IPAddress]
    /// The bits that name the network, for each of `addresses`.
    public var masks: [IPAddress]

    /// Whether `address` is on this link by one of the interface's networks.
    public func reachesDirectly(_ address: IPAddress) -> Bool {
        zip(addresses, masks).contains { own, mask in
            switch (own, mask, address) {
            case (.v4(let own), .v4(let mask), .v4(let other)): mask != 0 && (own ^ other) & mask == 0
            case (.v6(let own), .v6(let mask), .v6(let other)): mask != 0 && (own ^ other) & mask == 0
            default: false
            }
        }
    }

    /// All interfaces of this network namespace, in the system's order.
    public static func all() throws(ReactorError) -> [NetworkInterface] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&list) == 0 else { throw ReactorError("getifaddrs", "", code: errno) }
        defer { unsafe freeifaddrs(list) }
        var found: [NetworkInterface] = []
        var entry = unsafe list
        while let each = unsafe entry?.pointee {
            unsafe entry = unsafe each.ifa_next
            let name = unsafe String(cString: each.ifa_name)
            let position: Int
            if let known = found.firstIndex(where: { $0.name == name }) {
                position = known
            } else {
                let flags = unsafe Int32(bitPattern: each.ifa_flags)
                let has = { (flag: Int) in flags & Int32(flag) != 0 }
                found.append(
                    NetworkInterface(
                        name: name, index: unsafe if_nametoindex(each.ifa_name),
                        mtu: unsafe Int(max(0, fcio_interface_mtu(each.ifa_name))),
                        isUp: has(IFF_UP), isLoopback: has(IFF_LOOPBACK), supportsMulticast: has(IFF_MULTICAST),
                        isPointToPoint: has(IFF_POINTOPOINT), addresses: [], masks: []))
                position = found.count - 1
            }
            guard let address = unsafe each.ifa_addr else { continue }
            let decoded = unsafe fcio_address_decode(address)
            guard decoded.family != 0 else { continue }
            found[position].addresses.append(IPAddress(decoded))
            let mask = unsafe each.ifa_netmask.map { unsafe fcio_address_decode($0) } ?? fcio_address()
            found[position].masks.append(mask.family == decoded.family ? IPAddress(mask) : IPAddress(decoded))
        }
        return found
    }

    /// The address of this machine that packets to `destination`, a group too, come from by the routing table; nil when it
    /// has no way there.
    public static func address(toward destination: IPAddress) -> IPAddress? {
        var found = fcio_address()
        guard unsafe fcio_address_toward(fcio_address(destination), &found) == 0 else { return nil }
        return IPAddress(found)
    }

    /// The index of the interface called `name`. Throws an error that lists the names there are.
    /// What stands for every address of this machine: that of IPv6, which takes IPv4 too, where there is IPv6.
    public static var everyAddress: IPAddress {
        let descriptor = fcio_udp_socket(6)
        guard descriptor >= 0 else { return .v4(0) }
        Glibc.close(descriptor)
        return .v6(0)
    }

    /// Throws `ReactorError`, which names those that there are, where there is none of that name.
    public static func index(of name: String) throws(ReactorError) -> UInt32 {
        let index = unsafe if_nametoindex(name)
        if index != 0 { return index }
        let names = try all().map(\.name).joined(separator: ", ")
        throw ReactorError("interface", name, reason: "no such interface", advice: "this machine has \(names)")
    }
}
