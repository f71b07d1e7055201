import Wire

/// All addresses that begin with the same bits: `232.1.0.0/16`, `ff3e::/32`.
public struct AddressPrefix: Hashable, Sendable, CustomStringConvertible {
    /// The bits; those behind the prefix are zero.
    public let address: IPAddress
    /// How many bits count.
    public let length: Int

    /// An address alone is a prefix of all its bits. Nil for anything else, and when bits behind the prefix are set.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let address = IPAddress(parts[0]) else { return nil }
        let width = address.isIPv4 ? 32 : 128
        guard let length = parts.count == 1 ? width : Int(parts[1]), (0...width).contains(length) else { return nil }
        self.address = address
        self.length = length
        switch address {
        case .v4(let bits): guard length == 32 || bits << UInt32(length) == 0 else { return nil }
        case .v6(let bits): guard length == 128 || bits << UInt128(length) == 0 else { return nil }
        }
    }

    /// Whether `other` begins with these bits; never one of the other IP version.
    public func contains(_ other: IPAddress) -> Bool {
        switch (address, other) {
        case (.v4(let mine), .v4(let theirs)): length == 0 || (mine ^ theirs) >> UInt32(32 - length) == 0
        case (.v6(let mine), .v6(let theirs)): length == 0 || (mine ^ theirs) >> UInt128(128 - length) == 0
        default: false
        }
    }

    public var description: String { "\(address)/\(length)" }
}

/// Which addresses may be asked for: those that an allowed prefix has, or all when there is none, but for the denied.
public struct PrefixFilter: Hashable, Sendable {
    /// Empty: all addresses.
    public var allowed: [AddressPrefix] = []
    /// Goes before what is allowed.
    public var denied: [AddressPrefix] = []

    /// Every address is permitted.
    public init() {}

    /// Whether `address` may be asked for.
    public func permits(_ address: IPAddress) -> Bool {
        (allowed.isEmpty || allowed.contains { $0.contains(address) }) && !denied.contains { $0.contains(address) }
    }
}
