/// What connections are charged to: a validated address, as far as one party is given it. An IPv4 address is one account. An
/// IPv6 address belongs to three, of its /64, its /56 and its /48: a host has the first, a home the second, a site the third,
/// and each takes its addresses out of the same prefix.
///
/// Nobody may be charged for an address that he has not shown to be his (RFC 9000 section 8.1): otherwise a packet with a
/// false source address would spend what belongs to another.
public struct AccountTable: Sendable {
    /// What an account may have. The accounts of wider prefixes have a multiple of it.
    public struct Limits: Sendable, Equatable {
        /// Connections at once, of one IPv4 address or IPv6 /64. As many may begin at once: after an interruption all that
        /// share an address come back together.
        public var connections = 256
        /// Connections begun per second beyond those.
        public var beginningsPerSecond = 32
        /// Accounts kept at once. Each connection that is open keeps three at the most.
        public var accounts = 1 << 17

        /// The usual limits.
        public init() {}
    }

    /// Why a connection was not charged to its account, and is to be refused.
    public enum Refusal: Int, Sendable, CaseIterable {
        /// As many connections as an account may have are open.
        case connections
        /// Too many began within a short time.
        case beginnings
        /// The table itself is full, with accounts that are in use.
        case table
    }

    /// Times that a /56 may have what a /64 has.
    public static let factorOf56 = 4
    /// Times that a /48 may have what a /64 has.
    public static let factorOf48 = 16
    /// A full table is searched for accounts that can be forgotten once in this time.
    public static let sweepInterval = Duration.seconds(1)
    /// Below so many accounts the table is never searched.
    static let leastSwept = 1024

    private struct Key: Hashable {
        var bits: UInt64
        /// Leading bits of the address that count; 32 only for IPv4.
        var width: UInt8
    }

    private struct Account {
        var open = 0
        /// What may begin.
        var beginnings = TokenBucket()

        func isIdle(at now: Instant) -> Bool { open == 0 && beginnings.isFull(at: now) }
    }

    /// Those that hold from now on. What is open already stays.
    public var limits: Limits
    private var accounts: [Key: Account] = [:]
    /// The table is searched when it has so many accounts.
    private var sweepCount = Self.leastSwept
    private var nextSweep = Instant(nanoseconds: .min / 2)
    private var refusals: [UInt64] = Array(repeating: 0, count: Refusal.allCases.count)

    /// An empty table.
    public init(limits: Limits = Limits()) { self.limits = limits }

    /// Accounts that are remembered: with open connections, or with beginnings that are not forgotten yet.
    public var count: Int { accounts.count }

    /// How many connections were refused for `reason`.
    public func refused(_ reason: Refusal) -> UInt64 { refusals[reason.rawValue] }

    /// Connections of `address` that are open: those of its IPv4 address or /64.
    public func openConnections(of address: IPAddress) -> Int { accounts[Self.keys(of: address)[0].key]?.open ?? 0 }

    /// Why a connection from `address` would be refused now; nil when it would be taken. Changes and counts nothing.
    public func verdict(on address: IPAddress, at now: Instant) -> Refusal? {
        for (key, factor) in Self.keys(of: address) {
            guard let account = accounts[key] else { continue }
            if account.open >= limits.connections * factor { return .connections }
            if !account.beginnings.hasToken(rate(factor), at: now) { return .beginnings }
        }
        return nil
    }

    /// A connection from `address`, which is validated, begins and is charged to its accounts until `end`.
    /// - Returns: nil, or why it is refused; then nothing is charged.
    public mutating func begin(_ address: IPAddress, at now: Instant) -> Refusal? {
        if let refusal = verdict(on: address, at: now) { return refuse(refusal) }
        let keys = Self.keys(of: address)
        if accounts.count + keys.count > min(sweepCount, limits.accounts) { sweep(at: now) }
        let new = keys.count { accounts[$0.key] == nil }
        guard accounts.count + new <= limits.accounts else { return refuse(.table) }
        for (key, factor) in keys {
            var account = accounts[key] ?? Account()
            account.open += 1
            _ = account.beginnings.take(rate(factor), at: now)
            accounts[key] = account
        }
        return nil
    }

    /// A connection that was charged to `address` by `begin` is over. It stays charged to it wherever the client has moved.
    public mutating func end(_ address: IPAddress, at now: Instant) {
        for (key, _) in Self.keys(of: address) {
            guard var account = accounts[key], account.open > 0 else { continue }
            account.open -= 1
            accounts[key] = account.isIdle(at: now) ? nil : account
        }
    }

    private mutating func refuse(_ refusal: Refusal) -> Refusal {
        refusals[refusal.rawValue] += 1
        return refusal
    }

    /// Forgets accounts that are as good as new. Searched for each time that the table has doubled, that costs the same for
    /// each beginning, however many accounts there are; a table that is full of others is searched now and then.
    private mutating func sweep(at now: Instant) {
        guard accounts.count < limits.accounts - 3 || now >= nextSweep else { return }
        nextSweep = now + Self.sweepInterval
        accounts = accounts.filter { !$0.value.isIdle(at: now) }
        sweepCount = max(Self.leastSwept, accounts.count * 2)
    }

    private func rate(_ factor: Int) -> TokenRate {
        TokenRate(perSecond: max(1, limits.beginningsPerSecond) * factor, burst: limits.connections * factor)
    }

    /// The accounts of an address, the narrowest first.
    private static func keys(of address: IPAddress) -> [(key: Key, factor: Int)] {
        switch address.unmapped {
        case .v4(let bits): return [(Key(bits: UInt64(bits), width: 32), 1)]
        case .v6(let bits):
            let prefix = UInt64(truncatingIfNeeded: bits >> 64)
            return [
                (Key(bits: prefix, width: 64), 1), (Key(bits: prefix >> 8, width: 56), factorOf56),
                (Key(bits: prefix >> 16, width: 48), factorOf48),
            ]
        }
    }
}
