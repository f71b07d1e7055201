import Glibc
import Wire

/// Host names to addresses, by the system's resolver. It blocks: ask at the start, or on another thread.
public enum Resolver {
    /// The addresses of `host`, a name or an address literal without brackets, in the system's order of preference.
    /// - Throws: `ReactorError` with the resolver's reason.
    public static func addresses(of host: String) throws(ReactorError) -> [IPAddress] {
        if let address = IPAddress(host) { return [address] }
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = unsafe getaddrinfo(host, nil, &hints, &list)
        guard code == 0 else {
            let reason = unsafe gai_strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
            throw ReactorError("resolve", host, reason: reason, advice: "give a name the resolver knows, or an address")
        }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [IPAddress] = []
        var entry = unsafe list
        while let current = unsafe entry {
            if let address = unsafe Self.address(current.pointee), !addresses.contains(address) {
                addresses.append(address)
            }
            unsafe entry = unsafe current.pointee.ai_next
        }
        return addresses
    }

    private static func address(_ info: addrinfo) -> IPAddress? {
        guard let raw = unsafe UnsafeRawPointer(info.ai_addr) else { return nil }
        if unsafe info.ai_family == AF_INET {
            let bits = unsafe raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr
            return .v4(UInt32(bigEndian: bits))
        }
        guard unsafe info.ai_family == AF_INET6 else { return nil }
        let octets = unsafe raw.loadUnaligned(fromByteOffset: 8, as: (UInt64, UInt64).self)
        return .v6(UInt128(UInt64(bigEndian: octets.0)) << 64 | UInt128(UInt64(bigEndian: octets.1)))
    }
}
