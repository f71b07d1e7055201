import Wire

/// Whom the system asks for names, and for which domains: what /etc/resolv.conf says (resolv.conf(5)).
public struct NameServers: Sendable, Equatable {
    /// The most servers and domains that count, as the C library has it.
    static let serverLimit = 3
    static let domainLimit = 6

    /// In the order in which they are asked.
    public var servers: [SocketAddress] = []
    /// The domains of the local network.
    public var domains: [String] = []
    /// How long a server is waited for.
    public var timeout: Duration = .seconds(5)
    /// How often each server is asked.
    public var attempts = 2

    /// No server and no domain.
    public init() {}

    /// Reads the text of a resolv.conf. Lines that are not understood say nothing; without a server, it is the one on
    /// this machine.
    public init(text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard let keyword = words.first, keyword.first != "#", keyword.first != ";" else { continue }
            let values = words.dropFirst()
            switch keyword {
            case "nameserver":
                // An address of one link needs its interface, which an address of ours does not carry.
                guard servers.count < Self.serverLimit, let value = values.first, let address = IPAddress(value) else {
                    continue
                }
                servers.append(SocketAddress(address, port: 53))
            // The last of these lines counts.
            case "search": domains = values.prefix(Self.domainLimit).map(String.init)
            case "domain": domains = values.prefix(1).map(String.init)
            case "options":
                for option in values {
                    if let seconds = Self.number("timeout:", option) { timeout = .seconds(min(max(1, seconds), 30)) }
                    if let count = Self.number("attempts:", option) { attempts = min(max(1, count), 5) }
                }
            default: break
            }
        }
        if servers.isEmpty { servers = [SocketAddress(.v4(0x7f00_0001), port: 53)] }
    }

    /// What the file at `path` says; as if it were empty when it cannot be read.
    public static func configured(path: String = "/etc/resolv.conf") -> NameServers {
        let bytes = (try? StoredFile.read(path, limit: 65_536)) ?? nil
        return NameServers(text: String(decoding: bytes ?? [], as: UTF8.self))
    }

    private static func number(_ prefix: String, _ option: Substring) -> Int? {
        option.hasPrefix(prefix) ? Int(option.dropFirst(prefix.count)) : nil
    }
}
